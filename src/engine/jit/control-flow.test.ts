/** Structured control flow for any graph, checked by walking the nesting it stands for. */
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { innermostLoops, structure, type Graph } from "./control-flow.ts";

/** Whether every jump goes to the head of an open loop or forward to a block whose dominator's code it lies in. */
function checkNesting(graph: Graph): { dispatches: number; cuts: number } {
  const { structure: s, dispatches, via, isCut } = structure(graph);
  const parent = new Map<number, number>();
  s.children.forEach((children, block) => {
    for (const child of children) parent.set(child, block);
  });
  const isWithin = (block: number, ancestor: number): boolean => {
    for (let at: number | undefined = block; at !== undefined; at = parent.get(at)) if (at === ancestor) return true;
    return false;
  };
  const check = (from: number, to: number): void => {
    if (s.position[to] > s.position[from]) expect(isWithin(from, parent.get(to)!)).toBe(true);
    else expect(s.isLoopHead[to] && isWithin(from, to)).toBe(true);
  };
  let cuts = 0;
  graph.forEach((successors, from) => {
    if (s.position[from] < 0) return;
    for (const to of successors) {
      if (isCut(from, to)) cuts++;
      else check(from, via(from, to)?.block ?? to);
    }
  });
  for (const { block, targets } of dispatches) for (const target of targets) if (!isCut(block, target)) check(block, target);
  return { dispatches: dispatches.length, cuts };
}

describe("structure", () => {
  test("a loop within a loop needs no help", () => {
    expect(checkNesting([[1], [2], [2, 1, 3], []])).toEqual({ dispatches: 0, cuts: 0 });
  });

  test("a loop with two entries is entered through a dispatching block", () => {
    expect(checkNesting([[1, 2], [2], [1, 3], []])).toEqual({ dispatches: 1, cuts: 0 });
  });

  test("an irreducible loop within a loop", () => {
    expect(checkNesting([[1], [2, 3], [3], [2, 4], [1, 5], []])).toEqual({ dispatches: 1, cuts: 0 });
  });

  test("any graph", () => {
    const graphs = fc.integer({ min: 1, max: 16 }).chain((size) =>
      fc.array(fc.array(fc.nat(size - 1), { maxLength: 3 }), { minLength: size, maxLength: size }));
    fc.assert(fc.property(graphs, (edges) => {
      // Each block is reached from the one before it.
      checkNesting(edges.map((successors, block) => block + 1 < edges.length ? [...successors, block + 1] : successors));
    }), { numRuns: 3000 });
  });
});

describe("innermostLoops", () => {
  test("names each block's innermost loop by its head", () => {
    expect(innermostLoops(structure([[1], [2], [3], [2, 4], [1, 5], []]).structure)).toEqual([undefined, 1, 2, 2, 1, undefined]);
  });

  test("a block may be a loop of its own", () => {
    expect(innermostLoops(structure([[1], [1, 2], []]).structure)).toEqual([undefined, 1, undefined]);
  });
});
