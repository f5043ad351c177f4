/** The terminal during a run, by way of script(1), which gives a program a pseudo-terminal: raw while the guest has it, restored afterwards. */
import { execFileSync } from "node:child_process";
import { existsSync, writeFileSync } from "node:fs";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { findProgram } from "../../src/host/node/find-program.ts";
import { launcher, ringmaster, TemporaryDirectory, type RingmasterResult } from "./ringmaster.ts";
import { endlessLoop, endlessSleep, resetAfterInput, tripleFaultAfterInput } from "./tiny-guest.ts";

let directory: TemporaryDirectory;

beforeAll(() => {
  directory = new TemporaryDirectory();
  const guests = { loop: endlessLoop(), sleep: endlessSleep(), fault: tripleFaultAfterInput(), reset: resetAfterInput() };
  for (const [name, image] of Object.entries(guests)) writeFileSync(directory.file(name), image);
});

afterAll(() => directory[Symbol.dispose]());

interface TerminalRun extends RingmasterResult {
  readonly before: string;
  readonly during: string;
  readonly after: string;
}

interface Session {
  type(keys: string): void;
  signal(name: string): void;
}

/** Runs within a pseudo-terminal and notes its mode before, during and after; `act` is called while the machine runs. */
async function runInTerminal(words: readonly string[], act: (session: Session) => void): Promise<TerminalRun> {
  const script = directory.file("session.sh");
  writeFileSync(script, [
    "echo before=$(stty -g)",
    // Raw mode shows in the terminal itself; by then the machine runs.
    "(until stty -a < /dev/tty | grep -q -- -icanon; do sleep 0.2; done; sleep 0.3; echo during=$(stty -g < /dev/tty)) &",
    `sh -c 'echo pid=$$; exec "$@"' sh '${process.execPath}' '${launcher}' run ${words.map((word) => `'${word}'`).join(" ")}`,
    "status=$?",
    "echo after=$(stty -g)",
    "kill %1 2> /dev/null",
    "exit $status",
  ].join("\n"));
  let seen = "", hasActed = false;
  const result = await ringmaster(["-qefc", `sh ${script}`, "/dev/null"], {
    program: "script",
    onOutput: (text, child) => {
      seen += text;
      if (hasActed || !/during=\S+\s/u.test(seen)) return;
      hasActed = true;
      act({
        type: (keys) => child.stdin?.write(keys),
        signal: (name) => execFileSync("kill", [`-${name}`, /pid=(?<pid>\d+)/u.exec(seen)?.groups?.["pid"] ?? "0"]),
      });
    },
  });
  const mode = (when: string): string => new RegExp(`${when}=(\\S+)`, "u").exec(result.stdout)?.[1] ?? `no ${when}`;
  return { ...result, before: mode("before"), during: mode("during"), after: mode("after") };
}

const hasScript = findProgram("script") !== undefined && findProgram("stty") !== undefined;

describe.skipIf(!hasScript)("the terminal", () => {
  const ways: readonly { readonly name: string; readonly words: readonly string[]; readonly status: number; readonly act?: (session: Session) => void }[] = [
    { name: "Ctrl-A X", words: ["--kernel", "@sleep"], status: 0, act: ({ type }) => type("\u0001x") },
    { name: "Ctrl-A X out of a busy guest", words: ["--kernel", "@loop"], status: 0, act: ({ type }) => type("\u0001X") },
    { name: "a triple fault", words: ["--kernel", "@fault"], status: 76, act: ({ type }) => type("!") },
    { name: "a reset", words: ["--kernel", "@reset"], status: 77, act: ({ type }) => type("!") },
    { name: "a timeout", words: ["--kernel", "@loop", "--timeout", "3s"], status: 124 },
    { name: "SIGTERM", words: ["--kernel", "@loop"], status: 143, act: ({ signal }) => signal("TERM") },
    { name: "SIGHUP", words: ["--kernel", "@loop"], status: 129, act: ({ signal }) => signal("HUP") },
    { name: "SIGINT from another process, twice", words: ["--kernel", "@loop"], status: 130, act: ({ signal }) => {
      signal("INT");
      setTimeout(() => signal("INT"), 300);
    } },
  ];

  it.each(ways)("is raw during a run and restored after $name", async ({ words, status, act = () => {} }) => {
    const run = await runInTerminal(words.map((word) => word.replace("@", `${directory.path}/`)), act);
    expect(run.status).toBe(status);
    expect(run.during).not.toBe(run.before);
    expect(run.after).toBe(run.before);
  });

  it("saves a snapshot for Ctrl-A S", async () => {
    const path = directory.file("terminal.rmsnap");
    const run = await runInTerminal(["--kernel", directory.file("loop"), "--memory", "4M", "--snapshot-file", path], ({ type }) => {
      type("\u0001s");
      setTimeout(() => type("\u0001x"), 3000);
    });
    expect(run.stdout).toMatch(/saved \S+terminal\.rmsnap: \d+ KiB/u);
    expect(existsSync(path)).toBe(true);
    expect(run.after).toBe(run.before);
  });

  it("tells for Ctrl-A V why there is no control block", async () => {
    const run = await runInTerminal(["--kernel", directory.file("sleep"), "--cpu", "epyc", "--accel", "soft"], ({ type }) => {
      type("\u0001v");
      setTimeout(() => type("\u0001x"), 300);
    });
    expect(run.stdout).toContain("it has AMD-V (SVM) and has not switched it on");
    expect(run.status).toBe(0);
    expect(run.after).toBe(run.before);
  });

  it("gives Ctrl-C to the guest, and shows help for Ctrl-A H", async () => {
    const run = await runInTerminal(["--kernel", directory.file("fault")], ({ type }) => {
      type("\u0001h");
      setTimeout(() => type("\u0003"), 300);
    });
    expect(run.stdout).toContain("end the machine and leave");
    expect(run.status).toBe(76);
    expect(run.after).toBe(run.before);
  });
});
