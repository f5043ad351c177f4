/** What a handler uses, found once: regions are made of the same handlers again and again. */
import type { Node, Routine } from "../../ir/index.ts";
import { fastRoutinesOf } from "../fast-routines.ts";
import type { Handler } from "../handler.ts";

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
}

const known = new WeakMap<Handler, HandlerSummary>();

export function summaryOf(handler: Handler): HandlerSummary {
  let summary = known.get(handler);
  if (summary === undefined) {
    summary = summarize(handler.body);
    known.set(handler, summary);
  }
  return summary;
}

function summarize(body: readonly Node[]): HandlerSummary {
  const slots = { read: new Set<number>(), written: new Set<number>() };
  const offsets = { read: new Set<number>(), written: new Set<number>() };
  let usesAddress = false, usesFlags = false, keepsCarry = false;
  const visit = (block: readonly Node[]): void => {
    for (const node of block) {
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
        case "if":
          visit(node.then);
          visit(node.otherwise);
          break;
        default:
      }
    }
  };
  visit(body);
  return {
    readSlots: [...slots.read], writtenSlots: [...slots.written], readOffsets: [...offsets.read], writtenOffsets: [...offsets.written],
    usesAddress, usesFlags, keepsCarry, fastRoutines: [...fastRoutinesOf(body)],
  };
}
