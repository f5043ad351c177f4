/** A machine goes from `kvm` to `soft` and back, and from a state saved under one to the other. */
import { describe, expect, test } from "vitest";
import type { Accelerator } from "../../src/accel/contract.ts";
import { softAccelerator } from "../../src/accel/soft/index.ts";
import { loadKernel } from "../../src/boot/kernel.ts";
import { createCpuModel } from "../../src/isa/models/index.ts";
import { defaultDevices, type MachineConfig } from "../../src/machine/config.ts";
import { Machine } from "../../src/machine/machine.ts";
import { copyMachine } from "../../src/machine/testing/saved-copy.ts";
import { rememberer } from "../cli/tiny-guest.ts";
import { kvmHere } from "../conformance/accelerator/kvm-here.ts";

const patienceMs = 20_000;
const kvm = kvmHere();

interface Rig {
  readonly config: MachineConfig;
  output: string;
}

/** A configuration that both accelerators can give. */
function createRig(accelerator: Accelerator): Rig {
  const timeStampFrequencyHz = accelerator.timeStampFrequencyHz(1e9);
  const model = createCpuModel("intel-v2", { tscFrequencyHz: timeStampFrequencyHz, apicId: 0, processors: 1 });
  const cpu = ["intel-v2", ...accelerator.missingFeatures(model).map((name) => `-${name}`)].join(",");
  const rig: Rig = {
    output: "",
    config: {
      memorySizeBytes: 4 << 20, cpu, timeStampFrequencyHz, clock: { mode: "real-time", hostNowNs: () => performance.now() * 1e6 },
      startEpochMs: 0, fillRandom: (target) => void target.fill(4), disks: [], devices: defaultDevices,
      onSerial: (_, byte) => {
        rig.output += String.fromCharCode(byte);
      },
    },
  };
  return rig;
}

/** Types a letter and waits until the guest has printed all that it remembers. */
function tell(machine: Machine, rig: Rig, letter: string, expected: string): void {
  rig.output = "";
  machine.board.feedSerial(0, Buffer.from(letter));
  for (const endMs = performance.now() + patienceMs; !rig.output.endsWith(expected);) {
    const result = machine.runSlice();
    expect(result.kind).not.toBe("ended");
    if (performance.now() > endMs) throw new Error(`the guest printed ${JSON.stringify(rig.output)} and not ${expected}`);
  }
}

describe("a hand-over", () => {
  if ("problem" in kvm) {
    test.skip(`skipped: ${kvm.problem}`, () => {});
    return;
  }
  const { accelerator } = kvm;

  const start = (on: Accelerator): { readonly machine: Machine; readonly rig: Rig } => {
    const rig = createRig(accelerator);
    const machine = new Machine(rig.config, on);
    machine.load(loadKernel({ kernel: rememberer(), commandLine: "", modules: [], memory: machine.memoryMap, rsdp: { address: 0, bytes: new Uint8Array(36) }, hasVgaText: false }));
    return { machine, rig };
  };

  test("ten times, back and forth", () => {
    const { machine, rig } = start(accelerator);
    let known = "";
    for (const [index, letter] of [..."abcdefghij"].entries()) {
      known += letter;
      tell(machine, rig, letter, known);
      machine.switchAccelerator(index % 2 === 0 ? softAccelerator : accelerator);
    }
    tell(machine, rig, "!", `${known}!`);
    machine.close();
  });

  test.each([["kvm", accelerator, softAccelerator], ["soft", softAccelerator, accelerator]] as const)("by a state saved under %s", (_, from, to) => {
    const { machine, rig } = start(from);
    tell(machine, rig, "a", "a");
    tell(machine, rig, "b", "ab");
    const copy = copyMachine(machine, rig.config, to);
    tell(copy, rig, "c", "abc");
    tell(machine, rig, "d", "abd");
    machine.close();
    copy.close();
  });
});
