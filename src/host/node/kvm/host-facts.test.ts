import { expect, test } from "vitest";
import { createCpuModel } from "../../../isa/models/index.ts";
import { SvmRegisters } from "../../../virt/svm/registers.ts";
import { featureControlValues } from "../../../virt/vmx/capabilities.ts";
import { firmwareLock } from "./host-facts.ts";

/** The registers as our own models have them, which is what a `doctor` inside of a guest reads. */
function registersOf(description: string): (index: number) => bigint | undefined {
  const model = createCpuModel(description, { tscFrequencyHz: 1_000_000_000, apicId: 0, processors: 1 });
  if (model.vendor !== "amd") return (index) => index === 0x3a ? featureControlValues[model.virtualization ?? "on"] : undefined;
  const registers = new SvmRegisters(model);
  registers.reset();
  return (index) => registers.read(index);
}

test.each([
  ["GenuineIntel", "xeon"], ["CentaurHauls", "via-vt"], ["AuthenticAMD", "epyc"],
])("the lock of firmware on %s, whatever flags the kernel leaves", (vendor, cpu) => {
  expect(firmwareLock(vendor, registersOf(cpu))).toBe("open");
  expect(firmwareLock(vendor, registersOf(`${cpu},virtualization=unlocked`))).toBe("open");
  expect(firmwareLock(vendor, registersOf(`${cpu},virtualization=locked-off`))).toBe("locked");
  expect(firmwareLock(vendor, () => undefined)).toBe("unknown");
});
