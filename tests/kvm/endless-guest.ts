/**
 * A program whose guest never halts, for tests of the ways to leave it: `endless-guest.ts <way>`. Prints "running" when
 * the guest is.
 */
import { isMainThread, parentPort, Worker } from "node:worker_threads";
import { kvmHere } from "../conformance/accelerator/kvm-here.ts";
import { Fixture, protectedMode } from "../conformance/accelerator/fixture.ts";

/** Never returns: JavaScript gets its turn only between two calls of `run`. */
function runForever(started: () => void, onPortWrite: () => void = () => {}): never {
  const kvm = kvmHere();
  if ("problem" in kvm) throw new Error(kvm.problem);
  const guest = new Fixture(kvm.accelerator);
  guest.onPortWrite = onPortWrite;
  guest.start(protectedMode(), "e680 ebfe"); // out 0x80, al; L: jmp L
  started();
  for (;;) guest.processor.run({ instructions: Infinity, nanoseconds: 3.6e12 });
}

const settleMs = 100;

async function inWorker(): Promise<Worker> {
  const worker = new Worker(new URL(import.meta.url));
  await new Promise((resolve, reject) => worker.once("message", resolve).once("error", reject));
  // It has said that it is about to: by now it is in the kernel.
  await new Promise((resolve) => {
    setTimeout(resolve, settleMs);
  });
  process.stdout.write("running\n");
  return worker;
}

const ways: Readonly<Record<string, () => Promise<void> | void>> = {
  exit: async () => {
    await inWorker();
    process.exit(3);
  },
  throw: async () => {
    await inWorker();
    throw new Error("thrown on purpose");
  },
  terminate: async () => {
    const worker = await inWorker();
    await worker.terminate();
    process.exitCode = 4;
  },
  // The signals' own effect.
  wait: async () => void await inWorker(),
  handler: async () => {
    await inWorker();
    process.on("SIGTERM", () => process.exit(5));
  },
  "main thread": () => runForever(() => process.stdout.write("running\n")),
  "throw in a device": () => runForever(() => process.stdout.write("running\n"), () => {
    throw new Error("thrown on purpose");
  }),
};

if (isMainThread) await ways[process.argv[2]]();
else runForever(() => parentPort?.postMessage("running"));
