/** Runs that go well: output, exit statuses, files. */
import { execFileSync } from "node:child_process";
import { existsSync, readFileSync, writeFileSync } from "node:fs";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { exitStatusOfError, internalErrorStatus, signalStatus } from "../../src/cli/exit-status.ts";
import { launcher, ringmaster, TemporaryDirectory } from "./ringmaster.ts";
import { debugExit, greeting } from "./tiny-guest.ts";

let directory: TemporaryDirectory;

beforeAll(() => {
  directory = new TemporaryDirectory();
  writeFileSync(directory.file("says"), greeting("hello from the guest\n"));
  for (const value of [0, 3, 0x7f, 0xff]) writeFileSync(directory.file(`exit-${value}`), debugExit(value));
});

afterAll(() => directory[Symbol.dispose]());

describe("ringmaster run", () => {
  it("gives standard output to the guest, and says on standard error what executes it and why", async () => {
    const { status, stdout, stderr } = await ringmaster(["run", "--kernel", directory.file("says")], { input: "" });
    expect(stdout).toBe("hello from the guest\n");
    expect(stderr).toMatch(/^ringmaster: accelerator: (?:soft|kvm) \(.+\)\n$/u);
    expect(status).toBe(1);
  });

  it("says that soft was asked for", async () => {
    const { stderr } = await ringmaster(["run", "--kernel", directory.file("says"), "--accel", "soft"], { input: "" });
    expect(stderr).toBe("ringmaster: accelerator: soft (asked for)\n");
  });

  it.each([[0, 1], [3, 7], [0x7f, 0xff], [0xff, 0xff]])("exits with isa-debug-exit's status for %i", async (value, expected) => {
    const { status } = await ringmaster(["run", "--kernel", directory.file(`exit-${value}`)], { input: "" });
    expect(status).toBe(expected);
  });

  it("writes a serial port to a file", async () => {
    const log = directory.file("serial.log");
    const { stdout } = await ringmaster(["run", "--kernel", directory.file("says"), "--serial", `file:${log}`], { input: "" });
    expect(stdout).toBe("");
    expect(readFileSync(log, "utf8")).toBe("hello from the guest\n");
  });

  it("runs a deterministic machine", async () => {
    const { stdout, status } = await ringmaster(["run", "--kernel", directory.file("says"), "--deterministic"], { input: "" });
    expect([stdout, status]).toEqual(["hello from the guest\n", 1]);
  });

  it("takes no harm from a reader that leaves", () => {
    const output = execFileSync("sh", ["-c", `'${process.execPath}' '${launcher}' run --kernel '${directory.file("says")}' < /dev/null 2> /dev/null | true; echo over`]);
    expect(output.toString()).toBe("over\n");
  });
});

describe("other verbs", () => {
  it("print versions as data", async () => {
    const { stdout, status } = await ringmaster(["version", "--json"]);
    const { version } = JSON.parse(readFileSync(new URL("../../package.json", import.meta.url), "utf8")) as { version: string };
    expect(JSON.parse(stdout)).toMatchObject({ version, node: process.versions.node });
    expect(status).toBe(0);
  });

  it("tell about the host as data", async () => {
    const { stdout, status } = await ringmaster(["doctor", "--json"]);
    const report = JSON.parse(stdout) as { accelerator: string; reason: string; checks: { name: string }[] };
    expect(["soft", "kvm"]).toContain(report.accelerator);
    expect(report.reason).not.toBe("");
    const names = report.checks.map(({ name }) => name);
    expect(names.filter((name) => name !== "capabilities" && name !== "probe")).toEqual([
      "Node.js", "WebAssembly", "processors", "memory", "processor", "virtualization", "firmware", "KVM module", "KVM", "IOMMU", "apt", "cache",
    ]);
    expect(status).toBe(0);
  });

  it("tell why PVM is not used", async (context) => {
    context.skip(!existsSync("/sys/module/kvm_pvm"), "skipped: this host has no PVM");
    const { stdout } = await ringmaster(["doctor"]);
    expect(stdout).toMatch(/KVM here is PVM, which emulates a guest's kernel mode: \d+ instructions took [\d.]+ ms/u);
    expect(stdout).toContain("accelerator: soft (KVM here is PVM");
    const { status, stderr } = await ringmaster(["run", "--accel", "kvm", "--kernel", directory.file("says")]);
    expect(status).toBe(exitStatusOfError.ACCELERATOR_UNAVAILABLE);
    expect(stderr).toMatch(/cannot be used, because KVM here is PVM.*: use a host with VT-x or AMD-V.*, or use --accel soft/u);
  });

  it("show help with examples", async () => {
    const { stdout, status } = await ringmaster(["run", "--help"]);
    expect(stdout).toContain("ringmaster run --command");
    expect(status).toBe(0);
  });
});

describe("exit statuses", () => {
  it("differ from each other", () => {
    const statuses = [...Object.values(exitStatusOfError), internalErrorStatus];
    expect(new Set(statuses).size).toBe(statuses.length);
  });

  it("are those of the guide", () => {
    const guide = readFileSync(new URL("../../docs/guides/cli.md", import.meta.url), "utf8");
    const rows = [...guide.matchAll(/^\| (?<status>\d+) \| `(?<code>[A-Z_]+)` \|/gmu)].map(({ groups }) => [groups?.["code"], Number(groups?.["status"])]);
    expect(Object.fromEntries(rows)).toEqual({ ...exitStatusOfError, INTERNAL: internalErrorStatus, SIGTERM: signalStatus.SIGTERM, SIGHUP: signalStatus.SIGHUP });
  });
});
