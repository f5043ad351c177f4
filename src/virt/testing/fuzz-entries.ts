/** The fuzzers' loop: seed after seed, with a count of what became of the guests. */

export interface FuzzRange {
  readonly extension: "svm" | "vmx";
  readonly firstSeed: number;
  readonly entries: number;
  /** Told how many entries are done. */
  onProgress?(done: number): void;
}

/** Enters a guest for every seed; an error names the command that shows it again. */
export function fuzzEntries(guest: { run(seed: number): string }, { extension, firstSeed, entries, onProgress }: FuzzRange): ReadonlyMap<string, number> {
  const ends = new Map<string, number>();
  for (let done = 0; done < entries; done++) {
    const seed = firstSeed + done;
    try {
      const end = guest.run(seed);
      ends.set(end, (ends.get(end) ?? 0) + 1);
    } catch (cause) {
      throw new Error(`seed ${seed} failed; again: npm run fuzz:virt -- ${extension} --seed ${seed} --entries 1`, { cause });
    }
    onProgress?.(done + 1);
  }
  return ends;
}
