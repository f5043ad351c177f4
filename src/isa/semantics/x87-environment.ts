/** FNSTENV, FLDENV, FNSAVE and FRSTOR in the four layouts of SDM volume 1, "Saving the x87 FPU's State with FSTENV/FNSTENV and FSAVE/FNSAVE". */
import { Status } from "../../ir/index.ts";
import { classNormal, classZero, type F80, f80Examine } from "../../softfloat/index.ts";
import { checkWrite, constant, type InstructionDefinition } from "../definition.ts";
import { type Processor, routine } from "../processor.ts";
import * as state from "../state.ts";
import { hasRealModeSegments, is64BitMode, linearSum } from "../system/mode.ts";
import { segmentShift } from "../x87-instruction-word.ts";
import { x87Instruction } from "./x87-definition.ts";
import { initialize, topShift, writeControlWord } from "./x87-unit.ts";

/** Two bits per physical register. */
const Tag = { valid: 0, zero: 1, special: 2, empty: 3 } as const;
/** Control, status, tag, instruction pointer, its selector and the opcode, data pointer, its selector. */
const words = 7;
const wordNumbers: readonly number[] = [0, 1, 2, 3, 4, 5, 6];
const registerNumbers: readonly number[] = [0, 1, 2, 3, 4, 5, 6, 7];

function physicalRegister(p: Processor, number: number): F80 {
  const field = state.x87[number];
  return { significand: p.state.get64(field), signExponent: p.state.u16[(p.state.base + field.offset + 8) >>> 1] };
}

