import { expect, test } from "vitest";
import type { Transition } from "../../isa/virtualization.ts";
import { FuzzedGuest, FuzzPlace } from "./testing/fuzzed-guest.ts";
import { consistencyChecks } from "./checks.ts";
import { vmcbFields } from "./vmcb.ts";

function prepared(): FuzzedGuest {
  const guest = new FuzzedGuest();
  guest.prepareValid();
  return guest;
}

test("there is none before VMRUN", () => {
  expect(prepared().svm.controlBlock()).toBeUndefined();
});

test("the control block of a guest has all fields, with the names of what is set, and no problems", () => {
  const guest = prepared();
  guest.machine.run(2);
  const block = guest.svm.controlBlock();
  expect(block).toMatchObject({ kind: "VMCB", address: BigInt(FuzzPlace.vmcb), problems: [] });
  expect(block?.fields).toHaveLength(vmcbFields.length);
  const meanings = new Map(block?.fields.map(({ name, meaning }) => [name, meaning]));
  expect(meanings.get("INTERCEPT_MISC2")).toBe("VMRUN VMMCALL");
  expect(meanings.get("CS.attributes")).toBe("readable code, 64-bit, DPL 0");
  expect(meanings.get("CR4")).toBe("PAE PGE OSFXSR");
  expect(meanings.get("IOPM_BASE_PA")).toBeUndefined();
});

test("what VMRUN refuses is explained, and told to an observer", () => {
  const guest = prepared();
  const seen: Transition[] = [];
  guest.svm.observer = (transition) => seen.push(transition);
  guest.machine.view.setUint32(FuzzPlace.vmcb + 0x58, 0, true);
  guest.machine.run(2);
  expect(guest.svm.controlBlock()?.problems).toEqual([{ problem: "ASID is zero", fields: ["GUEST_ASID"] }]);
  expect(seen).toMatchObject([{ kind: "exit", reason: "INVALID", controlBlock: FuzzPlace.vmcb }]);
});

test("every check names the fields that it looks at", () => {
  for (const { problem, fields } of consistencyChecks) {
    expect(fields.length, problem).toBeGreaterThan(0);
    for (const field of fields) expect(vmcbFields, problem).toContain(field);
  }
});
