/** Which instructions are inlined into the dispatch loop: one example of machine code (64-bit mode) per handler, by frequency. */

const examples: readonly string[] = [
  "4801d8",
];

function parseHex(text: string): Uint8Array {
  return Uint8Array.from({ length: text.length / 2 }, (_, index) => Number.parseInt(text.slice(index * 2, index * 2 + 2), 16));
}

export const hotInstructions: readonly Uint8Array[] = examples.map(parseHex);
