/** `ringmaster trace` and `ringmaster vmcs`: what the guest's own hypervisor does, recorded, and its current control block. */
import { writeFileSync } from "node:fs";
import { extname, resolve } from "node:path";
import {
  chooseAccelerator, type ControlBlock, formatTrace, parseDuration, type TraceFormat, traceFormats, type TraceOptions, type TraceReport, UserError, Vm,
} from "../api/index.ts";
import { isObject, type Json } from "../base/shape.ts";
import { ask } from "../host/node/control-socket.ts";
import { printProgress } from "../host/node/guests/print-progress.ts";
import { formatControlBlock, noControlBlock } from "./control-block.ts";
import { orInterrupted, serveControl, Session } from "./run.ts";
import { serialTargets, vmOptions, type RunFlags } from "./run-flags.ts";
import { drained, type Streams } from "./streams.ts";

/** As commander delivers them. */
export interface TraceFlags extends RunFlags {
  readonly of?: string;
  readonly for?: string;
  readonly output?: readonly string[];
  readonly format?: string;
  readonly reason?: string;
  readonly kind?: string;
  readonly level?: string;
  readonly processor?: string;
  readonly rip?: string;
  readonly atLeast?: string;
  readonly limit?: string;
}

/** A file to write, with what its name's end stands for. */
export interface TraceOutput {
  readonly path: string;
  readonly format: TraceFormat;
}

const formatsByExtension: Readonly<Record<string, TraceFormat>> = { ".txt": "table", ".jsonl": "jsonl", ".json": "perfetto", ".svg": "svg" };

function badArgument(message: string): UserError {
  return new UserError("BAD_ARGUMENT", message);
}

function parseOutput(path: string): TraceOutput {
  const format = formatsByExtension[extname(path)];
  if (format === undefined) throw badArgument(`--output ${path}: the name's end says what to write: .txt for the table, .jsonl for JSON lines, .json for Perfetto, .svg for the picture`);
  return { path, format };
}

function parseFormat(text: string): TraceFormat {
  const format = traceFormats.find((name) => name === text);
  if (format === undefined) throw badArgument(`--format ${text}: there are ${traceFormats.join(", ")}`);
  return format;
}

function parseNumbers(flag: string, text: string): number[] {
  return text.split(",").map((part) => {
    const number = Number(part);
    if (part.trim() === "" || !Number.isInteger(number) || number < 0) throw badArgument(`--${flag} ${text}: give numbers, separated by commas`);
    return number;
  });
}

/** `first-last`, or one address. */
function parseRange(text: string): readonly [bigint, bigint] {
  const ends = text.split("-").map((part) => /^0x[0-9a-f]{1,16}$/iu.test(part) ? BigInt(part) : undefined);
  const [first, last = first] = ends;
  if (first === undefined || last === undefined || ends.length > 2) throw badArgument(`--rip ${text}: give 0xFIRST-0xLAST`);
  return [first, last];
}

const durationUnits: Readonly<Record<string, number>> = { ns: 1, us: 1e3, µs: 1e3, ms: 1e6, s: 1e9 };

function parseNs(text: string): number {
  const match = /^(?<amount>\d+(?:\.\d+)?)(?<unit>ns|us|µs|ms|s)$/u.exec(text);
  if (match === null) throw badArgument(`--at-least ${text}: give a time such as 500ns, 20us or 1ms`);
  return Number(match.groups?.["amount"]) * durationUnits[match.groups?.["unit"] ?? "ns"];
}

/** What the flags say of what is recorded. */
export function traceOptions({ reason, kind, level, processor, rip, atLeast, limit }: TraceFlags): TraceOptions {
  if (kind !== undefined && kind !== "entry" && kind !== "exit") throw badArgument(`--kind ${kind}: there are entry and exit`);
  return {
    ...(reason === undefined ? {} : { reasons: reason.split(",") }),
    ...(kind === undefined ? {} : { kind }),
    ...(level === undefined ? {} : { levels: parseNumbers("level", level.replaceAll(/l/giu, "")) }),
    ...(processor === undefined ? {} : { processors: parseNumbers("processor", processor) }),
    ...(rip === undefined ? {} : { ripRange: parseRange(rip) }),
    ...(atLeast === undefined ? {} : { minimumDurationNs: parseNs(atLeast) }),
    ...(limit === undefined ? {} : { maximumRecords: parseNumbers("limit", limit)[0] }),
  };
}

/** @throws UserError FILE_NOT_WRITABLE. */
function writeOutputs(report: TraceReport, outputs: readonly TraceOutput[]): void {
  for (const { path, format } of outputs) {
    try {
      writeFileSync(path, formatTrace(report, format));
    } catch (cause) {
      const reason = cause instanceof Error && "code" in cause ? String(cause.code) : "unknown error";
      throw new UserError("FILE_NOT_WRITABLE", `The file ${path} cannot be written (${reason}): choose another place.`, { cause });
    }
  }
}

