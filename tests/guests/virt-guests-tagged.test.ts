/** The guests of VMX with a VPID: hosts and guests go on as they were left, as far as nothing that matters was written in between. */
import { afterAll, expect, vi } from "vitest";
import { Interpreter } from "../../src/engine/interpreter.ts";
import { SoftProcessor } from "../../src/engine/processor.ts";
import { describeGuests } from "./describe-guests.ts";

Interpreter.hasInlinedHot = true;
const resumed = [vi.spyOn(SoftProcessor.prototype, "resumeGuest"), vi.spyOn(SoftProcessor.prototype, "resumeHost")];
await describeGuests("virt", { prefix: "vmx-", defines: ["WITH_VPID"] });

afterAll(() => {
  // Without an assembler no guest has run.
  if (resumed.every((spy) => spy.mock.results.length === 0)) return;
  for (const spy of resumed) expect(spy.mock.results.map(({ value }) => value)).toContain(true);
});
