import { describe, expect, it } from "vitest";
import { findBrokenClaim } from "./disk-claims.ts";

function head(fill: (view: DataView) => void): Uint8Array {
  const bytes = new Uint8Array(4096);
  fill(new DataView(bytes.buffer));
  return bytes;
}

const partition = (view: DataView, index: number, type: number, start: number, sectors: number): void => {
  const at = 446 + 16 * index;
  view.setUint8(at + 4, type);
  view.setUint32(at + 8, start, true);
  view.setUint32(at + 12, sectors, true);
  view.setUint16(510, 0xaa55, true);
};
const gpt = (view: DataView, lastSector: number): void => {
  partition(view, 0, 0xee, 1, 0xffff_ffff);
  view.setBigUint64(512, 0x5452_4150_2049_4645n, true);
  view.setBigUint64(512 + 32, BigInt(lastSector), true);
};
const ext = (view: DataView, blocks: number): void => {
  view.setUint16(1024 + 56, 0xef53, true);
  view.setUint32(1024 + 4, blocks, true);
  view.setUint32(1024 + 24, 2, true);
};

describe("what a disk says of its size", () => {
  const sizeBytes = 1 << 20;
  it.each<[string, (view: DataView) => void, number | undefined]>([
    ["nothing", () => {}, undefined],
    ["a partition that fits", (view) => partition(view, 0, 0x83, 64, 1984), undefined],
    ["a partition that does not", (view) => partition(view, 1, 0x83, 64, 1985), 1_049_088],
    ["the furthest of two", (view) => {
      partition(view, 0, 0x83, 64, 4000);
      partition(view, 1, 0x83, 4064, 4000);
    }, 8064 * 512],
    ["a boot sector with code where partitions would be", (view) => {
      partition(view, 0, 0x83, 64, 4000);
      view.setUint8(446 + 16, 0x33);
    }, undefined],
    ["a GUID partition table that fits", (view) => gpt(view, 2047), undefined],
    ["a GUID partition table that does not", (view) => gpt(view, 4095), 2 << 20],
    ["a file system that fits", (view) => ext(view, 256), undefined],
    ["a file system that does not", (view) => ext(view, 512), 2 << 20],
  ])("%s", (_, fill, neededBytes) => {
    expect(findBrokenClaim(head(fill), sizeBytes)?.neededBytes).toBe(neededBytes);
  });
});
