import { execFileSync } from "node:child_process";
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { crc32 } from "node:zlib";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { chooseDebianMirrors, findDebianMirrors, parseDeb822Sources, parseOneLineSources } from "./apt-sources.ts";
import { findApplets } from "./busybox.ts";
import { replaceDirectory, withCacheLock } from "./cache.ts";
import { createFat16 } from "./fat16.ts";
import { embedGrub } from "./grub.ts";
import { commandBeginMarker, commandExitPattern, commandInitramfs, commandKernelArgument, ensureGuests, findCachedGuests } from "./index.ts";
import { buildInitramfs } from "./initramfs.ts";
import { isWantedKernelFile, moduleDependencies } from "./kernel-modules.ts";
import { readManifest, writeManifest } from "./manifest.ts";
import { createGpt, createMbr, gptHeadSectors, gptTypes } from "./partition-tables.ts";
import { printProgress } from "./print-progress.ts";
import { runProcess } from "./process.ts";

let scratch = "";
beforeEach(() => {
  scratch = mkdtempSync(join(tmpdir(), "guests-"));
});
afterEach(() => rmSync(scratch, { recursive: true, force: true }));

function hasProgram(name: string): boolean {
  try {
    execFileSync("sh", ["-c", `command -v ${name}`], { stdio: "ignore" });
    return true;
  } catch {
    return false;
  }
}

describe("the machine's apt sources", () => {
  const deb822 = `Types: deb deb-src
URIs: http://mirror.example/debian
Suites: bookworm bookworm-updates
Components: main contrib
Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg

# security
Types: deb
URIs: http://mirror.example/debian-security/
Suites: bookworm-security
Components: main

Types: deb
URIs: http://off.example/debian
Suites: bookworm
Components: main
Enabled: no
`;

  test("are read in both forms", () => {
    const expected = { main: expect.objectContaining({ uri: "http://mirror.example/debian" }) as unknown, security: expect.objectContaining({ uri: "http://mirror.example/debian-security/" }) as unknown };
    expect(chooseDebianMirrors(parseDeb822Sources(deb822))).toEqual(expected);
    const lines = "# x\ndeb [arch=amd64 signed-by=/k.gpg] http://mirror.example/debian bookworm main contrib # y\ndeb http://mirror.example/debian-security/ bookworm-security main\n";
    expect(chooseDebianMirrors(parseOneLineSources(lines))).toEqual(expected);
    expect(parseOneLineSources(lines)[0].signedBy).toBe("/k.gpg");
  });

  test("of others are not taken for Debian's", () => {
    const lines = "deb https://apt.example/tools bookworm main\ndeb https://download.example/linux/debian bookworm stable\ndeb http://archive.example/ubuntu noble main\n";
    expect(chooseDebianMirrors(parseOneLineSources(lines))).toBeUndefined();
    expect(findDebianMirrors(scratch)).toBeUndefined();
  });

  test("are looked for in every file", () => {
    mkdirSync(join(scratch, "sources.list.d"));
    writeFileSync(join(scratch, "sources.list.d", "debian.sources"), deb822);
    expect(findDebianMirrors(scratch)?.main.uri).toBe("http://mirror.example/debian");
  });
});

