/** Exit accounting as a user meets it: `run --exit-report`, `top`, and what `top` asks of a machine. */
import { type ChildProcess, spawn } from "node:child_process";
import { readFileSync, writeFileSync } from "node:fs";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { type ExitReport, Vm } from "../../src/api/index.ts";
import { exitStatusOfError } from "../../src/cli/exit-status.ts";
import { answerTop } from "../../src/cli/top.ts";
import { launcher, ringmaster, TemporaryDirectory } from "./ringmaster.ts";
import { greeting, portPoller } from "./tiny-guest.ts";

let directory: TemporaryDirectory;

beforeAll(() => {
  directory = new TemporaryDirectory();
  writeFileSync(directory.file("greeting"), greeting("hello"));
  writeFileSync(directory.file("poller"), portPoller());
});

afterAll(() => directory[Symbol.dispose]());

const runGreeting = (...words: readonly string[]): ReturnType<typeof ringmaster> =>
  ringmaster(["run", "--kernel", directory.file("greeting"), "--accel", "soft", ...words], { input: "" });

describe("run --exit-report", () => {
  it("writes data with the distribution of every place", async () => {
    const file = directory.file("exits.json");
    const { status } = await runGreeting("--exit-report", file);
    expect(status).toBe(1);
    const report = JSON.parse(readFileSync(file, "utf8")) as { runNs: number; lines: (ExitReport["lines"][number] & { p50Ns: number; p99Ns: number })[] };
    expect(report.runNs).toBeGreaterThan(0);
    const line = report.lines.find(({ reason, place }) => reason === "port write" && place === 0x3f8);
    expect(line).toMatchObject({ device: "uart16550@3f8", count: 5 });
    expect(line?.histogram.reduce((sum, members) => sum + members, 0)).toBe(5);
    expect(line?.p99Ns).toBeGreaterThanOrEqual(line?.p50Ns ?? Infinity);
  });

  it("writes a table and a picture", async () => {
    await runGreeting("--exit-report", directory.file("exits.txt"));
    expect(readFileSync(directory.file("exits.txt"), "utf8")).toMatch(/^port write 0x3f8 +uart16550@3f8 +5 +\S+ [nµm]?s /mu);
    await runGreeting("--exit-report", directory.file("exits.svg"));
    const picture = readFileSync(directory.file("exits.svg"), "utf8");
    expect(picture).toMatch(/^<svg .*<\/svg>\n$/su);
    expect(picture).toContain("port write 0x3f8 · uart16550@3f8");
    expect(picture).not.toMatch(/NaN|Infinity|undefined/u);
  });

  it("refuses what it cannot write, before anything runs", async () => {
    const { status, stdout, stderr } = await runGreeting("--exit-report", "exits.pdf");
    expect([status, stdout]).toEqual([exitStatusOfError.BAD_ARGUMENT, ""]);
    expect(stderr).toContain(".svg for the picture");
    const elsewhere = await runGreeting("--exit-report", directory.file("none/exits.svg"));
    expect([elsewhere.status, elsewhere.stdout]).toEqual([exitStatusOfError.FILE_NOT_WRITABLE, ""]);
  });
});

describe("ringmaster top", () => {
  const name = `top-test-${process.pid}`;
  let child: ChildProcess;

  beforeAll(async () => {
    child = spawn(process.execPath, [launcher, "run", "--kernel", directory.file("poller"), "--accel", "soft", "--name", name, "--timeout", "60s"], { stdio: ["pipe", "ignore", "ignore"] });
    while ((await ringmaster(["top", name, "--samples", "1", "--interval", "100ms"])).status !== 0);
  });

  afterAll(async () => {
    const closed = new Promise((resolve) => child.on("close", resolve));
    child.kill("SIGTERM");
    await closed;
  });

  it("shows interval after interval", async () => {
    const { status, stdout } = await ringmaster(["top", name, "--samples", "2", "--interval", "100ms"]);
    expect(status).toBe(0);
    expect(stdout.match(new RegExp(`^${name}: running, soft, up .* exits`, "gmu"))).toHaveLength(2);
    expect(stdout).toMatch(/^port read 0x3fd +uart16550@3f8 +\d+ /mu);
  });

  it("prints lines of JSON, of what came to the one before", async () => {
    const { stdout } = await ringmaster(["top", name, "--samples", "3", "--interval", "100ms", "--json"]);
    const samples = stdout.trimEnd().split("\n").map((line) => JSON.parse(line) as { intervalMs: number; exits: ExitReport });
    expect(samples).toHaveLength(3);
    for (const { exits, intervalMs } of samples) {
      expect(exits.runNs).toBeLessThan(2 * intervalMs * 1e6);
      const polls = exits.lines.find(({ place }) => place === 0x3fd);
      expect(polls?.histogram.reduce((sum, members) => sum + members, 0)).toBe(polls?.count);
    }
  });

  it("ends with Ctrl-C", async () => {
    const { status } = await ringmaster(["top", name, "--interval", "100ms"], { onOutput: (_, top) => top.kill("SIGINT") });
    expect(status).toBe(0);
  });

  it.each([["--interval", "1ms"], ["--samples", "0"], ["--interval", "soon"]])("refuses %s %s", async (...words) => {
    expect((await ringmaster(["top", name, ...words])).status).toBe(exitStatusOfError.BAD_ARGUMENT);
  });

  it("says that there is no such machine", async () => {
    const { status, stderr } = await ringmaster(["top", "nobody-has-this-name"]);
    expect(status).toBe(exitStatusOfError.BAD_ARGUMENT);
    expect(stderr).toContain('There is no machine called "nobody-has-this-name"');
  });
});

describe("a machine that is watched", () => {
  it("counts for as long as somebody watches, and no longer", async () => {
    await using vm = await Vm.create({ kernel: portPoller(), memory: "4M", accel: "soft" });
    vm.run();
    const watch = (samples: number): Promise<unknown> => {
      const gone = new AbortController();
      let seen = 0;
      return answerTop(vm, { verb: "top", intervalMs: 100 }, () => {
        if (++seen === samples) gone.abort();
      }, gone.signal);
    };
    const first = watch(1), second = watch(3);
    await first;
    expect(vm.exits()).toBeDefined();
    await second;
    expect(vm.exits()).toBeUndefined();
    vm.accountExits(true);
    await watch(1);
    expect(vm.exits()?.lines.length).toBeGreaterThan(0);
  });

  it("tells that it has ended", async () => {
    await using vm = await Vm.create({ kernel: greeting("x"), memory: "4M", accel: "soft" });
    const told = answerTop(vm, { verb: "top", intervalMs: 3_600_000 }, () => {}, new AbortController().signal);
    vm.run();
    expect(await told).toEqual({});
  });
});
