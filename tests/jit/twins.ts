/** The same small program on an interpreting and a compiling machine, which must not differ. */
import { expect } from "vitest";
import { jitSettingsNamed, type JitSettings } from "../../src/engine/jit/settings.ts";
import { bytesOf, EngineMachine, Place, type EngineMachineOptions } from "../../src/engine/testing/engine-machine.ts";
import type { StopReason } from "../../src/engine/processor.ts";
import { snapshot } from "./lockstep.ts";

/** Compiles what has been entered a few times, so that regions have several blocks. */
export const warm: JitSettings = { ...jitSettingsNamed("forced"), threshold: 3, maximumBlocks: 64, maximumInstructions: 1000 };

export class Twins {
  readonly interpreted: EngineMachine;
  readonly compiled: EngineMachine;

  constructor(jit: JitSettings = warm, options: EngineMachineOptions = {}) {
    const common = { ramBytes: 0x4_0000, ...options };
    this.interpreted = new EngineMachine({ ...common, jit: jitSettingsNamed("off") });
    this.compiled = new EngineMachine({ ...common, jit });
    this.each((machine) => machine.longMode());
  }

  get counters(): EngineMachine["processor"]["jit"]["counters"] {
    return this.compiled.processor.jit.counters;
  }

  each(action: (machine: EngineMachine) => void): void {
    action(this.interpreted);
    action(this.compiled);
  }

  write(address: number, hex: string | Uint8Array): void {
    const bytes = typeof hex === "string" ? bytesOf(hex) : hex;
    this.each((machine) => expect(machine.physical.writeRange(address, bytes)).toBe(true));
  }

  /** Goes on at an address of the code. */
  start(address: number = Place.code): void {
    this.each((machine) => {
      machine.enter(0);
      machine.rip = BigInt(address);
    });
  }

  /** Runs both, which must stop for the same reason in the same state. */
  run(budget: number): StopReason {
    const [expected, actual] = [this.interpreted, this.compiled].map((machine) => ({ stop: machine.run(budget), ...snapshot(machine, 0) }));
    expect(actual).toEqual(expected);
    expect(Buffer.compare(Buffer.from(this.interpreted.ram), Buffer.from(this.compiled.ram))).toBe(0);
    return expected.stop;
  }

  /** By budgets of this size until it halts. */
  runToHalt(budget: number = 10_000): void {
    for (let turn = 0; this.run(budget) !== "halted"; turn++) expect(turn).toBeLessThan(10_000);
  }

  /** That compiled code has retired at least so many instructions. */
  expectCompiled(instructions: number): void {
    expect(this.counters.executed).toBeGreaterThanOrEqual(instructions);
  }
}