describe("the cache", () => {
  test("shows a directory whole or not at all", async () => {
    const path = join(scratch, "guest");
    await replaceDirectory(path, async (draft) => writeFileSync(join(draft, "file"), "one"));
    await expect(replaceDirectory(path, async (draft) => {
      writeFileSync(join(draft, "file"), "two");
      throw new Error("interrupted");
    })).rejects.toThrow("interrupted");
    expect(readFileSync(join(path, "file"), "utf8")).toBe("one");
    await replaceDirectory(path, async (draft) => writeFileSync(join(draft, "file"), "three"));
    expect(readFileSync(join(path, "file"), "utf8")).toBe("three");
    expect(readdirSync(scratch)).toEqual(["guest"]);
  });

  test("is changed by one at a time, and a lock of the dead does not count", async () => {
    const spent = Number(execFileSync("sh", ["-c", "echo $$"], { encoding: "utf8" }));
    writeFileSync(join(scratch, "lock"), String(spent));
    mkdirSync(join(scratch, "guests", `x.draft-${spent}`), { recursive: true });
    const events: string[] = [];
    const work = (name: string): Promise<void> => withCacheLock(scratch, () => events.push(`${name} waits`), async () => {
      events.push(`${name} starts`);
      await new Promise((resolve) => setTimeout(resolve, 50));
      events.push(`${name} ends`);
    });
    await Promise.all([work("a"), work("b")]);
    const order = events.filter((event) => !event.endsWith("waits")).map((event) => event.split(" ")[1]);
    expect(order).toEqual(["starts", "ends", "starts", "ends"]);
    expect(readdirSync(join(scratch, "guests"))).toEqual([]);
  });

  test("knows a complete guest from one that is damaged or made otherwise", async () => {
    writeFileSync(join(scratch, "kernel"), "bytes");
    await writeManifest(scratch, { recipe: "1", packages: [] }, { kernel: "kernel" });
    expect((await readManifest(scratch, "1", true))?.files["kernel"].sizeBytes).toBe(5);
    expect(await readManifest(scratch, "2", false)).toBeUndefined();
    writeFileSync(join(scratch, "kernel"), "bites");
    expect(await readManifest(scratch, "1", false)).toBeDefined();
    expect(await readManifest(scratch, "1", true)).toBeUndefined();
    writeFileSync(join(scratch, "kernel"), "");
    expect(await readManifest(scratch, "1", false)).toBeUndefined();
  });

  test("without apt the message names --kernel", async () => {
    const path = process.env["PATH"];
    process.env["PATH"] = scratch;
    try {
      await expect(ensureGuests(["seabios"], { cacheDirectory: scratch })).rejects.toMatchObject({ code: "TOOL_MISSING", message: expect.stringContaining("--kernel") as unknown });
      expect(await findCachedGuests(["seabios"], scratch)).toEqual({});
    } finally {
      process.env["PATH"] = path;
    }
  });
});

describe("programs of the host", () => {
  test("are run to their end, with their errors in the message", async () => {
    expect((await runProcess("sh", ["-c", "echo out; echo status >&3"])).toString()).toBe("out\n");
    await expect(runProcess("sh", ["-c", "echo why >&2; exit 3"])).rejects.toMatchObject({ code: "GUEST_MISSING", message: expect.stringMatching(/status 3:\nwhy/u) as unknown });
    await expect(runProcess("no-such-program", [])).rejects.toMatchObject({ code: "TOOL_MISSING" });
  });
});

test("BusyBox's applets are found in its table", () => {
  expect(findApplets(Buffer.from("junk\0[\0[[\0acpid\0zcat\0\0other"))).toEqual(["[", "[[", "acpid", "zcat"]);
  expect(findApplets(Buffer.from("nothing"))).toEqual([]);
});

test("a module's dependencies are read from its .modinfo", () => {
  expect(moduleDependencies(Buffer.from("\x7fELF\0license=GPL\0depends=virtio-ring,virtio\0name=x\0"))).toEqual(["virtio_ring", "virtio"]);
  expect(moduleDependencies(Buffer.from("\0depends=\0"))).toEqual([]);
  expect(moduleDependencies(Buffer.from("x"))).toEqual([]);
  expect(isWantedKernelFile("lib/modules/6.1/kernel/drivers/virtio/virtio.ko")).toBe(true);
  expect(isWantedKernelFile("lib/modules/6.12/kernel/drivers/gpu/drm/drm.ko.xz")).toBe(false);
});

test.skipIf(!hasProgram("cpio"))("an initial RAM file system is an archive that cpio reads (skipped without cpio)", () => {
  const order = new Map([["virtio_blk", ["virtio", "virtio_blk"]]]);
  const archive = buildInitramfs({ busybox: Buffer.from("program"), applets: ["busybox", "ls"], modules: { files: new Map([["virtio", Buffer.from("m")]]), order } });
  const listing = execFileSync("cpio", ["-t", "--quiet"], { input: archive, encoding: "utf8" }).split("\n");
  expect(listing).toEqual(expect.arrayContaining(["init", "bin/busybox", "bin/ls", "dev/console", "lib/modules/virtio.ko", "lib/modules/virtio_blk.order"]));
});

