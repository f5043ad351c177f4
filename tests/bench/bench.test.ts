/** The benches' own parts: figures, pictures, and watching a process's console. */
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { programRow } from "../../bench/benches/guest.ts";
import { benches } from "../../bench/catalog.ts";
import type { BenchResult, GuestJob, Subject } from "../../bench/contract.ts";
import { GuestProcess } from "../../bench/guest-process.ts";
import { describeMemory } from "../../bench/guest-run.ts";
import { interleave } from "../../bench/interleave.ts";
import { runSession, type Outcome, type Session } from "../../bench/program-session.ts";
import { parseProgramOutput, programCommand, programs } from "../../bench/programs.ts";
import { drawPicture, formatBars, formatResult, ratioBars, resultJson } from "../../bench/report/index.ts";
import { geometricMean, median, medianOfKnown } from "../../bench/statistics.ts";
import { targetsOf, type Targets } from "../../bench/targets.ts";
import { commandBeginMarker } from "../../src/host/node/guests/index.ts";

const result: BenchResult = {
  title: "programs", subtitle: "us and them", columns: [], notes: ["a note"],
  rows: [
    { name: "slow", oursSeconds: 4, peerSeconds: 1, ratio: 4 },
    { name: "fast <&>", oursSeconds: 1, peerSeconds: 4, ratio: 0.25 },
  ],
};
const noTargets: Targets = { rows: {} };
const never = new AbortController().signal;

function startScript(script: string, isSampled = false): GuestProcess {
  return new GuestProcess({ program: process.execPath, args: ["-e", script], environment: {}, isSampled });
}

