/** What becomes of a profile's samples. */
import { expect, test } from "vitest";
import { categoryOf, formatProfileSummary, parseSymbols, summarizeProfile, symbolAt } from "./execution-profile.ts";

const symbols = parseSymbols("ffffffff81000000 T _text\nffffffff81000100 t memcpy\nffffffff81000100 d data\n0000000000001000 T main\n");

test("symbols are found by the greatest address below", () => {
  expect(symbolAt(symbols, 0xffff_ffff_8100_0000n)).toBe("_text");
  expect(symbolAt(symbols, 0xffff_ffff_8100_0104n)).toBe("memcpy+0x4");
  expect(symbolAt(symbols, 0xfffn)).toBe("0xfff");
  expect(symbolAt(symbols, 0x4000_0000n)).toBe("0x40000000");
});

test("functions are told apart by where they come from", () => {
  expect(categoryOf("region ffffffff81000000", "wasm://wasm/1")).toBe("compiled code");
  expect(categoryOf("interpreter", "wasm://wasm/2")).toBe("interpreter");
  expect(categoryOf("translate", "file:///x/src/engine/page-walk.ts")).toBe("TLB misses and slow accesses");
  expect(categoryOf("blockIsHot", "file:///x/dist/engine/jit/jit.js")).toBe("compiling");
  expect(categoryOf("write", "node:fs")).toBe("everything else");
});

test("samples are added up, and regions get the guest's names", () => {
  const frame = (functionName: string, url = ""): { functionName: string; url: string; scriptId: string; lineNumber: number; columnNumber: number } =>
    ({ functionName, url, scriptId: "0", lineNumber: 0, columnNumber: 0 });
  const profile = {
    startTime: 0, endTime: 10_000, samples: [1, 2, 2, 3], timeDeltas: [1000, 2000, 3000, 4000],
    nodes: [
      { id: 1, callFrame: frame("(idle)") }, { id: 2, callFrame: frame("region ffffffff81000110", "wasm://wasm/1") },
      { id: 3, callFrame: frame("slowLoad", "file:///x/src/engine/mmu.ts") },
    ],
  };
  const summary = summarizeProfile(profile, symbols);
  expect(summary).toEqual({
    milliseconds: 10,
    categories: [
      { name: "compiled code", milliseconds: 5 }, { name: "TLB misses and slow accesses", milliseconds: 4 }, { name: "idle", milliseconds: 1 },
    ],
    regions: [{ name: "memcpy+0x10", milliseconds: 5 }],
  });
  expect(profile.nodes[1].callFrame.functionName).toBe("guest memcpy+0x10");
  expect(formatProfileSummary(summary)).toContain("50.0 %  compiled code");
});
