/**
 * `npm run virt:coverage`: the inventory of virtualization row by row: tested by which guest or test, or left out and why.
 * All our own guests run for it, interpreted and compiled. Exit status 1 when something offered is untested, or a guest fails.
 * Usage: npm run virt:coverage [-- vmx|svm|…] [--json|--summary]; a summary has only the rows that are untested.
 */
import { parseArgs } from "node:util";
import { formatTable } from "../table.ts";
import { cpuidInventory } from "./cpuid.ts";
import { judge, type Inventory, type JudgedRow, type Shown } from "./inventory.ts";
import { isaInventory } from "./isa.ts";
import { platformInventory } from "./platform.ts";
import { runGuests, tiers, type GuestRun } from "./run-guests.ts";
import { svmInventory } from "./svm.ts";
import { lookUp } from "./tests.ts";
import { viaInventory } from "./via.ts";
import { vmxInventory } from "./vmx.ts";

const inventories: Readonly<Record<string, Inventory>> = {
  vmx: vmxInventory, svm: svmInventory, via: viaInventory, platform: platformInventory, cpuid: cpuidInventory, isa: isaInventory,
};

const { values, positionals } = parseArgs({ allowPositionals: true, options: { json: { type: "boolean", default: false }, summary: { type: "boolean", default: false } } });
const wanted = positionals.length === 0 ? Object.keys(inventories) : positionals;
const unknown = wanted.filter((name) => !Object.hasOwn(inventories, name));
if (unknown.length > 0) {
  console.error(`there is no inventory ${unknown.join(", ")}; there are: ${Object.keys(inventories).join(", ")}`);
  process.exit(2);
}

/** What guests of this prefix showed in a tier, and what needs no guest. */
function shownBy(runs: readonly GuestRun[], tier: string, prefix: string, elsewhere: Shown): Shown {
  const shown = new Map<string, Set<string>>([...elsewhere].map(([evidence, places]) => [evidence, new Set(places)]));
  for (const run of runs) {
    if (!run.passed || run.tier !== tier || !run.name.startsWith(prefix)) continue;
    for (const thing of run.evidence) {
      const guests = shown.get(thing) ?? new Set();
      shown.set(thing, guests.add(run.name.slice(prefix.length)));
    }
  }
  return shown;
}

/** What stands in the last column. */
function remark({ state, leftOut, shownBy: places, missing }: JudgedRow): string {
  const placesShown = 8;
  switch (state) {
    case "left out": return leftOut ?? "";
    case "tested": return places.length > placesShown ? `${places.slice(0, placesShown).join(", ")} and ${places.length - placesShown} more` : places.join(", ");
    case "untested": return missing.length === 0 ? "nothing is said of it" : `nothing shows: ${missing.join("; ")}`;
  }
}

/** Guests that failed, and those of which compiled code executed nothing in the tier that is about it. */
function complaintsAbout(runs: readonly GuestRun[]): string[] {
  return runs.flatMap(({ name, tier, passed, text, compiled }) => {
    if (!passed) return [`guest ${name} failed, ${tier}:\n${text}`];
    return tier === "compiled" && compiled === 0 ? [`guest ${name}: compiled code executed none of it`] : [];
  });
}

const runs = await runGuests((name) => process.stderr.isTTY && process.stderr.write(`\r\u001b[K${name}`));
if (process.stderr.isTTY) process.stderr.write("\r\u001b[K");
const complaints = complaintsAbout(runs);
const elsewhere = lookUp(wanted.flatMap((name) => inventories[name].rows));
const results = wanted.map((name) => {
  const { title, guestPrefix, rows } = inventories[name];
  const shown = new Map(Object.keys(tiers).map((tier) => [tier, shownBy(runs, tier, guestPrefix, elsewhere)]));
  return { title, rows: rows.map((row) => judge(row, shown)) };
});
const total = (tier: string, key: "instructions" | "compiled"): number => runs.filter((run) => run.tier === tier).reduce((sum, run) => sum + run[key], 0);

if (values.json) {
  console.log(JSON.stringify({ inventories: results, complaints }, null, 2));
} else {
  const counts: string[][] = [];
  for (const { title, rows } of results) {
    const shown = values.summary ? rows.filter(({ state }) => state === "untested") : rows;
    if (shown.length > 0) {
      console.log(`${title}\n`);
      console.log(`${formatTable(["part", "place", "what", "state", "shown by, or why not"], shown.map((row) => [row.section, row.place, row.name, row.state, remark(row)]))}\n`);
    }
    counts.push([title, ...(["tested", "untested", "left out"] as const).map((state) => String(rows.filter((row) => row.state === state).length))]);
  }
  console.log(`${formatTable(["inventory", "tested", "untested", "left out"], counts)}\n`);
  console.log(`compiled code executed ${total("compiled", "compiled")} of ${total("compiled", "instructions")} instructions of ${runs.length / Object.keys(tiers).length} guests; each ran interpreted, too`);
  for (const complaint of complaints) console.log(complaint);
}
process.exitCode = complaints.length > 0 || results.some(({ rows }) => rows.some(({ state }) => state === "untested")) ? 1 : 0;
