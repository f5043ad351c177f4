/**
 * Which XMM registers are known to hold no denormal number, lane by lane: those that arithmetic has put there or has had as
 * operands. Found for a whole region, as far as all ways to a place agree.
 */
import type { Node } from "../../ir/index.ts";
import type { StateView } from "../../isa/state-view.ts";
import * as state from "../../isa/state.ts";
import type { NodeOf } from "../emit/places.ts";
import { operandFields } from "../record.ts";
import { cachedPlace } from "./cached-place.ts";
import type { Region, RegionInstruction } from "./region.ts";

/** By register: bits 0 and 1 for its doubles, 2 to 5 for its singles. */
export type OrdinaryVectors = readonly number[];

const registers = 16;
const allLanes = 0x3f;
const doubles = 0x03, singles = 0x3c;

function lanesOf(format: 32 | 64, firstByte: number, sizeBytes: number): number {
  const bytes = format / 8;
  let lanes = 0;
  for (let lane = Math.floor(firstByte / bytes); lane * bytes < firstByte + sizeBytes; lane++) lanes |= 1 << lane;
  return format === 64 ? lanes : lanes << 2;
}

interface VectorPlace {
  readonly number: number;
  readonly byte: number;
}

/** The register and byte that a read or write of a register operand is at, if that is an XMM register. */
function placeOf(view: StateView, { record }: RegionInstruction, node: Node): VectorPlace | undefined {
  let offset: number;
  if (node.op === "readRegister" || node.op === "writeRegister") offset = view.u16[(record + operandFields[node.slot]) >>> 1];
  else if (node.op === "readState" || node.op === "writeState") offset = node.location.offset;
  else return undefined;
  const place = cachedPlace(offset);
  return place?.file === "xmm" ? place : undefined;
}

/** Whether an operand of an arithmetic instruction is known not to be denormal. */
export function isOrdinary(view: StateView, known: OrdinaryVectors, instruction: RegionInstruction, node: NodeOf<"isModerate">, operand: Node): boolean {
  const place = operand.op === "readRegister" ? placeOf(view, instruction, operand) : undefined;
  if (place === undefined) return false;
  const lanes = lanesOf(node.format, place.byte, operand.width / 8);
  return (known[place.number] & lanes) === lanes;
}

/** What is known of a value of `sizeBytes`, as lanes from its first byte on. */
function knownOf(view: StateView, known: OrdinaryVectors, instruction: RegionInstruction, value: Node, results: ReadonlyMap<Node, 32 | 64>): number {
  const sizeBytes = value.width / 8;
  switch (value.op) {
    case "readVariable": {
      const format = results.get(value.variable.args[0]);
      return format === undefined ? 0 : lanesOf(format, 0, sizeBytes);
    }
    case "readRegister": {
      const place = placeOf(view, instruction, value);
      return place === undefined || place.byte !== 0 ? 0 : known[place.number] & (lanesOf(64, 0, sizeBytes) | lanesOf(32, 0, sizeBytes));
    }
    // Above a lower part are zeros.
    case "zext": {
      const partBytes = value.args[0].width / 8;
      if (partBytes < 4) return 0;
      return knownOf(view, known, instruction, value.args[0], results) |
        (lanesOf(64, 8, 8) | (lanesOf(32, 0, 16) & ~lanesOf(32, 0, partBytes)));
    }
    case "vector": {
      const [a, b] = value.args;
      if (value.name !== "v128.xor" || a.op !== "readRegister" || b.op !== "readRegister") return 0;
      return placeOf(view, instruction, a)?.number === placeOf(view, instruction, b)?.number ? allLanes : 0;
    }
    case "shuffle": {
      const sources = value.args.map((argument) => knownOf(view, known, instruction, argument, results));
      let lanes = 0;
      for (const format of [64, 32] as const) {
        const bytes = format / 8;
        for (let lane = 0; lane < 128 / format; lane++) {
          const from = value.lanes[lane * bytes];
          const isWhole = from % bytes === 0 && value.lanes.slice(lane * bytes, (lane + 1) * bytes).every((byte, index) => byte === from + index);
          if (isWhole && (sources[from >> 4] & lanesOf(format, from & 15, bytes)) !== 0) lanes |= lanesOf(format, lane * bytes, bytes);
        }
      }
      return lanes;
    }
    default: return 0;
  }
}

