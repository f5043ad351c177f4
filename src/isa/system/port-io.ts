/** Permission to use I/O ports, and the accesses themselves (SDM volume 1, "Protected-Mode I/O"). */
import { Status } from "../../ir/index.ts";
import { Vector } from "../definition.ts";
import { ioPrivilegeLevel } from "../flags.ts";
import type { Processor } from "../processor.ts";
import * as layout from "../state.ts";
import { isIntercepted } from "../virtualization.ts";
import { matchPort } from "./debug.ts";
import { isProtectedMode, isVirtual8086 } from "./mode.ts";
import { allowsPorts } from "./task-state.ts";

/** What accesses a port: IN or OUT, or one iteration of INS or OUTS. */
export interface PortInstruction {
  readonly kind: "in" | "out";
  readonly isString: boolean;
}

/** #GP(0) unless IOPL or the I/O permission bitmap allows the ports; then a hypervisor may intercept the access. */
export function checkPortAccess(p: Processor, port: number, sizeBytes: number, { kind, isString }: PortInstruction): Status {
  const { state } = p;
  const hasPrivilege = !isProtectedMode(state) || (state.get32(layout.cpl) <= ioPrivilegeLevel(state) && !isVirtual8086(state));
  const isAllowed = hasPrivilege || allowsPorts(p, port, sizeBytes);
  if (isAllowed === undefined) return Status.Fault;
  if (!isAllowed) return p.raise(Vector.GP, 0);
  return isIntercepted(p, { kind, port, sizeBytes, isString }) ? Status.Fault : Status.Next;
}

/** The value is result 0. */
export function readPort(p: Processor, port: number, sizeBytes: number): Status {
  p.state.result32(0, p.bus.portRead(port, sizeBytes as 1 | 2 | 4) >>> 0);
  reportPortBreakpoints(p, port, sizeBytes);
  return Status.Next;
}

export function writePort(p: Processor, port: number, sizeBytes: number, value: number): Status {
  p.bus.portWrite(port, sizeBytes as 1 | 2 | 4, value);
  reportPortBreakpoints(p, port, sizeBytes);
  return Status.Next;
}

function reportPortBreakpoints(p: Processor, port: number, sizeBytes: number): void {
  const conditions = matchPort(p.state, port, sizeBytes);
  if (conditions !== 0) p.reportBreakpoints(conditions);
}
