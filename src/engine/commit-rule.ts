/**
 * The rule that makes faults precise, checked on recorded definitions: after an instruction's first commit (a
 * register, flag, state or memory write) nothing may fault any more. Routines answer for themselves.
 */
import type { Node, SegmentReference } from "../ir/index.ts";
import { type Handler, handlerName } from "./handler.ts";

/** Whether two nodes compute the same, provided that no register or variable was written in between. */
function isSameComputation(a: Node, b: Node): boolean {
  if (a === b) return true;
  if (a.op !== b.op || a.width !== b.width || a.args.length !== b.args.length) return false;
  return a.args.every((argument, index) => isSameComputation(argument, b.args[index])) && hasSameProperties(a, b);
}

function hasSameProperties(a: Node, b: Node): boolean {
  switch (a.op) {
    case "const": return a.value === (b as typeof a).value;
    case "readState": return a.location.offset === (b as typeof a).location.offset;
    case "readStateBits": return a.location.offset === (b as typeof a).location.offset && a.mask === (b as typeof a).mask;
    case "readRegister": return a.slot === (b as typeof a).slot;
    case "linearAddress": return a.segment === (b as typeof a).segment;
    case "immediate": case "nextRip": case "thisRip": case "effectiveAddress": return true;
    case "load": case "readFlag": case "condition": case "readVariable": case "routineResult": case "vector": case "float": case "shuffle":
    case "splat": case "extractLane": case "insertLane": return false;
    default: return true;
  }
}

interface Condition {
  readonly node: Node;
  readonly holds: boolean;
}

/** An access that did not fault, and the conditions under which it was made. */
interface Checked {
  readonly segment: SegmentReference;
  readonly offset: Node;
  readonly sizeBytes: number;
  readonly forWrite: boolean;
  readonly path: readonly Condition[];
}

class Walk {
  problem: string | undefined;
  readonly #name: string;
  #checked: Checked[] = [];

  constructor(name: string) {
    this.#name = name;
  }

  /** Returns whether something has been committed when the block ends. */
  block(block: readonly Node[], committedBefore: boolean, path: readonly Condition[]): boolean {
    let committed = committedBefore;
    for (const node of block) {
      switch (node.op) {
        case "raise":
          this.#report(node, committed);
          break;
        case "load":
          this.#access(node, node.segment, node.args[0], node.width / 8, node.intent === "readForWrite", committed, path);
          break;
        case "checkWrite":
          this.#access(node, node.segment, node.args[0], node.sizeBytes, true, committed, path);
          break;
        case "store":
          if (node.prepared === undefined) {
            this.#access(node, node.segment, node.args[0], node.args[1].width / 8, true, committed, path);
          }
          committed = true;
          break;
        case "writeRegister": case "writeState": case "writeVariable": case "routine":
          this.#checked = [];
          committed ||= node.op === "writeRegister" || node.op === "writeState";
          break;
        case "writeFlags": case "arithmeticFlags": case "logicFlags":
          committed = true;
          break;
        case "if": {
          const [condition] = node.args;
          const afterThen = this.block(node.then, committed, [...path, { node: condition, holds: true }]);
          const afterOtherwise = this.block(node.otherwise, committed, [...path, { node: condition, holds: false }]);
          committed = afterThen || afterOtherwise;
          break;
        }
        default:
      }
    }
    return committed;
  }

  #report(node: Node, committed: boolean): void {
    if (committed) this.problem ??= `${node.op} after a commit in ${this.#name}`;
  }

  #access(
    node: Node, segment: SegmentReference, offset: Node, sizeBytes: number, forWrite: boolean, committed: boolean,
    path: readonly Condition[],
  ): void {
    const isChecked = this.#checked.some((known) =>
      known.segment === segment && known.sizeBytes >= sizeBytes && (known.forWrite || !forWrite) &&
      isSameComputation(known.offset, offset) && known.path.every((condition) => path.some((here) =>
        here.holds === condition.holds && isSameComputation(here.node, condition.node))));
    if (isChecked) return;
    this.#report(node, committed);
    this.#checked.push({ segment, offset, sizeBytes, forWrite, path });
  }
}

/** What breaks the rule, in words, or undefined. */
export function findFaultAfterCommit(handler: Handler): string | undefined {
  const walk = new Walk(handlerName(handler.form));
  walk.block(handler.body, false, []);
  return walk.problem;
}
