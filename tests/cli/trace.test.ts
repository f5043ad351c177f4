/** `ringmaster trace` and `ringmaster vmcs` as a user starts them, with a hypervisor of a few instructions. */
import { type ChildProcess, spawn } from "node:child_process";
import { readFileSync, writeFileSync } from "node:fs";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { exitStatusOfError } from "../../src/cli/exit-status.ts";
import { launcher, ringmaster, TemporaryDirectory } from "./ringmaster.ts";
import { debugExit, endlessSleep, tinyHypervisor, tinyVmcbAddress } from "./tiny-guest.ts";

let directory: TemporaryDirectory;

beforeAll(() => {
  directory = new TemporaryDirectory();
  writeFileSync(directory.file("hypervisor"), tinyHypervisor(true));
  writeFileSync(directory.file("waiting"), tinyHypervisor(false));
  writeFileSync(directory.file("plain"), debugExit(0));
  writeFileSync(directory.file("sleeping"), endlessSleep());
});

afterAll(() => directory[Symbol.dispose]());

const machine = (kernel: string): string[] => ["--kernel", directory.file(kernel), "--cpu", "epyc", "--accel", "soft"];

interface JsonRecord {
  readonly kind: string;
  readonly level: number;
  readonly reason: string;
  readonly rip: string;
  readonly controlBlock: string;
}

describe("ringmaster trace", () => {
  it("prints the distribution and writes every format", async () => {
    const files = ["t.txt", "t.jsonl", "t.json", "t.svg"].map((name) => directory.file(name));
    const { status, stdout } = await ringmaster(["trace", ...machine("hypervisor"), ...files.flatMap((file) => ["--output", file])], { input: "" });
    expect(status).toBe(1);
    expect(stdout).toMatch(/^svm: 2 entries and 3 exits in /u);
    expect(stdout).toMatch(/^L2 +CPUID +1 /mu);
    const [table, lines, perfetto, picture] = files.map((file) => readFileSync(file, "utf8"));
    expect(table.trimEnd().split("\n")).toHaveLength(1 + 5);
    const records = lines.trimEnd().split("\n").map((line) => JSON.parse(line) as JsonRecord);
    expect(records.map(({ kind, reason }) => `${kind} ${reason}`)).toEqual(["entry VMRUN", "exit CPUID", "entry VMRUN", "exit HLT", "exit INVALID"]);
    expect(new Set(records.map(({ controlBlock }) => controlBlock))).toEqual(new Set([`0x${tinyVmcbAddress.toString(16)}`]));
    expect(records[1]).toMatchObject({ level: 2, rip: "0x8000" });
    const { traceEvents } = JSON.parse(perfetto) as { traceEvents: { ph: string; name: string }[] };
    expect(traceEvents.filter(({ ph }) => ph === "X").map(({ name }) => name)).toEqual(["guest", "CPUID", "guest", "HLT", "INVALID"]);
    expect(picture).toMatch(/^<svg .*<\/svg>\n$/su);
    expect(picture).toContain("L2 CPUID");
  });

  it("filters", async () => {
    const { stdout } = await ringmaster(["trace", ...machine("hypervisor"), "--format", "jsonl", "--reason", "hlt,cpuid", "--rip", "0x8002-0x8002"], { input: "" });
    expect(stdout.trimEnd().split("\n").map((line) => (JSON.parse(line) as JsonRecord).reason)).toEqual(["HLT"]);
  });

  it("says when the guest uses no virtualization, and why nothing passes", async () => {
    const plain = await ringmaster(["trace", ...machine("plain")], { input: "" });
    expect(plain.stdout).toMatch(/^no entry and no exit in .*: the guest uses no virtualization: it has AMD-V \(SVM\) and has not switched it on/u);
    const without = await ringmaster(["trace", "--kernel", directory.file("plain"), "--cpu", "amd-v2", "--accel", "soft"], { input: "" });
    expect(without.stdout).toContain("the guest's processor has no hardware-assisted virtualization: use --cpu epyc");
    const filtered = await ringmaster(["trace", ...machine("hypervisor"), "--level", "3"], { input: "" });
    expect(filtered.stdout).toContain("the filter admits none of the 5 entries and exits");
  });

  it.each([["--kind", "sideways"], ["--rip", "here"], ["--at-least", "soon"], ["--level", "x"], ["--format", "csv"], ["--output", "trace.pdf"], ["--for", "1s"]])("refuses %s %s", async (...words) => {
    const { status, stderr } = await ringmaster(["trace", ...machine("plain"), ...words], { input: "" });
    expect(status).toBe(exitStatusOfError.BAD_ARGUMENT);
    expect(stderr).toContain(words[0]);
  });
});

describe("a running machine", () => {
  const name = `trace-test-${process.pid}`;
  let child: ChildProcess | undefined;

  async function start(kernel: string): Promise<void> {
    child = spawn(process.execPath, [launcher, "run", ...machine(kernel), "--name", name, "--timeout", "60s"], { stdio: ["pipe", "ignore", "ignore"] });
    for (;;) {
      const { status, stderr } = await ringmaster(["vmcs", "--of", name]);
      // Until there is a machine, and it has done what it does.
      if (status === 0 || (kernel === "sleeping" && stderr.includes("no virtualization"))) return;
    }
  }

  async function stop(): Promise<void> {
    const closed = new Promise((resolve) => child?.on("close", resolve));
    child?.kill("SIGTERM");
    await closed;
  }

  it("shows its VMCB with what is wrong in it", async () => {
    await start("waiting");
    try {
      const { stdout } = await ringmaster(["vmcs", "--of", name]);
      expect(stdout).toContain(`VMCB at 0x${tinyVmcbAddress.toString(16)}; the hypervisor is running`);
      expect(stdout).toContain("GUEST_ASID: ASID is zero");
      expect(stdout).toMatch(/^ {2}INTERCEPT_MISC1 +0*1040000 {2}CPUID HLT$/mu);
      expect(stdout).toMatch(/^! GUEST_ASID +0+$/mu);
      const json = JSON.parse((await ringmaster(["vmcs", "--of", name, "--json"])).stdout) as { kind: string; problems: { problem: string; fields: string[] }[] };
      expect(json).toMatchObject({ kind: "VMCB", problems: [{ problem: "ASID is zero", fields: ["GUEST_ASID"] }] });
      const beyond = await ringmaster(["vmcs", "--of", name, "--processor", "7"]);
      expect(beyond.status).toBe(exitStatusOfError.BAD_ARGUMENT);
      expect(beyond.stderr).toContain("There is no processor 7");
      const trace = await ringmaster(["trace", "--of", name, "--for", "100ms", "--output", directory.file("running.svg")]);
      expect(trace.stdout).toMatch(/^no entry and no exit in .*: the guest has switched virtualization on and entered no guest of its own meanwhile\n$/u);
      expect(readFileSync(directory.file("running.svg"), "utf8")).toContain("<svg");
    } finally {
      await stop();
    }
  });

  it("has none without a hypervisor", async () => {
    await start("sleeping");
    try {
      const { status, stderr } = await ringmaster(["vmcs", "--of", name]);
      expect(status).toBe(1);
      expect(stderr).toContain("it has AMD-V (SVM) and has not switched it on (EFER.SVME is 0)");
    } finally {
      await stop();
    }
  });
});
