/**
 * From a graph of blocks to WebAssembly's nested ones, by the dominator tree: a block's code is followed by that of the
 * blocks it immediately dominates, each the end of a `block` that all jumps to it can name; heads of loops open a `loop`.
 * Loops with several entries get one more block in front that takes all jumps into them and chooses by a number.
 */
import { invariant } from "../../base/errors.ts";

/** Successors by block; block 0 is the entry. All blocks can be reached. */
export type Graph = readonly (readonly number[])[];

export interface Structure {
  /** Blocks in an order in which every jump but those back to the head of a loop goes forward. */
  readonly order: readonly number[];
  /** Blocks that a block immediately dominates, in `order`. */
  readonly children: readonly (readonly number[])[];
  readonly isLoopHead: readonly boolean[];
  /** Predecessors by block. */
  readonly predecessors: readonly (readonly number[])[];
  /** Place of each block in `order`. */
  readonly position: readonly number[];
}

function reversePostorder(graph: Graph): number[] {
  const order: number[] = [];
  const state = new Uint8Array(graph.length);
  // Explicit stack: guests decide how deep it goes.
  const stack: { block: number; next: number }[] = [{ block: 0, next: 0 }];
  state[0] = 1;
  while (stack.length > 0) {
    const top = stack[stack.length - 1];
    const successors = graph[top.block];
    if (top.next === successors.length) {
      order.push(top.block);
      stack.pop();
      continue;
    }
    const successor = successors[top.next++];
    if (state[successor] !== 0) continue;
    state[successor] = 1;
    stack.push({ block: successor, next: 0 });
  }
  return order.reverse();
}

/** Immediate dominators by block, after Cooper, Harvey and Kennedy's simple algorithm. */
function immediateDominators(predecessors: readonly (readonly number[])[], order: readonly number[], position: readonly number[]): number[] {
  const dominator = position.map(() => -1);
  dominator[0] = 0;
  const meet = (a: number, b: number): number => {
    while (a !== b) {
      while (position[a] > position[b]) a = dominator[a];
      while (position[b] > position[a]) b = dominator[b];
    }
    return a;
  };
  for (let changed = true; changed;) {
    changed = false;
    for (const block of order) {
      if (block === 0) continue;
      let found = -1;
      for (const predecessor of predecessors[block]) {
        if (dominator[predecessor] === -1) continue;
        found = found === -1 ? predecessor : meet(found, predecessor);
      }
      if (dominator[block] === found) continue;
      dominator[block] = found;
      changed = true;
    }
  }
  return dominator;
}

function invert(graph: Graph, reachable: readonly number[]): number[][] {
  const predecessors: number[][] = graph.map(() => []);
  for (const block of reachable) {
    for (const successor of graph[block]) if (!predecessors[successor].includes(block)) predecessors[successor].push(block);
  }
  return predecessors;
}

/** Jumps into the middle of loops, when there are any: the graph is irreducible then. */
interface Irreducible {
  readonly jumps: readonly { readonly from: number; readonly to: number }[];
}

function tryStructure(graph: Graph): Structure | Irreducible {
  const order = reversePostorder(graph);
  const position = graph.map(() => -1);
  order.forEach((block, index) => void (position[block] = index));
  const predecessors = invert(graph, order);
  const dominator = immediateDominators(predecessors, order, position);
  const dominates = (a: number, b: number): boolean => {
    while (position[b] > position[a]) b = dominator[b];
    return a === b;
  };
  const isLoopHead = graph.map(() => false);
  const jumps: { from: number; to: number }[] = [];
  for (const block of order) {
    for (const successor of graph[block]) {
      if (position[successor] > position[block]) continue;
      if (dominates(successor, block)) isLoopHead[successor] = true;
      else jumps.push({ from: block, to: successor });
    }
  }
  if (jumps.length > 0) return { jumps };
  const children: number[][] = graph.map(() => []);
  for (const block of order) if (block !== 0) children[dominator[block]].push(block);
  return { order, children, isLoopHead, predecessors, position };
}

/** Strongly connected components, after Tarjan, each as the set of its blocks. */
function components(graph: Graph): Set<number>[] {
  const index = graph.map(() => -1), low = graph.map(() => 0);
  const onStack = graph.map(() => false);
  const open: number[] = [], found: Set<number>[] = [];
  let counter = 0;
  for (let root = 0; root < graph.length; root++) {
    if (index[root] !== -1) continue;
    const stack: { block: number; next: number }[] = [{ block: root, next: 0 }];
    while (stack.length > 0) {
      const top = stack[stack.length - 1];
      const { block } = top;
      if (top.next === 0) {
        index[block] = low[block] = counter++;
        open.push(block);
        onStack[block] = true;
      }
      if (top.next < graph[block].length) {
        const successor = graph[block][top.next++];
        if (index[successor] === -1) stack.push({ block: successor, next: 0 });
        else if (onStack[successor]) low[block] = Math.min(low[block], index[successor]);
        continue;
      }
      stack.pop();
      const parent = stack[stack.length - 1];
      if (parent !== undefined) low[parent.block] = Math.min(low[parent.block], low[block]);
      if (low[block] !== index[block]) continue;
      const component = new Set<number>();
      let member: number;
      do {
        member = open.pop()!;
        onStack[member] = false;
        component.add(member);
      } while (member !== block);
      found.push(component);
    }
  }
  return found;
}

