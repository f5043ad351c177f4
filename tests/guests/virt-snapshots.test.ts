/** A hypervisor that is saved and restored over and over, mostly in the midst of its guest, notices nothing. */
import { expect, it } from "vitest";
import { softAccelerator } from "../../src/accel/soft/index.ts";
import { copyMachine } from "../../src/machine/testing/saved-copy.ts";
import { findAssembler, listUnitGuests, readUnitGuest } from "../../tools/guests/assemble.ts";
import { createUnitGuestMachine, hasPassed } from "./unit-guest.ts";

const memorySizeBytes = 16 << 20;
const instructionsPerStep = 4003;
const maximumSteps = 1000;

it("vmx-long", async () => {
  const assembler = await findAssembler().catch((error: unknown) => {
    console.log(`skipped: ${error instanceof Error ? error.message : String(error)}`);
  });
  if (assembler === undefined) return;
  const guest = (await listUnitGuests("virt")).find(({ name }) => name === "vmx-long")!;
  const { machine: first, config, text } = createUnitGuestMachine(guest, await readUnitGuest(assembler, guest), memorySizeBytes);
  let machine = first;
  let savedGuests = 0;
  for (let step = 0; machine.end === undefined && step < maximumSteps; step++) {
    machine.clock.advanceTo(machine.clock.nowNs());
    machine.processors[0].run({ instructions: instructionsPerStep, nanoseconds: 1e6 });
    if (machine.end !== undefined) break;
    if (machine.processors[0].getState().vmx?.guest !== undefined) savedGuests++;
    machine = copyMachine(machine, config, softAccelerator);
  }
  if (!hasPassed(guest, text(), machine.end)) expect.fail(text());
  expect(savedGuests).toBeGreaterThan(10);
});
