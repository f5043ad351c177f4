/**
 * Descriptions of plain data, by name: they check a value that came from outside, and take state to JSON and back.
 * A described value never has a property, a length or a range that its description does not allow.
 */

export type Json = null | boolean | number | string | readonly Json[] | { readonly [name: string]: Json };

/** Byte arrays that are too large for JSON, by their path; whoever saves stores them beside it. */
export interface RegionSink {
  put(path: string, bytes: Uint8Array): void;
}

export interface RegionSource {
  /** The region's bytes, `sizeBytes` of them and free to be kept; undefined when there is none of that size. */
  take(path: string, sizeBytes: number): Uint8Array | undefined;
}

export interface Shape<Value> {
  encode(value: Value, path: string, regions: RegionSink): Json;
  /** @throws ShapeError */
  decode(json: Json | undefined, path: string, regions: RegionSource): Value;
}

/** Data is not as described. */
export class ShapeError extends Error {
  constructor(path: string, expected: string, found: unknown) {
    super(`${path === "" ? "it" : path} should be ${expected} and is ${describe(found)}`);
    this.name = "ShapeError";
  }
}

/** For data without large byte arrays. */
export const noRegions: RegionSink & RegionSource = { put: () => {}, take: () => undefined };

function describe(value: unknown): string {
  if (value === undefined) return "missing";
  const text = typeof value === "object" && value !== null ? (Array.isArray(value) ? `a list of ${value.length}` : "an object") : JSON.stringify(value);
  return text.length > 40 ? `${text.slice(0, 40)}…` : text;
}

function shape<Value>(encode: (value: Value) => Json, decode: (json: Json | undefined, path: string) => Value): Shape<Value> {
  return { encode, decode };
}

function member(path: string, name: string | number): string {
  return path === "" ? String(name) : `${path}.${name}`;
}

/** A whole number from `minimum` to `maximum`. */
export function integer(minimum: number, maximum: number): Shape<number> {
  return shape((value) => value, (json, path) => {
    if (typeof json === "number" && Number.isInteger(json) && json >= minimum && json <= maximum) return json + 0;
    throw new ShapeError(path, `a whole number from ${minimum} to ${maximum}`, json);
  });
}

export const uint8: Shape<number> = integer(0, 0xff);
export const uint16: Shape<number> = integer(0, 0xffff);
export const uint32: Shape<number> = integer(0, 0xffff_ffff);
/** What bit operations leave of a 32-bit register, whichever sign they gave it. */
export const word32: Shape<number> = integer(-0x8000_0000, 0xffff_ffff);
/** A size, a count, a position. */
export const count: Shape<number> = integer(0, Number.MAX_SAFE_INTEGER);

/** A time in nanoseconds, of either sign, or any other finite number. */
export const finite: Shape<number> = shape((value) => value, (json, path) => {
  if (typeof json === "number" && Math.abs(json) <= Number.MAX_SAFE_INTEGER) return json;
  throw new ShapeError(path, "a number", json);
});

export const boolean: Shape<boolean> = shape((value) => value, (json, path) => {
  if (typeof json === "boolean") return json;
  throw new ShapeError(path, "true or false", json);
});

export function text(maximumLength: number): Shape<string> {
  return shape((value) => value, (json, path) => {
    if (typeof json === "string" && json.length <= maximumLength) return json;
    throw new ShapeError(path, `text of at most ${maximumLength} characters`, json);
  });
}

/** Whatever JSON can say. */
export const anything: Shape<Json> = shape((value) => value, (json, path) => {
  if (json !== undefined) return json;
  throw new ShapeError(path, "there", json);
});

export function oneOf<const Value extends string | number | boolean>(...values: readonly Value[]): Shape<Value> {
  return shape<Value>((value) => value, (json, path) => {
    const found = values.find((value) => value === json);
    if (found !== undefined) return found;
    throw new ShapeError(path, `one of ${values.join(", ")}`, json);
  });
}

/** An unsigned number of up to `bits` bits, in hexadecimal. */
export function unsigned(bits: number): Shape<bigint> {
  const digits = Math.ceil(bits / 4);
  return shape((value) => `0x${value.toString(16)}`, (json, path) => {
    if (typeof json === "string" && json.length <= digits + 2 && /^0x[0-9a-f]+$/u.test(json)) {
      const value = BigInt(json);
      if (value >> BigInt(bits) === 0n) return value;
    }
    throw new ShapeError(path, `a number of ${bits} bits in hexadecimal`, json);
  });
}

