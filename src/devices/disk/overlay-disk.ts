/** A copy-on-write layer over a disk that stays untouched: changed blocks live in a store of their own. */
import {
  type DiskBackend,
  type DiskResult,
  type Eventually,
  forEachPiece,
  rangeFailure,
  whenDone,
} from "./contract.ts";

/** Where an overlay keeps its changed blocks. A plain `Map` is one; others can keep them in a file. */
export interface OverlayStore {
  get(block: number): Uint8Array | undefined;
  /** The store owns `bytes` from now on; the overlay changes them in place and calls `set` again when it did. */
  set(block: number, bytes: Uint8Array): unknown;
  entries(): Iterable<[number, Uint8Array]>;
}

export class OverlayDisk implements DiskBackend {
  readonly sizeBytes: number;
  readonly readOnly = false;
  readonly blockBytes: number;
  readonly store: OverlayStore;
  readonly #base: DiskBackend;
  /** Blocks being copied from an asynchronous base; writes to them queue up behind the copy. */
  readonly #copies: Map<number, Promise<Uint8Array | DiskResult>> = new Map();

  /** `blockBytes` is a power of two; 64 KiB when absent. */
  constructor(base: DiskBackend, options: { readonly store?: OverlayStore; readonly blockBytes?: number } = {}) {
    this.#base = base;
    this.sizeBytes = base.sizeBytes;
    this.store = options.store ?? new Map<number, Uint8Array>();
    this.blockBytes = options.blockBytes ?? 0x10000;
  }

  read(offset: number, target: Uint8Array): Eventually<DiskResult> {
    const failure = rangeFailure(this, offset, target.length);
    if (failure !== undefined) return failure;
    return forEachPiece(offset, target.length, this.blockBytes, (at, sizeBytes) => {
      const piece = target.subarray(at - offset, at - offset + sizeBytes);
      const block = this.store.get(Math.floor(at / this.blockBytes));
      if (block === undefined) return this.#base.read(at, piece);
      const within = at % this.blockBytes;
      piece.set(block.subarray(within, within + sizeBytes));
      return undefined;
    });
  }

  write(offset: number, bytes: Uint8Array): Eventually<DiskResult> {
    const failure = rangeFailure(this, offset, bytes.length);
    if (failure !== undefined) return failure;
    return forEachPiece(offset, bytes.length, this.blockBytes, (at, sizeBytes) => {
      const index = Math.floor(at / this.blockBytes);
      const piece = bytes.subarray(at - offset, at - offset + sizeBytes);
      return whenDone(this.#ownBlock(index, sizeBytes), (block) => {
        if (!(block instanceof Uint8Array)) return block;
        block.set(piece, at % this.blockBytes);
        this.store.set(index, block);
        return undefined;
      });
    });
  }

  /** The base never changes, so there is nothing to make durable. */
  flush(): DiskResult {
    return undefined;
  }

  /** The overlay's own copy of a block; copied from the base unless all of it will be overwritten. */
  #ownBlock(index: number, overwrittenBytes: number): Eventually<Uint8Array | DiskResult> {
    const existing = this.store.get(index) ?? this.#copies.get(index);
    if (existing !== undefined) return existing;
    const start = index * this.blockBytes;
    const block = new Uint8Array(Math.min(this.blockBytes, this.sizeBytes - start));
    if (overwrittenBytes === block.length) return block;
    const copy = whenDone(this.#base.read(start, block), (failure): Uint8Array | DiskResult => failure ?? block);
    if (!(copy instanceof Promise)) return copy;
    this.#copies.set(index, copy);
    return copy.then((result) => {
      this.#copies.delete(index);
      return result;
    });
  }
}
