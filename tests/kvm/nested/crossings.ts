/** A guest whose output depends on every instruction, moved between kvm and soft by snapshots and by hand-overs. */
import assert from "node:assert/strict";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { chosenCpu } from "../../../src/api/accelerator.ts";
import { Vm, type AcceleratorChoice } from "../../../src/api/index.ts";
import { kvmAvailability } from "../../../src/host/node/kvm/availability.ts";
import { multibootKernel } from "../../cli/tiny-guest.ts";

const marks = 64;
/** 64 times: 16384 rounds of a random walk over 1 MiB, and a dot on COM1. Then a hash of the 1 MiB, in hexadecimal, and the end. */
const program = `
  be00002000 b878563412 bf40000000
  b900400000 69c00d661900 055ff36e3c 89c3 c1eb0c 81e3fcff0f00 31041e 49 75e4
  baf8030000 89c5 b02e ee 89e8 4f 75d0
  31db b8c59d1c81 33041e 69c093010001 83c304 81fb00001000 72ec
  b908000000 c1c004 89c5 240f 3c0a 7202 0427 0430 ee 89e8 49 75eb
  b000 baf4000000 ee ebfe`;

function start(accel: AcceleratorChoice): Promise<Vm> {
  // What the host's processor can do, so that the machine can go there.
  const timeStampFrequencyHz = kvmAvailability().device?.timeStampFrequencyHz(1e9) ?? 1e9;
  const kernel = multibootKernel([...Buffer.from(program.replaceAll(/\s/gu, ""), "hex")]);
  // And what the host's KVM can give it.
  return Vm.create({ kernel, memory: "16M", accel, cpu: chosenCpu({ accel: "kvm" }), timeStampFrequencyHz });
}

/** A machine's output, and how to wait for it. */
class Output {
  text: string;
  readonly #vm: Vm;

  constructor(vm: Vm, text = "") {
    this.#vm = vm;
    this.text = text;
    vm.on("serial", ({ bytes }) => {
      this.text += Buffer.from(bytes).toString("latin1");
    });
  }

  /** Holds the machine after about `count` dots. */
  async pauseAfter(count: number): Promise<void> {
    const { promise, resolve, reject } = Promise.withResolvers<void>();
    const off = this.#vm.on("serial", () => {
      if (this.text.length < count) return;
      this.#vm.pause();
      resolve();
    });
    this.#vm.wait().then((end) => reject(new Error(`the guest came to its end (${end.kind}) before it could be held`)), reject);
    this.#vm.run();
    await promise;
    off();
  }

  async finish(): Promise<string> {
    this.#vm.run();
    await this.#vm.wait();
    return this.text;
  }
}

async function undisturbed(accel: AcceleratorChoice): Promise<string> {
  await using vm = await start(accel);
  return await new Output(vm).finish();
}

let reference: string | undefined;

/** What the guest prints under soft, from which nothing may differ. */
async function expected(): Promise<string> {
  reference ??= await undisturbed("soft");
  assert.match(reference, /^\.{64}[0-9a-f]{8}$/u);
  return reference;
}

export async function sameUnderKvm(): Promise<string> {
  assert.equal(await undisturbed("kvm"), await expected());
  return `hash of memory ${reference?.slice(marks)}`;
}

/** A snapshot file from halfway, taken under `from`, goes on under `to`. */
export async function snapshotCrossing(from: AcceleratorChoice, to: AcceleratorChoice): Promise<string> {
  const directory = mkdtempSync(join(tmpdir(), "ringmaster-crossing-"));
  try {
    const path = join(directory, "halfway.rmsnap");
    await using vm = await start(from);
    const output = new Output(vm);
    await output.pauseAfter(marks / 2);
    await vm.snapshot(path);
    await using copy = await Vm.restore(path, { accel: to });
    assert.deepEqual([vm.accelerator.name, copy.accelerator.name], [from, to]);
    assert.equal(await new Output(copy, output.text).finish(), await expected());
    assert.equal(await output.finish(), await expected());
    return `original and copy end alike`;
  } finally {
    rmSync(directory, { recursive: true });
  }
}

const handOvers = 10;

export async function manyHandOvers(): Promise<string> {
  await using vm = await start("soft");
  const output = new Output(vm);
  for (let handOver = 1; handOver <= handOvers; handOver++) {
    await output.pauseAfter(handOver * 5);
    vm.switchAccelerator(handOver % 2 === 1 ? "kvm" : "soft");
  }
  assert.equal(await output.finish(), await expected());
  return `${handOvers} hand-overs`;
}
