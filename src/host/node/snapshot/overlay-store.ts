/** The changed blocks of an overlay disk that a snapshot holds: read when the guest first asks for them. */
import type { OverlayStore } from "../../../devices/disk/overlay-disk.ts";
import { granuleBytes } from "./layout.ts";
import type { SnapshotRegion } from "./reader.ts";
import type { RegionContents } from "./writer.ts";

/** Blocks of overlays have the size of granules. */
export const overlayBlockBytes: number = granuleBytes;

export class SnapshotOverlayStore implements OverlayStore {
  readonly #region: SnapshotRegion;
  readonly #blocks: Map<number, Uint8Array> = new Map();

  constructor(region: SnapshotRegion) {
    this.#region = region;
  }

  get(block: number): Uint8Array | undefined {
    const known = this.#blocks.get(block);
    if (known !== undefined || this.#region.definedPages(block) === 0) return known;
    const bytes = new Uint8Array(granuleBytes);
    this.#region.read(block, bytes);
    const found = bytes.subarray(0, Math.min(granuleBytes, this.#region.sizeBytes - block * granuleBytes));
    this.#blocks.set(block, found);
    return found;
  }

  set(block: number, bytes: Uint8Array): void {
    this.#blocks.set(block, bytes);
  }

  *entries(): Iterable<[number, Uint8Array]> {
    const blocks = new Set([...this.#blocks.keys(), ...this.#region.granules()]);
    for (const block of blocks) {
      const bytes = this.get(block);
      if (bytes !== undefined) yield [block, bytes];
    }
  }

  /** Numbers of the blocks that it has; their contents are not read for that. */
  blocks(): Iterable<number> {
    const region = this.#region;
    return new Set([...this.#blocks.keys(), ...[...region.granules()].filter((block) => region.definedPages(block) !== 0)]);
  }
}

/** An overlay's blocks as a region of a snapshot. */
export function overlayContents(name: string, sizeBytes: number, store: OverlayStore, parent: SnapshotRegion | undefined): RegionContents {
  const numbers = store instanceof SnapshotOverlayStore ? store.blocks() : Array.from(store.entries(), ([block]) => block);
  const granules = new Set([...numbers, ...(parent?.granules() ?? [])]);
  return {
    name, sizeBytes, background: "other",
    granules: () => [...granules].toSorted((a, b) => a - b),
    read(granule) {
      const block = store.get(granule);
      if (block === undefined || block.length === granuleBytes) return block;
      const padded = new Uint8Array(granuleBytes);
      padded.set(block);
      return padded;
    },
    ...(parent === undefined ? {} : { parent }),
  };
}
