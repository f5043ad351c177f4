/** Which routine calls of a handler compiled code leaves to the interpreter: those that few executions come to. */
import type { Node } from "../../ir/index.ts";
import type { Handler } from "../handler.ts";

const committing: ReadonlySet<Node["op"]> = new Set(["writeState", "writeRegister", "writeFlags", "arithmeticFlags", "logicFlags", "store"]);

export interface RoutineCalls {
  /** Calls under a condition, before which nothing has been committed: the instruction can begin anew. */
  readonly rare: ReadonlySet<Node>;
  /** All calls before which nothing has been committed. */
  readonly first: ReadonlySet<Node>;
  /** Of those, calls of routines that only observe: the instruction can begin anew when one does not simply go on. */
  readonly observing: ReadonlySet<Node>;
}

interface FoundCalls extends RoutineCalls {
  readonly rare: Set<Node>;
  readonly first: Set<Node>;
  readonly observing: Set<Node>;
}

export function routineCalls({ body }: Handler): RoutineCalls {
  const found: FoundCalls = { rare: new Set(), first: new Set(), observing: new Set() };
  collect(body, false, false, found);
  return found;
}

/** Returns whether something has been committed when the block ends. */
function collect(block: readonly Node[], isConditional: boolean, committedBefore: boolean, found: FoundCalls): boolean {
  let committed = committedBefore;
  for (const node of block) {
    if (node.op === "routine" && node.routine.observes === true && !committed) {
      found.first.add(node);
      found.observing.add(node);
    } else if (node.op === "routine") {
      // What a fast path does not do is rare, too; what it does is a commit.
      if ((isConditional || node.routine.fast !== undefined) && !committed) found.rare.add(node);
      if (!committed) found.first.add(node);
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
