/** Writes a FAT16 file system with short names, for EFI system partitions (Microsoft: FAT General Overview of On-Disk Format). */
import { invariant } from "../../../base/errors.ts";
import { sectorSizeBytes } from "./partition-tables.ts";

const sectorsPerCluster = 4;
const clusterSizeBytes: number = sectorsPerCluster * sectorSizeBytes;
const reservedSectors = 1;
const fatCount = 2;
const rootEntryCount = 512;
const entrySizeBytes = 32;
const firstDataCluster = 2;
const endOfChain = 0xffff;
const mediaDescriptor = 0xf8;
const attribute = { directory: 0x10, archive: 0x20 } as const;
const clusterCountMinimum = 4085;
const clusterCountMaximum = 65_525;
/** 1 January 1980, the first day that FAT knows. */
const date = 0x0021;

/** Files by upper-case path such as `EFI/BOOT/BOOTX64.EFI`. */
export type FatFiles = ReadonlyMap<string, Uint8Array>;

interface Directory {
  readonly files: Map<string, Uint8Array>;
  readonly directories: Map<string, Directory>;
}

function shortName(name: string): Buffer {
  const match = /^(?<base>[A-Z0-9_-]{1,8})(?:\.(?<extension>[A-Z0-9]{1,3}))?$/u.exec(name);
  invariant(match?.groups !== undefined, `${name} is a short name`);
  return Buffer.from(match.groups["base"].padEnd(8) + (match.groups["extension"] ?? "").padEnd(3), "latin1");
}

function entry(name: Buffer, attributes: number, cluster: number, sizeBytes: number): Buffer {
  const bytes = Buffer.alloc(entrySizeBytes);
  name.copy(bytes);
  bytes[11] = attributes;
  bytes.writeUInt16LE(date, 16);
  bytes.writeUInt16LE(date, 18);
  bytes.writeUInt16LE(date, 24);
  bytes.writeUInt16LE(cluster, 26);
  bytes.writeUInt32LE(sizeBytes, 28);
  return bytes;
}

function toTree(files: FatFiles): Directory {
  const root: Directory = { files: new Map(), directories: new Map() };
  for (const [path, bytes] of files) {
    const names = path.split("/");
    let directory = root;
    for (const name of names.slice(0, -1)) {
      const next: Directory = directory.directories.get(name) ?? { files: new Map(), directories: new Map() };
      directory.directories.set(name, next);
      directory = next;
    }
    directory.files.set(names[names.length - 1], bytes);
  }
  return root;
}

class FatWriter {
  readonly image: Buffer;
  readonly #fatSectors: number;
  readonly #dataStart: number;
  #nextCluster = firstDataCluster;

  constructor(sectorCount: number, serial: number, hiddenSectors: number) {
    this.image = Buffer.alloc(sectorCount * sectorSizeBytes);
    const rootSectors = (rootEntryCount * entrySizeBytes) / sectorSizeBytes;
    this.#fatSectors = Math.ceil((Math.ceil(sectorCount / sectorsPerCluster) + firstDataCluster) * 2 / sectorSizeBytes);
    this.#dataStart = (reservedSectors + fatCount * this.#fatSectors + rootSectors) * sectorSizeBytes;
    const clusters = Math.floor((this.image.length - this.#dataStart) / clusterSizeBytes);
    invariant(clusters >= clusterCountMinimum && clusters < clusterCountMaximum, "the size is one that FAT16 is for");
    const boot = this.image;
    boot.set([0xeb, 0x3c, 0x90]);
    boot.write("RINGMSTR", 3, "latin1");
    boot.writeUInt16LE(sectorSizeBytes, 11);
    boot[13] = sectorsPerCluster;
    boot.writeUInt16LE(reservedSectors, 14);
    boot[16] = fatCount;
    boot.writeUInt16LE(rootEntryCount, 17);
    if (sectorCount < 0x1_0000) boot.writeUInt16LE(sectorCount, 19);
    else boot.writeUInt32LE(sectorCount, 32);
    boot[21] = mediaDescriptor;
    boot.writeUInt16LE(this.#fatSectors, 22);
    boot.writeUInt16LE(63, 24);
    boot.writeUInt16LE(255, 26);
    boot.writeUInt32LE(hiddenSectors, 28);
    boot[36] = 0x80;
    boot[38] = 0x29;
    boot.writeUInt32LE(serial, 39);
    boot.write("EFI        FAT16   ", 43, "latin1");
    boot.writeUInt16LE(0xaa55, 510);
    this.#setFat(0, 0xff00 | mediaDescriptor);
    this.#setFat(1, endOfChain);
  }

  #setFat(cluster: number, value: number): void {
    for (let copy = 0; copy < fatCount; copy++) this.image.writeUInt16LE(value, (reservedSectors + copy * this.#fatSectors) * sectorSizeBytes + cluster * 2);
  }

  /** Returns the first cluster. */
  #allocate(sizeBytes: number): number {
    const count = Math.max(1, Math.ceil(sizeBytes / clusterSizeBytes));
    const first = this.#nextCluster;
    this.#nextCluster += count;
    for (let i = 0; i < count; i++) this.#setFat(first + i, i === count - 1 ? endOfChain : first + i + 1);
    return first;
  }

  #write(cluster: number, bytes: Uint8Array): void {
    const offset = this.#dataStart + (cluster - firstDataCluster) * clusterSizeBytes;
    invariant(offset + bytes.length <= this.image.length, "the files fit the file system");
    this.image.set(bytes, offset);
  }

  #entries(directory: Directory, own: number): Buffer[] {
    const entries: Buffer[] = [];
    for (const [name, child] of directory.directories) {
      const cluster = this.#allocate((2 + child.files.size + child.directories.size) * entrySizeBytes);
      const dots = [entry(Buffer.from(".          "), attribute.directory, cluster, 0), entry(Buffer.from("..         "), attribute.directory, own, 0)];
      this.#write(cluster, Buffer.concat([...dots, ...this.#entries(child, cluster)]));
      entries.push(entry(shortName(name), attribute.directory, cluster, 0));
    }
    for (const [name, bytes] of directory.files) {
      const cluster = this.#allocate(bytes.length);
      this.#write(cluster, bytes);
      entries.push(entry(shortName(name), attribute.archive, cluster, bytes.length));
    }
    return entries;
  }

  writeRoot(root: Directory): void {
    const rootStart = (reservedSectors + fatCount * this.#fatSectors) * sectorSizeBytes;
    this.image.set(Buffer.concat(this.#entries(root, 0)), rootStart);
  }
}

/** The file system's bytes. `hiddenSectors` is where its partition starts. */
export function createFat16(files: FatFiles, sectorCount: number, serial: number, hiddenSectors: number): Buffer {
  const writer = new FatWriter(sectorCount, serial, hiddenSectors);
  writer.writeRoot(toTree(files));
  return writer.image;
}