function writePhysicalRegister(p: Processor, number: number, { significand, signExponent }: F80): void {
  const field = state.x87[number];
  p.state.set64(field, significand);
  p.state.u16[(p.state.base + field.offset + 8) >>> 1] = signExponent;
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

// --- memory images ---------------------------------------------------------------------------------------------------

/** An image in memory: pieces of two, four or eight bytes, each checked against its segment by itself. */
class Image {
  readonly isWide: boolean;
  readonly #processor: Processor;
  readonly #segment: number;
  readonly #offset: bigint;
  readonly #offsetBits: 32 | 64;

  /** Arguments of the routine: instruction word, offset, whether the words are of four bytes. */
  constructor(p: Processor) {
    this.#processor = p;
    this.#segment = (p.state.argument32(0) >> segmentShift) & 7;
    this.#offset = p.state.argument64(1);
    this.isWide = p.state.argument32(2) !== 0;
    this.#offsetBits = is64BitMode(p.state) ? 64 : 32;
  }

  get slotBytes(): 2 | 4 {
    return this.isWide ? 4 : 2;
  }

  /** Where the part at `at` of a register is: eight bytes, or the upper two. */
  registerAt(index: number, at: 0 | 8): number {
    return words * this.slotBytes + 10 * index + at;
  }

  /** Linear address of a piece, undefined after a fault. */
  #linear(at: number, sizeBytes: number, intent: "read" | "write"): bigint | undefined {
    const offset = BigInt.asUintN(this.#offsetBits, this.#offset + BigInt(at));
    return this.#processor.memory.linear(this.#segment, offset, sizeBytes, intent);
  }

  /** False after a fault. */
  isWritable(at: number, sizeBytes: number): boolean {
    const linear = this.#linear(at, sizeBytes, "write");
    return linear !== undefined && this.#processor.memory.probe(linear, sizeBytes, "write");
  }

  /** The value, undefined after a fault. Eight bytes go by words: alignment is checked for no more than the slots'. */
  load(at: number, sizeBytes: 2 | 4 | 8): bigint | undefined {
    const { memory, state: s } = this.#processor;
    const linear = this.#linear(at, sizeBytes, "read");
    if (linear === undefined) return undefined;
    const stepBytes = sizeBytes === 8 ? 2 : sizeBytes;
    let value = 0n;
    for (let done = 0; done < sizeBytes; done += stepBytes) {
      const part = memory.load(linearSum(s, linear, BigInt(done)), stepBytes);
      if (part === undefined) return undefined;
      value |= part << BigInt(8 * done);
    }
    return value;
  }

  /** False after a fault. */
  store(at: number, sizeBytes: 2 | 4 | 8, value: bigint): boolean {
    const { memory, state: s } = this.#processor;
    const linear = this.#linear(at, sizeBytes, "write");
    if (linear === undefined) return false;
    const stepBytes = sizeBytes === 8 ? 2 : sizeBytes;
    for (let done = 0; done < sizeBytes; done += stepBytes) {
      const part = BigInt.asUintN(8 * stepBytes, value >> BigInt(8 * done));
      if (!memory.store(linearSum(s, linear, BigInt(done)), stepBytes, part)) return false;
    }
    return true;
  }
}

function isEnvironmentWritable(image: Image): boolean {
  return wordNumbers.every((word) => image.isWritable(word * image.slotBytes, image.slotBytes));
}

function areRegistersWritable(image: Image): boolean {
  return registerNumbers.every((index) => image.isWritable(image.registerAt(index, 0), 8) && image.isWritable(image.registerAt(index, 8), 2));
}

function storeEnvironment(p: Processor, image: Image): boolean {
  const { slotBytes } = image;
  return environmentWords(p, image.isWide).every((word, index) =>
    image.store(index * slotBytes, slotBytes, BigInt.asUintN(8 * slotBytes, BigInt(word))));
}

function loadEnvironment(image: Image): number[] | undefined {
  const { slotBytes } = image;
  const loaded: number[] = [];
  for (const word of wordNumbers) {
    const value = image.load(word * slotBytes, slotBytes);
    if (value === undefined) return undefined;
    loaded.push(Number(value));
  }
  return loaded;
}

function storeRegisters(p: Processor, image: Image): boolean {
  const top = (p.state.get16(state.x87Status) >> topShift) & 7;
  return registerNumbers.every((index) => {
    const { significand, signExponent } = physicalRegister(p, (top + index) & 7);
    return image.store(image.registerAt(index, 0), 8, significand) && image.store(image.registerAt(index, 8), 2, BigInt(signExponent));
  });
}

function loadRegisters(image: Image): F80[] | undefined {
  const registers: F80[] = [];
  for (const index of registerNumbers) {
    const significand = image.load(image.registerAt(index, 0), 8);
    const signExponent = significand === undefined ? undefined : image.load(image.registerAt(index, 8), 2);
    if (significand === undefined || signExponent === undefined) return undefined;
    registers.push({ significand, signExponent: Number(signExponent) });
  }
  return registers;
}

// --- instructions ----------------------------------------------------------------------------------------------------

/** An instruction whose routine finds all faults before it commits. Those that store do not wait for pending exceptions. */
function imageInstruction(
  name: string, encoding: string, stores: boolean, run: (p: Processor, image: Image) => boolean,
): InstructionDefinition {
  const execute = routine(name, (p) => run(p, new Image(p)) ? Status.Next : Status.Fault);
  return x87Instruction({
    name, encodings: [encoding], isWaiting: !stores,
    execute({ cpu, dst, variant }) {
      const isWide = variant.operandSize !== 16;
      // Alignment comes before the page faults of what follows.
      if (stores) checkWrite("operand", dst.offset(), isWide ? 4 : 2);
      cpu.call(execute, [cpu.immediate64().trunc(32), dst.offset(), constant(32, isWide ? 1 : 0)]);
    },
  });
}

export const x87Environment: readonly InstructionDefinition[] = [
  imageInstruction("fldenv", "D9 /4 Mfenv", false, (p, image) => {
    const environment = loadEnvironment(image);
    if (environment !== undefined) commitEnvironment(p, environment, image.isWide);
    return environment !== undefined;
  }),
  imageInstruction("fnstenv", "D9 /6 Mfenv", true, (p, image) => {
    if (!isEnvironmentWritable(image) || !storeEnvironment(p, image)) return false;
    writeControlWord(p.state, p.state.get16(state.x87Control) | 0x3f);
    return true;
  }),
  imageInstruction("frstor", "DD /4 Mfsave", false, (p, image) => {
    const environment = loadEnvironment(image);
    const registers = environment === undefined ? undefined : loadRegisters(image);
    if (environment === undefined || registers === undefined) return false;
    commitEnvironment(p, environment, image.isWide);
    const top = (p.state.get16(state.x87Status) >> topShift) & 7;
    for (const [index, value] of registers.entries()) writePhysicalRegister(p, (top + index) & 7, value);
    return true;
  }),
  imageInstruction("fnsave", "DD /6 Mfsave", true, (p, image) => {
    if (!isEnvironmentWritable(image) || !areRegistersWritable(image)) return false;
    if (!storeEnvironment(p, image) || !storeRegisters(p, image)) return false;
    initialize(p.state);
    return true;
  }),
];
