/** The guest that rewrites its own code (guests/unit/self-rewriting.asm), for as many rounds as wanted. */
import { createSoftAccelerator, SoftVirtualProcessor } from "../../src/accel/soft/index.ts";
import { invariant } from "../../src/base/errors.ts";
import type { Jit } from "../../src/engine/jit/jit.ts";
import type { JitSettings } from "../../src/engine/jit/settings.ts";
import type { SoftProcessor } from "../../src/engine/processor.ts";
import type { Machine } from "../../src/machine/machine.ts";
import { findAssembler, listUnitGuests, readUnitGuest, type UnitGuestSource } from "../../tools/guests/assemble.ts";
import { createUnitGuestMachine } from "../guests/unit-guest.ts";

const marker = "rounds: ";
const memorySizeBytes = 64 << 20;

export interface RewritingImage {
  readonly source: UnitGuestSource;
  readonly bytes: Uint8Array;
}

/** @throws UserError TOOL_MISSING or GUEST_MISSING without an assembler. */
export async function readRewritingGuest(): Promise<RewritingImage> {
  const source = (await listUnitGuests("unit")).find(({ name }) => name === "self-rewriting");
  invariant(source !== undefined, "guests/unit has self-rewriting.asm");
  return { source, bytes: await readUnitGuest(await findAssembler(), source) };
}

export class RewritingGuest {
  readonly machine: Machine;
  readonly processor: SoftProcessor;
  readonly text: () => string;

  constructor({ source, bytes }: RewritingImage, rounds: number, jit: JitSettings) {
    const changed = Buffer.from(bytes);
    changed.writeUInt32LE(rounds, changed.indexOf(marker) + marker.length);
    const { machine, text } = createUnitGuestMachine(source, changed, memorySizeBytes, createSoftAccelerator({ jit }));
    const [processor] = machine.processors;
    invariant(processor instanceof SoftVirtualProcessor, "the accelerator is soft");
    this.machine = machine;
    this.processor = processor.processor;
    this.text = text;
  }

  get jit(): Jit {
    return this.processor.jit;
  }

  /** Whether it still runs, after one more slice. */
  runSlice(): boolean {
    return this.machine.runSlice().kind === "running";
  }
}
