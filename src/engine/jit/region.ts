/**
 * Regions: what is compiled together. From a hot block over direct jumps, calls and known return sites to the blocks that
 * were decoded there, cut into basic blocks that share no instruction.
 */
import type { Node } from "../../ir/index.ts";
import type { StateView } from "../../isa/state-view.ts";
import type { Block, CodeCache } from "../code-cache.ts";
import type { Handler } from "../handler.ts";
import { SpecialHandler, type Interpreter } from "../interpreter.ts";
import { pageSizeBytes } from "../physical-memory.ts";
import { HeaderField, RecordField, recordSizeBytes } from "../record.ts";
import { summaryOf, type HandlerSummary } from "./handler-summary.ts";

/** One instruction. Offsets are distances of instruction pointers from the region's first instruction. */
export interface RegionInstruction {
  readonly record: number;
  readonly handler: Handler;
  readonly summary: HandlerSummary;
  readonly jumps: HandlerJumps;
  readonly offset: number;
  readonly nextOffset: number;
  /** Of the decoded block that the record belongs to: its displacements count from there. */
  readonly blockOffset: number;
  /** Place in that decoded block, from 1. */
  readonly count: number;
  /** Where a relative branch leads. */
  readonly targetOffset: number | undefined;
  /** Where a jump to a computed target went last. */
  readonly lastTargetOffset: number | undefined;
}

export interface RegionBlock {
  readonly offset: number;
  readonly instructions: readonly RegionInstruction[];
  /** Number of the page, counted from the region's first. */
  readonly page: number;
  /** Header by which the jump cache knows the block; 0 when it begins in the middle of a decoded one. */
  readonly header: number;
}

export interface Region {
  readonly entry: Block;
  readonly blocks: readonly RegionBlock[];
  /** Numbers of blocks by offset. */
  readonly blockAt: ReadonlyMap<number, number>;
  /** Successors of each block, as often as it leads there. */
  readonly successors: readonly (readonly number[])[];
  /** Offsets that a return may lead to. */
  readonly returnSites: readonly number[];
  readonly instructionCount: number;
  /** The decoded blocks it was made from. */
  readonly sources: readonly Block[];
}

export interface RegionLimits {
  readonly maximumBlocks: number;
  readonly maximumInstructions: number;
  /** Blocks entered less than this are left out. */
  readonly minimumEntries: number;
  /** What blocks count down from. */
  readonly stepEntries: number;
  /** Whether regions follow jumps to where they went last. */
  readonly followsComputed: boolean;
  /** What is compiled already and has more instructions is entered rather than compiled once more. */
  readonly joinedInstructions: number;
}

export interface RegionSource {
  readonly state: StateView;
  readonly interpreter: Interpreter;
  readonly code: CodeCache;
  /** Header of the block that the jump cache knows at a linear address, or 0. */
  recordAt(linear: bigint): number;
  /** Instructions of the region that begins with the block with this header. */
  compiledInstructions(header: number): number;
}

/** A jump's target as far as it is known beforehand. */
export type JumpTarget = "branch" | "self" | "dynamic";

/** What a `jump` node leads to: relative targets are wrapped to the operand size on their way. */
export function jumpTargetOf(target: Node, codeBits: 16 | 32 | 64): JumpTarget {
  let node = target;
  for (;;) {
    if (node.op === "branchTarget") return "branch";
    if (node.op === "thisRip") return "self";
    if (node.op === "zext") node = node.args[0];
    // Wrapped narrower than the code's own instruction pointers it is somewhere else.
    else if (node.op === "trunc" && node.width >= codeBits) node = node.args[0];
    else return "dynamic";
  }
}

/** Where the nodes of a body lead, besides to the next instruction. */
function collectJumps(body: readonly Node[], codeBits: 16 | 32 | 64, found: Set<JumpTarget>): Set<JumpTarget> {
  for (const node of body) {
    if (node.op === "jumpTarget") found.add("branch");
    else if (node.op === "jump") found.add(jumpTargetOf(node.args[0], codeBits));
    else if (node.op === "if") {
      collectJumps(node.then, codeBits, found);
      collectJumps(node.otherwise, codeBits, found);
    }
  }
  return found;
}

