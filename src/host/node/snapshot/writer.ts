/** Writes a snapshot file: memory as sparse compressed frames, what the parent has left out, then indexes and manifest. */
import { randomUUID } from "node:crypto";
import { setImmediate as nextTurn } from "node:timers/promises";
import { constants as zlibConstants, zstdCompressSync, type ZstdOptions } from "node:zlib";
import { invariant, UserError } from "../../../base/errors.ts";
import { noRegions } from "../../../base/shape.ts";
import { DraftFile } from "./draft-file.ts";
import {
  allPagesMask, digest, encodeHeader, encodeIndex, encodeTrailer, type GranuleEntry, granuleBytes, pageBytes, pagesPerGranule,
} from "./layout.ts";
import { type Manifest, manifestShape, type RegionReference } from "./manifest.ts";
import type { SnapshotRegion } from "./reader.ts";

/** A region to be saved. It must not change meanwhile. */
export interface RegionContents {
  readonly name: string;
  readonly sizeBytes: number;
  /** What pages are that nobody mentions: zero, or something else, such as the disk below an overlay. */
  readonly background: "zero" | "other";
  /** Numbers of the granules that may hold anything, ascending. */
  granules(): Iterable<number>;
  /** A whole granule's bytes, which are used before the next call; undefined: it is background. */
  read(granule: number): Uint8Array | undefined;
  /** Bit n: page n may differ from the parent's. Undefined: nobody knows. */
  changedPages?(granule: number): number;
  /** The same region of the parent. */
  readonly parent?: SnapshotRegion;
}

export interface SnapshotProgress {
  readonly doneBytes: number;
  readonly totalBytes: number;
}

export interface SnapshotContents {
  readonly manifest: Omit<Manifest, "id" | "regions">;
  readonly regions: readonly RegionContents[];
}

export interface WriteOptions {
  /** About ten times a second. */
  readonly onProgress?: (progress: SnapshotProgress) => void;
  readonly signal?: AbortSignal;
}

export interface WrittenSnapshot {
  readonly id: string;
  readonly path: string;
  readonly fileBytes: number;
  /** Pages of 4 KiB in the file. */
  readonly storedPages: number;
}

const progressIntervalMs = 100;
/** The event loop has its turn this often. */
const turnMs = 10;
/** Beyond this level, size hardly falls and speed does (decision 020). */
const compressionParameters = { [zlibConstants.ZSTD_c_compressionLevel]: 1, [zlibConstants.ZSTD_c_checksumFlag]: 1 };

/** With the size known, zstd takes little memory, of which the garbage collector would otherwise hear a lot. */
function compressionFor({ length }: Uint8Array): ZstdOptions {
  return { params: compressionParameters, pledgedSrcSize: length, chunkSize: granuleBytes };
}

const zeros: Buffer = Buffer.alloc(granuleBytes);

/**
 * Writes a snapshot so that it replaces what was at `path` in one step, or not at all.
 * @throws UserError FILE_NOT_WRITABLE; ABORTED by `signal`.
 */
export async function writeSnapshot(path: string, { manifest, regions }: SnapshotContents, options: WriteOptions = {}): Promise<WrittenSnapshot> {
  await using file = await DraftFile.create(path);
  await file.append(encodeHeader());
  const totalBytes = regions.reduce((sum, { sizeBytes }) => sum + sizeBytes, 0);
  const progress = new ProgressReport(totalBytes, options);
  const references: RegionReference[] = [];
  let storedPages = 0;
  for (const region of regions) {
    const frames = new FrameWriter(file);
    for (const granule of region.granules()) {
      await progress.at(granule * granuleBytes);
      const found = classify(region, granule);
      if (found !== undefined) await frames.add(granule, found);
    }
    storedPages += frames.storedPages;
    references.push(await appendIndex(file, region, frames.entries));
    progress.regionDone(region.sizeBytes);
  }
  const id = randomUUID();
  const text = Buffer.from(JSON.stringify(manifestShape.encode({ ...manifest, id, regions: references }, "", noRegions)));
  const bytes = zstdCompressSync(text, compressionFor(text));
  const manifestOffset = file.position;
  await file.append(bytes);
  await file.append(encodeTrailer({ manifestOffset, manifestBytes: bytes.length, manifestDigest: digest(bytes) }));
  const fileBytes = file.position;
  progress.checkAborted();
  await file.finish();
  return { id, path: file.path, fileBytes, storedPages };
}

