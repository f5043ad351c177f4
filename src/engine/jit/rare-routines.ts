/** Which routine calls of a handler compiled code leaves to the interpreter: those that few executions come to. */
import type { Node } from "../../ir/index.ts";
import type { Handler } from "../handler.ts";

const committing: ReadonlySet<Node["op"]> = new Set(["writeState", "writeRegister", "writeFlags", "arithmeticFlags", "logicFlags", "store"]);

const known = new WeakMap<Handler, ReadonlySet<Node>>();

/** Calls under a condition, before which nothing has been committed: the instruction can begin anew. */
export function rareRoutines(handler: Handler): ReadonlySet<Node> {
  let rare = known.get(handler);
  if (rare === undefined) {
    const found = new Set<Node>();
    collect(handler.body, false, false, found);
    rare = found;
    known.set(handler, rare);
  }
  return rare;
}

/** Returns whether something has been committed when the block ends. */
function collect(block: readonly Node[], isConditional: boolean, committedBefore: boolean, found: Set<Node>): boolean {
  let committed = committedBefore;
  for (const node of block) {
    if (node.op === "routine") {
      // What a fast path does not do is rare, too; what it does is a commit.
      if ((isConditional || node.routine.fast !== undefined) && !committed) found.add(node);
      if (!isConditional || node.routine.fast !== undefined) committed = true;
    } else if (node.op === "if") {
      const afterThen = collect(node.then, true, committed, found);
      committed = collect(node.otherwise, true, committed, found) || afterThen;
    } else {
      committed ||= committing.has(node.op);
    }
  }
  return committed;
}
