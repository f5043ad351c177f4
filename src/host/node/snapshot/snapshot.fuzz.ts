/** Snapshot files: what is written is read, through any chain of parents; damage is refused and never believed. */
import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { zstdCompressSync, zstdDecompressSync } from "node:zlib";
import fc from "fast-check";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { UserError } from "../../../base/errors.ts";
import { defaultDevices } from "../../../machine/config.ts";
import { allPagesMask, digest, encodeHeader, encodeTrailer, granuleBytes, pageBytes, trailerBytes } from "./layout.ts";
import type { Manifest } from "./manifest.ts";
import { Snapshot } from "./reader.ts";
import { type RegionContents, writeSnapshot } from "./writer.ts";

let directory: string;
beforeAll(() => {
  directory = mkdtempSync(join(tmpdir(), "ringmaster-snapshot-"));
});
afterAll(() => rmSync(directory, { recursive: true }));

const manifest: Omit<Manifest, "id" | "regions"> = {
  parent: undefined, createdBy: "test", createdAt: "2025-01-01T00:00:00.000Z", accelerator: "soft",
  machine: {
    memorySizeBytes: 1 << 20, cpu: "intel-v2", timeStampFrequencyHz: 1e9, bootProtocol: undefined, nsPerInstruction: undefined, randomState: 5n, startEpochMs: 0, firmwareBytes: undefined,
    vgaBiosBytes: undefined, disks: [], cdrom: undefined, devices: defaultDevices,
  },
  components: [{ name: "pit", version: 1, state: { channels: [null, true, "x"] } }],
};

const granuleCount = 6;
const regionBytes = granuleCount * granuleBytes;

/** A region as bytes, undefined where a granule is background. */
type Model = readonly (Uint8Array | undefined)[];

function contents(model: Model, background: "zero" | "other", parent?: Snapshot, before?: Model): RegionContents {
  const below = parent?.region("ram");
  return {
    name: "ram", sizeBytes: regionBytes, background,
    granules: () => model.keys(),
    read: (granule) => model[granule],
    ...(below === undefined ? {} : { parent: below }),
    // Exact where the accelerator would know, that is for RAM.
    ...(before === undefined ? {} : { changedPages: (granule: number) => changedPages(before[granule], model[granule]) }),
  };
}

function changedPages(before: Uint8Array | undefined, after: Uint8Array | undefined): number {
  if (before === undefined || after === undefined) return before === after ? 0 : allPagesMask;
  let mask = 0;
  for (let page = 0; page < 16; page++) {
    const range = [page * pageBytes, (page + 1) * pageBytes] as const;
    if (Buffer.compare(before.subarray(...range), after.subarray(...range)) !== 0) mask |= 1 << page;
  }
  return mask;
}

/** A few pages of a granule, by page: undefined zero, else a value that fills it. */
const granule = fc.dictionary(fc.constantFrom("0", "1", "7", "15"), fc.nat(255));
const model: fc.Arbitrary<Model> = fc.array(fc.option(granule, { nil: undefined, freq: 3 }), { minLength: granuleCount, maxLength: granuleCount })
  .map((granules) => granules.map((pages) => {
    if (pages === undefined) return undefined;
    const bytes = new Uint8Array(granuleBytes);
    for (const [page, value] of Object.entries(pages)) bytes.fill(value, Number(page) * pageBytes, (Number(page) + 1) * pageBytes);
    return bytes;
  }));

/** What a restored machine would find, starting from `background` everywhere. */
function readBack(snapshot: Snapshot, background: number): Uint8Array[] {
  const region = snapshot.region("ram");
  return Array.from({ length: granuleCount }, (_, index) => {
    const bytes = new Uint8Array(granuleBytes).fill(background);
    region?.read(index, bytes);
    return bytes;
  });
}

let fileNumber = 0;
const newPath = (): string => join(directory, `${fileNumber++}.snapshot`);

