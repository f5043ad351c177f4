/** kvmclock, which a CPU model has when it is asked for: KVM's clock for Linux guests, and a machine that stays with KVM. */
import { describe, expect, test } from "vitest";
import { softAccelerator } from "../../src/accel/soft/index.ts";
import { Vm } from "../../src/api/index.ts";
import { createCpuModel } from "../../src/isa/models/index.ts";
import { Fixture, protectedMode, resultAddress } from "../conformance/accelerator/fixture.ts";
import { kvmHere } from "../conformance/accelerator/kvm-here.ts";
import { debugExit } from "../cli/tiny-guest.ts";

const clockAddress = 0x6000, systemTimeMsr = 0x4b56_4d01;
/** mov eax, 0x40000101; cpuid; mov [result], eax; mov ecx, MSR_KVM_SYSTEM_TIME_NEW; mov eax, clock | 1; xor edx, edx; wrmsr; hlt */
const switchOn = "b801010040 0fa2 a300700000 b9014d564b b801600000 31d2 0f30 f4";

const kvm = kvmHere();
const facts = { tscFrequencyHz: 1e9, apicId: 0, processors: 1 };
const problem = "problem" in kvm ? kvm.problem
  : kvm.accelerator.missingFeatures(createCpuModel("intel-v2,+kvmclock", facts)).includes("kvmclock") ? "this KVM has no kvmclock" : undefined;

/** What KVM wrote for the guest: struct pvclock_vcpu_time_info. */
function clockOf(fixture: Fixture): { readonly version: number; readonly systemTimeNs: number; readonly multiplier: number } {
  const bytes = new Uint8Array(32);
  expect(fixture.instance.readMemory(clockAddress, bytes)).toBe(true);
  const view = new DataView(bytes.buffer);
  return { version: view.getUint32(0, true), systemTimeNs: Number(view.getBigUint64(16, true)), multiplier: view.getUint32(24, true) };
}

describe.skipIf(problem !== undefined)(`under kvm${problem === undefined ? "" : ` (skipped: ${problem})`}`, () => {
  test("tells the machine's time, and goes on in another machine with its state", () => {
    if ("problem" in kvm) return;
    const frequencyHz = kvm.accelerator.timeStampFrequencyHz(1e9), startSeconds = 1000;
    const started = (): Fixture => {
      const fixture = new Fixture(kvm.accelerator, ["+kvmclock"]);
      fixture.timeStamp = BigInt(Math.round(startSeconds * frequencyHz));
      fixture.processor.timeChanged();
      return fixture;
    };
    const expectClock = (fixture: Fixture): void => {
      const { version, systemTimeNs, multiplier } = clockOf(fixture);
      expect(version).toBeGreaterThan(0);
      expect(version % 2).toBe(0);
      expect(multiplier).toBeGreaterThan(0);
      expect(systemTimeNs / 1e9).toBeGreaterThanOrEqual(startSeconds);
      expect(systemTimeNs / 1e9).toBeLessThan(startSeconds + 100);
    };
    const first = started();
    first.start(protectedMode(), switchOn);
    first.runToHalt();
    expect(first.word(resultAddress) & 8).toBe(8);
    // KVM fills it in before the guest is entered again.
    first.pending.push(0x20);
    first.run();
    expectClock(first);
    const state = first.processor.getState();
    expect(state.storedMsrs).toContainEqual([systemTimeMsr, BigInt(clockAddress | 1)]);

    const second = started();
    second.write(0x1000, "eb fe");
    second.processor.setState({ ...state, rip: 0x1000n, activity: "active" });
    second.run();
    expectClock(second);
    first.close();
    second.close();
  });

  test("is not there unless it is asked for", () => {
    if ("problem" in kvm) return;
    const fixture = new Fixture(kvm.accelerator);
    fixture.start({ ...protectedMode(), idtr: { base: 0, limit: 0 } }, switchOn);
    fixture.runTo("shutdown");
    expect(fixture.processor.getState().storedMsrs).toEqual([]);
    fixture.close();
  });
});

test("soft refuses it, and says what to do", async () => {
  expect(softAccelerator.missingFeatures(createCpuModel("intel-v2,+kvmclock", facts))).toEqual(["kvmclock"]);
  await expect(Vm.create({ kernel: debugExit(0), memory: "4M", accel: "soft", cpu: "intel-v2,+kvmclock" })).rejects.toMatchObject({
    code: "BAD_CONFIG", message: expect.stringContaining("take +kvmclock away") as string,
  });
});
