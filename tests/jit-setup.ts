/** Lets whole test suites run under another JIT: RINGMASTER_JIT is "off" or "forced", as `npm run test:jit` sets it. */
import { jitSettingsNamed, setDefaultJitSettings } from "../src/engine/jit/settings.ts";

const name = process.env["RINGMASTER_JIT"];
if (name !== undefined) setDefaultJitSettings(jitSettingsNamed(name));