describe("what is written is read", () => {
  test.each([["zero", true], ["zero", false], ["other", false]] as const)("background %s, changes known: %s", async (background, knowsChanges) => {
    await fc.assert(fc.asyncProperty(fc.array(model, { minLength: 1, maxLength: 4 }), async (models) => {
      const fill = background === "zero" ? 0 : 0xaa;
      let parent: Snapshot | undefined;
      let before: Model | undefined;
      for (const current of models) {
        const path = newPath();
        const reference = parent === undefined ? undefined : { id: parent.manifest.id, path: parent.path };
        await writeSnapshot(path, {
          manifest: { ...manifest, parent: reference },
          regions: [contents(current, background, parent, knowsChanges ? before : undefined)],
        });
        parent?.close();
        parent = Snapshot.open(path);
        parent.verify();
        const expected = current.map((bytes) => bytes ?? new Uint8Array(granuleBytes).fill(fill));
        expect(readBack(parent, fill).map((bytes) => digest(bytes))).toEqual(expected.map((bytes) => digest(bytes)));
        expect(parent.manifest.machine).toEqual(manifest.machine);
        expect(parent.manifest.components).toEqual(manifest.components);
        before = current;
      }
      parent?.close();
    }), { numRuns: 40 });
  });

  test("a region that does not end with a granule", async () => {
    const path = newPath();
    const bytes = new Uint8Array(granuleBytes).fill(9, 0, 100);
    await writeSnapshot(path, { manifest, regions: [{ name: "vga", sizeBytes: 100, background: "zero", granules: () => [0], read: () => bytes }] });
    using snapshot = Snapshot.open(path);
    expect(snapshot.region("vga")?.readAll()).toEqual(new Uint8Array(100).fill(9));
  });

  test("pages that the parent has are not written again", async () => {
    const full: Model = Array.from({ length: granuleCount }, (_, index) => new Uint8Array(granuleBytes).fill(index + 1));
    const first = newPath(), second = newPath();
    const { storedPages } = await writeSnapshot(first, { manifest, regions: [contents(full, "zero")] });
    expect(storedPages).toBe(granuleCount * 16);
    using parent = Snapshot.open(first);
    const changed = full.with(2, full[2]?.with(5, 77));
    const written = await writeSnapshot(second, {
      manifest: { ...manifest, parent: { id: parent.manifest.id, path: first } }, regions: [contents(changed, "zero", parent)],
    });
    expect(written.storedPages).toBe(1);
  });
});

