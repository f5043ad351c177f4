/** Why a processor shuts down: the exceptions of a triple fault as whoever writes the guest wants to read them (SDM volume 3, "Interrupt 8—Double Fault Exception (#DF)"). */
import { Vector } from "../definition.ts";
import type { Processor } from "../processor.ts";
import * as layout from "../state.ts";
import type { ProcessorEvent } from "./exceptions.ts";
import { Activity, isLongMode, isProtectedMode, is64BitMode } from "./mode.ts";

const exceptionNames: Readonly<Record<number, string>> = Object.fromEntries(Object.entries(Vector).map(([name, vector]) => [vector, `#${name}`]));

function hex(value: bigint | number): string {
  return `0x${value.toString(16)}`;
}

/** An event, as one step on the way to the shutdown; to be called before the next fault changes CR2. */
export function describeEvent(p: Processor, { vector, errorCode, kind }: ProcessorEvent): string {
  const what = kind === "exception" ? exceptionNames[vector] ?? `exception ${vector}` : kind === "nmi" ? "NMI"
    : kind === "external" ? `interrupt ${hex(vector)}` : `INT ${hex(vector)}`;
  if (errorCode === undefined) return what;
  const address = kind === "exception" && vector === Vector.PF ? ` at ${hex(p.state.get64(layout.cr2))}` : "";
  return `${what}${address} (error code ${hex(errorCode)})`;
}

function modeName(p: Processor): string {
  const { state } = p;
  if (!isProtectedMode(state)) return "real mode";
  return is64BitMode(state) ? "64-bit mode" : isLongMode(state) ? "compatibility mode" : "protected mode";
}

/** Nothing but RESET, INIT or an NMI gets the processor out of this; `steps`: the event and what its delivery came to. */
export function shutDown(p: Processor, steps: readonly string[]): void {
  const { state } = p;
  const place = `CS:RIP ${hex(state.get16(layout.segments[1].selector))}:${hex(state.get64(layout.rip))}, RSP ${hex(state.get64(layout.gpr[4]))}`;
  const tables = `CR3 ${hex(state.get64(layout.cr3))}, IDT ${hex(state.get64(layout.idtrBase))} with limit ${hex(state.get32(layout.idtrLimit))}`;
  state.set32(layout.activity, Activity.shutdown);
  p.shutdownCause = `${steps.join(", then ")}; in ${modeName(p)} with ${place}, ${tables}`;
}
