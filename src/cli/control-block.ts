/** A VMCB or VMCS as a table for the terminal: what an entry would refuse comes first. */
import type { ControlBlock } from "../api/index.ts";

const bitsPerDigit = 4;

/** Where virtualization is switched on, and nothing else says why there is none. */
export const noControlBlock = "virtualization is switched on, and no control block is current yet";

export function formatControlBlock({ kind, address, isRunning, fields, problems }: ControlBlock): string {
  const bad = new Set(problems.flatMap(({ fields: names }) => names));
  const nameWidth = Math.max(...fields.map(({ name }) => name.length));
  const digits = 64 / bitsPerDigit;
  const rows = fields.map(({ name, value, widthBits, meaning }) => {
    const text = value.toString(16).padStart(widthBits / bitsPerDigit, "0").padStart(digits);
    return `${bad.has(name) ? "!" : " "} ${name.padEnd(nameWidth)}  ${text}  ${meaning ?? ""}`.trimEnd();
  });
  const now = isRunning ? "its guest is running: registers are those of its last entry" : "the hypervisor is running";
  const verdict = problems.length === 0 ? ["an entry would pass every check"] : [
    `an entry would fail (fields marked with !):`, ...problems.map(({ problem, fields: names }) => `  ${names.length === 0 ? "" : `${names.join(", ")}: `}${problem}`),
  ];
  return `${[`${kind} at 0x${address.toString(16)}; ${now}`, ...verdict, ...rows].join("\n")}\n`;
}
