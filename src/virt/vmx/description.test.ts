import { expect, test } from "vitest";
import type { Transition } from "../../isa/virtualization.ts";
import { describeVmcs } from "./description.ts";
import { Field, vmcsFields } from "./fields.ts";
import { FuzzedGuest } from "./testing/fuzzed-guest.ts";
import { testEnvironment, validVmcs } from "./testing/valid-vmcs.ts";
import type { VmxContext } from "./context.ts";

function describe(change: (vmcs: ReturnType<typeof validVmcs>) => void): NonNullable<ReturnType<typeof describeVmcs>> {
  const vmcs = validVmcs();
  change(vmcs);
  const block = describeVmcs({ current: vmcs, isGuest: false, vmcs } as VmxContext, testEnvironment());
  if (block === undefined) throw new Error("there is a current VMCS");
  return block;
}

test("a sound VMCS has all fields, with the names of what is set, and no problems", () => {
  const { kind, fields, problems } = describe(() => {});
  expect([kind, problems]).toEqual(["VMCS", []]);
  expect(fields).toHaveLength(vmcsFields.length);
  const meanings = new Map(fields.map(({ name, meaning }) => [name, meaning]));
  expect(meanings.get(Field.guestCSAccessRights.name)).toBe("readable code, 64-bit, DPL 0");
  expect(meanings.get(Field.guestActivity.name)).toBe("active");
  expect(meanings.get(Field.exitControls.name)).toContain('"host address-space size"');
});

test("a guest that runs in another mode than its hypervisor is no problem", () => {
  const vmcs = validVmcs(), environment = { ...testEnvironment(), isLongMode: false };
  expect(describeVmcs({ current: vmcs, isGuest: true, vmcs } as VmxContext, environment)).toMatchObject({ isRunning: true, problems: [] });
  expect(describeVmcs({ current: vmcs, isGuest: false, vmcs } as VmxContext, environment)?.problems).not.toEqual([]);
});

test("what VM entry refuses is explained", () => {
  const { problems } = describe((vmcs) => vmcs.set(Field.guestRflags, 0n));
  expect(problems).toHaveLength(1);
  expect(problems[0].fields).toContain(Field.guestRflags.name);
  expect(problems[0].problem).toMatch(/^it must be that .* \(.+\)$/u);
});

test("entries and exits are told to an observer", () => {
  const guest = new FuzzedGuest();
  const seen: Transition[] = [];
  guest.vmx.observer = (transition) => seen.push(transition);
  let exits = 0;
  for (let seed = 1; seed <= 300; seed++) {
    seen.length = 0;
    const end = guest.run(seed);
    if (end === "exit") {
      exits++;
      // The host resumes it a few times; an entry that fails is told of as an exit alone.
      expect(seen.slice(0, 2).map(({ kind }) => kind)).toEqual(["entry", "exit"]);
      expect(seen.some(({ kind }, index) => kind === "entry" && seen.at(index + 1)?.kind !== "exit")).toBe(false);
      expect(guest.vmx.controlBlock()).toMatchObject({ kind: "VMCS", address: BigInt(seen[1].controlBlock) });
    }
    if (end === "invalid guest state") expect(seen.at(-1)).toMatchObject({ kind: "exit" });
    if (end === "refused") expect(seen).toEqual([]);
  }
  expect(exits).toBeGreaterThan(0);
});
