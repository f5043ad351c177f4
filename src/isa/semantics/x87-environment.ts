/** FNSTENV, FLDENV, FNSAVE and FRSTOR in the four layouts of SDM volume 1, "Saving the x87 FPU's State with FSTENV/FNSTENV and FSAVE/FNSAVE". */
import { type Bits, Status } from "../../ir/index.ts";
import { classZero, type F80, f80Examine, classNormal } from "../../softfloat/index.ts";
import { checkWrite, constant, type InstructionDefinition, linearAddress, load, type Operand } from "../definition.ts";
import { type Processor, routine } from "../processor.ts";
import * as state from "../state.ts";
import { hasRealModeSegments } from "../system/mode.ts";
import { x87Instruction } from "./x87-definition.ts";
import { initialize, topShift, writeControlWord } from "./x87-unit.ts";

/** Two bits per physical register. */
const Tag = { valid: 0, zero: 1, special: 2, empty: 3 } as const;
const registersBytes = 80;
/** Control, status, tag, instruction pointer, its selector and the opcode, data pointer, its selector. */
const words = 7;

function physicalRegister(p: Processor, number: number): F80 {
  const field = state.x87[number];
  return { significand: p.state.get64(field), signExponent: p.state.u16[(p.state.base + field.offset + 8) >>> 1] };
}

/** The tag word that the abridged one and the contents stand for. */
function fullTagWord(p: Processor): number {
  const abridged = p.state.get16(state.x87Tag);
  let tags = 0;
  for (let number = 0; number < 8; number++) tags |= tagOf(p, abridged, number) << (2 * number);
  return tags;
}

function tagOf(p: Processor, abridged: number, number: number): number {
  if (((abridged >> number) & 1) === 0) return Tag.empty;
  const kind = f80Examine(physicalRegister(p, number));
  if (kind === classZero) return Tag.zero;
  return kind === classNormal ? Tag.valid : Tag.special;
}

function abridgedTagWord(tags: number): number {
  let abridged = 0;
  for (let number = 0; number < 8; number++) if (((tags >> (2 * number)) & 3) !== Tag.empty) abridged |= 1 << number;
  return abridged;
}

/** Linear address of a pointer that was noted in real-address mode. */
function realPointer(p: Processor, offset: state.StateField, selector: state.StateField): number {
  return (p.state.get32(offset) + 16 * p.state.get16(selector)) >>> 0;
}

/** The environment's seven words, upper halves included. */
function environmentWords(p: Processor, isWide: boolean): number[] {
  const s = p.state;
  const opcode = s.get16(state.x87Opcode);
  const fixed = [s.get16(state.x87Control), s.get16(state.x87Status), fullTagWord(p)].map((word) => (0xffff_0000 | word) >>> 0);
  const instruction = s.get32(state.x87InstructionPointer), data = s.get32(state.x87DataPointer);
  const instructionSelector = s.get16(state.x87InstructionSelector), dataSelector = s.get16(state.x87DataSelector);
  if (!hasRealModeSegments(s)) {
    return [...fixed, instruction, instructionSelector | (opcode << 16), data, (0xffff_0000 | dataSelector) >>> 0];
  }
  const linear = realPointer(p, state.x87InstructionPointer, state.x87InstructionSelector);
  const linearData = realPointer(p, state.x87DataPointer, state.x87DataSelector);
  if (!isWide) return [...fixed, linear, ((linear >>> 4) & 0xf000) | opcode, linearData, (linearData >>> 4) & 0xf000];
  return [
    ...fixed, (0xffff_0000 | linear) >>> 0, ((linear >>> 4) & 0x0fff_f000) | opcode,
    (0xffff_0000 | linearData) >>> 0, (linearData >>> 4) & 0x0fff_f000,
  ];
}

/** Takes over what `environmentWords` made. */
function commitEnvironment(p: Processor, image: readonly number[], isWide: boolean): void {
  const s = p.state;
  const [control, status, tags, instruction, instructionUpper, data, dataUpper] = image;
  s.set16(state.x87Status, status & 0xffff);
  writeControlWord(s, control);
  s.set16(state.x87Tag, abridgedTagWord(tags));
  if (!hasRealModeSegments(s)) {
    s.set64(state.x87InstructionPointer, BigInt(instruction));
    s.set16(state.x87InstructionSelector, instructionUpper & 0xffff);
    if (isWide) s.set16(state.x87Opcode, (instructionUpper >>> 16) & 0x7ff);
    s.set64(state.x87DataPointer, BigInt(data));
    s.set16(state.x87DataSelector, dataUpper & 0xffff);
    return;
  }
  const upperMask = isWide ? 0x0fff_f000 : 0xf000;
  s.set64(state.x87InstructionPointer, BigInt((((instructionUpper & upperMask) << 4) | (instruction & 0xffff)) >>> 0));
  s.set16(state.x87InstructionSelector, 0);
  s.set16(state.x87Opcode, instructionUpper & 0x7ff);
  s.set64(state.x87DataPointer, BigInt((((dataUpper & upperMask) << 4) | (data & 0xffff)) >>> 0));
  s.set16(state.x87DataSelector, 0);
}

// --- memory images, all accesses two or four bytes wide as for alignment checks --------------------------------------

function storeEnvironment(p: Processor, linear: bigint, isWide: boolean): boolean {
  const slotBytes = isWide ? 4 : 2;
  return environmentWords(p, isWide).every((word, index) =>
    p.memory.store(at(linear, index * slotBytes), slotBytes, BigInt(isWide ? word : word & 0xffff)));
}

