/** Runs programs in a subject's guest, one after the other; where the guest itself is lost, the next ones get a fresh one. */
import { UserError } from "../src/base/errors.ts";
import type { LinuxGuest } from "../src/host/node/guests/index.ts";
import type { BenchOptions, Subject } from "./contract.ts";
import type { GuestProcess } from "./guest-process.ts";
import { bootGuest, CommandGuest, startGuest, uptimeCommand, type BootMeasurement } from "./guest-run.ts";
import { parseProgramOutput, programCommand, programLimitSeconds, type ProgramFigures } from "./programs.ts";
import { formatSeconds } from "./report/format.ts";

export interface Measured extends ProgramFigures {
  /** Ours only: while the program ran, its start and end included. */
  readonly instructions: number | undefined;
  readonly mips: number | undefined;
}

/** A result, or why there is none. */
export type Outcome = Measured | string;

export interface Session {
  readonly outcomes: ReadonlyMap<string, Outcome>;
  /** Of its first guest, or why that did not come up. */
  readonly boot: BootMeasurement | string;
}

/** The guest ends a program that takes too long; only when the guest itself hangs do we. */
const hangGraceSeconds = 30;
const defaultBootTimeoutSeconds = 300;

/** Where a program's output begins and ends on the console. */
interface Stretch {
  readonly begin: number;
  readonly end: number;
}

type SessionOptions = Pick<BenchOptions, "scale" | "timeoutSeconds" | "log" | "signal">;

/** Seconds that one program may take. */
export function programTimeoutSeconds({ scale, timeoutSeconds }: Pick<BenchOptions, "scale" | "timeoutSeconds">): number {
  return timeoutSeconds ?? programLimitSeconds * scale;
}

function withRates(figures: ProgramFigures, guest: GuestProcess, { begin, end }: Stretch): Measured {
  const from = guest.sampleAt(begin), to = guest.sampleAt(end);
  if (from === undefined || to === undefined) return { ...figures, instructions: undefined, mips: undefined };
  const instructions = to.instructions - from.instructions;
  return { ...figures, instructions, mips: instructions / (to.seconds - from.seconds) / 1e6 };
}

async function runProgram(guest: GuestProcess, name: string, limitSeconds: number, signal: AbortSignal): Promise<{ readonly figures: ProgramFigures | string; readonly stretch: Stretch }> {
  const begin = await guest.waitFor(new RegExp(`BEGIN ${name}\\r?\\n`, "u"), limitSeconds, signal);
  const ended = await guest.waitFor(new RegExp(`(?<output>[^]*?)END ${name} (?<status>\\d+)\\r?\\n`, "u"), limitSeconds + hangGraceSeconds, signal);
  const { output = "", status } = ended.match.groups ?? {};
  return {
    figures: parseProgramOutput(name, output, Number(status), limitSeconds),
    stretch: { begin: begin.consoleBytes, end: begin.consoleBytes + output.indexOf("BENCH ") + 1 },
  };
}

/** Runs `names` until one of them loses the guest; that one is the last in the outcomes. */
async function runGuest(subject: Subject, linux: LinuxGuest, names: readonly string[], options: SessionOptions): Promise<Session> {
  const limitSeconds = programTimeoutSeconds(options);
  const script = [uptimeCommand, ...names.map((name) => programCommand(name, options.scale, limitSeconds))].join("\n");
  await using command = await CommandGuest.create(linux, script);
  await using guest = startGuest(subject, command);
  const outcomes = new Map<string, Outcome>();
  const stretches = new Map<string, Stretch>();
  let boot: BootMeasurement | string = "";
  let running = "boot";
  try {
    boot = await bootGuest(guest, options.timeoutSeconds ?? defaultBootTimeoutSeconds, options.signal);
    options.log(`  ${subject.name} boot: ${formatSeconds(boot.seconds)}`);
    for (const name of names) {
      running = name;
      const { figures, stretch } = await runProgram(guest, name, limitSeconds, options.signal);
      outcomes.set(name, typeof figures === "string" ? figures : { ...figures, instructions: undefined, mips: undefined });
      stretches.set(name, stretch);
      options.log(`  ${subject.name} ${name}: ${typeof figures === "string" ? figures : formatSeconds(figures.seconds)}`);
    }
  } catch (error) {
    if (!(error instanceof UserError) || options.signal.aborted) throw error;
    options.log(`  ${subject.name} ${running}: ${error.message}`);
    if (running === "boot") boot = error.message;
    else outcomes.set(running, error.message);
  }
  await guest.stop();
  for (const [name, stretch] of stretches) {
    const outcome = outcomes.get(name);
    if (typeof outcome === "object") outcomes.set(name, withRates(outcome, guest, stretch));
  }
  return { boot, outcomes };
}

/** Runs all of `names`. */
export async function runSession(subject: Subject, linux: LinuxGuest, names: readonly string[], options: SessionOptions): Promise<Session> {
  const outcomes = new Map<string, Outcome>();
  let firstBoot: BootMeasurement | string | undefined;
  for (let left = names; left.length > 0; left = left.filter((name) => !outcomes.has(name))) {
    const { boot, outcomes: more } = await runGuest(subject, linux, left, options);
    firstBoot ??= boot;
    for (const [name, outcome] of more) outcomes.set(name, outcome);
    if (typeof boot === "string") for (const name of left) outcomes.set(name, `not run, because the guest did not come up: ${boot}`);
  }
  return { outcomes, boot: firstBoot ?? "not run" };
}
