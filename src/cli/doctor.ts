/** `ringmaster doctor`: what of this host Ringmaster can use, and what to do about the rest. */
import { chooseAccelerator } from "../api/index.ts";
import { aptCheck, cacheCheck, nodeCheck, resourceChecks, webAssemblyCheck } from "./doctor-host-checks.ts";
import { kvmChecks } from "./doctor-kvm-checks.ts";

export interface DoctorCheck {
  readonly name: string;
  /** "missing" costs a feature, "failed" means that machines cannot run; "info" is neither good nor bad. */
  readonly state: "ok" | "info" | "missing" | "failed";
  readonly detail: string;
}

export interface DoctorReport {
  /** What `--accel auto` takes, and why. */
  readonly accelerator: "soft" | "kvm";
  readonly reason: string;
  readonly checks: readonly DoctorCheck[];
}

export function doctorReport(): DoctorReport {
  const { chosen } = chooseAccelerator({ accel: "auto" });
  return {
    accelerator: chosen.name, reason: chosen.reason,
    checks: [nodeCheck(), webAssemblyCheck(), ...resourceChecks(), ...kvmChecks(), aptCheck(), cacheCheck()],
  };
}

const marks = { ok: "ok", info: "", missing: "-", failed: "FAILED" } as const;
/** SGR parameters: green, none, yellow, red. */
const colors = { ok: "32", info: "0", missing: "33", failed: "31" } as const;
const nameWidth = 16;
const markWidth = 8;

export function formatDoctorReport({ accelerator, reason, checks }: DoctorReport, hasColors: boolean): string {
  const paint = (text: string, color: string): string => (hasColors ? `\u001b[${color}m${text}\u001b[0m` : text);
  const lines = checks.map(({ name, state, detail }) => `${paint(marks[state].padEnd(markWidth), colors[state])}${name.padEnd(nameWidth)}${detail}`);
  return `${lines.join("\n")}\n\naccelerator: ${paint(accelerator, "1")} (${reason})\n`;
}
