/** Moves to and from segment registers, far pointer loads, selector queries and the bases of FS and GS: SDM volume 1, "Segment Register Instructions". */
import { Status, type Bits, when } from "../../ir/index.ts";
import {
  constant, instruction, load, Segment, Vector, type Cpu, type InstructionDefinition, type Operand,
} from "../definition.ts";
import { routine, type Processor } from "../processor.ts";
import * as state from "../state.ts";
import { Cr4Mask, isCanonical } from "../system/mode.ts";
import { loadSegmentRegister } from "../system/segment-load.ts";
import { loadAccessRights, loadSegmentLimit, verifySegment } from "../system/selector-queries.ts";
import { hasControlBits, requireProtectedMode } from "./privilege.ts";
import { loadDataSegment } from "./transfer-parts.ts";

const loadRoutine = routine("load segment register", (p) => loadSegmentRegister(p, p.state.argument32(0), p.state.argument32(1)));

/** MOV SS and POP SS: the stack pointer's load that follows must not be separated from it. */
const loadStackRoutine = routine("load SS", (p) => {
  const status = loadSegmentRegister(p, Segment.SS, p.state.argument32(1));
  if (status === Status.Next) p.state.set32(state.interruptShadow, state.ShadowMask.stackSegment);
  return status;
});

function loadSegment(cpu: Cpu, number: number, selector: Bits, load: typeof loadRoutine = loadRoutine): void {
  cpu.call(load, [constant(32, number), selector.trunc(16).zext(32)]);
}

/** MOV and POP of SS keep interrupts off the load of the stack pointer that follows; LSS needs no such thing. */
function moveToSegment(cpu: Cpu, number: number, selector: Bits): void {
  if (number === Segment.SS) return loadSegment(cpu, number, selector, loadStackRoutine);
  loadDataSegment(cpu, number, selector.trunc(16).zext(32), () => loadSegment(cpu, number, selector));
}

/** CS cannot be loaded like this, and there are only six segment registers. */
function isLoadable(number: number): boolean {
  return number !== Segment.CS && number <= Segment.GS;
}

function readSelector(cpu: Cpu, number: number): Bits<16> {
  return cpu.field<16>(state.segments[number].selector).read();
}

const toSegment = instruction({
  name: "mov", encodings: ["8E /r Sw,Ew"], endsBlock: true,
  execute({ cpu, dst, src }) {
    if (!isLoadable(dst.number)) return cpu.raise(Vector.UD);
    moveToSegment(cpu, dst.number, src.read() as Bits);
  },
});

const fromSegment = instruction({
  name: "mov", encodings: ["8C /r Rv/Mw,Sw"],
  execute({ cpu, dst, src }) {
    if (src.number > Segment.GS) return cpu.raise(Vector.UD);
    const place = dst as Operand;
    const selector = readSelector(cpu, src.number);
    place.write(place.width === 16 ? selector : selector.zext(place.width));
  },
});

const pushSegment = instruction({
  name: "push", encodings: ["06 i64 ES", "0E i64 CS", "16 i64 SS", "1E i64 DS", "0F A0 d64 FS", "0F A8 d64 GS"],
  execute({ cpu, dst, variant }) {
    // Zero-extended, as on AMD; Intel's newer processors write two bytes of the slot (SDM volume 2, "PUSH").
    cpu.push(readSelector(cpu, dst.number).zext(variant.operandSize));
  },
});

const popSegment = instruction({
  name: "pop", encodings: ["07 i64 ES", "17 i64 SS", "1F i64 DS", "0F A1 d64 FS", "0F A9 d64 GS"], endsBlock: true,
  execute({ cpu, dst, variant }) {
    const size = variant.operandSize;
    // All of the slot is read, as alignment checks show.
    const selector = cpu.peek(size).trunc(16);
    const released = cpu.stackPointer().add(size / 8);
    moveToSegment(cpu, dst.number, selector);
    cpu.writeStackPointer(cpu.stackOffset(released));
  },
});

function farPointerLoad(name: string, number: number, encoding: string): InstructionDefinition {
  return instruction({
    name, encodings: [encoding], endsBlock: true,
    execute({ cpu, dst, src }) {
      const at = src.offset();
      const offset = load(dst.width, "operand", at);
      loadSegment(cpu, number, load(16, "operand", at.add(dst.width / 8)));
      dst.write(offset);
    },
  });
}

