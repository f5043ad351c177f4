/** What an inventory of a virtualization extension consists of, and how its rows come to be counted as tested. */

/**
 * Something that a run of the test guests can show. Of a row all of its evidence is wanted.
 * - `control GROUP BIT`: a guest was entered with that VMX control
 * - `exit CODE`: a guest was left for that reason
 * - `covers THING`: a guest says so where it tests the thing, in a comment `; covers: THING, …`
 * - `text LINE`: a guest has that comment where the thing is tested, for rules by their text
 * - `instruction MNEMONIC`: a guest has the instruction in its text
 * - `error NUMBER`: a guest expects the instruction error
 */
export type Evidence = `${"control" | "exit" | "covers" | "text" | "instruction" | "error"} ${string}`;

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

/** What guests showed: by evidence the names of the guests. */
export type Shown = ReadonlyMap<string, ReadonlySet<string>>;

export interface Inventory {
  readonly title: string;
  /** Guests whose names begin with this run under the extension. */
  readonly guestPrefix: string;
  readonly rows: readonly InventoryRow[];
}

export interface JudgedRow extends InventoryRow {
  readonly state: "tested" | "untested" | "left out";
  /** Guests that show all of the evidence between them. */
  readonly guests: readonly string[];
  /** Evidence that no guest shows. */
  readonly missing: readonly string[];
}

export function judge(row: InventoryRow, shown: Shown): JudgedRow {
  const missing = row.evidence.filter((evidence) => !shown.has(evidence));
  const guests = [...new Set(row.evidence.flatMap((evidence) => [...shown.get(evidence) ?? []]))].toSorted();
  if (row.leftOut !== undefined) return { ...row, state: "left out", guests: [], missing: [] };
  return { ...row, state: missing.length === 0 && row.evidence.length > 0 ? "tested" : "untested", guests, missing };
}

/** Rows for the bits of a register: those that are set must have a name, and those that are not must not be offered. */
export function registerRows(
  section: string, value: bigint, names: Readonly<Record<number, string>>, leftOut: Readonly<Record<number, readonly [name: string, reason: string]>>,
  evidenceOf: (bit: number) => readonly Evidence[],
): InventoryRow[] {
  const rows: InventoryRow[] = [];
  for (let bit = 0; bit < 64; bit++) {
    const place = String(bit);
    const isSet = ((value >> BigInt(bit)) & 1n) !== 0n;
    const reason = leftOut[bit];
    if (isSet) rows.push({ section, place, name: names[bit] ?? "not in the inventory", evidence: names[bit] === undefined ? [] : evidenceOf(bit) });
    else if (reason !== undefined) rows.push({ section, place, name: reason[0], leftOut: reason[1], evidence: [] });
  }
  return rows;
}