interface HandlerJumps {
  readonly leadsToTarget: boolean;
  readonly leadsToSelf: boolean;
  readonly isDynamic: boolean;
}

const knownJumps = { 16: new WeakMap<Handler, HandlerJumps>(), 32: new WeakMap<Handler, HandlerJumps>(), 64: new WeakMap<Handler, HandlerJumps>() };

function jumpsOfHandler(handler: Handler, codeBits: 16 | 32 | 64): HandlerJumps {
  let jumps = knownJumps[codeBits].get(handler);
  if (jumps === undefined) {
    const found = collectJumps(handler.body, codeBits, new Set());
    jumps = { leadsToTarget: found.has("branch"), leadsToSelf: found.has("self"), isDynamic: found.has("dynamic") };
    knownJumps[codeBits].set(handler, jumps);
  }
  return jumps;
}

/** Size of instruction pointers in a mode, as `codeModeNumber` numbers it. */
export function codeBitsOf(modeNumber: number): 16 | 32 | 64 {
  return ([16, 32, 64, 64] as const)[modeNumber & 3];
}

function lastTargetOf({ remembersTarget }: HandlerSummary, distance: number, blockOffset: number): number | undefined {
  return distance !== 0 && remembersTarget ? blockOffset + distance : undefined;
}

function readInstructions({ state, interpreter }: RegionSource, { followsComputed }: RegionLimits, block: Block, blockOffset: number): RegionInstruction[] {
  const { u8, u16, u32 } = state;
  const codeBits = codeBitsOf(block.modeNumber);
  const instructions: RegionInstruction[] = [];
  for (let index = 1; index <= block.instructions; index++) {
    const record = block.record + index * recordSizeBytes;
    const handler = interpreter.handlerOf(u16[record >>> 1])!;
    const summary = summaryOf(handler);
    const isRelative = handler.form.operands.length > 0 && handler.form.operands[0].kind === "relative";
    instructions.push({
      record, handler, summary, blockOffset,
      jumps: jumpsOfHandler(handler, codeBits),
      offset: blockOffset + u16[(record + RecordField.start) >>> 1],
      nextOffset: blockOffset + u16[(record + RecordField.next) >>> 1],
      count: u8[record + RecordField.count],
      lastTargetOffset: !followsComputed ? undefined : lastTargetOf(summary, u32[(record + RecordField.lastTarget) >>> 2] | 0, blockOffset),
      targetOffset: isRelative ? blockOffset + (u32[(record + RecordField.immediate) >>> 2] | 0) : undefined,
    });
  }
  return instructions;
}

interface Source {
  readonly block: Block;
  readonly offset: number;
  readonly instructions: readonly RegionInstruction[];
}

/** Collects the decoded blocks around a hot one, nearest first. */
class Exploration {
  readonly sources = new Map<number, Source>();
  readonly returnSites: number[] = [];
  readonly #from: RegionSource;
  readonly #limits: RegionLimits;
  readonly #entry: Block;
  readonly #linear: bigint;
  readonly #codeBits: 16 | 32 | 64;
  #instructions = 0;

