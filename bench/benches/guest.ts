/** The programs of guests/bench, timed by themselves within a Debian guest. */
import { UserError } from "../../src/base/errors.ts";
import { ensureGuests } from "../../src/host/node/guests/index.ts";
import type { Bench, BenchOptions, BenchRow, EngineSample, Subject } from "../contract.ts";
import { bootGuest, CommandGuest, startGuest, uptimeCommand } from "../guest-run.ts";
import type { GuestProcess } from "../guest-process.ts";
import { interleave } from "../interleave.ts";
import { formatBytes, formatSeconds } from "../report/format.ts";
import { median } from "../statistics.ts";

/** The programs, in the order of guests/bench/run.sh, with the checksum of each at scale 1, from the programs run natively. */
const programs: Readonly<Record<string, string>> = {
  intloop: "4c0eea015b6bef39",
  sieve: "000000000016b9b2",
  crc32: "00000000ac084836",
  sha256: "e59bf0a8ab61ec86",
  dhry: "00000500034a46b9",
  matmul_x87: "0000000000f8ef61",
  matmul_sse2: "0000000000f8ef61",
  nbody_x87: "ffffffffffe6332b",
  nbody_sse2: "ffffffffffe6332b",
  syscall: "00000000000186a0",
  forkexec: "000000000000015e",
  memcpy: "af08aa450dc23fcd",
  pagefault: "0000000000024000",
};

/** The guest ends a program that takes too long; only when the guest itself hangs do we. */
const hangGraceSeconds = 30;

interface Measured {
  readonly seconds: number;
  readonly cpuSeconds: number;
  readonly checksum: string;
  /** Ours only: while the program ran, its start and end included. */
  readonly instructions: number | undefined;
  readonly mips: number | undefined;
}

/** A result, or why there is none. */
type Outcome = Measured | string;

interface Session {
  readonly outcomes: ReadonlyMap<string, Outcome>;
  readonly bootSeconds: number;
  readonly residentBytes: number | undefined;
}

function chooseNames({ only }: BenchOptions): readonly string[] {
  const all = Object.keys(programs);
  const unknown = only?.filter((name) => !all.includes(name)) ?? [];
  if (unknown.length > 0) throw new UserError("BAD_ARGUMENT", `there is no program ${unknown.join(", ")}; there are: ${all.join(", ")}`);
  return all.filter((name) => only?.includes(name) ?? true);
}

function createCommand(names: readonly string[], { scale, timeoutSeconds }: BenchOptions): string {
  return [
    uptimeCommand,
    ...names.map((name) => `echo BEGIN ${name}; timeout -s KILL ${timeoutSeconds} /bench/${name} ${scale}; echo END ${name} $?`),
    "echo DONE",
  ].join("\n");
}

/** Where a program's output begins and ends on the console. */
interface Stretch {
  readonly begin: number;
  readonly end: number;
}

function ratesOf(guest: GuestProcess, { begin, end }: Stretch): { readonly instructions: number | undefined; readonly mips: number | undefined } {
  const from: EngineSample | undefined = guest.sampleAt(begin), to: EngineSample | undefined = guest.sampleAt(end);
  if (from === undefined || to === undefined) return { instructions: undefined, mips: undefined };
  const instructions = to.instructions - from.instructions;
  return { instructions, mips: instructions / (to.seconds - from.seconds) / 1e6 };
}

async function runProgram(guest: GuestProcess, name: string, { timeoutSeconds, signal }: BenchOptions): Promise<{ outcome: Outcome; stretch?: Stretch }> {
  const begin = await guest.waitFor(new RegExp(`BEGIN ${name}\\r?\\n`, "u"), timeoutSeconds, signal);
  const ended = await guest.waitFor(new RegExp(
    `(?<output>[^]*?)END ${name} (?<status>\\d+)\\r?\\n`, "u"), timeoutSeconds + hangGraceSeconds, signal);
  const { output = "", status } = ended.match.groups ?? {};
  const line = new RegExp(`BENCH ${name} elapsed=(?<elapsed>[\\d.]+) cpu=(?<cpu>[\\d.]+) checksum=(?<checksum>[\\da-f]+)`, "u").exec(output);
  if (status === "137") return { outcome: `took more than ${timeoutSeconds} s` };
  if (status !== "0") return { outcome: `ended with status ${status}${output.trim() === "" ? "" : `: ${output.trim()}`}` };
  if (line?.groups === undefined) return { outcome: `printed no result: ${output.trim()}` };
  const { elapsed, cpu, checksum } = line.groups;
  const outcome = { seconds: Number(elapsed), cpuSeconds: Number(cpu), checksum, instructions: undefined, mips: undefined };
  return { outcome, stretch: { begin: begin.consoleBytes, end: begin.consoleBytes + output.indexOf("BENCH ") + 1 } };
}