test("a command is marked on the console", () => {
  expect(new TextDecoder().decode(commandInitramfs("echo ü; exit 3"))).toContain("echo ü; exit 3\n");
  expect(commandKernelArgument("a b")).toBe("rm.command=YSBi");
  const output = `boot\n${commandBeginMarker}text\u001B]ringmaster;exit=42\u0007\r\n`;
  expect(commandExitPattern.exec(output)?.groups?.["status"]).toBe("42");
});

describe("disk images", () => {
  test("have an MBR with code, an active partition and a signature", () => {
    const mbr = createMbr(Buffer.alloc(512, 0xaa), { firstSector: 2048, sectorCount: 1000 }, 0x83, 0x1234_5678);
    expect([mbr[439], mbr.readUInt32LE(440), mbr[446], mbr[450], mbr.readUInt32LE(454), mbr.readUInt32LE(458), mbr.readUInt16LE(510)])
      .toEqual([0xaa, 0x1234_5678, 0x80, 0x83, 2048, 1000, 0xaa55]);
  });

  test("have a GPT at both ends with right checksums", () => {
    const { head, tail } = createGpt([{ firstSector: 2048, sectorCount: 100, type: gptTypes.efiSystem, id: gptTypes.linuxFilesystem, name: "x" }], 10_000, gptTypes.efiSystem);
    for (const header of [head.subarray(512, 1024), tail.subarray(-512)]) {
      const sum = header.readUInt32LE(16);
      const cleared = Buffer.from(header);
      cleared.writeUInt32LE(0, 16);
      expect(crc32(cleared.subarray(0, 92))).toBe(sum);
      expect(header.readUInt32LE(88)).toBe(crc32(head.subarray(1024, gptHeadSectors * 512)));
    }
    expect(head.subarray(1024, 1028)).toEqual(Buffer.from([0x28, 0x73, 0x2a, 0xc1]));
    expect([head[446], head[450], head.readBigUInt64LE(512 + 32)]).toEqual([0, 0xee, 9999n]);
  });

  test.skipIf(!hasProgram("mdir"))("have an EFI file system that mtools read (skipped without mtools)", () => {
    const image = join(scratch, "fat.img");
    const content = Buffer.from(Array.from({ length: 5000 }, (_, i) => i & 0xff));
    writeFileSync(image, createFat16(new Map([["EFI/BOOT/BOOTX64.EFI", content], ["README.TXT", Buffer.from("hello")]]), 32_768, 1, 2048));
    const read = (path: string): Buffer => execFileSync("mtype", ["-i", image, `::${path}`]);
    expect(read("EFI/BOOT/BOOTX64.EFI").equals(content)).toBe(true);
    expect(read("README.TXT").toString()).toBe("hello");
    expect(execFileSync("mdir", ["-i", image, "-b", "-/", "::"], { encoding: "utf8" })).toContain("BOOTX64.EFI");
  });

  test("have GRUB's core image where its boot sector looks for it", () => {
    const { bootCode, embedded } = embedGrub(Buffer.alloc(512, 1), Buffer.alloc(1025, 2), 2047);
    expect([bootCode.readBigUInt64LE(0x5c), bootCode[0x64], bootCode[0x66], bootCode[0x67]]).toEqual([1n, 0xff, 0x90, 0x90]);
    expect(embedded.length).toBe(3 * 512);
    expect([embedded.readBigUInt64LE(500), embedded.readUInt16LE(508), embedded.readUInt16LE(510)]).toEqual([2n, 2, 0x820]);
    expect(() => embedGrub(Buffer.alloc(512), Buffer.alloc(4096), 7)).toThrow();
  });
});

test("progress is one line on a terminal, a line a step elsewhere, and nothing for nothing", () => {
  const run = (isTTY: boolean): string => {
    let text = "";
    const listener = printProgress({ isTTY, columns: 20, write: (part) => { text += part; } });
    listener({ kind: "done", text: "was there" });
    expect(text).toBe("");
    listener({ kind: "step", text: "a long text that does not fit" });
    listener({ kind: "update", text: "half" });
    listener({ kind: "done", text: "ready" });
    return text;
  };
  expect(run(false)).toBe("a long text that does not fit\nready\n");
  expect(run(true)).toBe("\r\u001B[Kfetching: a long te\r\u001B[Kfetching: half\r\u001B[K");
});
