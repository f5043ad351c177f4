/**
 * Random programs of many instructions, with loops, calls, jumps into each other's middle, faults and code that changes
 * itself: what the JIT's tests run on the interpreter and as compiled code.
 */
import fc from "fast-check";
import { Place } from "../../src/engine/testing/engine-machine.ts";
import { instructions } from "../../src/isa/instructions.ts";
import { littleEndian } from "../differential/address.ts";
import { demandedAddressSize, encode, usesAddress, type Encoded } from "../differential/encoder.ts";
import { enumerateForms, type Form } from "../differential/forms.ts";
import { Random } from "../differential/random.ts";
import { integers } from "../differential/values.ts";

export type ProgramBits = 32 | 64;

const instructionKinds = [
  "integer", "integer", "integer", "integer", "integer", "flags", "condition", "vector", "x87", "any", "string", "walk", "walk", "stack",
  "patch", "port",
] as const;
type InstructionKind = (typeof instructionKinds)[number];

const endKinds = ["next", "next", "jump", "condition", "condition", "condition", "count", "count", "call", "call", "return", "indirect", "indirectCall"] as const;
type EndKind = (typeof endKinds)[number];

export interface InstructionSpec {
  readonly kind: InstructionKind;
  readonly seed: number;
}

export interface BlockSpec {
  readonly instructions: readonly InstructionSpec[];
  readonly end: EndKind;
  readonly target: number;
  readonly condition: number;
  /** Bytes between this block and the one before. */
  readonly gapBytes: number;
}

export interface ProgramSpec {
  readonly blocks: readonly BlockSpec[];
  readonly seed: number;
}

export interface Program {
  readonly bits: ProgramBits;
  readonly start: number;
  readonly bytes: Uint8Array;
  /** Addresses of its blocks. */
  readonly blocks: readonly number[];
  /** Addresses of immediates that patches, a device's too, may change. */
  readonly patchable: readonly number[];
}

/** The same memory as the code, at another linear address, in 64-bit programs. */
export const aliasOffset = 0xf_0000;
/** Pages of data that may only be read, and that are absent. */
export const dataPages = { readOnly: Place.data + 0x4000, absent: Place.data + 0x5000 } as const;
/** What the pointer registers RSI, RDI, RBX and RBP begin with. */
export const pointerStart: number = Place.data + 0xf00;

const [AX, CX, DX, BX, BP, SI, DI] = [0, 1, 2, 3, 5, 6, 7];
const pointers: readonly number[] = [BX, BP, SI, DI];

const integerNames = new Set([
  "add", "or", "adc", "sbb", "and", "sub", "xor", "cmp", "test", "inc", "dec", "neg", "not", "mul", "imul", "div", "idiv",
  "shl", "shr", "sar", "rol", "ror", "rcl", "rcr", "shld", "shrd", "bt", "bts", "btr", "btc", "bsf", "bsr", "tzcnt", "lzcnt", "popcnt",
  "mov", "movzx", "movsx", "movsxd", "lea", "xchg", "xadd", "cmpxchg", "bswap", "cbw", "cwd", "adcx", "adox", "movbe", "crc32",
]);
const flagNames = new Set(["pushf", "popf", "lahf", "sahf", "cmc", "stc", "clc", "std", "cld", "sti", "cli"]);
const stackNames = new Set(["push", "pop", "pusha", "popa", "enter", "leave"]);

function isControl({ encoding, definition }: Form): boolean {
  return encoding.operands.some(({ source }) => source === "relative" || source === "far") ||
    /^(?:ret|retf|iret|int|int1|int3|into|call|callf|jmp|jmpf|call far|jmp far|syscall|sysret|sysenter|sysexit|hlt|mwait|loop\w*|j\w+|ud[012])$/u.test(definition.name);
}

interface Pools {
  readonly integer: readonly Form[];
  readonly flags: readonly Form[];
  readonly condition: readonly Form[];
  readonly vector: readonly Form[];
  readonly x87: readonly Form[];
  readonly stack: readonly Form[];
  readonly any: readonly Form[];
}

function poolsOf(bits: ProgramBits): Pools {
  const any = enumerateForms(instructions, bits).filter((form) => !isControl(form));
  const named = (names: ReadonlySet<string>): Form[] => any.filter(({ definition, encoding }) =>
    names.has(definition.name) && !encoding.operands.some(({ file }) => file === "segment" || file === "control" || file === "debug" || file === "xmm"));
  return {
    any,
    integer: named(integerNames), flags: named(flagNames), stack: named(stackNames),
    condition: any.filter(({ definition }) => /^(?:cmov|set)/u.test(definition.name)),
    vector: any.filter(({ encoding }) => encoding.operands.some(({ file }) => file === "xmm")),
    x87: any.filter(({ encoding }) => encoding.map === 0 && encoding.opcode >= 0xd8 && encoding.opcode <= 0xdf),
  };
}

const pools: Partial<Record<ProgramBits, Pools>> = {};

