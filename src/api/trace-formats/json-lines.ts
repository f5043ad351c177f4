/** A trace as JSON lines: one object an entry or exit. Addresses and the like are hexadecimal text, times nanoseconds. */
import type { TransitionRecord } from "../../machine/transition-log.ts";
import type { TraceReport } from "../trace.ts";

export function hex(value: bigint | number): string {
  return `0x${value.toString(16)}`;
}

/** What a record says, as JSON can hold it. */
export function recordToJson({ information, rip, controlBlock, ...rest }: TransitionRecord): Readonly<Record<string, string | number | readonly string[] | undefined>> {
  return { ...rest, rip: hex(rip), controlBlock: hex(controlBlock), information: information.map(hex) };
}

export function formatJsonLines({ records }: TraceReport): string {
  return records.map((record) => `${JSON.stringify(recordToJson(record))}\n`).join("");
}
