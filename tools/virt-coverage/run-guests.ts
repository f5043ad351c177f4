/** Runs the test guests in every tier, and collects what they show. */
import { readFile } from "node:fs/promises";
import { jitTotals } from "../../src/engine/jit/jit.ts";
import { jitSettingsNamed, setDefaultJitSettings } from "../../src/engine/jit/settings.ts";
import { runUnitGuest } from "../../tests/guests/unit-guest.ts";
import { findAssembler, listUnitGuests, readUnitGuest } from "../guests/assemble.ts";
import { Watch } from "./watch.ts";

/** Ways in which guest code is executed, with the JIT's settings for each. */
export const tiers: Readonly<Record<string, string>> = { interpreted: "off", compiled: "forced" };

export interface GuestRun {
  readonly tier: string;
  readonly name: string;
  readonly passed: boolean;
  readonly text: string;
  readonly instructions: number;
  /** Of them by compiled code, where that is counted. */
  readonly compiled: number;
  readonly evidence: ReadonlySet<string>;
}

/** Numbers of instruction errors by the names that guests have for them. */
async function readErrorNumbers(): Promise<ReadonlyMap<string, string>> {
  const text = await readFile(new URL("../../guests/virt/lib/vmx.inc", import.meta.url), "utf8");
  return new Map([...text.matchAll(/^(E_\w+)\s+equ (\d+)$/gmu)].map(([, name, number]) => [name, number]));
}

/** Macros whose last argument is an instruction that stays in the guest. */
const admittingMacro = /^\s+(?:executed|by_control [^,]+,[^,]+,[^,]+,|plain [^,]+,)\s+(?<mnemonic>[a-z]\w*)/u;

/** What a guest's text tells of it. */
function readSource(source: string, errors: ReadonlyMap<string, string>): Set<string> {
  const evidence = new Set<string>();
  for (const line of source.split("\n")) {
    const [code, comment = ""] = line.split(/;(.*)/su);
    const covered = /^ covers: (.*)$/u.exec(comment)?.[1];
    for (const thing of covered?.split(", ") ?? []) evidence.add(`covers ${thing}`);
    const admitted = admittingMacro.exec(code)?.groups?.["mnemonic"];
    if (admitted !== undefined) evidence.add(`admitted ${admitted}`);
    for (const [word] of code.matchAll(/\b\w+\b/gu)) {
      const error = errors.get(word);
      evidence.add(error === undefined ? `instruction ${word}` : `error ${error}`);
    }
  }
  return evidence;
}

export async function runGuests(onGuest: (name: string) => void): Promise<GuestRun[]> {
  const assembler = await findAssembler();
  const errors = await readErrorNumbers();
  const guests = [...await listUnitGuests("virt"), ...await listUnitGuests("unit")];
  const runs: GuestRun[] = [];
  for (const guest of guests) {
    const image = await readUnitGuest(assembler, guest);
    const fromSource = readSource(await readFile(guest.path, "utf8"), errors);
    for (const [tier, jit] of Object.entries(tiers)) {
      onGuest(`${guest.name}, ${tier}`);
      const settings = jitSettingsNamed(jit);
      setDefaultJitSettings(settings);
      const before = jitTotals.executed;
      const watch = new Watch(settings.counts === true);
      const { passed, text, instructions } = runUnitGuest(guest, image, (machine) => watch.begin(machine));
      runs.push({ tier, name: guest.name, passed, text, instructions, compiled: jitTotals.executed - before, evidence: fromSource.union(watch.evidence) });
    }
  }
  return runs;
}