export function programSpecs(maximumBlocks: number): fc.Arbitrary<ProgramSpec> {
  const instruction = fc.record({ kind: fc.constantFrom(...instructionKinds), seed: fc.nat() });
  const block = fc.record({
    instructions: fc.array(instruction, { maxLength: 10 }),
    end: fc.constantFrom(...endKinds),
    target: fc.nat(maximumBlocks - 1),
    condition: fc.nat(15),
    gapBytes: fc.oneof({ weight: 8, arbitrary: fc.constant(0) }, fc.integer({ min: 1, max: 5 }), fc.integer({ min: 0xe00, max: 0x1000 })),
  });
  return fc.record({ blocks: fc.array(block, { minLength: 1, maxLength: maximumBlocks }), seed: fc.nat() });
}

/** Something that is written once all addresses are known. */
type Piece = readonly number[] | { readonly sizeBytes: number; write(at: number, program: Layout): readonly number[] };

interface Layout {
  readonly blocks: readonly number[];
  readonly patchable: readonly number[];
}

function sizeOf(piece: Piece): number {
  return "write" in piece ? piece.sizeBytes : piece.length;
}

class Writer {
  readonly #bits: ProgramBits;
  readonly #pools: Pools;

  constructor(bits: ProgramBits) {
    this.#bits = bits;
    this.#pools = pools[bits] ??= poolsOf(bits);
  }

  instruction({ kind, seed }: InstructionSpec): Piece[] {
    const random = new Random(seed, 1);
    switch (kind) {
      case "string": return [this.#string(random)];
      case "walk": return [this.#walk(random)];
      case "patch": return [this.#patch(random)];
      case "port": return [random.pick([[0xe6, 0x80], [0xe4, 0x80], [0xed], [0xef]])];
      default: return this.#form(random, random.pick(this.#pools[kind]));
    }
  }

  /** A form with random operands; the registers of its address are set in front of it, most of the time. */
  #form(random: Random, form: Form): Piece[] {
    const gpr = new BigUint64Array(16);
    const bits = this.#bits;
    const addressSize = demandedAddressSize(form.encoding) ?? (random.chance(5) && bits === 64 ? 32 : bits);
    const encoded = encode(random, form, gpr, {
      isFree: random.chance(20), avoid: 1 << 4, target: chooseTarget(random), segmentBases: Array.from({ length: 6 }, () => 0n), override: random.chance(3) ? random.below(6) : -1,
      repeat: 0, addressSize, immediate: (storedBits) => chooseImmediate(random, storedBits), branchTarget: () => 0n,
    });
    const needsRegisters = usesAddress(form) && random.chance(95);
    const set = needsRegisters ? [encoded.base, encoded.index].filter((register) => register >= 0) : [];
    return [...new Set(set)].map((register): Piece => this.load(register, gpr[register])).concat([placeable(encoded)]);
  }

  /** mov register, value */
  load(register: number, value: bigint): number[] {
    if (this.#bits === 32) return [0xb8 + register, ...littleEndian(value, 4)];
    return [0x48 | (register >> 3), 0xb8 + (register & 7), ...littleEndian(value, 8)];
  }

  /** [pointer + small displacement], and pointers that move on. */
  #walk(random: Random): number[] {
    const pointer = random.pick(pointers), wide = this.#bits === 64 && random.chance(50) ? [0x48] : [];
    const displacement = random.below(64) - 16 & 0xff;
    const register = random.pick([AX, CX, DX]) << 3;
    const based = (...opcode: readonly number[]): number[] => [...wide, ...opcode, 0x40 | register | pointer, displacement];
    switch (random.below(9)) {
      case 0: case 1: return based(0x8b);
      case 2: return based(0x89);
      case 3: return based(random.pick([0x01, 0x03, 0x31, 0x39, 0x3b, 0x11, 0x1b]));
      case 4: return based(0x0f, random.pick([0xb6, 0xb7, 0xbe, 0xbf]));
      case 5: return [0xf3, 0x0f, random.pick([0x6f, 0x7f]), 0x40 | register | pointer, displacement];
      case 6: return [...wide, 0x83, 0xc0 | pointer, random.pick([1, 4, 8, 16, 64, 0xf8])];
      case 7: return [...wide, 0x8d, 0x40 | (pointer << 3) | pointer, random.pick([1, 4, 8, 0x40, 0xfc])];
      default: return this.load(pointer, BigInt(pointerStart - random.below(64)));
    }
  }

  /** Repeated ones get a count and places of their own. */
  #string(random: Random): number[] {
    const opcode = random.pick([0xa4, 0xa5, 0xaa, 0xab, 0xac, 0xad, 0xa6, 0xa7, 0xae, 0xaf]);
    const repeat = random.pick([[], [0xf3], [0xf3], [0xf2]]);
    const wide = this.#bits === 64 && random.chance(30) ? [0x48] : random.chance(10) ? [0x66] : [];
    const set = random.chance(85)
      ? [...this.load(CX, BigInt(random.below(40))), ...this.load(SI, BigInt(chooseTarget(random))), ...this.load(DI, BigInt(chooseTarget(random)))]
      : [];
    return [...set, ...repeat, ...wide, opcode];
  }

  /** add byte [immediate of some block], n: by the code's own address or an alias of it. */
  #patch(random: Random): Piece {
    const which = random.next(), value = random.below(256), usesAlias = this.#bits === 64 && random.chance(40);
    const opcode = this.#bits === 64 ? [0x80, 0x04, 0x25] : [0x80, 0x05];
    return {
      sizeBytes: opcode.length + 5,
      write: (_, { patchable }) => {
        const address = patchable.length === 0 ? Place.data : patchable[which % patchable.length] + (usesAlias ? aliasOffset : 0);
        return [...opcode, ...littleEndian(address, 4), value];
      },
    };
  }

