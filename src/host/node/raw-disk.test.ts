import { chmodSync, mkdtempSync, readFileSync, rmSync, truncateSync, unlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { openRawDisk } from "./raw-disk.ts";

let directory: string;
let path: string;

beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), "raw-disk-"));
  path = join(directory, "disk.img");
  writeFileSync(path, new Uint8Array(8192).fill(3));
});

afterEach(() => rmSync(directory, { recursive: true }));

describe("raw disk", () => {
  it("reads, writes and keeps what it flushed", () => {
    const disk = openRawDisk(path);
    expect(disk.sizeBytes).toBe(8192);
    expect(disk.write(512, new Uint8Array(512).fill(8))).toBeUndefined();
    expect(disk.flush()).toBeUndefined();
    const target = new Uint8Array(2);
    expect(disk.read(511, target)).toBeUndefined();
    expect([...target]).toEqual([3, 8]);
    expect(disk.close()).toBeUndefined();
    expect(disk.close()).toBeUndefined();
    expect(readFileSync(path)[1023]).toBe(8);
    expect(disk.read(0, target)).toMatchObject({ code: "IO_ERROR" });
  });

  it("says what is wrong with a path", () => {
    const code = (name: string, readOnly = false): unknown => {
      try {
        openRawDisk(name, { readOnly });
      } catch (error) {
        return (error as { code?: unknown }).code;
      }
      return undefined;
    };
    writeFileSync(join(directory, "short"), "x");
    expect(code(join(directory, "nothing"))).toBe("FILE_NOT_FOUND");
    expect(code(directory)).toBe("BAD_IMAGE");
    expect(code(directory, true)).toBe("BAD_IMAGE");
    expect(code(join(directory, "short"))).toBe("BAD_IMAGE");
    expect(code("/dev/null")).toBe("BAD_IMAGE");
  });

  it.skipIf(process.getuid?.() === 0)("refuses a file that may not be written, and reads it on request", () => {
    chmodSync(path, 0o444);
    expect(() => openRawDisk(path)).toThrow(expect.objectContaining({ code: "DISK_READ_ONLY" }));
    using disk = openRawDisk(path, { readOnly: true });
    expect(disk.write(0, new Uint8Array(1))).toMatchObject({ code: "READ_ONLY" });
  });

  it("notices a file that shrinks or vanishes", () => {
    using disk = openRawDisk(path);
    truncateSync(path, 4096);
    expect(disk.read(4000, new Uint8Array(512))).toMatchObject({ code: "OUT_OF_RANGE" });
    expect(disk.write(0, new Uint8Array(512))).toMatchObject({ code: "OUT_OF_RANGE" });
    unlinkSync(path);
    expect(disk.flush()).toMatchObject({ code: "VANISHED" });
  });

  it("refuses ranges that are not on the disk", () => {
    using disk = openRawDisk(path, { readOnly: true });
    expect(disk.read(8000, new Uint8Array(512))).toMatchObject({ code: "OUT_OF_RANGE" });
    expect(disk.write(0, new Uint8Array(512))).toMatchObject({ code: "READ_ONLY" });
  });
});
