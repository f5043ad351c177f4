/** The benches' own parts: figures, pictures, and watching a process's console. */
import { describe, expect, it } from "vitest";
import type { BenchResult } from "../../bench/contract.ts";
import { GuestProcess } from "../../bench/guest-process.ts";
import { interleave } from "../../bench/interleave.ts";
import { drawPicture, formatBars, formatResult, ratioBars, resultJson } from "../../bench/report/index.ts";
import { geometricMean, median } from "../../bench/statistics.ts";

const result: BenchResult = {
  title: "programs", columns: [], notes: ["a note"],
  rows: [
    { name: "slow", oursSeconds: 4, peerSeconds: 1, ratio: 4 },
    { name: "fast <&>", oursSeconds: 1, peerSeconds: 4, ratio: 0.25 },
  ],
};
const never = new AbortController().signal;

function startScript(script: string, isSampled = false): GuestProcess {
  return new GuestProcess({ program: process.execPath, args: ["-e", script], environment: {}, isSampled });
}

describe("bench", () => {
  it("takes medians and geometric means", () => {
    expect([median([3, 1, 2]), median([4, 1, 2, 3]), geometricMean([4, 0.25])]).toEqual([2, 2.5, 1]);
  });

  it("changes the side that goes first", async () => {
    const order: string[] = [];
    await interleave(3, (side, run) => Promise.resolve(void order.push(`${side}${run}`)));
    expect(order).toEqual(["ours0", "peer0", "peer1", "ours1", "ours2", "peer2"]);
  });

  it("gives one JSON object, without a mean when a row is missing", () => {
    expect(JSON.parse(resultJson(result))).toEqual({ rows: result.rows, geomeanRatio: 1 });
    const failed = { ...result, rows: [...result.rows, { name: "bad", oursSeconds: null, peerSeconds: 1, ratio: null, failure: "why" }] };
    expect(JSON.parse(resultJson(failed))).toMatchObject({ geomeanRatio: null });
    expect(formatResult(failed)).toContain("FAILED bad: why");
  });

  it("draws bars to both sides of one", () => {
    const bars = ratioBars(result.rows);
    expect(formatBars(bars).split("\n")).toEqual(["slow             │████████ 4.00×", "fast <&> ████████│ 0.25×", "                 1×"]);
    const picture = drawPicture("a & b", "subtitle", bars);
    expect(picture).toContain("<title>a &amp; b</title>");
    expect(picture).toContain(">fast &lt;&amp;&gt;</text>");
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
    expect(await guest.residentBytes()).toBeGreaterThan(2 ** 20);
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
