/** Writes a snapshot file: memory as sparse compressed frames, what the parent has left out, then indexes and manifest. */
import { randomUUID } from "node:crypto";
import { constants as zlibConstants, zstdCompress, zstdCompressSync } from "node:zlib";
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

/** Frames that are compressed at a time; the thread pool has four threads. */
const framesUnderWay = 8;
const progressIntervalMs = 100;
/** The fastest level: the next one gains 5 % of size for a third of the speed. */
const compression = {
  params: { [zlibConstants.ZSTD_c_compressionLevel]: 1, [zlibConstants.ZSTD_c_checksumFlag]: 1 },
};
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
      progress.at(granule * granuleBytes);
      const found = classify(region, granule);
      if (found !== undefined) await frames.add(granule, found);
    }
    await frames.finish();
    storedPages += frames.storedPages;
    references.push(await appendIndex(file, region, frames.entries));
    progress.regionDone(region.sizeBytes);
  }
  const id = randomUUID();
  const bytes = zstdCompressSync(Buffer.from(JSON.stringify(manifestShape.encode({ ...manifest, id, regions: references }, "", noRegions))), compression);
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
  // Copies: the pages are compressed while the next granule is read, perhaps to the same place.
  return storedPages === 0 && zeroPages === 0 ? undefined : { storedPages, zeroPages, bytes: Buffer.concat(stored) };
}

function granuleOf(parent: SnapshotRegion | undefined, granule: number): Buffer {
  const bytes = Buffer.alloc(granuleBytes);
  parent?.read(granule, bytes);
  return bytes;
}

/** Compresses frames in other threads and appends them in order. */
class FrameWriter {
  readonly entries: GranuleEntry[] = [];
  storedPages = 0;
  readonly #file: DraftFile;
  readonly #queue: { readonly granule: number; readonly pages: Pages; readonly frame: Promise<Uint8Array> }[] = [];

  constructor(file: DraftFile) {
    this.#file = file;
  }

  async add(granule: number, pages: Pages): Promise<void> {
    if (this.#queue.length >= framesUnderWay) await this.#appendFirst();
    const frame = pages.storedPages === 0 ? Promise.resolve(pages.bytes) : compress(pages.bytes);
    // Looked at when it is its turn, which may be after an earlier one has failed.
    frame.catch(() => {});
    this.#queue.push({ granule, pages, frame });
  }

  async finish(): Promise<void> {
    while (this.#queue.length > 0) await this.#appendFirst();
  }

  async #appendFirst(): Promise<void> {
    const first = this.#queue.shift();
    if (first === undefined) return;
    const { granule, pages: { storedPages, zeroPages, bytes } } = first;
    const frame = await first.frame;
    this.entries.push({ granule, storedPages, zeroPages, frameOffset: this.#file.position, frameBytes: frame.length });
    this.storedPages += bytes.length / pageBytes;
    await this.#file.append(frame);
  }
}

function compress(bytes: Buffer): Promise<Uint8Array> {
  return new Promise((resolve, reject) => {
    zstdCompress(bytes, compression, (error, frame) => {
      if (error === null) resolve(frame);
      else reject(error);
    });
  });
}

async function appendIndex(file: DraftFile, { name, sizeBytes }: RegionContents, entries: readonly GranuleEntry[]): Promise<RegionReference> {
  const bytes = zstdCompressSync(encodeIndex(entries), compression);
  const indexOffset = file.position;
  await file.append(bytes);
  return { name, sizeBytes, entries: entries.length, indexOffset, indexBytes: bytes.length, indexDigest: digest(bytes) };
}

class ProgressReport {
  readonly #options: WriteOptions;
  readonly #totalBytes: number;
  #finishedBytes = 0;
  #reportedMs = -Infinity;

  constructor(totalBytes: number, options: WriteOptions) {
    this.#totalBytes = totalBytes;
    this.#options = options;
  }

  at(offset: number): void {
    const nowMs = performance.now();
    if (nowMs - this.#reportedMs < progressIntervalMs) return;
    this.#reportedMs = nowMs;
    this.checkAborted();
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
