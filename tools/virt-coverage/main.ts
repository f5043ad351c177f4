/**
 * `npm run virt:coverage`: the inventory of VT-x and AMD-V row by row: tested by which guest, or left out and why. All guests
 * of guests/virt run for it. Exit status 1 when something offered is untested, or a guest fails.
 * Usage: npm run virt:coverage [-- vmx|svm] [--json]
 */
import { parseArgs } from "node:util";
import { formatTable } from "../table.ts";
import { judge, type Inventory, type JudgedRow, type Shown } from "./inventory.ts";
import { runGuests, type GuestRun } from "./run-guests.ts";
import { svmInventory } from "./svm.ts";
import { vmxInventory } from "./vmx.ts";

const inventories: Readonly<Record<string, Inventory>> = { vmx: vmxInventory, svm: svmInventory };

const { values, positionals } = parseArgs({ allowPositionals: true, options: { json: { type: "boolean", default: false } } });
const wanted = positionals.length === 0 ? Object.keys(inventories) : positionals;
const unknown = wanted.filter((name) => !Object.hasOwn(inventories, name));
if (unknown.length > 0) {
  console.error(`there is no inventory ${unknown.join(", ")}; there are: ${Object.keys(inventories).join(", ")}`);
  process.exit(2);
}

function shownBy(runs: readonly GuestRun[], prefix: string): Shown {
  const shown = new Map<string, Set<string>>();
  for (const { name, passed, evidence } of runs) {
    if (!passed || !name.startsWith(prefix)) continue;
    for (const thing of evidence) {
      const guests = shown.get(thing) ?? new Set();
      shown.set(thing, guests.add(name));
    }
  }
  return shown;
}

/** What stands in the last column. */
function remark({ state, leftOut, guests, missing }: JudgedRow, prefix: string): string {
  switch (state) {
    case "left out": return leftOut ?? "";
    case "tested": return guests.map((guest) => guest.slice(prefix.length)).join(", ");
    case "untested": return missing.length === 0 ? "nothing is said of it" : `no guest shows: ${missing.join("; ")}`;
  }
}

const runs = await runGuests((name) => process.stderr.isTTY && process.stderr.write(`\r\u001b[K${name}`));
if (process.stderr.isTTY) process.stderr.write("\r\u001b[K");
const failed = runs.filter(({ passed }) => !passed);
const results = wanted.map((name) => {
  const { title, guestPrefix, rows } = inventories[name];
  const shown = shownBy(runs, guestPrefix);
  return { title, guestPrefix, rows: rows.map((row) => judge(row, shown)) };
});

if (values.json) {
  console.log(JSON.stringify({ inventories: results, failedGuests: failed.map(({ name }) => name) }, null, 2));
} else {
  for (const { title, guestPrefix, rows } of results) {
    console.log(`${title}\n`);
    console.log(formatTable(["part", "place", "what", "state", "guests, or why not"], rows.map((row) => [row.section, row.place, row.name, row.state, remark(row, guestPrefix)])));
    const count = (state: JudgedRow["state"]): number => rows.filter((row) => row.state === state).length;
    console.log(`\n${title}: ${count("tested")} tested, ${count("untested")} untested, ${count("left out")} left out\n`);
  }
  for (const { name, text } of failed) console.log(`guest ${name} failed:\n${text}`);
}
process.exitCode = failed.length > 0 || results.some(({ rows }) => rows.some(({ state }) => state === "untested")) ? 1 : 0;
