/**
 * Lets whole test suites run under another JIT: RINGMASTER_JIT names its settings, as `npm run test:jit` sets it.
 * RINGMASTER_JIT_REPORT is a directory for what compiled code did in each test.
 */
import { jitSettingsNamed, setDefaultJitSettings } from "../src/engine/jit/settings.ts";

const name = process.env["RINGMASTER_JIT"], report = process.env["RINGMASTER_JIT_REPORT"];
if (name !== undefined) setDefaultJitSettings(jitSettingsNamed(name));
if (report !== undefined) {
  const { countPerTest } = await import("./jit/count-per-test.ts");
  countPerTest(report);
}
