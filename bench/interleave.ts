/** Runs both sides of a comparison in turns, so that a busy moment of the host meets both. */

export const sides = ["ours", "peer"] as const;
export type Side = (typeof sides)[number];

/** The side that goes first changes from run to run. */
export async function interleave<Result>(runs: number, measure: (side: Side, run: number) => Promise<Result>): Promise<Record<Side, Result[]>> {
  const results: Record<Side, Result[]> = { ours: [], peer: [] };
  for (let run = 0; run < runs; run++) {
    for (const side of run % 2 === 0 ? sides : sides.toReversed()) results[side].push(await measure(side, run));
  }
  return results;
}