/** Records a running machine by its name, or one that is started for it; prints the distribution, or what `--format` names. */
export async function trace(guest: string | undefined, flags: TraceFlags, streams: Streams): Promise<number> {
  const outputs = (flags.output ?? []).map(parseOutput), format = parseFormat(flags.format ?? "summary"), options = traceOptions(flags);
  if (flags.of !== undefined) return await traceRunning(flags.of, guest, flags, outputs, streams);
  if (flags.for !== undefined) throw badArgument("--for says how long a running machine is watched: give its name with --of, or use --timeout.");
  const machine = vmOptions(guest, flags), targets = serialTargets(flags);
  const { chosen } = chooseAccelerator(machine);
  streams.stderr.write(`ringmaster: accelerator: ${chosen.name} (${chosen.reason})\n`);
  await using vm = await orInterrupted(Vm.create({ ...machine, onProgress: printProgress(streams.stderr) }));
  const recording = vm.trace(options);
  // The report is the data that was asked for: the guest's output goes where the rest goes.
  using session = new Session(vm, flags, targets, { ...streams, stdout: streams.stderr });
  using _ = await serveControl(vm, flags.name);
  const status = await session.run();
  const report = recording.stop();
  writeOutputs(report, outputs);
  streams.stdout.write(formatTrace(report, format));
  await drained(streams.stdout);
  return status;
}

async function traceRunning(name: string, guest: string | undefined, flags: TraceFlags, outputs: readonly TraceOutput[], streams: Streams): Promise<number> {
  if (guest !== undefined) throw badArgument(`The machine "${name}" runs already: leave out the guest "${guest}".`);
  if (flags.format !== undefined) throw badArgument("A running machine writes its trace into files: give --output instead of --format.");
  const { for: duration = "10s", reason, kind, level, processor, rip, atLeast, limit } = flags;
  const wishes = Object.entries({ reason, kind, level, processor, rip, atLeast, limit }).filter((entry): entry is [string, string] => entry[1] !== undefined);
  const answer = await ask(name, {
    verb: "trace", forMs: parseDuration(duration), filter: Object.fromEntries(wishes), outputs: outputs.map(({ path }) => resolve(path)),
  });
  streams.stdout.write(isObject(answer) && typeof answer["summary"] === "string" ? answer["summary"] : "");
  await drained(streams.stdout);
  return 0;
}

/** What a running machine does when asked for a trace. */
export async function answerTrace(vm: Vm, { forMs, filter, outputs }: { readonly [name: string]: Json }): Promise<Json> {
  if (typeof forMs !== "number" || !isObject(filter) || !Array.isArray(outputs)) throw badArgument("A trace is asked for with a time, a filter and files.");
  const texts = Object.fromEntries(Object.entries(filter).filter((entry): entry is [string, string] => typeof entry[1] === "string"));
  const files = outputs.map((path) => parseOutput(String(path)));
  const recording = vm.trace(traceOptions(texts));
  const ended = vm.wait().catch(() => {});
  let timer: NodeJS.Timeout | undefined;
  await Promise.race([ended, new Promise((done) => (timer = setTimeout(done, forMs)))]);
  clearTimeout(timer);
  const report = recording.stop();
  writeOutputs(report, files);
  return { summary: formatTrace(report, "summary") };
}

export interface VmcsFlags {
  readonly of: string;
  readonly processor?: string;
  readonly json?: boolean;
}

/** Prints the current VMCB or VMCS of a running machine. The exit status is 1 when there is none. */
export async function printControlBlock({ of, processor = "0", json }: VmcsFlags, { stdout, stderr }: Streams): Promise<number> {
  const answer = await ask(of, { verb: "vmcs", processor: parseNumbers("processor", processor)[0] });
  const { absence, text, block } = isObject(answer) ? answer : {};
  if (typeof absence === "string") {
    stderr.write(`ringmaster: ${absence}\n`);
    return 1;
  }
  stdout.write(json === true ? `${JSON.stringify(block, null, 2)}\n` : typeof text === "string" ? text : "");
  await drained(stdout);
  return 0;
}

/** The same, from within the machine's process. */
export function answerControlBlock(vm: Vm, { processor }: { readonly [name: string]: Json }): Json {
  if (typeof processor !== "number") throw badArgument("A control block is asked for with a processor's number.");
  const block = vm.vmcs(processor);
  if (block === undefined) return { absence: vm.hypervisor.absence ?? noControlBlock };
  return { text: formatControlBlock(block), block: controlBlockToJson(block) };
}

function controlBlockToJson({ kind, address, isRunning, fields, problems }: ControlBlock): Json {
  const hex = (value: bigint): string => `0x${value.toString(16)}`;
  return {
    kind, address: hex(address), isRunning,
    fields: fields.map(({ name, value, widthBits, meaning }) => ({ name, value: hex(value), widthBits, ...(meaning === undefined ? {} : { meaning }) })),
    problems: problems.map(({ problem, fields: names }) => ({ problem, fields: [...names] })),
  };
}
