/** One emitting method per row of the opcode table, grouped by the part of the name before the dot: `f.i32.add()`. */

import type { ByteWriter } from "./byte-writer.ts";
import { opcodes, type OpcodeName } from "./opcodes.ts";
import {
  valTypeCode,
  type DataIndex,
  type ElementIndex,
  type FuncIndex,
  type GlobalIndex,
  type Halves,
  type Local,
  type ReferenceType,
  type TableIndex,
} from "./types.ts";

export interface MemoryArgument {
  /** Added to the address operand, unsigned 32 bits. */
  readonly offset?: number;
  /** Alignment in bytes, a power of two, at most the natural one, which is the default. */
  readonly align?: number;
}

/** A bare number is the offset, at natural alignment. */
type Address = MemoryArgument | number;

/** What the caller passes for each kind of immediate; the index of the only memory is implied. */
interface ImmediateArguments {
  none: [];
  zero: [];
  i32: [value: number];
  i64: [value: number | bigint | Halves];
  f32: [value: number];
  f64: [value: number];
  v128: [bytes: ArrayLike<number>];
  lanes: [indices: ArrayLike<number>];
  lane: [index: number];
  memarg1: [address?: Address];
  memarg2: [address?: Address];
  memarg4: [address?: Address];
  memarg8: [address?: Address];
  memarg16: [address?: Address];
  "memarg1 lane": [address: Address, index: number];
  "memarg2 lane": [address: Address, index: number];
  "memarg4 lane": [address: Address, index: number];
  "memarg8 lane": [address: Address, index: number];
  local: [local: Local];
  global: [global: GlobalIndex];
  func: [func: FuncIndex];
  table: [table: TableIndex];
  "table table": [destination: TableIndex, source: TableIndex];
  elem: [segment: ElementIndex];
  "elem table": [segment: ElementIndex, table: TableIndex];
  memory: [];
  "memory memory": [];
  data: [segment: DataIndex];
  "data memory": [segment: DataIndex];
  reftype: [type: ReferenceType];
}

type Immediate = keyof ImmediateArguments;
type MethodName<Rest extends string> = Rest extends `${infer Head}.${infer Tail}` ? `${Head}_${MethodName<Tail>}` : Rest;
type ImmediateOf<Name extends OpcodeName> = (typeof opcodes)[Name][1] & Immediate;

/** The instructions `Group.*`; further dots in a name become underscores: `i32.atomic.rmw8.add_u` is `f.i32.atomic_rmw8_add_u`. */
export type InstructionGroup<Group extends string> = {
  readonly [Name in OpcodeName as Name extends `${Group}.${infer Rest}` ? MethodName<Rest> : never]: (
    ...immediates: ImmediateArguments[ImmediateOf<Name>]
  ) => void;
};

/** The receiver of every method. */
interface Emitter {
  readonly writer: ByteWriter;
}

type Method = (this: Emitter, ...immediates: never[]) => void;

function writeAddress(writer: ByteWriter, address: Address, naturalAlignment: number): void {
  if (typeof address === "number") {
    writer.byte(naturalAlignment);
    writer.unsigned(address);
  } else {
    writer.byte(address.align === undefined ? naturalAlignment : 31 - Math.clz32(address.align));
    writer.unsigned(address.offset ?? 0);
  }
}

function memoryMethod(opcode: number, naturalAlignment: number): Method {
  return function (address: Address = 0): void {
    this.writer.opcode(opcode);
    writeAddress(this.writer, address, naturalAlignment);
  };
}

function memoryLaneMethod(opcode: number, naturalAlignment: number): Method {
  return function (address: Address, lane: number): void {
    this.writer.opcode(opcode);
    writeAddress(this.writer, address, naturalAlignment);
    this.writer.byte(lane);
  };
}

function plainMethod(opcode: number): Method {
  if (opcode < 0x100) {
    return function (): void {
      this.writer.byte(opcode);
    };
  }
  return function (): void {
    this.writer.opcode(opcode);
  };
}

function zeroMethod(opcode: number): Method {
  return function (): void {
    this.writer.opcode(opcode);
    this.writer.byte(0);
  };
}