describe("damage", () => {
  const original: Model = Array.from({ length: granuleCount }, (_, index) => index % 2 === 0 ? undefined : Uint8Array.from({ length: granuleBytes }, (_unused, at) => (at * index) >> 3));

  const attempt = (bytes: Uint8Array): readonly Buffer[] | UserError => {
    const path = newPath();
    writeFileSync(path, bytes);
    try {
      using snapshot = Snapshot.open(path);
      snapshot.verify();
      return readBack(snapshot, 0).map((granuleRead) => Buffer.from(digest(granuleRead)));
    } catch (error) {
      if (error instanceof UserError) return error;
      throw error;
    } finally {
      rmSync(path);
    }
  };

  const written = async (): Promise<Uint8Array> => {
    const path = newPath();
    await writeSnapshot(path, { manifest, regions: [contents(original, "zero")] });
    return new Uint8Array(readFileSync(path));
  };

  test("flipped bits are refused, or change nothing", async () => {
    const bytes = await written();
    const expected = attempt(bytes);
    expect(expected).not.toBeInstanceOf(UserError);
    fc.assert(fc.property(fc.array(fc.tuple(fc.nat(bytes.length - 1), fc.nat(7)), { minLength: 1, maxLength: 3 }), (flips) => {
      const damaged = bytes.slice();
      for (const [at, bit] of flips) damaged[at] ^= 1 << bit;
      const result = attempt(damaged);
      if (!(result instanceof UserError)) expect(result).toEqual(expected);
      else expect(["BAD_SNAPSHOT", "SNAPSHOT_NEWER"]).toContain(result.code);
    }), { numRuns: 400 });
  });

  test("a file that was cut off is refused", async () => {
    const bytes = await written();
    fc.assert(fc.property(fc.nat(bytes.length - 1), (length) => {
      expect(attempt(bytes.slice(0, length))).toMatchObject({ code: "BAD_SNAPSHOT" });
    }), { numRuns: 100 });
  });

  test("any bytes are refused", () => {
    fc.assert(fc.property(fc.uint8Array({ maxLength: 300 }), fc.boolean(), (bytes, hasHeader) => {
      expect(attempt(hasHeader ? Buffer.concat([encodeHeader(), bytes]) : bytes)).toMatchObject({ code: "BAD_SNAPSHOT" });
    }));
  });

  test("a manifest from a stranger, with right digests, is refused or harmless", async () => {
    const bytes = await written();
    const trailer = new DataView(bytes.buffer, bytes.byteOffset + bytes.length - trailerBytes);
    const manifestOffset = Number(trailer.getBigUint64(0, true));
    const text = zstdDecompressSync(bytes.subarray(manifestOffset, bytes.length - trailerBytes)).toString();
    const number = fc.oneof(fc.nat(100), fc.nat(), fc.integer(), fc.constantFrom(2 ** 32, 2 ** 52, 1e308, -1, 0.5));
    const numbers = [...text.matchAll(/(?<=[:[,])\d+/gu)];
    let accepted = 0;
    fc.assert(fc.property(fc.nat(numbers.length - 1), number, (place, value) => {
      const at = numbers[place].index;
      const compressed = zstdCompressSync(Buffer.from(`${text.slice(0, at)}${value}${text.slice(at + numbers[place][0].length)}`));
      const forged = Buffer.concat([bytes.subarray(0, manifestOffset), compressed, encodeTrailer({ manifestOffset, manifestBytes: compressed.length, manifestDigest: digest(compressed) })]);
      const result = attempt(forged);
      if (result instanceof UserError) expect(result.code).toBe("BAD_SNAPSHOT");
      else accepted++;
    }), { numRuns: 300 });
    expect(accepted).toBeGreaterThan(10);
  });

  test("versions, parents and places that are not right", async () => {
    const bytes = await written();
    const newer = bytes.slice();
    new DataView(newer.buffer).setUint16(8, 2, true);
    const result = attempt(newer);
    expect(result).toMatchObject({ code: "SNAPSHOT_NEWER" });
    expect((result as UserError).message).toContain("use a newer Ringmaster");
    const minor = bytes.slice();
    new DataView(minor.buffer).setUint16(10, 9, true);
    expect(attempt(minor)).not.toBeInstanceOf(UserError);
    expect(() => Snapshot.open(directory)).toThrow(expect.objectContaining({ code: "BAD_SNAPSHOT" }));
    expect(() => Snapshot.open(join(directory, "missing"))).toThrow(expect.objectContaining({ code: "FILE_NOT_FOUND" }));
    expect(() => Snapshot.open("/dev/null")).toThrow(expect.objectContaining({ code: "BAD_SNAPSHOT" }));

    const first = newPath(), second = newPath();
    await writeSnapshot(first, { manifest, regions: [contents(original, "zero")] });
    const { id } = Snapshot.open(first).manifest;
    await writeSnapshot(second, { manifest: { ...manifest, parent: { id, path: first } }, regions: [] });
    await writeSnapshot(first, { manifest, regions: [contents(original, "zero")] });
    expect(() => Snapshot.open(second)).toThrow(/was made anew/u);
    rmSync(first);
    expect(() => Snapshot.open(second)).toThrow(/put that one back/u);
    await writeSnapshot(first, { manifest: { ...manifest, parent: { id, path: first } }, regions: [] });
    expect(() => Snapshot.open(first)).toThrow(expect.objectContaining({ code: "BAD_SNAPSHOT" }));
  });
});

test("nothing of a snapshot that was not finished is left, and what was there stays", async () => {
  const own = mkdtempSync(join(directory, "draft-"));
  const path = join(own, "a.snapshot");
  await writeSnapshot(path, { manifest, regions: [] });
  const before = readFileSync(path);
  const broken: RegionContents = {
    name: "ram", sizeBytes: regionBytes, background: "zero", granules: () => [0, 1],
    read(granuleNumber) {
      if (granuleNumber === 1) throw new UserError("BAD_SNAPSHOT", "no");
      return new Uint8Array(granuleBytes).fill(1);
    },
  };
  await expect(writeSnapshot(path, { manifest, regions: [broken] })).rejects.toThrow("no");
  const aborted = AbortSignal.abort();
  await expect(writeSnapshot(path, { manifest, regions: [] }, { signal: aborted })).rejects.toMatchObject({ code: "ABORTED" });
  expect(readFileSync(path)).toEqual(before);
  expect(readdirSync(own)).toEqual(["a.snapshot"]);
  // A process that was killed leaves its draft; the next one takes it away.
  writeFileSync(join(own, ".a.snapshot.999999999.draft"), "");
  await writeSnapshot(path, { manifest, regions: [] });
  expect(readdirSync(own)).toEqual(["a.snapshot"]);
  await expect(writeSnapshot(join(own, "missing", "a"), { manifest, regions: [] })).rejects.toMatchObject({ code: "FILE_NOT_WRITABLE" });
});
