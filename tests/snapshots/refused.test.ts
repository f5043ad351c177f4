/** Every way in which a snapshot can be wrong, from where the damage is to what the user is told. */
import { copyFileSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { zstdCompressSync, zstdDecompressSync } from "node:zlib";
import { afterAll, beforeAll, expect, test } from "vitest";
import { inspectSnapshot, Vm } from "../../src/api/index.ts";
import { digest, encodeTrailer, headerBytes, trailerBytes } from "../../src/host/node/snapshot/layout.ts";
import { Snapshot } from "../../src/host/node/snapshot/reader.ts";
import { rememberer } from "../cli/tiny-guest.ts";

let directory: string;
/** A sound snapshot, one based on it, and where the first one's parts are. */
let whole: Buffer, based: Buffer;
let place: { readonly memory: number; readonly index: number; readonly manifest: number; readonly trailer: number };

beforeAll(async () => {
  directory = mkdtempSync(join(tmpdir(), "ringmaster-refused-"));
  const path = join(directory, "whole.rmsnap"), later = join(directory, "based.rmsnap");
  await using vm = await Vm.create({ kernel: rememberer(), memory: "4M", accel: "soft" });
  await vm.snapshot(path);
  await vm.snapshot(later, { parent: path });
  whole = readFileSync(path);
  based = readFileSync(later);
  using snapshot = Snapshot.open(path);
  const trailer = whole.length - trailerBytes;
  place = { memory: headerBytes + 8, index: snapshot.manifest.regions[0].indexOffset, manifest: Number(whole.readBigUInt64LE(trailer)), trailer };
});

afterAll(() => rmSync(directory, { recursive: true }));

const cut = (bytes: number): Buffer => whole.subarray(0, bytes);

function flip(at: number, bit = 3): Buffer {
  const damaged = Buffer.from(whole);
  damaged[at] ^= 1 << bit;
  return damaged;
}

function withMajor(major: number): Buffer {
  const changed = Buffer.from(whole);
  changed.writeUInt16LE(major, 8);
  return changed;
}

/** The manifest changed by somebody who knows the format: digests are right. */
function withManifest(change: (text: string) => string): Buffer {
  const text = zstdDecompressSync(whole.subarray(place.manifest, place.trailer)).toString();
  const changed = change(text);
  expect(changed).not.toBe(text);
  const compressed = zstdCompressSync(Buffer.from(changed));
  return Buffer.concat([cut(place.manifest), compressed, encodeTrailer({ manifestOffset: place.manifest, manifestBytes: compressed.length, manifestDigest: digest(compressed) })]);
}

test.each<readonly [name: string, contents: () => Uint8Array, code: string, message: RegExp]>([
  ["nothing", () => cut(0), "BAD_SNAPSHOT", /is not a snapshot/u],
  ["text", () => Buffer.from("RMSNAP\n\n is how a copy as text looks".repeat(9)), "BAD_SNAPSHOT", /is not a snapshot/u],
  ["cut off within the header", () => cut(headerBytes - 1), "BAD_SNAPSHOT", /is not a snapshot/u],
  ["cut off after the header", () => cut(headerBytes), "BAD_SNAPSHOT", /was cut off/u],
  ["cut off within memory", () => cut(Math.floor(place.index / 2)), "BAD_SNAPSHOT", /was cut off/u],
  ["cut off within the manifest", () => cut(place.manifest + 10), "BAD_SNAPSHOT", /was cut off/u],
  ["cut off by one byte", () => cut(whole.length - 1), "BAD_SNAPSHOT", /was cut off/u],
  ["one byte too long", () => Buffer.concat([whole, Buffer.alloc(1)]), "BAD_SNAPSHOT", /something was added/u],
  ["a bit of the header's magic", () => flip(2), "BAD_SNAPSHOT", /is not a snapshot/u],
  ["a bit of the index", () => flip(place.index + 5), "BAD_SNAPSHOT", /the index of ram is damaged/u],
  ["a bit of the manifest", () => flip(place.manifest + 5), "BAD_SNAPSHOT", /its manifest is damaged/u],
  ["a bit of the manifest's place", () => flip(place.trailer + 5), "BAD_SNAPSHOT", /its trailer is damaged/u],
  ["a bit of the manifest's digest", () => flip(place.trailer + 20), "BAD_SNAPSHOT", /its manifest is damaged/u],
  ["a bit of the end's magic", () => flip(whole.length - 2), "BAD_SNAPSHOT", /was cut off/u],
  ["a newer format", () => withMajor(2), "SNAPSHOT_NEWER", /has format 2, .* use a newer Ringmaster/u],
  ["a format that never was", () => withMajor(0), "BAD_SNAPSHOT", /version is 0/u],
  ["the state of a device from a newer version", () => withManifest((text) => text.replace(/("name":"pic","version":)\d+/u, "$199")), "SNAPSHOT_NEWER", /made by a newer Ringmaster: its state of pic/u],
  ["a device that this machine does not have", () => withManifest((text) => text.replace('"name":"pic"', '"name":"pif"')), "BAD_SNAPSHOT", /no state of pic/u],
  ["another size of memory", () => withManifest((text) => text.replace('"memorySizeBytes":4194304', '"memorySizeBytes":8388608')), "BAD_SNAPSHOT", /it has no memory/u],
  ["a manifest that is no manifest", () => withManifest(() => "[]"), "BAD_SNAPSHOT", /its manifest is wrong/u],
])("%s", async (_, contents, code, message) => {
  const path = join(directory, "damaged.rmsnap");
  writeFileSync(path, contents());
  await expect(Vm.restore(path, { accel: "soft" })).rejects.toMatchObject({ code, message: expect.stringMatching(message) as string });
});

test("a bit of memory is found when all is read", () => {
  const path = join(directory, "damaged.rmsnap");
  writeFileSync(path, flip(place.memory + 4));
  expect(() => inspectSnapshot(path, { verify: true })).toThrow(expect.objectContaining({ code: "BAD_SNAPSHOT", message: expect.stringMatching(/memory at granule \d+ is damaged/u) as string }));
});

test("a snapshot whose parent is gone, was made anew, or is itself", async () => {
  const home = join(directory, "moved");
  mkdirSync(home);
  const later = join(home, "based.rmsnap"), parent = join(home, "whole.rmsnap");
  writeFileSync(later, based);
  const restored = (): Promise<Vm> => Vm.restore(later, { accel: "soft" });
  await expect(restored()).rejects.toMatchObject({ code: "BAD_SNAPSHOT", message: expect.stringMatching(/is not there: put that one back/u) as string });
  writeFileSync(parent, withManifest((text) => text.replace(/"id":"[0-9a-f]{4}/u, '"id":"0000')));
  await expect(restored()).rejects.toMatchObject({ code: "BAD_SNAPSHOT", message: expect.stringMatching(/made anew/u) as string });
  copyFileSync(later, parent);
  await expect(restored()).rejects.toMatchObject({ code: "BAD_SNAPSHOT" });
  writeFileSync(parent, whole);
  await using vm = await restored();
  expect(vm.state).toBe("created");
});

test("what is no file", async () => {
  await expect(Vm.restore(directory)).rejects.toMatchObject({ code: "BAD_SNAPSHOT", message: expect.stringMatching(/is not a file/u) as string });
  await expect(Vm.restore(join(directory, "none"))).rejects.toMatchObject({ code: "FILE_NOT_FOUND" });
});
