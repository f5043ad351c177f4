/** Runs the guests of guests/virt, and collects what they show. */
import { readFile } from "node:fs/promises";
import { Vmx } from "../../src/virt/vmx/vmx.ts";
import { controls } from "../../src/virt/vmx/controls.ts";
import type { Transition } from "../../src/isa/virtualization.ts";
import { runUnitGuest } from "../../tests/guests/unit-guest.ts";
import { findAssembler, listUnitGuests, readUnitGuest } from "../guests/assemble.ts";

export interface GuestRun {
  readonly name: string;
  readonly passed: boolean;
  readonly text: string;
  readonly evidence: ReadonlySet<string>;
}

/** The controls that take effect in the guest that was just entered. */
function* controlsOf({ context }: Vmx): Generator<string> {
  for (const control of controls) if (context.has(control)) yield `control ${control.group} ${control.bit}`;
}

/** Numbers of instruction errors by the names that guests have for them. */
async function readErrorNumbers(): Promise<ReadonlyMap<string, string>> {
  const text = await readFile(new URL("../../guests/virt/lib/vmx.inc", import.meta.url), "utf8");
  return new Map([...text.matchAll(/^(E_\w+)\s+equ (\d+)$/gmu)].map(([, name, number]) => [name, number]));
}

/** What a guest's text tells of it. */
function readSource(source: string, errors: ReadonlyMap<string, string>): Set<string> {
  const evidence = new Set<string>();
  for (const line of source.split("\n")) {
    const [code, comment = ""] = line.split(/;(.*)/su);
    const covered = /^ covers: (.*)$/u.exec(comment)?.[1];
    for (const thing of covered?.split(", ") ?? []) evidence.add(`covers ${thing}`);
    if (covered === undefined && comment !== "") evidence.add(`text ${comment.trim()}`);
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
  const runs: GuestRun[] = [];
  for (const guest of await listUnitGuests("virt")) {
    onGuest(guest.name);
    const evidence = readSource(await readFile(guest.path, "utf8"), errors);
    const { passed, text } = runUnitGuest(guest, await readUnitGuest(assembler, guest), (machine) => {
      const extension = machine.processors[0]?.virtualization;
      if (extension === undefined) return;
      extension.observer = ({ kind, code }: Transition) => {
        if (kind === "exit") evidence.add(`exit ${code}`);
        else if (extension instanceof Vmx) for (const control of controlsOf(extension)) evidence.add(control);
      };
    });
    runs.push({ name: guest.name, passed, text, evidence });
  }
  return runs;
}