/** A signed number of up to `bits` bits, in decimal. */
export function signed(bits: number): Shape<bigint> {
  return shape((value) => value.toString(), (json, path) => {
    if (typeof json === "string" && json.length <= bits && /^-?\d+$/u.test(json)) {
      const value = BigInt(json);
      if (BigInt.asIntN(bits, value) === value) return value;
    }
    throw new ShapeError(path, `a number of ${bits} bits`, json);
  });
}

/** The value, or undefined, which JSON calls null. */
export function optional<Value>(of: Shape<Value>): Shape<Value | undefined> {
  return {
    encode: (value, path, regions) => value === undefined ? null : of.encode(value, path, regions),
    decode: (json, path, regions) => json === null ? undefined : of.decode(json, path, regions),
  };
}

/** A list of exactly `length`, or of up to `maximum` elements. */
export function list<Value>(of: Shape<Value>, size: number | { readonly maximum: number }): Shape<Value[]> {
  const expected = typeof size === "number" ? `a list of ${size}` : `a list of at most ${size.maximum}`;
  return {
    encode: (values, path, regions) => values.map((value, index) => of.encode(value, member(path, index), regions)),
    decode(json, path, regions) {
      const isList = Array.isArray(json) && (typeof size === "number" ? json.length === size : json.length <= size.maximum);
      if (!isList) throw new ShapeError(path, expected, json);
      return (json as readonly Json[]).map((element, index) => of.decode(element, member(path, index), regions));
    },
  };
}

/** One value of each description, in this order. */
export function row<Value>(of: readonly Shape<Value>[]): Shape<Value[]> {
  return {
    encode: (values, path, regions) => of.map((element, index) => element.encode(values[index], member(path, index), regions)),
    decode(json, path, regions) {
      if (!Array.isArray(json) || json.length !== of.length) throw new ShapeError(path, `a list of ${of.length}`, json);
      const elements: readonly Json[] = json;
      return of.map((element, index) => element.decode(elements[index], member(path, index), regions));
    },
  };
}

export function pair<Value>(of: Shape<Value>): Shape<[Value, Value]> {
  return row([of, of]) as Shape<unknown> as Shape<[Value, Value]>;
}

export function triple<Value>(of: Shape<Value>): Shape<[Value, Value, Value]> {
  return row([of, of, of]) as Shape<unknown> as Shape<[Value, Value, Value]>;
}

/** Nothing: undefined, which JSON calls null. */
export const absent: Shape<undefined> = shape(() => null, (json, path) => {
  if (json === null) return undefined;
  throw new ShapeError(path, "null", json);
});

/** All of these properties, and no others. */
export function object<Value extends object>(properties: { readonly [Name in keyof Value]-?: Shape<Value[Name]> }): Shape<Value> {
  const entries = Object.entries(properties) as [keyof Value & string, Shape<unknown>][];
  const known = new Set<string>(entries.map(([name]) => name));
  return {
    encode: (value, path, regions) =>
      Object.fromEntries(entries.map(([name, of]) => [name, of.encode(value[name], member(path, name), regions)])),
    decode(json, path, regions) {
      if (!isObject(json)) throw new ShapeError(path, "an object", json);
      const stranger = Object.keys(json).find((name) => !known.has(name));
      if (stranger !== undefined) throw new ShapeError(member(path, stranger), "absent", json[stranger]);
      return Object.fromEntries(entries.map(([name, of]) =>
        [name, of.decode(Object.hasOwn(json, name) ? json[name] : undefined, member(path, name), regions)])) as Value;
    },
  };
}

/** Like {@link object}, for what newer versions may add to: other properties are ignored, absent ones are null. */
export function openObject<Value extends object>(properties: { readonly [Name in keyof Value]-?: Shape<Value[Name]> }): Shape<Value> {
  const closed = object<Value>(properties);
  const names = Object.keys(properties);
  return {
    encode: (value, path, regions) => closed.encode(value, path, regions),
    decode(json, path, regions) {
      if (!isObject(json)) throw new ShapeError(path, "an object", json);
      return closed.decode(Object.fromEntries(names.map((name) => [name, Object.hasOwn(json, name) ? json[name] : null])), path, regions);
    },
  };
}