function loadEnvironment(p: Processor, linear: bigint, isWide: boolean): number[] | undefined {
  const slotBytes = isWide ? 4 : 2;
  const image: number[] = [];
  for (let index = 0; index < words; index++) {
    const word = p.memory.load(at(linear, index * slotBytes), slotBytes);
    if (word === undefined) return undefined;
    image.push(Number(word));
  }
  return image;
}

function at(linear: bigint, offset: number): bigint {
  return BigInt.asUintN(64, linear + BigInt(offset));
}

function registersOffset(isWide: boolean): number {
  return words * (isWide ? 4 : 2);
}

function storeRegisters(p: Processor, linear: bigint, isWide: boolean): boolean {
  const top = (p.state.get16(state.x87Status) >> topShift) & 7;
  for (let index = 0; index < 8; index++) {
    const { significand, signExponent } = physicalRegister(p, (top + index) & 7);
    const place = at(linear, registersOffset(isWide) + 10 * index);
    if (!p.memory.store(place, 8, significand) || !p.memory.store(at(place, 8), 2, BigInt(signExponent))) return false;
  }
  return true;
}

function loadRegisters(p: Processor, linear: bigint, isWide: boolean): F80[] | undefined {
  const registers: F80[] = [];
  for (let index = 0; index < 8; index++) {
    const place = at(linear, registersOffset(isWide) + 10 * index);
    const significand = p.memory.load(place, 8);
    const signExponent = significand === undefined ? undefined : p.memory.load(at(place, 8), 2);
    if (significand === undefined || signExponent === undefined) return undefined;
    registers.push({ significand, signExponent: Number(signExponent) });
  }
  return registers;
}

function imageBytes(isWide: boolean, hasRegisters: boolean): number {
  return registersOffset(isWide) + (hasRegisters ? registersBytes : 0);
}

// --- instructions ----------------------------------------------------------------------------------------------------

const storeEnvironmentRoutine = routine("fnstenv", (p) => {
  const linear = p.state.argument64(0), isWide = p.state.argument32(1) !== 0;
  if (!p.memory.probe(linear, imageBytes(isWide, false), "write") || !storeEnvironment(p, linear, isWide)) return Status.Fault;
  writeControlWord(p.state, p.state.get16(state.x87Control) | 0x3f);
  return Status.Next;
});

const saveRoutine = routine("fnsave", (p) => {
  const linear = p.state.argument64(0), isWide = p.state.argument32(1) !== 0;
  if (!p.memory.probe(linear, imageBytes(isWide, true), "write")) return Status.Fault;
  if (!storeEnvironment(p, linear, isWide) || !storeRegisters(p, linear, isWide)) return Status.Fault;
  initialize(p.state);
  return Status.Next;
});

const loadEnvironmentRoutine = routine("fldenv", (p) => {
  const isWide = p.state.argument32(1) !== 0;
  const image = loadEnvironment(p, p.state.argument64(0), isWide);
  if (image === undefined) return Status.Fault;
  commitEnvironment(p, image, isWide);
  return Status.Next;
});

const restoreRoutine = routine("frstor", (p) => {
  const linear = p.state.argument64(0), isWide = p.state.argument32(1) !== 0;
  const image = loadEnvironment(p, linear, isWide);
  const registers = image === undefined ? undefined : loadRegisters(p, linear, isWide);
  if (image === undefined || registers === undefined) return Status.Fault;
  commitEnvironment(p, image, isWide);
  const top = (p.state.get16(state.x87Status) >> topShift) & 7;
  registers.forEach(({ significand, signExponent }, index) => {
    const field = state.x87[(top + index) & 7];
    p.state.set64(field, significand);
    p.state.u16[(p.state.base + field.offset + 8) >>> 1] = signExponent;
  });
  return Status.Next;
});

/** Both ends of the image are accessed: what faults between them, the routine finds before it commits. */
function imageAddress(operand: Operand, isWide: boolean, sizeBytes: number, intent: "read" | "write"): Bits[] {
  const offset = operand.offset();
  const slotBytes = isWide ? 4 : 2;
  const last = offset.add(sizeBytes - slotBytes);
  if (intent === "write") {
    checkWrite("operand", offset, slotBytes);
    checkWrite("operand", last, slotBytes);
  } else {
    load(isWide ? 32 : 16, "operand", offset);
    load(isWide ? 32 : 16, "operand", last);
  }
  return [linearAddress("operand", offset), constant(32, isWide ? 1 : 0)];
}

function imageInstruction(
  name: string, encoding: string, run: ReturnType<typeof routine>, hasRegisters: boolean, intent: "read" | "write",
): InstructionDefinition {
  return x87Instruction({
    name, encodings: [encoding], isWaiting: intent === "read",
    execute({ cpu, dst, variant }) {
      const isWide = variant.operandSize !== 16;
      cpu.call(run, imageAddress(dst as Operand, isWide, imageBytes(isWide, hasRegisters), intent));
    },
  });
}

export const x87Environment: readonly InstructionDefinition[] = [
  imageInstruction("fldenv", "D9 /4 Mfenv", loadEnvironmentRoutine, false, "read"),
  imageInstruction("fnstenv", "D9 /6 Mfenv", storeEnvironmentRoutine, false, "write"),
  imageInstruction("frstor", "DD /4 Mfsave", restoreRoutine, true, "read"),
  imageInstruction("fnsave", "DD /6 Mfsave", saveRoutine, true, "write"),
];