/** What the file has to say of a granule. */
interface Pages {
  readonly storedPages: number;
  readonly zeroPages: number;
  /** The stored ones, one after the other. */
  readonly bytes: Buffer;
}

const noPages: Pages = { storedPages: 0, zeroPages: 0, bytes: Buffer.alloc(0) };

/** Undefined: nothing. */
function classify(region: RegionContents, granule: number): Pages | undefined {
  const { parent, background } = region;
  const changed = region.changedPages?.(granule) ?? allPagesMask;
  if (changed === 0) return undefined;
  const contents = region.read(granule);
  const definedBelow = parent?.definedPages(granule) ?? 0;
  if (contents === undefined) return definedBelow === 0 ? undefined : noPages;
  invariant(contents.length === granuleBytes, "a granule is read as a whole");
  const bytes = Buffer.from(contents.buffer, contents.byteOffset, granuleBytes);
  if (definedBelow === 0 && background === "zero" && bytes.equals(zeros)) return undefined;
  const below = definedBelow === 0 ? undefined : granuleOf(parent, granule);
  let storedPages = 0, zeroPages = 0;
  const stored: Buffer[] = [];
  for (let page = 0; page < pagesPerGranule; page++) {
    if (!((changed >> page) & 1)) continue;
    const start = page * pageBytes, end = start + pageBytes;
    const isDefinedBelow = ((definedBelow >> page) & 1) !== 0;
    const isSame = isDefinedBelow || background === "zero"
      ? bytes.compare(below ?? zeros, start, end, start, end) === 0
      : false;
    if (isSame) continue;
    if (bytes.compare(zeros, start, end, start, end) === 0) {
      zeroPages |= 1 << page;
    } else {
      storedPages |= 1 << page;
      stored.push(bytes.subarray(start, end));
    }
  }
  return storedPages === 0 && zeroPages === 0 ? undefined : { storedPages, zeroPages, bytes: Buffer.concat(stored) };
}

function granuleOf(parent: SnapshotRegion | undefined, granule: number): Buffer {
  const bytes = Buffer.alloc(granuleBytes);
  parent?.read(granule, bytes);
  return bytes;
}

/** Appends frames, and remembers where they are. */
class FrameWriter {
  readonly entries: GranuleEntry[] = [];
  storedPages = 0;
  readonly #file: DraftFile;

  constructor(file: DraftFile) {
    this.#file = file;
  }

  async add(granule: number, { storedPages, zeroPages, bytes }: Pages): Promise<void> {
    const frame = storedPages === 0 ? bytes : zstdCompressSync(bytes, compressionFor(bytes));
    this.entries.push({ granule, storedPages, zeroPages, frameOffset: this.#file.position, frameBytes: frame.length });
    this.storedPages += bytes.length / pageBytes;
    await this.#file.append(frame);
  }
}

async function appendIndex(file: DraftFile, { name, sizeBytes }: RegionContents, entries: readonly GranuleEntry[]): Promise<RegionReference> {
  const index = encodeIndex(entries);
  const bytes = zstdCompressSync(index, compressionFor(index));
  const indexOffset = file.position;
  await file.append(bytes);
  return { name, sizeBytes, entries: entries.length, indexOffset, indexBytes: bytes.length, indexDigest: digest(bytes) };
}

class ProgressReport {
  readonly #options: WriteOptions;
  readonly #totalBytes: number;
  #finishedBytes = 0;
  #reportedMs = -Infinity;
  #turnStartMs: number = performance.now();

  constructor(totalBytes: number, options: WriteOptions) {
    this.#totalBytes = totalBytes;
    this.#options = options;
  }

  async at(offset: number): Promise<void> {
    let nowMs = performance.now();
    if (nowMs - this.#turnStartMs >= turnMs) {
      await nextTurn();
      nowMs = this.#turnStartMs = performance.now();
      this.checkAborted();
    }
    if (nowMs - this.#reportedMs < progressIntervalMs) return;
    this.#reportedMs = nowMs;
    this.#options.onProgress?.({ doneBytes: this.#finishedBytes + offset, totalBytes: this.#totalBytes });
  }

  regionDone(sizeBytes: number): void {
    this.#finishedBytes += sizeBytes;
    this.checkAborted();
    this.#options.onProgress?.({ doneBytes: this.#finishedBytes, totalBytes: this.#totalBytes });
  }

  checkAborted(): void {
    const { signal } = this.#options;
    if (signal?.aborted === true) throw new UserError("ABORTED", "Saving the snapshot was aborted.", { cause: signal.reason });
  }
}
