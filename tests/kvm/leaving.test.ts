/** Every way of leaving a guest that runs under KVM and never halts by itself: none may hang. */
import { spawn } from "node:child_process";
import { once } from "node:events";
import { join } from "node:path";
import { Worker } from "node:worker_threads";
import { describe, expect, test } from "vitest";
import { nativeCalls } from "../../src/host/node/kvm/native-calls.ts";
import { Fixture, protectedMode } from "../conformance/accelerator/fixture.ts";
import { kvmHere } from "../conformance/accelerator/kvm-here.ts";

const kvm = kvmHere();
/** Far beyond what it takes; a hang is for ever. */
const patienceMs = 30_000;

interface Left {
  readonly status: number | null;
  readonly signal: NodeJS.Signals | null;
}

/** Starts the endless guest, sends `signal` when it runs, and waits for the end of its process. */
async function leave(way: string, signal?: NodeJS.Signals): Promise<Left> {
  const child = spawn(process.execPath, [join(import.meta.dirname, "endless-guest.ts"), way], { stdio: ["ignore", "pipe", "ignore"] });
  const timer = setTimeout(() => child.kill("SIGKILL"), patienceMs);
  const ended = once(child, "exit") as Promise<[number | null, NodeJS.Signals | null]>;
  child.stdout.once("data", () => {
    if (signal !== undefined) setTimeout(() => child.kill(signal), 100);
  });
  const [status, endSignal] = await ended;
  clearTimeout(timer);
  return { status, signal: endSignal };
}

describe.skipIf("problem" in kvm)(`leaving a KVM guest${"problem" in kvm ? ` (skipped: ${kvm.problem})` : ""}`, () => {
  test.each([
    ["exit", undefined, { status: 3, signal: null }],
    ["throw", undefined, { status: 1, signal: null }],
    ["terminate", undefined, { status: 4, signal: null }],
    ["wait", "SIGINT", { status: null, signal: "SIGINT" }],
    ["wait", "SIGTERM", { status: null, signal: "SIGTERM" }],
    ["handler", "SIGTERM", { status: 5, signal: null }],
    ["main thread", "SIGINT", { status: null, signal: "SIGINT" }],
    ["main thread", "SIGTERM", { status: null, signal: "SIGTERM" }],
    ["throw in a device", undefined, { status: 1, signal: null }],
  ] as const)("%s %s", async (way, signal, expected) => {
    expect(await leave(way, signal)).toEqual(expected);
  });

  test("a kick from another thread", async () => {
    if ("problem" in kvm) return;
    const guest = new Fixture(kvm.accelerator);
    guest.start(protectedMode(), "ebfe");
    const { processor } = guest;
    const go = new Int32Array(new SharedArrayBuffer(4));
    const worker = new Worker(new URL("kicker.ts", import.meta.url), { workerData: { go, handle: processor.kickHandle } });
    const ended = once(worker, "exit");
    await once(worker, "message");
    expect(processor.run({ instructions: 0, nanoseconds: 1e6 })).toBe("budget");
    Atomics.store(go, 0, 1);
    Atomics.notify(go, 0);
    let stop = processor.run({ instructions: 0, nanoseconds: 1e9 });
    for (let round = 0; round < 1000 && stop === "budget"; round++) stop = processor.run({ instructions: 0, nanoseconds: 1e9 });
    expect(stop).toBe("stopped");
    // It ends by itself; a thread that is ended while it loads a native library takes the process with it.
    await ended;
    guest.close();
  });

  test("a kick interrupts the thread, or waits for it", async () => {
    const native = nativeCalls();
    if ("problem" in native) return;
    const interrupter = native.calls.createInterrupter();
    const go = new Int32Array(new SharedArrayBuffer(4)).fill(1);
    const handle = { flag: new Int32Array(new SharedArrayBuffer(4)), thread: interrupter.thread };
    // The kick of the test before may have come after the run that saw its flag.
    interrupter.clear();
    expect(interrupter.clear()).toBe(0);
    const worker = new Worker(new URL("kicker.ts", import.meta.url), { workerData: { go, handle } });
    await once(worker, "exit");
    expect([interrupter.clear(), interrupter.clear(), handle.flag[0]]).toEqual([1, 0, 1]);
    interrupter.arm(1000);
    let count = 0;
    for (let round = 0; round < 1e6 && count === 0; round++) count = interrupter.clear();
    expect(count).toBe(1);
    interrupter.close();
  });
});