/** The innermost loop around each block, by its head; undefined where there is none. */
export function innermostLoops({ order, isLoopHead, predecessors, position }: Structure): (number | undefined)[] {
  const loops: (number | undefined)[] = position.map(() => undefined);
  // Heads of inner loops come later.
  for (const head of order.toReversed()) {
    if (!isLoopHead[head]) continue;
    const members = new Set([head]);
    const pending = predecessors[head].filter((block) => position[block] >= position[head]);
    for (let block = pending.pop(); block !== undefined; block = pending.pop()) {
      if (members.has(block)) continue;
      members.add(block);
      pending.push(...predecessors[block]);
    }
    for (const member of members) loops[member] ??= head;
  }
  return loops;
}

/** A block that was added: it goes to the target whose number it is given. */
export interface Dispatch {
  readonly block: number;
  readonly targets: readonly number[];
}

export interface StructuredGraph {
  readonly structure: Structure;
  readonly dispatches: readonly Dispatch[];
  /** The dispatching block that a jump from one block to another goes through. */
  via(from: number, to: number): Dispatch | undefined;
  /** Whether a jump could not be kept: it leaves the function instead. */
  isCut(from: number, to: number): boolean;
}

/** Loops within loops that are all entered at several places, beyond this depth, are cut. */
const maximumDispatches = 6;

/** A jump as a number: regions have less than 2^16 blocks. */
function jumpKey(from: number, to: number): number {
  return from * 0x1_0000 + to;
}

/** Makes every loop's entry unique and nests what results. All blocks must be reachable; what a cut isolates is left out of the order. */
export function structure(blocks: Graph): StructuredGraph {
  let graph: number[][] = blocks.map((successors) => [...new Set(successors)]);
  const dispatches: Dispatch[] = [];
  const routes = new Map<number, Dispatch>();
  const cuts = new Set<number>();
  for (;;) {
    const result = tryStructure(graph);
    if ("order" in result) {
      return {
        structure: result, dispatches, via: (from, to) => routes.get(jumpKey(from, to)), isCut: (from, to) => cuts.has(jumpKey(from, to)),
      };
    }
    if (dispatches.length < maximumDispatches) {
      graph = addDispatch(graph, result.jumps[0].to, dispatches, routes);
      continue;
    }
    for (const { from, to } of result.jumps) {
      cuts.add(jumpKey(from, to));
      graph[from] = graph[from].filter((successor) => successor !== to);
    }
  }
}

function addDispatch(graph: readonly (readonly number[])[], inside: number, dispatches: Dispatch[], routes: Map<number, Dispatch>): number[][] {
  const entries = entriesOf(graph, inside);
  const dispatch: Dispatch = { block: graph.length, targets: entries };
  const isEntry = new Set(entries);
  const changed = graph.map((successors, block) => {
    // What an earlier dispatch chooses from stays as it is.
    if (dispatches.some((earlier) => earlier.block === block)) return [...successors];
    const kept = new Set<number>();
    for (const successor of successors) {
      if (isEntry.has(successor)) routes.set(jumpKey(block, successor), dispatch);
      kept.add(isEntry.has(successor) ? dispatch.block : successor);
    }
    return [...kept];
  });
  changed.push([...entries]);
  dispatches.push(dispatch);
  return changed;
}

/** Where the innermost loop with several entries around a block is entered. */
function entriesOf(graph: Graph, inside: number): number[] {
  let scope = new Set(graph.keys());
  for (;;) {
    const restricted = graph.map((successors, block) => scope.has(block) ? successors.filter((successor) => scope.has(successor)) : []);
    const component = components(restricted).find((candidate) => candidate.has(inside));
    invariant(component !== undefined, "a block that is jumped back to is in a loop");
    const entries = new Set<number>(component.has(0) ? [0] : []);
    graph.forEach((successors, block) => {
      if (component.has(block)) return;
      for (const successor of successors) if (component.has(successor)) entries.add(successor);
    });
    if (entries.size > 1) return [...entries];
    // Its only entry dominates the whole loop: the one that is looked for lies within.
    scope = new Set(component);
    for (const head of entries) scope.delete(head);
  }
}