  constructor(from: RegionSource, limits: RegionLimits, entry: Block, linear: bigint) {
    this.#from = from;
    this.#limits = limits;
    this.#entry = entry;
    this.#linear = linear;
    this.#codeBits = codeBitsOf(entry.modeNumber);
    const queue: { block: Block; offset: number }[] = [{ block: entry, offset: 0 }];
    for (let item = queue.shift(); item !== undefined; item = queue.shift()) {
      if (this.sources.has(item.offset) || !this.#hasRoom(item.block)) continue;
      const source = { ...item, instructions: readInstructions(from, limits, item.block, item.offset) };
      this.#instructions += source.instructions.length;
      this.sources.set(item.offset, source);
      for (const offset of this.#leadsTo(source)) {
        const block = this.sources.has(offset) ? undefined : this.#resolve(source, offset);
        if (block !== undefined) queue.push({ block, offset });
      }
    }
  }

  #hasRoom(block: Block): boolean {
    return this.sources.size === 0 ||
      (this.sources.size < this.#limits.maximumBlocks && this.#instructions + block.instructions <= this.#limits.maximumInstructions);
  }

  #leadsTo({ instructions }: Source): number[] {
    const offsets: number[] = [];
    for (const { handler, jumps, targetOffset, lastTargetOffset, nextOffset } of instructions) {
      const target = jumps.leadsToTarget ? targetOffset : lastTargetOffset;
      if (target === undefined) continue;
      offsets.push(target);
      if (handler.form.definition.name === "call") {
        this.returnSites.push(nextOffset);
        offsets.push(nextOffset);
      }
    }
    const last = instructions[instructions.length - 1];
    if (!last.handler.endsBlock) offsets.push(last.nextOffset);
    return offsets;
  }

  #resolve(source: Source, offset: number): Block | undefined {
    const { code, state } = this.#from;
    if (!this.#isWithin(offset)) return undefined;
    const near = code.blockNear(source.block, offset - source.offset);
    const found = near ?? this.#faraway(offset);
    if (found === undefined || found.second !== undefined || found.modeNumber !== this.#entry.modeNumber) return undefined;
    if (state.u16[found.record >>> 1] === SpecialHandler.Region) {
      return found === this.#entry || this.#from.compiledInstructions(found.record) <= this.#limits.joinedInstructions ? found : undefined;
    }
    const steps = state.u32[(found.record + HeaderField.steps) >>> 2];
    const entriesOfStep = this.#limits.stepEntries - (state.u32[(found.record + HeaderField.heat) >>> 2] | 0);
    const entries = steps * this.#limits.stepEntries + entriesOfStep;
    // What has compiled code of its own counts from a higher number.
    return entriesOfStep < 0 || entries >= this.#limits.minimumEntries ? found : undefined;
  }

  /** Outside of 64-bit mode instruction pointers wrap, which offsets do not: a region with such a jump could never be entered. */
  #isWithin(offset: number): boolean {
    if (this.#codeBits === 64) return true;
    const linear = this.#linear + BigInt(offset);
    return linear >= 0n && linear <= 0xffff_ffffn;
  }

  #faraway(offset: number): Block | undefined {
    const record = this.#from.recordAt(BigInt.asUintN(this.#codeBits === 64 ? 64 : 32, this.#linear + BigInt(offset)));
    return record === 0 ? undefined : this.#from.code.blockOf(record);
  }
}

/** The region around a block that has just been entered at a linear address; undefined when it cannot be compiled. */
export function formRegion(from: RegionSource, limits: RegionLimits, entry: Block, linear: bigint): Region | undefined {
  if (entry.second !== undefined) return undefined;
  const { sources, returnSites } = new Exploration(from, limits, entry, linear);
  const leaders = findLeaders(sources);
  const pageOffset = entry.physical % pageSizeBytes;
  const all = [...leaders].toSorted((a, b) => a - b).map((offset) => cutBlock(sources, leaders, offset, pageOffset));
  // The entry is number 0.
  all.unshift(...all.splice(all.findIndex(({ offset }) => offset === 0), 1));
  return connect(entry, all, returnSites, [...sources.values()].map(({ block }) => block));
}

/** Offsets at which basic blocks begin: decoded blocks, targets inside of them, and repeated instructions. */
function findLeaders(sources: ReadonlyMap<number, Source>): Set<number> {
  const leaders = new Set(sources.keys());
  const known = new Set<number>();
  for (const { instructions } of sources.values()) for (const { offset } of instructions) known.add(offset);
  for (const { instructions } of sources.values()) {
    for (const { jumps, targetOffset, lastTargetOffset, offset, nextOffset } of instructions) {
      if (jumps.leadsToTarget && targetOffset !== undefined && known.has(targetOffset)) leaders.add(targetOffset);
      if (lastTargetOffset !== undefined && known.has(lastTargetOffset)) leaders.add(lastTargetOffset);
      if (jumps.leadsToSelf) leaders.add(offset);
      if ((jumps.leadsToTarget || jumps.leadsToSelf || jumps.isDynamic) && known.has(nextOffset)) leaders.add(nextOffset);
    }
  }
  return leaders;
}

