/** `ringmaster top`: what a running machine is left for, interval by interval. */
import { setTimeout as sleep } from "node:timers/promises";
import { type ExitReport, exitsSince, formatExits, formatNs, parseDuration, UserError, type Vm } from "../api/index.ts";
import type { Json } from "../base/shape.ts";
import { ask, machineNames, type ControlRequest } from "../host/node/control-socket.ts";
import { Interrupts } from "./interrupts.ts";
import { drained, type Streams } from "./streams.ts";

/** As commander delivers them. */
export interface TopFlags {
  readonly interval?: string;
  readonly samples?: string;
  readonly json?: boolean;
}

/** What happened in one interval. */
interface TopSample {
  readonly accelerator: string;
  readonly state: string;
  readonly uptimeSeconds: number;
  readonly intervalMs: number;
  /** Retired; 0 where they are not counted. */
  readonly instructions: number;
  readonly exits: ExitReport;
}

const defaultInterval = "1s";
const shortestIntervalMs = 100, longestIntervalMs = 3_600_000;
/** Busiest places told of in one sample. */
const maximumLines = 60;
/** Lines of the terminal that are no places. */
const headerLines = 4;

function badArgument(message: string): UserError {
  return new UserError("BAD_ARGUMENT", message);
}

// --- the machine's side ----------------------------------------------------------------------------------------------

interface Watch {
  watchers: number;
  /** Exits were counted before anybody watched. */
  readonly wasOn: boolean;
}

const watches = new WeakMap<Vm, Watch>();

/** Counts exits until it is disposed of; several may do so at once. */
function watchExits(vm: Vm): Disposable {
  const watch = watches.get(vm) ?? { watchers: 0, wasOn: vm.exits() !== undefined };
  watches.set(vm, watch);
  watch.watchers++;
  vm.accountExits(true);
  return {
    [Symbol.dispose]: () => {
      if (--watch.watchers > 0) return;
      watches.delete(vm);
      vm.accountExits(watch.wasOn);
    },
  };
}

/** Tells of an interval after the other, until the machine ends or nobody listens any more. */
export async function answerTop(vm: Vm, { intervalMs }: ControlRequest, onProgress: (progress: Json) => void, signal: AbortSignal): Promise<Json> {
  if (typeof intervalMs !== "number" || !(intervalMs >= shortestIntervalMs && intervalMs <= longestIntervalMs)) throw badArgument(`An interval is from ${shortestIntervalMs} ms to an hour.`);
  using _ = watchExits(vm);
  const stopped = new AbortController();
  const stop = (): void => stopped.abort();
  signal.addEventListener("abort", stop, { once: true });
  vm.wait().then(stop, stop);
  const nothing: ExitReport = { runNs: 0, lines: [] };
  let before = { exits: vm.exits() ?? nothing, instructions: vm.retiredInstructions, atMs: performance.now() };
  while (!stopped.signal.aborted && !signal.aborted) {
    await sleep(intervalMs, undefined, { signal: stopped.signal }).catch(() => {});
    const now = { exits: vm.exits() ?? nothing, instructions: vm.retiredInstructions, atMs: performance.now() };
    const { runNs, lines } = exitsSince(before.exits, now.exits);
    const sample: TopSample = {
      accelerator: vm.accelerator.name, state: vm.state, uptimeSeconds: vm.uptimeSeconds, intervalMs: now.atMs - before.atMs,
      instructions: now.instructions - before.instructions, exits: { runNs, lines: lines.slice(0, maximumLines) },
    };
    onProgress(sample as unknown as Json);
    before = now;
  }
  return {};
}

// --- who watches -----------------------------------------------------------------------------------------------------

export async function top(name: string | undefined, flags: TopFlags, streams: Streams): Promise<number> {
  const { stdout } = streams;
  const intervalMs = parseDuration(flags.interval ?? defaultInterval), samples = parseSamples(flags.samples);
  const machine = name ?? onlyMachine();
  const finished = new AbortController();
  let status = 0, seen = 0;
  using _ = new Interrupts({
    onFirst: () => finished.abort(),
    onEnd: (signalStatus) => {
      status = signalStatus;
      finished.abort();
    },
  });
  const isScreen = flags.json !== true && stdout.isTTY === true;
  const show = (progress: Json): void => {
    if (seen >= samples) return;
    const sample = progress as unknown as TopSample;
    const text = flags.json === true ? `${JSON.stringify(sample)}\n` : formatSample(machine, sample, isScreen ? stdout.rows : undefined);
    stdout.write(isScreen ? `\u001b[H\u001b[J${text}` : seen === 0 || flags.json === true ? text : `\n${text}`);
    if (++seen >= samples) finished.abort();
  };
  try {
    await ask(machine, { verb: "top", intervalMs }, show, finished.signal);
    streams.stderr.write(`ringmaster: the machine "${machine}" has ended\n`);
  } catch (error) {
    if (!finished.signal.aborted) throw error;
  }
  await drained(stdout);
  return status;
}

function parseSamples(text: string | undefined): number {
  if (text === undefined) return Infinity;
  const samples = Number(text);
  if (!Number.isInteger(samples) || samples < 1) throw badArgument(`--samples ${text}: give a number from 1 on`);
  return samples;
}

/** @throws UserError BAD_ARGUMENT when there is not exactly one. */
function onlyMachine(): string {
  const names = machineNames();
  if (names.length === 1) return names[0];
  throw badArgument(names.length === 0
    ? "No machine has a name: start one with: ringmaster run --name NAME"
    : `There are several machines, say which: ${names.join(", ")}.`);
}

function perSecond(count: number, intervalMs: number): string {
  const rate = (count * 1000) / intervalMs;
  return rate >= 1e6 ? `${(rate / 1e6).toFixed(1)} M/s` : rate >= 1e3 ? `${(rate / 1e3).toFixed(1)} k/s` : `${rate.toFixed(0)} /s`;
}

/** `rows`: of the screen, when there is one. */
function formatSample(machine: string, { accelerator, state, uptimeSeconds, intervalMs, instructions, exits }: TopSample, rows: number | undefined): string {
  const count = exits.lines.reduce((sum, line) => sum + line.count, 0);
  const busy = `${((exits.runNs / (intervalMs * 1e6)) * 100).toFixed(0)} % busy`;
  const speed = instructions > 0 ? `, ${perSecond(instructions, intervalMs)} instructions` : "";
  const head = `${machine}: ${state}, ${accelerator}, up ${formatNs(uptimeSeconds * 1e9)}, ${busy}, ${perSecond(count, intervalMs)} exits${speed}\n`;
  const lines = rows === undefined ? exits.lines : exits.lines.slice(0, Math.max(1, rows - headerLines));
  return head + formatExits({ ...exits, lines }, "table");
}
