/** A processor that is saved while a guest of SVM runs. */
import { expect, test } from "vitest";
import { noRegions } from "../../base/shape.ts";
import { bytesOf, type EngineMachine, Place } from "../../engine/testing/engine-machine.ts";
import { FuzzPlace, FuzzedGuest } from "../../virt/svm/testing/fuzzed-guest.ts";
import { processorStateShape } from "../processor-state-shape.ts";
import { readProcessorState, writeProcessorState } from "./processor-state.ts";

/** A guest that counts in RBX to 1000 and then halts, which is intercepted. */
const countingGuest = "48ffc3 4881fbe8030000 75f4 f4";
const interceptHalt = 0x8100_0000;
const rbx = 3;

function startedGuest(): FuzzedGuest {
  const guest = new FuzzedGuest();
  guest.prepareValid();
  const { machine } = guest;
  machine.view.setUint32(FuzzPlace.vmcb + 0x00c, interceptHalt, true);
  machine.physical.writeRange(FuzzPlace.guestCode, bytesOf(countingGuest));
  machine.setRegister(rbx, 0n);
  return guest;
}

/** RBX, RIP of the host and the exit code at the host's HLT. */
function outcome(machine: EngineMachine): readonly [bigint, bigint, number] {
  expect(machine.run(100_000)).toBe("halted");
  return [machine.register(rbx), machine.rip, machine.view.getUint32(FuzzPlace.vmcb + 0x70, true)];
}

test("a processor saved in the middle of a guest goes on in another one", () => {
  const expected = outcome(startedGuest().machine);
  expect(expected).toEqual([1000n, BigInt(Place.code + 4), 0x78]);
  const first = startedGuest();
  first.machine.run(500);
  expect(first.svm.isGuest).toBe(true);
  const saved = readProcessorState(first.machine.processor);
  const second = new FuzzedGuest();
  second.prepareValid();
  second.machine.ram.set(first.machine.ram);
  writeProcessorState(second.machine.processor, processorStateShape.decode(processorStateShape.encode(saved, "", noRegions), "", noRegions));
  expect(readProcessorState(second.machine.processor)).toEqual(saved);
  expect(outcome(second.machine)).toEqual(expected);
});

test("a saved state must be complete, and its control block in memory", () => {
  const { machine, svm } = startedGuest();
  machine.run(500);
  const { gif, guest } = svm.state;
  expect(guest).toBeDefined();
  const { rip: _rip, ...host } = guest!.host;
  expect(() => svm.restore({ gif, guest: { ...guest!, host } })).toThrow(/rip is missing/);
  expect(() => svm.restore({ gif, guest: { ...guest!, vmcb: 1n << 60n } })).toThrow(/not in memory/);
});