const farPointerLoads = [
  farPointerLoad("les", Segment.ES, "C4 /r i64 Gz,Mp"), farPointerLoad("lds", Segment.DS, "C5 /r i64 Gz,Mp"),
  farPointerLoad("lss", Segment.SS, "0F B2 /r Gv,Mp"), farPointerLoad("lfs", Segment.FS, "0F B4 /r Gv,Mp"),
  farPointerLoad("lgs", Segment.GS, "0F B5 /r Gv,Mp"),
];

const accessRightsRoutine = routine("lar", (p) => loadAccessRights(p, p.state.argument32(0)));
const segmentLimitRoutine = routine("lsl", (p) => loadSegmentLimit(p, p.state.argument32(0)));

/** LAR and LSL: ZF says whether the selector was acceptable; only then is there a result. */
function selectorQuery(name: string, encoding: string, query: typeof accessRightsRoutine): InstructionDefinition {
  return instruction({
    name, encodings: [encoding],
    execute({ cpu, dst, src }) {
      requireProtectedMode(cpu);
      const selector = (src.read() as Bits).trunc(16).zext(32);
      const [isAcceptable, result] = cpu.call(query, [selector], [32, 64]);
      when(isAcceptable.ne(0), () => dst.write(result.trunc(dst.width)));
      cpu.zf.write(isAcceptable.ne(0));
    },
  });
}

const verifyRoutine = routine("verr", (p) => verifySegment(p, p.state.argument32(0), p.state.argument32(1) !== 0));

function verification(name: string, digit: number, isForWriting: boolean): InstructionDefinition {
  return instruction({
    name, encodings: [`0F 00 /${digit} Ew`],
    execute({ cpu, dst }) {
      requireProtectedMode(cpu);
      const [isAllowed] = cpu.call(verifyRoutine, [(dst.read() as Bits).zext(32), constant(32, isForWriting ? 1 : 0)], [32]);
      cpu.zf.write(isAllowed.ne(0));
    },
  });
}

/** Raises the RPL of the destination to that of the source. */
const arpl = instruction({
  name: "arpl", encodings: ["63 /r i64 Ew,Gw"],
  execute({ cpu, dst, src }) {
    requireProtectedMode(cpu);
    const selector = dst.read(), caller = src.read();
    const isRaised = selector.and(3).ltU(caller.and(3));
    when(isRaised, () => dst.write(selector.and(0xfffc).or(caller.and(3))));
    cpu.zf.write(isRaised);
  },
});

const canonicalRoutine = routine("check canonical base", (p: Processor) =>
  isCanonical(p.state, p.state.argument64(0)) ? Status.Next : p.raise(Vector.GP, 0));

/** RDFSBASE and its kin. The 32-bit forms write zero-extended bases. */
function baseAccess(name: string, digit: number, segment: number, isWrite: boolean): InstructionDefinition {
  return instruction({
    name, feature: "fsgsbase", encodings: [`F3 0F AE /${digit} o64 Ry`],
    execute({ cpu, dst }) {
      when(hasControlBits(cpu, state.cr4, Cr4Mask.FSGSBASE).xor(1), () => cpu.raise(Vector.UD));
      const base = cpu.field<64>(state.segments[segment].base);
      if (!isWrite) return dst.write(base.read().trunc(dst.width));
      const value = (dst.read() as Bits).zext(64);
      if (dst.width === 64) cpu.call(canonicalRoutine, [value]);
      base.write(value);
    },
  });
}

export const segmentRegisters: readonly InstructionDefinition[] = [
  toSegment, fromSegment, pushSegment, popSegment, ...farPointerLoads,
  selectorQuery("lar", "0F 02 /r Gv,Rv/Mw", accessRightsRoutine), selectorQuery("lsl", "0F 03 /r Gv,Rv/Mw", segmentLimitRoutine),
  verification("verr", 4, false), verification("verw", 5, true), arpl,
  baseAccess("rdfsbase", 0, Segment.FS, false), baseAccess("rdgsbase", 1, Segment.GS, false),
  baseAccess("wrfsbase", 2, Segment.FS, true), baseAccess("wrgsbase", 3, Segment.GS, true),
];
