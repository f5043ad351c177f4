import { describe, expect, it } from "vitest";
import type { SliceResult } from "../../machine/machine.ts";
import { HostClock } from "./host-clock.ts";
import { MachineRunner } from "./runner.ts";

/** A machine that does as the script says, one entry a slice, and then waits for ever. */
class ScriptedMachine {
  readonly clock: HostClock = new HostClock();
  readonly timeRate = 1;
  slices = 0;
  readonly #script: ((nowNs: number) => SliceResult)[];

  constructor(...script: ((nowNs: number) => SliceResult)[]) {
    this.#script = script;
    this.clock.resume();
  }

  runSlice(): SliceResult {
    this.slices++;
    return this.#script.shift()?.(this.clock.nowNs()) ?? { kind: "idle", untilNs: undefined };
  }
}

const poweroff = (): SliceResult => ({ kind: "ended", end: { kind: "poweroff" } });
const running = (): SliceResult => ({ kind: "running" });
const idleFor = (ms: number) => (nowNs: number): SliceResult => ({ kind: "idle", untilNs: nowNs + ms * 1e6 });
const idle = (): SliceResult => ({ kind: "idle", untilNs: undefined });

describe("runner", () => {
  it("runs until the machine ends", async () => {
    let turns = 0;
    const machine = new ScriptedMachine(running, running, idleFor(0.1), running, poweroff);
    const runner = new MachineRunner(machine, () => turns++);
    runner.resume();
    expect(await runner.ended).toEqual({ kind: "poweroff" });
    expect(machine.slices).toBe(5);
    expect(turns).toBeGreaterThan(0);
  });

  it.each([0.3, 1, 5, 20])("sleeps until a deadline in %f ms, without looking often", async (ms) => {
    const machine = new ScriptedMachine(...Array.from({ length: 5 }, () => idleFor(ms)), poweroff);
    const runner = new MachineRunner(machine);
    const start = performance.now();
    runner.resume();
    await runner.ended;
    // A wait is made up of a timer's part and a precise rest, which looks again once or twice.
    expect(performance.now() - start).toBeGreaterThan(2 * ms);
    expect(machine.slices).toBe(6);
  });

  it("wakes for input", async () => {
    const machine = new ScriptedMachine(idle, poweroff);
    const runner = new MachineRunner(machine);
    runner.resume();
    setTimeout(() => runner.wake(), 20);
    expect(await runner.ended).toEqual({ kind: "poweroff" });
  });

  it("lets the event loop have its turn while the machine is busy", async () => {
    let isOver = false;
    const machine = new ScriptedMachine();
    machine.runSlice = () => isOver ? poweroff() : running();
    const runner = new MachineRunner(machine);
    runner.resume();
    setTimeout(() => {
      isOver = true;
    }, 10);
    expect(await runner.ended).toEqual({ kind: "poweroff" });
  });

  it("runs nothing while paused", async () => {
    const machine = new ScriptedMachine(...Array.from({ length: 1000 }, () => idleFor(1)));
    const runner = new MachineRunner(machine);
    runner.resume();
    await new Promise((resolve) => setTimeout(resolve, 10));
    runner.pause();
    const { slices } = machine;
    await new Promise((resolve) => setTimeout(resolve, 20));
    expect(machine.slices).toBe(slices);
  });

  it("reports what breaks", async () => {
    const machine = new ScriptedMachine(() => {
      throw new Error("broken");
    });
    const runner = new MachineRunner(machine);
    runner.resume();
    await expect(runner.ended).rejects.toThrow("broken");
  });
});
