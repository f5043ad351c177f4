/** The programs of guests/bench, timed by themselves within a Debian guest, and that guest's boot. */
import { UserError } from "../../src/base/errors.ts";
import { ensureGuests } from "../../src/host/node/guests/index.ts";
import type { Bench, BenchOptions, BenchRow } from "../contract.ts";
import { describeMemory } from "../guest-run.ts";
import { interleave, sides, type Side } from "../interleave.ts";
import { runSession, type Measured, type Session } from "../program-session.ts";
import { programs } from "../programs.ts";
import { median, medianOfKnown } from "../statistics.ts";
import { guestPeerNames, prepareSides } from "../subjects/index.ts";

type Sessions = Readonly<Record<Side, readonly Session[]>>;

function chooseNames({ only }: BenchOptions): readonly string[] {
  const all = Object.keys(programs);
  const unknown = only?.filter((name) => !all.includes(name)) ?? [];
  if (unknown.length > 0) throw new UserError("BAD_ARGUMENT", `there is no program ${unknown.join(", ")}; there are: ${all.join(", ")}`);
  return all.filter((name) => only?.includes(name) ?? true);
}

function measurementsOf(sessions: readonly Session[], name: string): { readonly measured: readonly Measured[]; readonly failures: readonly string[] } {
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

/** Medians and their ratio; no ratio with a failure. */
function compare(name: string, ours: readonly number[], peer: readonly number[], failure: string | undefined): BenchRow {
  const oursSeconds = ours.length === 0 ? null : median(ours), peerSeconds = peer.length === 0 ? null : median(peer);
  const hasRatio = failure === undefined && oursSeconds !== null && peerSeconds !== null;
  return {
    name, oursSeconds, peerSeconds, ratio: hasRatio ? oursSeconds / peerSeconds : null,
    ...(failure === undefined ? {} : { failure }),
    oursRuns: ours, peerRuns: peer,
  };
}

function firstFailure(ours: readonly string[], peer: readonly string[]): string | undefined {
  return [...ours.map((text) => `ours: ${text}`), ...peer.map((text) => `peer: ${text}`)][0];
}

/** The row of one program. */
export function programRow(name: string, sessions: Sessions, scale: number): BenchRow {
  const ours = measurementsOf(sessions.ours, name), peer = measurementsOf(sessions.peer, name);
  const failure = firstFailure(ours.failures, peer.failures) ?? checkChecksums(name, scale, ours.measured, peer.measured);
  const oursMips = medianOfKnown(ours.measured.map(({ mips }) => mips));
  const oursInstructions = medianOfKnown(ours.measured.map(({ instructions }) => instructions));
  return {
    ...compare(name, ours.measured.map(({ seconds }) => seconds), peer.measured.map(({ seconds }) => seconds), failure),
    ...(oursInstructions === undefined ? {} : { oursInstructions }),
    ...(oursMips === undefined ? {} : { oursMips }),
  };
}

function bootRow({ ours, peer }: Sessions): BenchRow {
  const seconds = (sessions: readonly Session[]): number[] => sessions.flatMap(({ boot }) => typeof boot === "string" ? [] : [boot.seconds]);
  const failures = (sessions: readonly Session[]): string[] => sessions.flatMap(({ boot }) => typeof boot === "string" ? [boot] : []);
  return { ...compare("boot", seconds(ours), seconds(peer), firstFailure(failures(ours), failures(peer))), isOutsideMean: true };
}

export const guest: Bench = {
  name: "guest",
  summary: "thirteen programs in a Debian guest, each timed by itself: integer, floating point, memory, kernel",
  peers: guestPeerNames,
  defaultRuns: 5,
  async run(options) {
    const names = chooseNames(options);
    const subjects = await prepareSides(options);
    const guestName = subjects.peer.architecture === "i386" ? "bench-686" : "bench";
    const { [guestName]: linux } = await ensureGuests([guestName], { onProgress: options.onProgress });
    const sessions = await interleave(options.runs, (side, run) => {
      options.log(`run ${run + 1}/${options.runs}: ${subjects[side].name}`);
      return runSession(subjects[side], linux, names, options);
    });
    const memory = describeMemory(sides.map((side) => ({
      name: subjects[side].name, sizes: sessions[side].flatMap(({ boot }) => typeof boot === "string" ? [] : [boot.memory]),
    })));
    return {
      title: `programs in a ${subjects.peer.architecture} guest, ours against ${subjects.peer.name}${options.scale === 1 ? "" : `, scale ${options.scale}`}`,
      subtitle: `${subjects.ours.description}; ${subjects.peer.description}`,
      rows: [...names.map((name) => programRow(name, sessions, options.scale)), bootRow(sessions)],
      columns: [{ title: "ours MIPS", text: ({ oursMips }) => typeof oursMips === "number" ? oursMips.toFixed(0) : "" }],
      notes: [memory],
    };
  },
};
