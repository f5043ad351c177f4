/** Exits are counted alike under every accelerator. */
import { describe, expect, test } from "vitest";
import type { Accelerator } from "../../src/accel/contract.ts";
import { softAccelerator } from "../../src/accel/soft/index.ts";
import { loadKernel } from "../../src/boot/kernel.ts";
import { createCpuModel } from "../../src/isa/models/index.ts";
import { defaultDevices } from "../../src/machine/config.ts";
import { ExitAccount } from "../../src/machine/exit-account.ts";
import { Machine } from "../../src/machine/machine.ts";
import { multibootKernel } from "../cli/tiny-guest.ts";
import { kvmHere } from "../conformance/accelerator/kvm-here.ts";

const kvm = kvmHere();

/** Three times: out 0x2ff, al (COM2's scratch register), in al, 0x2ff, mov [HPET's configuration], eax, mov eax, [the same]; then debug exit. */
const guest = multibootKernel([
  0xb9, 3, 0, 0, 0, 0xba, 0xff, 0x02, 0, 0, 0x31, 0xc0,
  0xee, 0xec, 0xa3, 0x10, 0, 0xd0, 0xfe, 0xa1, 0x10, 0, 0xd0, 0xfe, 0x49, 0x75, 0xf1,
  0xba, 0xf4, 0, 0, 0, 0xee, 0xeb, 0xfe,
]);

function countedExits(accelerator: Accelerator): unknown {
  const timeStampFrequencyHz = accelerator.timeStampFrequencyHz(1e9);
  const model = createCpuModel("intel-v2", { tscFrequencyHz: timeStampFrequencyHz, apicId: 0, processors: 1 });
  let nowNs = 0;
  const machine = new Machine({
    memorySizeBytes: 4 << 20, cpu: ["intel-v2", ...accelerator.missingFeatures(model).map((name) => `-${name}`)].join(","), timeStampFrequencyHz,
    clock: { mode: "real-time", hostNowNs: () => performance.now() * 1e6 }, startEpochMs: 0, fillRandom: (target) => void target.fill(4), disks: [],
    devices: { ...defaultDevices, serialPorts: 2 }, exits: new ExitAccount(() => (nowNs += 100)), onSerial: () => {},
  }, accelerator);
  machine.load(loadKernel({ kernel: guest, commandLine: "", modules: [], memory: machine.memoryMap, rsdp: { address: machine.installAcpiTables(), bytes: new Uint8Array(36) }, hasVgaText: false }));
  while (machine.runSlice().kind !== "ended");
  const report = machine.exits();
  machine.close();
  expect(report?.runNs).toBeGreaterThan(0);
  return report?.lines.filter(({ place }) => place !== undefined).map(({ reason, place, device, count, totalNs }) => ({ reason, place, device, count, totalNs }))
    .toSorted((a, b) => a.reason.localeCompare(b.reason) || (a.place ?? 0) - (b.place ?? 0));
}

const expected = [
  { reason: "memory read", place: 0xfed0_0010, device: "hpet", count: 3, totalNs: 300 },
  { reason: "memory write", place: 0xfed0_0010, device: "hpet", count: 3, totalNs: 300 },
  { reason: "port read", place: 0x2ff, device: "uart16550@2f8", count: 3, totalNs: 300 },
  { reason: "port write", place: 0xf4, device: "isa-debug-exit", count: 1, totalNs: 100 },
  { reason: "port write", place: 0x2ff, device: "uart16550@2f8", count: 3, totalNs: 300 },
];

test("soft", () => {
  expect(countedExits(softAccelerator)).toEqual(expected);
});

describe.skipIf("problem" in kvm)(`kvm${"problem" in kvm ? ` (skipped: ${kvm.problem})` : ""}`, () => {
  test("the same", () => {
    if ("problem" in kvm) return;
    expect(countedExits(kvm.accelerator)).toEqual(expected);
  });
});
