/** A trace in Chrome's trace event format (JSON object format, complete events), which Perfetto and chrome://tracing open. */
import type { TransitionRecord } from "../../machine/transition-log.ts";
import type { TraceReport } from "../trace.ts";
import { recordToJson } from "./json-lines.ts";

/** The hypervisor's lane of a processor is its first; a guest's is that of its level. */
const hypervisorLevel = 1;

const laneNames: Readonly<Record<number, string>> = { 1: "L1: the hypervisor", 2: "L2: its guest", 3: "L3: the guest's guest" };

/** Process 0 is the idle one to viewers. */
const firstProcess = 1;

function laneOf({ kind, level }: TransitionRecord): number {
  return kind === "entry" ? level : hypervisorLevel;
}

/** Times are microseconds. */
export function formatChromeTrace({ records, startNs, extension }: TraceReport): string {
  const lanes = new Map<string, object>();
  const events = records.map((record) => {
    const { processor, timeNs, durationNs, kind, reason } = record;
    const tid = laneOf(record), pid = processor + firstProcess;
    const lane = laneNames[tid] ?? `L${tid}`;
    lanes.set(`${processor} ${tid}`, { ph: "M", name: "thread_name", pid, tid, args: { name: lane } });
    return {
      ph: "X", pid, tid, name: kind === "entry" ? "guest" : reason, cat: kind, ts: (timeNs - startNs) / 1000, dur: (durationNs ?? 0) / 1000,
      args: recordToJson(record),
    };
  });
  const processors = [...new Set(records.map(({ processor }) => processor))];
  const names = processors.map((processor) => (
    { ph: "M", name: "process_name", pid: processor + firstProcess, args: { name: `processor ${processor}` } }
  ));
  return `${JSON.stringify({ traceEvents: [...names, ...lanes.values(), ...events], displayTimeUnit: "ns", otherData: { extension, clock: "the machine's" } })}\n`;
}
