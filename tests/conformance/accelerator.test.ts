/** The conformance suite on every accelerator that this host has. */
import { describe, test } from "vitest";
import { softAccelerator } from "../../src/accel/soft/index.ts";
import { conformanceCases } from "./accelerator/cases.ts";
import { kvmHere } from "./accelerator/kvm-here.ts";

const kvm = kvmHere();

describe("soft", () => {
  for (const { group, name, run } of conformanceCases) test(`${group}: ${name}`, () => run(softAccelerator));
});

describe("kvm", () => {
  if ("problem" in kvm) {
    test.skip(`skipped: ${kvm.problem}`, () => {});
    return;
  }
  const { accelerator, skips } = kvm;
  for (const { group, name, run } of conformanceCases) {
    const reason = skips.get(`${group}: ${name}`);
    test.skipIf(reason !== undefined)(`${group}: ${name}${reason === undefined ? "" : ` (skipped: ${reason})`}`, () => run(accelerator));
  }
});