  end({ end, target, condition }: BlockSpec): Piece[] {
    const relative = (opcode: readonly number[]): Piece => ({
      sizeBytes: opcode.length + 4,
      write: (at, { blocks }) => [...opcode, ...littleEndian(blocks[target % blocks.length] - at - opcode.length - 4, 4)],
    });
    const indirect = (modrm: number): Piece[] => [{
      sizeBytes: 5, write: (_, { blocks }) => [0xb8, ...littleEndian(blocks[target % blocks.length], 4)],
    }, [0xff, modrm]];
    switch (end) {
      case "jump": return [relative([0xe9])];
      case "condition": return [relative([0x0f, 0x80 | condition])];
      case "count": return [this.#bits === 64 ? [0x41, 0xff, 0xc8 | (condition & 7)] : [0xff, 0xc8 | (condition & 3)], relative([0x0f, 0x85])];
      case "call": return [relative([0xe8])];
      case "return": return [condition === 0 ? [0xc2, 8, 0] : [0xc3]];
      case "indirect": return indirect(0xe0);
      case "indirectCall": return indirect(0xd0);
      default: return [];
    }
  }
}

function placeable(encoded: Encoded): Piece {
  return {
    sizeBytes: encoded.bytes.length,
    write: (at) => {
      const bytes = [...encoded.bytes];
      for (const { at: place, sizeBytes, target } of encoded.relative) {
        littleEndian(target - BigInt(at + bytes.length), sizeBytes).forEach((byte, index) => void (bytes[place + index] = byte));
      }
      return bytes;
    },
  };
}

function chooseImmediate(random: Random, storedBits: number): bigint {
  return random.chance(40) ? BigInt(random.below(70)) : BigInt.asUintN(storedBits, integers[random.next() & (integers.length - 1)]);
}

/** Mostly data; ends of pages, pages that fault, the device, and rarely code. */
function chooseTarget(random: Random): number {
  const percent = random.below(100);
  const aligned = random.below(0x3f0) * 16;
  if (percent < 70) return Place.data + aligned;
  if (percent < 80) return Place.data + 0xff0 + random.below(32);
  if (percent < 85) return dataPages.readOnly - 8 + random.below(0x40);
  if (percent < 88) return dataPages.absent - 8 + random.below(0x40);
  if (percent < 92) return Place.device + random.below(64) * 4;
  if (percent < 95) return Place.code + random.below(0x200);
  return Place.data + random.below(0x3f80);
}

/** Writes a program from its description: the same bytes each time. */
export function makeProgram(bits: ProgramBits, spec: ProgramSpec): Program {
  const random = new Random(spec.seed, 2);
  const writer = new Writer(bits);
  const start = Place.code + random.pick([0, 0x100, 0xfc0, 0xff0, 0xffd]);
  const layout = { blocks: [] as number[], patchable: [] as number[] };
  const placed: { at: number; piece: Piece }[] = [];
  let at = start;
  const put = (pieces: readonly Piece[]): void => {
    for (const piece of pieces) {
      placed.push({ at, piece });
      at += sizeOf(piece);
    }
  };
  for (const block of spec.blocks) {
    if (block.gapBytes > 5) {
      const distance = block.gapBytes;
      put([[0xe9, ...littleEndian(distance, 4)]]);
      at += distance;
    } else put([Array.from({ length: block.gapBytes }, () => 0x90)]);
    layout.blocks.push(at);
    if (random.chance(40)) {
      // mov edx, imm32; its lower bytes change.
      layout.patchable.push(at + 1, at + 2);
      put([[0xba, ...littleEndian(random.below(0x100), 4)]]);
    }
    for (const instruction of block.instructions) put(writer.instruction(instruction));
    put(writer.end(block));
  }
  // After the last one it begins again.
  put([{ sizeBytes: 5, write: (here, { blocks }) => [0xe9, ...littleEndian(blocks[0] - here - 5, 4)] }]);
  const bytes = new Uint8Array(at - start).fill(0x90);
  for (const { at: place, piece } of placed) bytes.set("write" in piece ? piece.write(place, layout) : piece, place - start);
  return { bits, start, bytes, blocks: layout.blocks, patchable: layout.patchable };
}
