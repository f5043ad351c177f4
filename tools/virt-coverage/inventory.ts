/** What an inventory of virtualization consists of, and how its rows come to be counted as tested. */

/**
 * Something that a run of the test guests can show. Of a row all of its evidence is wanted, in interpreted and in compiled
 * code; tests and forms are looked up.
 * - `control GROUP BIT`: a guest was entered with that VMX control
 * - `exit CODE`: a guest was left for that reason
 * - `admitted WHAT`: a guest was not left for an instruction or an event that can leave it; a guest's text says so, too, in a
 *   line `executed INSTRUCTION` and the like
 * - `delivered VECTOR`: an exception reached the guest's own handler
 * - `failed RULE`, `passed RULE`: an entry was refused for that rule, or the rule held
 * - `covers THING`: a guest says so where it tests the thing, in a comment `; covers: THING, …`
 * - `instruction MNEMONIC`: a guest has the instruction, or any other word, in its text
 * - `error NUMBER`: a guest expects the instruction error
 * - `test FILE: TITLE`: that file of the project has a test or a step of that name
 * - `forms LEVEL`: all forms of a level of the instruction set are there and were compared with a processor
 */
export type Evidence =
  `${"control" | "exit" | "admitted" | "delivered" | "failed" | "passed" | "covers" | "instruction" | "error" | "test" | "forms"} ${string}`;

export interface InventoryRow {
  /** The part of the inventory. */
  readonly section: string;
  /** Where the manual has it: a bit, a number, a leaf; may be empty. */
  readonly place: string;
  readonly name: string;
  /** Why it is not offered; undefined: it is. */
  readonly leftOut?: string;
  readonly evidence: readonly Evidence[];
}

export function offered(section: string, place: string, name: string, ...evidence: readonly Evidence[]): InventoryRow {
  return { section, place, name, evidence };
}

export function leftOut(section: string, place: string, name: string, reason: string): InventoryRow {
  return { section, place, name, leftOut: reason, evidence: [] };
}

/** What was shown: by evidence the names of the guests, or of the file. */
export type Shown = ReadonlyMap<string, ReadonlySet<string>>;

export interface Inventory {
  readonly title: string;
  /** Guests whose names begin with this run under the extension. */
  readonly guestPrefix: string;
  readonly rows: readonly InventoryRow[];
}

export interface JudgedRow extends InventoryRow {
  readonly state: "tested" | "untested" | "left out";
  /** Guests and files that show all of the evidence between them. */
  readonly shownBy: readonly string[];
  /** Evidence that nothing shows, with the tier where it lacks. */
  readonly missing: readonly string[];
}

/** `tiers`: what was shown, by the name of the way in which the guests were executed. */
export function judge(row: InventoryRow, tiers: ReadonlyMap<string, Shown>): JudgedRow {
  if (row.leftOut !== undefined) return { ...row, state: "left out", shownBy: [], missing: [] };
  const all = [...tiers];
  const missing = row.evidence.flatMap((evidence) => {
    const without = all.filter(([, shown]) => !shown.has(evidence)).map(([tier]) => tier);
    if (without.length === 0) return [];
    return [without.length === all.length ? evidence : `${evidence} (${without.join(", ")})`];
  });
  const shownBy = [...new Set(row.evidence.flatMap((evidence) => all.flatMap(([, shown]) => [...shown.get(evidence) ?? []])))].toSorted();
  return { ...row, state: missing.length === 0 && row.evidence.length > 0 ? "tested" : "untested", shownBy, missing };
}

/** Rows for the bits of a register: those that are set must have a name, and those that are not must not be offered. */
export function registerRows(
  section: string, value: bigint, names: Readonly<Record<number, string>>, absent: Readonly<Record<number, readonly [name: string, reason: string]>>,
  evidenceOf: (bit: number) => readonly Evidence[],
): InventoryRow[] {
  const rows: InventoryRow[] = [];
  for (let bit = 0; bit < 64; bit++) {
    const isSet = ((value >> BigInt(bit)) & 1n) !== 0n;
    const reason = absent[bit];
    if (isSet) rows.push(offered(section, String(bit), names[bit] ?? "not in the inventory", ...names[bit] === undefined ? [] : evidenceOf(bit)));
    else if (reason !== undefined) rows.push(leftOut(section, String(bit), ...reason));
  }
  return rows;
}
