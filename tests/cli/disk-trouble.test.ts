/** Disks that get into trouble while a guest uses them: it sees an I/O error, the user a message and a status. Needs Debian's cloud kernel. */
import { existsSync, readFileSync, rmSync, truncateSync, writeFileSync } from "node:fs";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { exitStatusOfError } from "../../src/cli/exit-status.ts";
import { ringmaster, TemporaryDirectory, type RingmasterResult } from "./ringmaster.ts";

const diskBytes = 4 << 20;
const bootLimitMs = 300_000;

let directory: TemporaryDirectory;

beforeAll(() => {
  directory = new TemporaryDirectory();
});

afterAll(() => directory[Symbol.dispose]());

/** Boots with new disks, does something to the images once the guest is up, and then lets the guest run `command`. */
async function runWithDisks(names: readonly string[], command: string, harm: (image: string) => void = () => {}): Promise<RingmasterResult> {
  const disks = names.flatMap((name) => {
    const [file] = name.split(",");
    writeFileSync(directory.file(file), Buffer.alloc(diskBytes, 0x5a));
    return ["--disk", directory.file(name)];
  });
  let hasHarmed = false;
  return await ringmaster(["run", ...disks, "--timeout", "280s", "--command", `echo ready; read go; ${command}`], {
    onOutput: (text, child) => {
      if (hasHarmed || !text.includes("ready")) return;
      hasHarmed = true;
      harm(directory.file(names[0]));
      child.stdin?.write("go\n");
    },
  });
}

/** A program for the guest that overwrites 16 KiB in the middle of a disk. */
const write = (device: string): string => `dd if=/dev/zero of=/dev/${device} bs=4096 count=4 seek=100 conv=fsync 2>/dev/null; echo ${device} $?;`;

function isUntouched(bytes: Uint8Array): boolean {
  return bytes.every((byte) => byte === 0x5a);
}

describe("disks", () => {
  it("keep what was written when they are writable, refuse when they are read-only, forget with an overlay", async () => {
    const names = ["good.img", "readonly.img,readonly", "overlay.img,overlay"];
    const { status, stdout } = await runWithDisks(names, `${write("vda")} ${write("vdb")} ${write("vdc")} cat /sys/block/vdb/ro; head -c 1 /dev/vdc; dd if=/dev/vdc bs=4096 skip=100 count=1 2>/dev/null | od -An -tx1 -N1`);
    expect([status, stdout]).toEqual([0, "ready\nvda 0\nvdb 1\nvdc 0\n1\nZ 00\n"]);
    const written = readFileSync(directory.file("good.img"));
    expect(written.subarray(400 << 10, 416 << 10).every((byte) => byte === 0)).toBe(true);
    expect(isUntouched(written.subarray(0, 400 << 10))).toBe(true);
    expect(isUntouched(written.subarray(416 << 10))).toBe(true);
    for (const name of ["readonly.img", "overlay.img"]) expect(isUntouched(readFileSync(directory.file(name)))).toBe(true);
  }, bootLimitMs);

  it("that vanish are missed", async () => {
    const { status, stdout, stderr } = await runWithDisks(["gone.img"], write("vda"), (path) => rmSync(path));
    expect(stderr).toMatch(/gone\.img was deleted while the machine runs/u);
    expect(stdout).toBe("ready\nvda 1\n");
    expect(status).toBe(exitStatusOfError.DISK_FAILED);
    expect(existsSync(directory.file("gone.img"))).toBe(false);
  }, bootLimitMs);

  it("that become shorter are not made longer again", async () => {
    const { status, stdout, stderr } = await runWithDisks(["cut.img"], write("vda"), (path) => truncateSync(path, 1 << 16));
    expect(stderr).toMatch(/cut\.img became shorter than the 4194304 bytes it had/u);
    expect(stdout).toBe("ready\nvda 1\n");
    expect(status).toBe(exitStatusOfError.DISK_SHORT);
    expect(readFileSync(directory.file("cut.img")).length).toBe(1 << 16);
  }, bootLimitMs);
});
