/** What a handler uses, found once: regions are made of the same handlers again and again. */
import type { Node, Routine, SegmentReference } from "../../ir/index.ts";
import * as state from "../../isa/state.ts";
import { fastRoutinesOf } from "../fast-routines.ts";
import { remembersTarget, type Handler } from "../handler.ts";
import { addressesOf, type HandlerAddresses } from "./address-forms.ts";
import { routineCalls, type RoutineCalls } from "./rare-routines.ts";

export interface MemoryAccess {
  readonly node: Node;
  /** What its address is made from: the memory operand, or a general register by number. */
  readonly base: "operand" | number | undefined;
  readonly segment: SegmentReference;
  readonly sizeBytes: number;
  /** Demands the right to write. */
  readonly isWrite: boolean;
  readonly isLoad: boolean;
}

export interface HandlerSummary {
  readonly readSlots: readonly number[];
  readonly writtenSlots: readonly number[];
  /** Offsets of state that it names itself. */
  readonly readOffsets: readonly number[];
  readonly writtenOffsets: readonly number[];
  readonly usesAddress: boolean;
  readonly usesFlags: boolean;
  /** Sets flags and leaves CF. */
  readonly keepsCarry: boolean;
  readonly fastRoutines: readonly Routine[];
  /** Its records remember where it jumped to. */
  readonly remembersTarget: boolean;
  /** Asks whether operands of arithmetic are denormal. */
  readonly isArithmetic: boolean;
  /** Which of its calls compiled code leaves to the interpreter. */
  readonly calls: RoutineCalls;
  /** All but stores to where a load has looked already. */
  readonly accesses: readonly MemoryAccess[];
  readonly addresses: HandlerAddresses;
}

/** Number of the general register that a place of the state area lies in. */
export function generalRegisterAt(offset: number): number | undefined {
  const number = (offset - state.gpr[0].offset) >> 3;
  return number >= 0 && number < 16 ? number : undefined;
}

const known = new WeakMap<Handler, HandlerSummary>();

export function summaryOf(handler: Handler): HandlerSummary {
  let summary = known.get(handler);
  if (summary === undefined) {
    summary = summarize(handler);
    known.set(handler, summary);
  }
  return summary;
}

/** What an offset is computed from. */
function baseOf(offset: Node): MemoryAccess["base"] {
  if (offset.op === "effectiveAddress") return "operand";
  if (offset.op === "readState") return generalRegisterAt(offset.location.offset);
  for (const argument of offset.args) {
    const base = baseOf(argument);
    if (base !== undefined) return base;
  }
  return undefined;
}

function accessOf(node: Node): MemoryAccess | undefined {
  switch (node.op) {
    case "load":
      return { node, segment: node.segment, base: baseOf(node.args[0]), sizeBytes: node.width / 8, isWrite: node.intent === "readForWrite", isLoad: true };
    case "store":
      if (node.prepared !== undefined) return undefined;
      return { node, segment: node.segment, base: baseOf(node.args[0]), sizeBytes: node.args[1].width / 8, isWrite: true, isLoad: false };
    case "checkWrite": return { node, segment: node.segment, base: baseOf(node.args[0]), sizeBytes: node.sizeBytes, isWrite: true, isLoad: false };
    default: return undefined;
  }
}

function summarize(handler: Handler): HandlerSummary {
  const { form, body } = handler;
  const slots = { read: new Set<number>(), written: new Set<number>() };
  const offsets = { read: new Set<number>(), written: new Set<number>() };
  const accesses: MemoryAccess[] = [];
  let usesAddress = false, usesFlags = false, keepsCarry = false, remembers = false;
  const visit = (block: readonly Node[]): void => {
    for (const node of block) {
      const access = accessOf(node);
      if (access !== undefined) accesses.push(access);
      switch (node.op) {
        case "readState": case "readStateBits": offsets.read.add(node.location.offset); break;
        case "writeState": offsets.written.add(node.location.offset); break;
        case "readRegister": slots.read.add(node.slot); break;
        case "writeRegister": slots.written.add(node.slot); break;
        case "effectiveAddress": usesAddress = true; break;
        case "arithmeticFlags":
          keepsCarry ||= node.keepCarry;
          usesFlags = true;
          break;
        case "readFlag": case "condition": case "writeFlags": case "logicFlags":
          usesFlags = true;
          break;
        case "jump":
          remembers ||= remembersTarget(form, node.args[0]);
          break;
        case "if":
          visit(node.then);
          visit(node.otherwise);
          break;
        default:
      }
    }
  };
  visit(body);
  const calls = routineCalls(handler);
  return {
    readSlots: [...slots.read], writtenSlots: [...slots.written], readOffsets: [...offsets.read], writtenOffsets: [...offsets.written],
    usesAddress, usesFlags, keepsCarry, fastRoutines: [...fastRoutinesOf(body)], remembersTarget: remembers, isArithmetic: body.some(({ op }) => op === "isModerate"), calls, accesses, addresses: addressesOf(handler, accesses, calls),
  };
}