describe("bench", () => {
  it("takes medians and geometric means", () => {
    expect([median([3, 1, 2]), median([4, 1, 2, 3]), geometricMean([4, 0.25])]).toEqual([2, 2.5, 1]);
    expect([medianOfKnown([undefined, 7, 5]), medianOfKnown([undefined])]).toEqual([6, undefined]);
  });

  it("changes the side that goes first", async () => {
    const order: string[] = [];
    await interleave(3, (side, run) => Promise.resolve(void order.push(`${side}${run}`)));
    expect(order).toEqual(["ours0", "peer0", "peer1", "ours1", "ours2", "peer2"]);
  });

  it("gives one JSON object, without a mean when a row is missing", () => {
    expect(JSON.parse(resultJson(result, noTargets))).toEqual({ rows: result.rows.map((row) => ({ ...row, target: null })), geomeanRatio: 1, geomeanTarget: null });
    const failed = { ...result, rows: [...result.rows, { name: "bad", oursSeconds: null, peerSeconds: 1, ratio: null, failure: "why" }] };
    expect(JSON.parse(resultJson(failed, noTargets))).toMatchObject({ geomeanRatio: null });
    expect(formatResult(failed, noTargets)).toContain("FAILED bad: why");
    const other = { ...result, rows: [...result.rows, { name: "boot", oursSeconds: 8, peerSeconds: 1, ratio: 8, isOutsideMean: true }] };
    expect(JSON.parse(resultJson(other, noTargets))).toMatchObject({ geomeanRatio: 1 });
  });

  it("leaves the peer out where there is none", () => {
    const alone: BenchResult = { ...result, columns: [{ title: "bytes", text: () => "7" }], rows: [{ name: "create", oursSeconds: 2, peerSeconds: null, ratio: null }] };
    expect(formatResult(alone, noTargets).split("\n").slice(2, 5)).toEqual([expect.stringMatching(/^ +ours s +bytes$/u), expect.any(String), expect.stringMatching(/^create +2\.000 +7$/u)]);
    expect(ratioBars(alone.rows, noTargets)).toEqual([]);
  });

  it("says which targets are met", () => {
    const targets: Targets = { geometricMean: 0.5, rows: { slow: 4, "fast <&>": 0.2 } };
    const text = formatResult(result, targets);
    expect(text).toMatch(/slow +4\.000 +1\.000 +4\.00× +≤ 4\.00× met/u);
    expect(text).toMatch(/fast .* 0\.25× +≤ 0\.20× missed/u);
    expect(text).toContain("geometric mean of ours/peer: 1.00× (target ≤ 0.50× missed)");
    // Of a choice of rows the mean is another one, which nothing was set for.
    const chosen = { ...result, rows: [...result.rows.slice(0, 1), { name: "further", oursSeconds: 1, peerSeconds: 1, ratio: 1 }] };
    expect(formatResult(chosen, targets)).toMatch(/geometric mean of ours\/peer: 2\.00×$/mu);
    expect(JSON.parse(resultJson(chosen, targets))).toMatchObject({ rows: [{ target: 4 }, { target: null }], geomeanTarget: null });
    expect(formatResult(result, noTargets)).not.toContain("target");
  });

  it("has a target for every program against every peer, and none for what is not measured", () => {
    const { guest: peersOfGuest = [] } = Object.fromEntries(benches.map((bench) => [bench.name, bench.peers]));
    expect(peersOfGuest).toEqual(["qemu", "v86"]);
    for (const peer of peersOfGuest) {
      const { rows, geometricMean: mean } = targetsOf("guest", peer);
      expect(Object.keys(rows).toSorted()).toEqual([...Object.keys(programs), "boot"].toSorted());
      expect(mean).toBeLessThan(1);
    }
    expect(targetsOf("none", "qemu")).toEqual(noTargets);
  });

  it("draws bars to both sides of one", () => {
    const bars = ratioBars(result.rows, { rows: { slow: 0.5 } });
    expect(formatBars(bars).split("\n")).toEqual(["slow             │████████ 4.00×", "fast <&> ████████│ 0.25×", "                 1×"]);
    const picture = drawPicture("a & b", "subtitle", bars);
    expect(picture).toContain("<title>a &amp; b</title>");
    expect(picture).toContain(">fast &lt;&amp;&gt;</text>");
    // Four doublings wide: a target of a half lies a quarter of the chart left of its middle.
    expect(picture.match(/<path d="M(?<x>[\d.]+) /u)?.groups?.["x"]).toBe("260.0");
    expect(drawPicture("nothing", "", [])).not.toMatch(/NaN|Infinity/u);
  });

  it("finds what the console shows, in order, with samples", async () => {
    await using guest = startScript(`
      console.log("one"); console.log("two");
      require("fs").writeSync(3, JSON.stringify({ consoleBytes: 8, instructions: 7, seconds: 1 }) + "\\n");
      setInterval(() => {}, 1000);`, true);
    const one = await guest.waitFor(/one/u, 20, never);
    const two = await guest.waitFor(/t(?<rest>w.)/u, 20, never);
    expect([one.consoleBytes, two.consoleBytes, two.match.groups?.["rest"]]).toEqual([3, 7, "wo"]);
    await expect(guest.waitFor(/one/u, 0.05, never)).rejects.toMatchObject({ code: "TIMEOUT" });
    const memory = await guest.memory();
    expect(memory.residentBytes).toBeGreaterThan(2 ** 20);
    expect(describeMemory([{ name: "x", sizes: [memory] }, { name: "y", sizes: [] }]))
      .toMatch(/512 MiB: x \d+ MiB resident, (?:\d+ MiB|–) proportional; y – resident, – proportional$/u);
    await guest.stop();
    expect(guest.sampleAt(7)?.instructions).toBe(7);
    expect(guest.sampleAt(9)).toBeUndefined();
  });

  it("says how a process ended that showed nothing", async () => {
    await using guest = startScript(`console.log("oh"); console.error("dear"); process.exitCode = 3`);
    await expect(guest.waitFor(/never/u, 20, never)).rejects.toMatchObject({ code: "GUEST_FAILED", message: expect.stringMatching(/status 3[^]*dear[^]*oh/u) });
    await using missing = new GuestProcess({ program: "/nowhere/qemu", args: [], environment: {}, isSampled: false });
    await expect(missing.waitFor(/never/u, 20, never)).rejects.toMatchObject({ code: "GUEST_FAILED" });
  });
});

describe("programs", () => {
  const line = "BENCH sieve elapsed=1.5000 cpu=1.4000 checksum=00ff\r\n";

  it("say what they measured, or why not", () => {
    expect(parseProgramOutput("sieve", `noise\n${line}`, 0, 60)).toEqual({ seconds: 1.5, cpuSeconds: 1.4, checksum: "00ff" });
    expect(parseProgramOutput("crc32", line, 0, 60)).toMatch(/^printed no result: BENCH sieve/u);
    expect(parseProgramOutput("sieve", "", 137, 60)).toBe("took more than 60 s");
    expect(parseProgramOutput("sieve", "Illegal instruction\n", 132, 60)).toBe("ended with status 132: Illegal instruction");
    expect(programCommand("sieve", 2, 60)).toContain("timeout -s KILL 60 /bench/sieve 2;");
  });

  const measured = (seconds: number, checksum = programs["sieve"], mips?: number): Outcome => ({
    seconds, cpuSeconds: seconds, checksum, instructions: mips === undefined ? undefined : mips * seconds * 1e6, mips,
  });
  const session = (outcome: Outcome): Session => ({ outcomes: new Map([["sieve", outcome]]), boot: "" });

  it("are compared by their medians", () => {
    const sessions = { ours: [1, 9, 2].map((seconds) => session(measured(seconds, undefined, 100))), peer: [4, 4, 3].map((seconds) => session(measured(seconds))) };
    expect(programRow("sieve", sessions, 1)).toMatchObject({ oursSeconds: 2, peerSeconds: 4, ratio: 0.5, oursMips: 100, oursInstructions: 2e8 });
  });

  it("have no ratio when one run failed or a checksum differs", () => {
    const good = [session(measured(1)), session(measured(1))];
    expect(programRow("sieve", { ours: good, peer: [session(measured(1)), session("took more than 60 s")] }, 1)).toMatchObject({ ratio: null, peerSeconds: 1, failure: "peer: took more than 60 s" });
    expect(programRow("sieve", { ours: [session(measured(1, "bad"))], peer: good }, 1)).toMatchObject({ ratio: null, failure: expect.stringContaining("ours computed bad") });
    // At another scale nobody knows what is right, so both have to agree.
    expect(programRow("sieve", { ours: [session(measured(1, "a"))], peer: [session(measured(1, "a"))] }, 3)).toMatchObject({ ratio: 1 });
    expect(programRow("sieve", { ours: [session(measured(1, "b"))], peer: [session(measured(1, "a"))] }, 3)).toMatchObject({ ratio: null });
  });

  it("go on in a fresh guest when one of them takes its guest down", async () => {
    const directory = mkdtempSync(join(tmpdir(), "bench-test-"));
    const initramfs = join(directory, "initramfs");
    writeFileSync(initramfs, "");
    // A guest that comes up, runs what its initramfs asks for, and is lost with the program crc32.
    const script = `
      const job = JSON.parse(process.argv[1]);
      const names = [...require("fs").readFileSync(job.initramfs, "latin1").matchAll(/echo BEGIN (\\w+);/g)].map((match) => match[1]);
      console.log("[    1.5] Run /init as init process");
      console.log(${JSON.stringify(commandBeginMarker)} + "UPTIME 2.5");
      for (const name of names) {
        console.log("BEGIN " + name);
        if (name === "crc32") process.exit(9);
        console.log("BENCH " + name + " elapsed=1 cpu=1 checksum=0\\nEND " + name + " 0");
      }
      setInterval(() => {}, 1000);`;
    const starts: string[] = [];
    const subject: Subject = {
      name: "fake", description: "", architecture: "i386",
      launch(job: GuestJob) {
        starts.push(job.commandLine);
        return { program: process.execPath, args: ["-e", script, JSON.stringify(job)], environment: {}, isSampled: false };
      },
    };
    const options = { scale: 1, timeoutSeconds: 20, log: () => {}, signal: never };
    const { outcomes, boot } = await runSession(subject, { kernel: "", initramfs }, ["sieve", "crc32", "dhry"], options);
    rmSync(directory, { recursive: true });
    expect(starts).toHaveLength(2);
    expect(boot).toMatchObject({ guestSeconds: 2.5, guestInitSeconds: 1.5 });
    expect([...outcomes].map(([name, outcome]) => [name, typeof outcome])).toEqual([["sieve", "object"], ["crc32", "string"], ["dhry", "object"]]);
    expect(outcomes.get("crc32")).toMatch(/status 9/u);
  });

  it("are not run when the guest does not come up", async () => {
    const subject: Subject = {
      name: "fake", description: "", architecture: "i386",
      launch: () => ({ program: process.execPath, args: ["-e", "process.exit(4)"], environment: {}, isSampled: false }),
    };
    const directory = mkdtempSync(join(tmpdir(), "bench-test-"));
    const initramfs = join(directory, "initramfs");
    writeFileSync(initramfs, "");
    const { outcomes, boot } = await runSession(subject, { kernel: "", initramfs }, ["sieve"], { scale: 1, timeoutSeconds: 20, log: () => {}, signal: never });
    rmSync(directory, { recursive: true });
    expect(boot).toMatch(/status 4/u);
    expect(outcomes.get("sieve")).toMatch(/^not run, because the guest did not come up/u);
  });
});
