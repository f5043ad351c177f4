/** Snapshots as a user makes, uses and looks at them. */
import { existsSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { ringmaster, TemporaryDirectory, type RingmasterResult } from "./ringmaster.ts";
import { rememberer } from "./tiny-guest.ts";

let directory: TemporaryDirectory;
let first: string, second: string;

/** Starts the machine, and has `act` done when it has answered "ab". */
async function runNamed(name: string, act: () => Promise<void>): Promise<RingmasterResult> {
  let seen = "", hasActed = false;
  return await ringmaster(["run", "--kernel", directory.file("guest"), "--memory", "4M", "--name", name], {
    onOutput: (text, child) => {
      if (seen === "") child.stdin?.write("ab");
      seen += text;
      if (!seen.includes("aab") || hasActed) return;
      hasActed = true;
      void act().finally(() => child.kill("SIGTERM"));
    },
  });
}

beforeAll(async () => {
  directory = new TemporaryDirectory();
  process.env["XDG_RUNTIME_DIR"] = directory.path;
  writeFileSync(directory.file("guest"), rememberer());
  first = directory.file("first.rmsnap");
  second = directory.file("second.rmsnap");
  await runNamed("tested", async () => {
    const created = await ringmaster(["snapshot", "create", first, "--of", "tested"]);
    expect(created.stderr).toMatch(/saved .*first\.rmsnap: \d+ KiB for \d+ KiB of memory and disks; the machine was held for [\d.]+ s/u);
    expect(created.status).toBe(0);
    const again = await ringmaster(["snapshot", "create", second, "--of", "tested", "--parent", first]);
    expect(again.status).toBe(0);
    const taken = await ringmaster(["run", "--kernel", directory.file("guest"), "--name", "tested"]);
    expect([taken.status, taken.stderr]).toEqual([64, expect.stringContaining("There is a machine called \"tested\" already")]);
    const unknown = await ringmaster(["snapshot", "create", first, "--of", "nobody"]);
    expect([unknown.status, unknown.stderr]).toEqual([64, expect.stringContaining("there is tested")]);
    const nowhere = await ringmaster(["snapshot", "create", directory.file("no/where"), "--of", "tested"]);
    expect([nowhere.status, nowhere.stderr]).toEqual([80, expect.stringContaining("cannot be written (ENOENT)")]);
  });
}, 300_000);

afterAll(() => directory[Symbol.dispose]());

describe("snapshots on the command line", { timeout: 180_000 }, () => {
  it("take their sockets away", () => {
    expect(readdirSync(directory.file("ringmaster"))).toEqual([]);
  });

  it.each([["whole", () => first], ["based on another one", () => second]])("are gone on from: %s", async (_, path) => {
    let hasTyped = false;
    const restored = await ringmaster(["snapshot", "restore", path(), "--accel", "soft", "--timeout", "60s"], {
      onOutput: (text, child) => {
        if (!hasTyped) child.stdin?.write("c");
        hasTyped = true;
        if (text.includes("abc")) child.kill("SIGTERM");
      },
    });
    expect(restored.stdout).toBe("abc");
    expect(restored.stderr).toContain("accelerator: soft");
  });

  it("are listed, shown and compared", async () => {
    const list = await ringmaster(["snapshot", "ls", directory.path]);
    expect(list.stdout).toMatch(/^FILE +SAVED +MEMORY +SIZE +CPU +BASED ON\n\S+first\.rmsnap .* 4\.0 MiB .* -\n\S+second\.rmsnap .*first\.rmsnap\n$/u);
    const json = await ringmaster(["snapshot", "ls", directory.path, "--json"]);
    expect(JSON.parse(json.stdout)).toMatchObject([{ path: first, parents: [], machine: { memorySizeBytes: 4 << 20 } }, { parents: [{ path: first }] }]);

    const shown = await ringmaster(["snapshot", "show", second, "--verify"]);
    expect(shown.stdout).toMatch(/based on +\S+first\.rmsnap \([0-9a-f-]{36}\)/u);
    expect(shown.stdout).toMatch(/state of: machine, processor@0(?: \(version \d+\))?, local-apic@0, pic, ioapic/u);
    expect(shown.stderr).toContain("all of it is sound");

    const different = await ringmaster(["snapshot", "diff", first, second]);
    expect(different.status).toBe(1);
    expect(different.stdout).toMatch(/^machine: nowNs: [\d.]+ → [\d.]+$/mu);
    const same = await ringmaster(["snapshot", "diff", first, first]);
    expect([same.status, same.stdout]).toEqual([0, "no difference\n"]);
  });

  it("are refused when they cannot be used", async () => {
    const bytes = readFileSync(first);
    const cut = directory.file("cut"), newer = directory.file("newer");
    writeFileSync(cut, bytes.subarray(0, bytes.length / 2));
    bytes.writeUInt16LE(9, 8);
    writeFileSync(newer, bytes);
    const rows: readonly [string, number, string][] = [
      [cut, 81, "its end is missing"], [newer, 82, "use a newer Ringmaster"], [directory.file("guest"), 81, "not a snapshot"],
      [directory.file("missing"), 66, "There is no snapshot"], [directory.path, 81, "not a file"],
    ];
    for (const [path, status, message] of rows) {
      const result = await ringmaster(["snapshot", "restore", path]);
      expect([result.status, result.stderr]).toEqual([status, expect.stringContaining(message)]);
    }
  });

  it("need to be told of what, and clones what to do", async () => {
    const create = await ringmaster(["snapshot", "create", directory.file("x")]);
    expect([create.status, create.stderr]).toEqual([64, expect.stringContaining("--until TEXT")]);
    const fork = await ringmaster(["snapshot", "restore", first, "--fork", "2"]);
    expect([fork.status, fork.stderr]).toEqual([64, expect.stringContaining("give --command")]);
    expect(existsSync(directory.file("x"))).toBe(false);
  });

  it("are made of a machine that is started for it", async () => {
    const path = directory.file("booted.rmsnap");
    const created = await ringmaster(["snapshot", "create", path, "--until", "never", "--kernel", directory.file("guest"), "--memory", "4M", "--timeout", "1s"]);
    expect(created.status).toBe(124);
    expect(existsSync(path)).toBe(false);
  });
});