/** Up to `maximum` values by name; names are words, paths and the like. */
export function record<Value>(of: Shape<Value>, maximum: number): Shape<Record<string, Value>> {
  return {
    encode: (values, path, regions) =>
      Object.fromEntries(Object.entries(values).map(([name, value]) => [name, of.encode(value, member(path, name), regions)])),
    decode(json, path, regions) {
      if (!isObject(json)) throw new ShapeError(path, "an object", json);
      const names = Object.keys(json);
      if (names.length > maximum) throw new ShapeError(path, `an object of at most ${maximum} entries`, `${names.length} entries`);
      const odd = names.find((name) => !/^[\w./@-]{1,200}$/u.test(name) || name === "__proto__");
      if (odd !== undefined) throw new ShapeError(path, "an object with plain names", odd);
      return Object.fromEntries(names.map((name) => [name, of.decode(json[name], member(path, name), regions)]));
    },
  };
}

/** Exactly `size` bytes, or up to `maximum`, as hexadecimal digits. */
export function bytes(size: number | { readonly maximum: number }): Shape<Uint8Array> {
  const expected = typeof size === "number" ? `${size} bytes in hexadecimal` : `at most ${size.maximum} bytes in hexadecimal`;
  return shape((value) => hexadecimal(value), (json, path) => {
    if (typeof json !== "string" || json.length % 2 !== 0 || !/^[0-9a-f]*$/u.test(json)) throw new ShapeError(path, expected, json);
    const length = json.length / 2;
    if (typeof size === "number" ? length !== size : length > size.maximum) throw new ShapeError(path, expected, `${length} bytes`);
    return Uint8Array.from({ length }, (_, index) => Number.parseInt(json.slice(2 * index, 2 * index + 2), 16));
  });
}

export function words16(length: number): Shape<Uint16Array> {
  return typedList(uint16, length, (values) => Uint16Array.from(values));
}

export function words32(length: number): Shape<Uint32Array> {
  return typedList(uint32, length, (values) => Uint32Array.from(values));
}

function typedList<List extends Uint16Array | Uint32Array>(of: Shape<number>, length: number, from: (values: number[]) => List): Shape<List> {
  const numbers = list(of, length);
  return {
    encode: (values) => [...values],
    decode: (json, path, regions) => from(numbers.decode(json, path, regions)),
  };
}

/** `sizeBytes` bytes that are kept outside of the JSON. */
export function region(sizeBytes: number): Shape<Uint8Array> {
  return {
    encode(value, path, regions) {
      regions.put(path, value);
      return { regionBytes: sizeBytes };
    },
    decode(json, path, regions) {
      if (!isObject(json) || json["regionBytes"] !== sizeBytes) throw new ShapeError(path, `a region of ${sizeBytes} bytes`, json);
      const found = regions.take(path, sizeBytes);
      if (found === undefined) throw new ShapeError(path, `a region of ${sizeBytes} bytes`, "absent");
      return found;
    },
  };
}

export function isObject(json: unknown): json is { readonly [name: string]: Json } {
  return typeof json === "object" && json !== null && !Array.isArray(json);
}

export function hexadecimal(value: Uint8Array): string {
  let digits = "";
  for (const byte of value) digits += byte.toString(16).padStart(2, "0");
  return digits;
}

/** What `isValid` accepts of the values of another description. */
export function checked<Value>(of: Shape<Value>, isValid: (value: Value) => boolean, expected: string): Shape<Value> {
  return {
    encode: (value, path, regions) => of.encode(value, path, regions),
    decode(json, path, regions) {
      const value = of.decode(json, path, regions);
      if (!isValid(value)) throw new ShapeError(path, expected, json);
      return value;
    },
  };
}

/** A value that is kept in another form. */
export function mapped<Kept, Value>(of: Shape<Kept>, toKept: (value: Value) => Kept, fromKept: (kept: Kept) => Value): Shape<Value> {
  return {
    encode: (value, path, regions) => of.encode(toKept(value), path, regions),
    decode: (json, path, regions) => fromKept(of.decode(json, path, regions)),
  };
}
