/** Value, function and block types and the index spaces of a module: WebAssembly Core Specification, "Types" and "Indices". */

declare const space: unique symbol;
declare const held: unique symbol;

export type NumberType = "i32" | "i64" | "f32" | "f64";
export type ReferenceType = "funcref" | "externref";
export type ValType = NumberType | "v128" | ReferenceType;

export interface FunctionType {
  readonly params: readonly ValType[];
  readonly results: readonly ValType[];
}

export type TypeIndex = number & { readonly [space]: "type" };
export type FuncIndex = number & { readonly [space]: "function" };
export type TableIndex = number & { readonly [space]: "table" };
export type GlobalIndex = number & { readonly [space]: "global" };
export type ElementIndex = number & { readonly [space]: "element" };
export type DataIndex = number & { readonly [space]: "data" };

/** A parameter or local of the function being built, which holds a value of type `T`. */
export type Local<T extends ValType = ValType> = number & { readonly [space]: "local"; readonly [held]: T };

/** What a block takes and leaves: nothing, one result, or a whole function type. */
export type BlockType = "void" | ValType | FunctionType | TypeIndex;

/** Counted in pages of 64 KiB for a memory, in elements for a table. */
export interface Limits {
  readonly min: number;
  readonly max?: number;
}

export interface MemoryType extends Limits {
  /** A shared memory must have a `max`. */
  readonly shared?: boolean;
}

export interface TableType extends Limits {
  readonly element: ReferenceType;
}

export interface GlobalType {
  readonly type: ValType;
  readonly mutable: boolean;
}

/** The 64-bit constant `hi:lo`; both halves may be given signed or unsigned. */
export interface Halves {
  readonly lo: number;
  readonly hi: number;
}

/** What a global starts with and where a segment goes: a value, another global's value, a function, or the null reference. */
export type ConstantExpression = number | bigint | { readonly global: GlobalIndex } | { readonly func: FuncIndex } | null;

export const valTypeCode: Readonly<Record<ValType, number>> = {
  i32: 0x7f,
  i64: 0x7e,
  f32: 0x7d,
  f64: 0x7c,
  v128: 0x7b,
  funcref: 0x70,
  externref: 0x6f,
};
