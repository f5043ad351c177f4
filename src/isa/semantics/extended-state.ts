/** FXSAVE, XSAVE and their kin: SDM volume 1, "FXSAVE and FXRSTOR Instructions" and "Managing State Using the XSAVE Feature Set". */
import { Status, type Bits, when } from "../../ir/index.ts";
import {
  checkWrite, constant, instruction, linearAddress, load, Vector, type Cpu, type InstructionDefinition, type Operand,
} from "../definition.ts";
import { FlagMask, hasSystemFlag } from "../flags.ts";
import { routine, type Processor } from "../processor.ts";
import * as state from "../state.ts";
import { fxrstor, fxsave, xrstor, xsave, type SaveOptions } from "../system/extended-state.ts";
import { Cr0Mask, Cr4Mask, isCanonical } from "../system/mode.ts";
import { isConcealed } from "../virtualization.ts";
import { hasControlBits, requirePrivilegeZero } from "./privilege.ts";
import { readWidePair } from "./system-registers.ts";

type Intent = "read" | "write";
type Routine = ReturnType<typeof routine>;

const fxsaveAreaBytes = 512;
/** Legacy area and header, which every XSAVE area has. */
const xsaveHeaderEnd = 576;

const fxsaveAlignmentBytes = 16;

/**
 * FXSAVE and FXRSTOR raise #AC instead of #GP where alignment is checked (SDM volume 2, "FXSAVE"): on AMD's processors
 * that is alignment to four bytes, and comes before page faults.
 */
const misalignedRoutine = routine("misaligned area", (p) => {
  const { state: s } = p;
  const linear = s.argument64(0);
  const isChecked = s.get32(state.cpl) === 3 && (s.get32(state.cr0) & Cr0Mask.AM) !== 0 && hasSystemFlag(s, FlagMask.AC);
  return p.raise(isChecked && (linear & 3n) !== 0n && isCanonical(s, linear) ? Vector.AC : Vector.GP, 0);
});

/** Alignment, then the segment and both ends of the area: what faults inside it, the routine finds before it commits. */
function checkArea(cpu: Cpu, area: Operand, alignmentBytes: number, sizeBytes: number, intent: Intent): Bits<64> {
  const offset = area.offset();
  const linear = linearAddress("operand", offset);
  when(linear.and(alignmentBytes - 1).ne(0), () => {
    if (alignmentBytes === fxsaveAlignmentBytes) cpu.call(misalignedRoutine, [linear]);
    else cpu.raise(Vector.GP, 0);
  });
  if (intent === "write") {
    checkWrite("operand", offset, sizeBytes);
  } else {
    load(8, "operand", offset);
    load(8, "operand", offset.add(sizeBytes - 1));
  }
  return linear;
}

function isWide(p: Processor, index: number): boolean {
  return p.state.argument32(index) !== 0;
}

/** Both forms of a name: FIP and FDP of 32 bits with selectors, or of 64 bits under REX.W. */
function bothForms(
  name: string, feature: string, encoding: (attribute: string) => string,
  execute: (cpu: Cpu, area: Operand, isWideForm: Bits<32>) => void,
): InstructionDefinition[] {
  return [["W0", name, 0] as const, ["W1", `${name}64`, 1] as const].map(([attribute, mnemonic, isWideForm]) => instruction({
    name: mnemonic, feature, encodings: [encoding(attribute)],
    execute({ cpu, dst }) {
      execute(cpu, dst as Operand, constant(32, isWideForm));
    },
  }));
}

function fxInstruction(name: string, digit: number, intent: Intent, run: Routine): InstructionDefinition[] {
  return bothForms(name, "fxsr", (attribute) => `NP ${attribute} 0F AE /${digit} Mfxsave`, (cpu, area, isWideForm) => {
    when(hasControlBits(cpu, state.cr0, Cr0Mask.EM), () => cpu.raise(Vector.UD));
    when(hasControlBits(cpu, state.cr0, Cr0Mask.TS), () => cpu.raise(Vector.NM));
    cpu.call(run, [checkArea(cpu, area, fxsaveAlignmentBytes, fxsaveAreaBytes, intent), isWideForm]);
  });
}

interface XsaveForm {
  readonly feature: string;
  readonly bytes: string;
  readonly intent: Intent;
  readonly isSupervisor: boolean;
  readonly run: Routine;
}

const supervisorRoutine = routine("xsaves: concealed?", (p) => isConcealed(p, "xsaves") ? p.raise(Vector.UD) : Status.Next);

function xInstruction(name: string, { feature, bytes, intent, isSupervisor, run }: XsaveForm): InstructionDefinition[] {
  return bothForms(name, feature, (attribute) => `NP ${attribute} ${bytes} Mxsave`, (cpu, area, isWideForm) => {
    when(hasControlBits(cpu, state.cr4, Cr4Mask.OSXSAVE).xor(1), () => cpu.raise(Vector.UD));
    if (isSupervisor) {
      cpu.call(supervisorRoutine);
      requirePrivilegeZero(cpu);
    }
    when(hasControlBits(cpu, state.cr0, Cr0Mask.TS), () => cpu.raise(Vector.NM));
    cpu.call(run, [checkArea(cpu, area, 64, xsaveHeaderEnd, intent), readWidePair(cpu), isWideForm]);
  });
}

function save(
  name: string, feature: string, bytes: string, options: Omit<SaveOptions, "hasWidePointers">, isSupervisor: boolean = false,
): InstructionDefinition[] {
  const run = routine(name, (p) =>
    xsave(p, p.state.argument64(0), p.state.argument64(1), { ...options, hasWidePointers: isWide(p, 2) }));
  return xInstruction(name, { feature, bytes, intent: "write", isSupervisor, run });
}

function restore(name: string, feature: string, bytes: string, isSupervisor: boolean): InstructionDefinition[] {
  const run = routine(name, (p) => xrstor(p, p.state.argument64(0), p.state.argument64(1), isWide(p, 2), isSupervisor));
  return xInstruction(name, { feature, bytes, intent: "read", isSupervisor, run });
}

export const extendedState: readonly InstructionDefinition[] = [
  ...fxInstruction("fxsave", 0, "write", routine("fxsave", (p) => fxsave(p, p.state.argument64(0), isWide(p, 1)))),
  ...fxInstruction("fxrstor", 1, "read", routine("fxrstor", (p) => fxrstor(p, p.state.argument64(0), isWide(p, 1)))),
  ...save("xsave", "xsave", "0F AE /4", { isCompacted: false, leavesOutInitial: false }),
  ...save("xsaveopt", "xsaveopt", "0F AE /6", { isCompacted: false, leavesOutInitial: true }),
  ...save("xsavec", "xsavec", "0F C7 /4", { isCompacted: true, leavesOutInitial: true }),
  ...save("xsaves", "xsaves", "0F C7 /5", { isCompacted: true, leavesOutInitial: true }, true),
  ...restore("xrstor", "xsave", "0F AE /5", false),
  ...restore("xrstors", "xsaves", "0F C7 /3", true),
];