function cutBlock(
  sources: ReadonlyMap<number, Source>, leaders: ReadonlySet<number>, offset: number, pageOffset: number,
): RegionBlock {
  const own = sources.get(offset);
  const owner = own ?? [...sources.values()].find(({ instructions }) => instructions.some((instruction) => instruction.offset === offset))!;
  const first = owner.instructions.findIndex((instruction) => instruction.offset === offset);
  let end = first + 1;
  while (end < owner.instructions.length && !leaders.has(owner.instructions[end].offset) && !endsBasicBlock(owner.instructions[end - 1])) end++;
  return {
    offset, instructions: owner.instructions.slice(first, end), page: Math.floor((pageOffset + offset) / pageSizeBytes),
    header: own === undefined ? 0 : own.block.record,
  };
}

function endsBasicBlock({ jumps }: RegionInstruction): boolean {
  return jumps.leadsToTarget || jumps.leadsToSelf || jumps.isDynamic;
}

/** Where a jump to a computed target may stay in the region: where it went last; a return, to the calls that are here. */
export function computedTargets({ handler, lastTargetOffset }: RegionInstruction, returnSites: readonly number[]): ReadonlySet<number> {
  const targets = new Set(lastTargetOffset === undefined ? [] : [lastTargetOffset]);
  if (handler.form.definition.name === "ret") for (const offset of returnSites) targets.add(offset);
  return targets;
}

/** Finds successors and drops what cannot be reached. */
function connect(
  entry: Block, all: readonly RegionBlock[], returnSites: readonly number[], sources: readonly Block[],
): Region {
  const byOffset = new Map(all.map((block) => [block.offset, block]));
  const successorsOf = (block: RegionBlock): RegionBlock[] => {
    const last = block.instructions[block.instructions.length - 1];
    const { jumps } = last;
    const offsets: number[] = [];
    if (jumps.leadsToTarget && last.targetOffset !== undefined) offsets.push(last.targetOffset);
    if (jumps.leadsToSelf) offsets.push(last.offset);
    if (jumps.isDynamic) offsets.push(...computedTargets(last, returnSites));
    if (!last.handler.endsBlock) offsets.push(last.nextOffset);
    return offsets.flatMap((offset) => {
      const successor = byOffset.get(offset);
      return successor === undefined || !canEnter(block, successor) ? [] : [successor];
    });
  };
  const blocks: RegionBlock[] = [all[0]];
  const numbers = new Map<RegionBlock, number>([[all[0], 0]]);
  for (let index = 0; index < blocks.length; index++) {
    for (const successor of successorsOf(blocks[index])) {
      if (numbers.has(successor)) continue;
      numbers.set(successor, blocks.push(successor) - 1);
    }
  }
  return {
    entry, blocks, sources,
    blockAt: new Map(blocks.map(({ offset }, index) => [offset, index])),
    successors: blocks.map((block) => successorsOf(block).map((successor) => numbers.get(successor)!)),
    returnSites: returnSites.filter((offset) => numbers.has(byOffset.get(offset)!)),
    instructionCount: blocks.reduce((sum, { instructions }) => sum + instructions.length, 0),
  };
}

/** The entry's page is known to be the one that was compiled; others are asked of the jump cache, which knows decoded blocks only. */
export function needsGuard(from: RegionBlock, to: RegionBlock): boolean {
  return to.page !== 0 && to.page !== from.page;
}

function canEnter(from: RegionBlock, to: RegionBlock): boolean {
  return !needsGuard(from, to) || to.header !== 0;
}