/** What is known after an instruction, of which `known` was before it. */
export function afterInstruction(view: StateView, known: OrdinaryVectors, instruction: RegionInstruction): OrdinaryVectors {
  const { handler: { body }, summary } = instruction;
  const after = [...known];
  const results = new Map<Node, 32 | 64>();
  for (const node of body) {
    if (node.op !== "isModerate") continue;
    // What is not moderate is looked at more closely, or the interpreter does the instruction.
    results.set(node.args[node.args.length - 1], node.format);
    for (const operand of node.args.slice(0, -1)) {
      const place = operand.op === "readRegister" ? placeOf(view, instruction, operand) : undefined;
      if (place !== undefined) after[place.number] |= lanesOf(node.format, place.byte, operand.width / 8);
    }
  }
  const before = [...after];
  const visit = (block: readonly Node[], isConditional: boolean): void => {
    for (const node of block) {
      if (node.op === "if") {
        visit(node.then, true);
        visit(node.otherwise, true);
      } else if (node.op === "routine" && !summary.calls.rare.has(node)) {
        after.fill(0);
      } else if (node.op === "writeState" && node.location.offset === state.mxcsr.offset) {
        after.fill(0);
      } else if (node.op === "writeRegister" || node.op === "writeState") {
        const place = placeOf(view, instruction, node);
        if (place === undefined) continue;
        const [value] = node.args;
        const written = lanesOf(64, place.byte, value.width / 8) | lanesOf(32, place.byte, value.width / 8);
        const isKnown = isConditional || place.byte !== 0 ? 0 : knownOf(view, before, instruction, value, results);
        after[place.number] = (after[place.number] & ~written) | isKnown;
      }
    }
  };
  visit(body, false);
  return after;
}

/** What is known at the beginning of each block, if all is known that `entry` says at the region's. */
function atBlocks(view: StateView, region: Region, entry: OrdinaryVectors): OrdinaryVectors[] {
  const everything = Array.from({ length: registers }, () => allLanes);
  const known: OrdinaryVectors[] = region.blocks.map((_, index) => index === 0 ? entry : everything);
  const isReached = region.blocks.map((_, index) => index === 0);
  for (let changes = true; changes;) {
    changes = false;
    region.blocks.forEach(({ instructions }, index) => {
      if (!isReached[index]) return;
      let end = known[index];
      for (const instruction of instructions) end = afterInstruction(view, end, instruction);
      for (const successor of region.successors[index]) {
        const met = known[successor].map((lanes, number) => lanes & end[number]);
        if (isReached[successor] && met.every((lanes, number) => lanes === known[successor][number])) continue;
        isReached[successor] = true;
        known[successor] = met;
        changes = true;
      }
    });
  }
  return known;
}

export interface RegionVectors {
  /** At the beginning of each block. */
  readonly blocks: readonly OrdinaryVectors[];
  /** What has to be true at the region's entry for that. */
  readonly assumed: OrdinaryVectors;
}

/** What can be known in a region; undefined where no instruction asks. */
export function findOrdinaryVectors(view: StateView, region: Region): RegionVectors | undefined {
  if (!region.blocks.some(({ instructions }) => instructions.some(({ summary }) => summary.isArithmetic))) return undefined;
  const nothing = Array.from({ length: registers }, () => 0);
  const certain = atBlocks(view, region, nothing), hoped = atBlocks(view, region, nothing.map(() => allLanes));
  // Worth asking for at the entry is what some instruction has as operand and cannot know otherwise.
  const assumed = [...nothing];
  region.blocks.forEach(({ instructions }, index) => {
    let without = certain[index], withAll = hoped[index];
    for (const instruction of instructions) {
      for (const node of instruction.handler.body) {
        if (node.op !== "isModerate") continue;
        for (const operand of node.args.slice(0, -1)) {
          const place = operand.op === "readRegister" ? placeOf(view, instruction, operand) : undefined;
          if (place !== undefined) assumed[place.number] |= lanesOf(node.format, place.byte, operand.width / 8) & withAll[place.number] & ~without[place.number];
        }
      }
      without = afterInstruction(view, without, instruction);
      withAll = afterInstruction(view, withAll, instruction);
    }
  });
  return { blocks: atBlocks(view, region, assumed), assumed };
}

/** Numbers of the lanes of a format among known ones. */
export function lanesOfFormat(lanes: number, format: 32 | 64): readonly number[] {
  const bits = format === 64 ? lanes & doubles : (lanes & singles) >> 2;
  return [0, 1, 2, 3].filter((lane) => (bits >> lane) & 1);
}