function twoZeroMethod(opcode: number): Method {
  return function (): void {
    this.writer.opcode(opcode);
    this.writer.byte(0);
    this.writer.byte(0);
  };
}

function indexMethod(opcode: number): Method {
  return function (index: number): void {
    this.writer.opcode(opcode);
    this.writer.unsigned(index);
  };
}

function twoIndexMethod(opcode: number): Method {
  return function (first: number, second = 0): void {
    this.writer.opcode(opcode);
    this.writer.unsigned(first);
    this.writer.unsigned(second);
  };
}

function byteMethod(opcode: number): Method {
  return function (value: number): void {
    this.writer.opcode(opcode);
    this.writer.byte(value);
  };
}

function sixteenByteMethod(opcode: number): Method {
  return function (bytes: ArrayLike<number>): void {
    this.writer.opcode(opcode);
    for (let i = 0; i < 16; i++) this.writer.byte(bytes[i]);
  };
}

const methodFactories: Readonly<Record<Immediate, (opcode: number) => Method>> = {
  none: plainMethod,
  zero: zeroMethod,
  i32: (opcode) =>
    function (value: number): void {
      this.writer.opcode(opcode);
      this.writer.signed(value);
    },
  i64: (opcode) =>
    function (value: number | bigint | Halves): void {
      this.writer.opcode(opcode);
      if (typeof value === "object") this.writer.signed64(value.lo, value.hi);
      else this.writer.signedInteger(value);
    },
  f32: (opcode) =>
    function (value: number): void {
      this.writer.opcode(opcode);
      this.writer.float32(value);
    },
  f64: (opcode) =>
    function (value: number): void {
      this.writer.opcode(opcode);
      this.writer.float64(value);
    },
  v128: sixteenByteMethod,
  lanes: sixteenByteMethod,
  lane: byteMethod,
  memarg1: (opcode) => memoryMethod(opcode, 0),
  memarg2: (opcode) => memoryMethod(opcode, 1),
  memarg4: (opcode) => memoryMethod(opcode, 2),
  memarg8: (opcode) => memoryMethod(opcode, 3),
  memarg16: (opcode) => memoryMethod(opcode, 4),
  "memarg1 lane": (opcode) => memoryLaneMethod(opcode, 0),
  "memarg2 lane": (opcode) => memoryLaneMethod(opcode, 1),
  "memarg4 lane": (opcode) => memoryLaneMethod(opcode, 2),
  "memarg8 lane": (opcode) => memoryLaneMethod(opcode, 3),
  local: indexMethod,
  global: indexMethod,
  func: indexMethod,
  table: indexMethod,
  "table table": twoIndexMethod,
  elem: indexMethod,
  "elem table": twoIndexMethod,
  memory: zeroMethod,
  "memory memory": twoZeroMethod,
  data: indexMethod,
  "data memory": twoIndexMethod,
  reftype: (opcode) =>
    function (type: ReferenceType): void {
      this.writer.opcode(opcode);
      this.writer.byte(valTypeCode[type]);
    },
};

const prototypes = new Map<string, Record<string, Method>>();

for (const [name, [opcode, immediate]] of Object.entries(opcodes)) {
  const dot = name.indexOf(".");
  // Instructions without a group are control flow and operands; FunctionBuilder has them by hand.
  if (dot < 0 || !(immediate in methodFactories)) continue;
  const group = name.slice(0, dot);
  const methods = prototypes.get(group) ?? {};
  methods[name.slice(dot + 1).replaceAll(".", "_")] = methodFactories[immediate as Immediate](opcode);
  prototypes.set(group, methods);
}

/** The groups as constructors, so that a builder's groups share their methods. */
export function groupConstructor<Group extends string>(group: Group): new (writer: ByteWriter) => InstructionGroup<Group> {
  class Methods {
    readonly writer: ByteWriter;

    constructor(writer: ByteWriter) {
      this.writer = writer;
    }
  }
  Object.assign(Methods.prototype, prototypes.get(group));
  return Methods as unknown as new (writer: ByteWriter) => InstructionGroup<Group>;
}