async function runSession(subject: Subject, command: CommandGuest, names: readonly string[], options: BenchOptions): Promise<Session> {
  await using guest = startGuest(subject, command);
  const booted = await bootGuest(guest, options.timeoutSeconds, options.signal);
  const outcomes = new Map<string, Outcome>();
  const stretches = new Map<string, Stretch>();
  try {
    for (const name of names) {
      const { outcome, stretch } = await runProgram(guest, name, options);
      outcomes.set(name, outcome);
      if (stretch !== undefined) stretches.set(name, stretch);
      options.log(`  ${subject.name} ${name}: ${typeof outcome === "string" ? outcome : formatSeconds(outcome.seconds)}`);
    }
  } catch (error) {
    if (!(error instanceof UserError)) throw error;
    const [lost, ...never] = names.filter((name) => !outcomes.has(name));
    outcomes.set(lost, error.message);
    for (const name of never) outcomes.set(name, `not run, because ${lost} did not come back`);
    options.log(`  ${subject.name} ${lost}: ${error.message}`);
  }
  const residentBytes = await guest.residentBytes();
  await guest.stop();
  for (const [name, stretch] of stretches) {
    const outcome = outcomes.get(name);
    if (typeof outcome === "object") outcomes.set(name, { ...outcome, ...ratesOf(guest, stretch) });
  }
  return { outcomes, bootSeconds: booted.seconds, residentBytes };
}

function outcomesOf(sessions: readonly Session[], name: string): { readonly measured: readonly Measured[]; readonly failures: readonly string[] } {
  const outcomes = sessions.map((session) => session.outcomes.get(name) ?? "not run");
  return { measured: outcomes.filter((outcome) => typeof outcome === "object"), failures: outcomes.filter((outcome) => typeof outcome === "string") };
}

/** What is wrong with the checksums of a program; undefined when nothing is. */
function checkChecksums(name: string, scale: number, ours: readonly Measured[], peer: readonly Measured[]): string | undefined {
  const expected = scale === 1 ? programs[name] : peer[0]?.checksum;
  const wrong = (who: string, results: readonly Measured[]): string | undefined => {
    const bad = results.find(({ checksum }) => checksum !== expected);
    return bad === undefined ? undefined : `${who} computed ${bad.checksum} where ${expected} is right`;
  };
  return wrong("ours", ours) ?? wrong("the peer", peer);
}

function createRow(name: string, sessions: Readonly<Record<"ours" | "peer", readonly Session[]>>, scale: number): BenchRow {
  const ours = outcomesOf(sessions.ours, name), peer = outcomesOf(sessions.peer, name);
  const seconds = (results: readonly Measured[]): number | null => results.length === 0 ? null : median(results.map((result) => result.seconds));
  const oursSeconds = seconds(ours.measured), peerSeconds = seconds(peer.measured);
  const failure = [
    ...ours.failures.map((text) => `ours: ${text}`), ...peer.failures.map((text) => `peer: ${text}`),
  ][0] ?? checkChecksums(name, scale, ours.measured, peer.measured);
  const mips = ours.measured.map((result) => result.mips).filter((value) => value !== undefined);
  const instructions = ours.measured.map((result) => result.instructions).filter((value) => value !== undefined);
  const hasRatio = failure === undefined && oursSeconds !== null && peerSeconds !== null;
  return {
    name, oursSeconds, peerSeconds, ratio: hasRatio ? oursSeconds / peerSeconds : null,
    ...(failure === undefined ? {} : { failure }),
    oursRuns: ours.measured.map((result) => result.seconds), peerRuns: peer.measured.map((result) => result.seconds),
    ...(instructions.length === 0 ? {} : { oursInstructions: median(instructions) }),
    ...(mips.length === 0 ? {} : { oursMips: median(mips) }),
  };
}

export const guest: Bench = {
  name: "guest",
  summary: "thirteen programs in a Debian guest, each timed by itself: integer, floating point, memory, kernel",
  peers: ["qemu"],
  defaultRuns: 3,
  async run(options) {
    const names = chooseNames(options);
    const { bench } = await ensureGuests(["bench"], { onProgress: options.onProgress });
    await using command = await CommandGuest.create(bench, createCommand(names, options));
    const sessions = await interleave(options.runs, (side, run) => {
      options.log(`run ${run + 1}/${options.runs}: ${options[side].name}`);
      return runSession(options[side], command, names, options);
    });
    const resident = (side: "ours" | "peer"): string => {
      const sizes = sessions[side].map(({ residentBytes }) => residentBytes).filter((size) => size !== undefined);
      return formatBytes(sizes.length === 0 ? undefined : median(sizes));
    };
    return {
      title: `programs in the guest, ours against ${options.peer.name}${options.scale === 1 ? "" : `, scale ${options.scale}`}`,
      rows: names.map((name) => createRow(name, sessions, options.scale)),
      columns: [{ title: "ours MIPS", text: ({ oursMips }) => typeof oursMips === "number" ? oursMips.toFixed(0) : "" }],
      notes: [
        `resident memory after the programs: ours ${resident("ours")}, peer ${resident("peer")}`,
        `boot before the programs: ours ${formatSeconds(median(sessions.ours.map(({ bootSeconds }) => bootSeconds)))}, peer ${formatSeconds(median(sessions.peer.map(({ bootSeconds }) => bootSeconds)))}`,
      ],
    };
  },
};
