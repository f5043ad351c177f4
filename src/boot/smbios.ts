/** The SMBIOS tables that systems ask for: who made the machine, its processors and memory (DMTF DSP0134, version 2.8). */
import { ascii, concatBytes } from "./bytes.ts";
import type { MemoryWrite } from "./contract.ts";
import { biosAreaEnd, type MemoryMap } from "./memory-map.ts";

export const smbiosFwCfgNames = { anchor: "etc/smbios/smbios-anchor", tables: "etc/smbios/smbios-tables" } as const;

const entryPointSizeBytes = 31;
const version = { major: 2, minor: 8 } as const;
/** Where we put them without firmware: the last 64 KiB below 1 MiB are searched for the anchor. */
const directStart: number = biosAreaEnd - 0x1_0000;
const unknown = 0x02;
const kibInMebibyte = 1024;
const mapPieceBytes = 0x1_0000_0000;

export interface SmbiosMachine {
  /** 16 bytes; shown by the guest as the machine's UUID. */
  readonly uuid: Uint8Array;
  readonly processorCount: number;
  readonly memory: MemoryMap;
}

interface Tables {
  readonly bytes: Uint8Array;
  readonly count: number;
  readonly largestBytes: number;
}

/** A structure: type and handle, formatted bytes, strings (numbered from 1). */
function structure(type: number, handle: number, formatted: readonly number[], strings: readonly string[] = []): Uint8Array {
  const length = 4 + formatted.length;
  const text = strings.length === 0 ? "\0\0" : `${strings.map((string) => `${string}\0`).join("")}\0`;
  return concatBytes([Uint8Array.of(type, length, handle & 0xff, handle >> 8, ...formatted), ascii(text)]);
}

function word(value: number): number[] {
  return [value & 0xff, (value >> 8) & 0xff];
}

function doubleWord(value: number): number[] {
  return [...word(value & 0xffff), ...word(value >>> 16)];
}

function createTables({ uuid, processorCount, memory }: SmbiosMachine): Tables {
  const memoryMib = memory.ramSizeBytes / 0x10_0000;
  const structures = [
    // BIOS: characteristics "not supported", with ACPI and as a virtual machine.
    structure(0, 0x0000, [1, 2, ...word(0xe800), 3, 0, 0x08, 0, 0, 0, 0, 0, 0, 0, 0x01, 0x1c, 0, 0, 0xff, 0xff], ["Ringmaster", "1", "01/01/2025"]),
    structure(1, 0x0100, [1, 2, 3, 0, ...uuid, 0x06, 0, 0], ["Ringmaster", "Virtual Machine", "q35"]),
    structure(3, 0x0300, [1, 0x01, 2, 0, 0, 0x03, 0x03, 0x03, unknown, ...doubleWord(0), 0, 0, 0, 0], ["Ringmaster", "q35"]),
    ...Array.from({ length: processorCount }, (_, i) => structure(4, 0x0400 + i, [
      1, 0x03, 0x01, 2, ...doubleWord(0), ...doubleWord(0), 3, 0, ...word(0), ...word(2000), ...word(2000), 0x41, 0x01,
      ...word(0xffff), ...word(0xffff), ...word(0xffff), 0, 0, 0, 1, 1, 1, ...word(unknown), ...word(0x01),
    ], [`CPU ${i}`, "Ringmaster", "virtual"])),
    // Sizes of 2 TiB and more would need the extended field.
    structure(16, 0x1000, [0x01, 0x03, 0x06, ...doubleWord(memoryMib * kibInMebibyte), ...word(0xfffe), ...word(1)]),
    structure(17, 0x1100, [
      ...word(0x1000), ...word(0xfffe), ...word(0xffff), ...word(0xffff), ...word(memoryMib < 0x7fff ? memoryMib : 0x7fff), 0x09, 0, 1, 0, 0x07, ...word(unknown),
      ...word(0), 2, 0, 0, 0, 0, ...doubleWord(memoryMib < 0x7fff ? 0 : memoryMib), ...word(0),
    ], ["DIMM 0", "Ringmaster"]),
    ...memory.ram.map(({ address, sizeBytes }, i) => {
      const isLow = address + sizeBytes <= mapPieceBytes;
      const start = isLow ? address / 1024 : 0xffff_ffff;
      const end = isLow ? (address + sizeBytes) / 1024 - 1 : 0xffff_ffff;
      const extended = (value: number): number[] => [...doubleWord(value % mapPieceBytes), ...doubleWord(Math.floor(value / mapPieceBytes))];
      return structure(19, 0x1300 + i, [
        ...doubleWord(start), ...doubleWord(end), ...word(0x1000), 1, ...extended(isLow ? 0 : address), ...extended(isLow ? 0 : address + sizeBytes - 1),
      ]);
    }),
    structure(32, 0x2000, [0, 0, 0, 0, 0, 0, 0]),
    structure(127, 0x7f00, []),
  ];
  return { bytes: concatBytes(structures), count: structures.length, largestBytes: Math.max(...structures.map(({ length }) => length)) };
}

function setChecksum(bytes: Uint8Array, offset: number, start: number, length: number): void {
  bytes[offset] = 0;
  bytes[offset] = -bytes.subarray(start, start + length).reduce((sum, byte) => sum + byte, 0) & 0xff;
}

function createAnchor(tables: Tables, tablesAddress: number): Uint8Array {
  const bytes = new Uint8Array(entryPointSizeBytes);
  const view = new DataView(bytes.buffer);
  bytes.set(ascii("_SM_"), 0);
  bytes[5] = entryPointSizeBytes;
  bytes[6] = version.major;
  bytes[7] = version.minor;
  view.setUint16(8, tables.largestBytes, true);
  bytes.set(ascii("_DMI_"), 16);
  view.setUint16(22, tables.bytes.length, true);
  view.setUint32(24, tablesAddress, true);
  view.setUint16(28, tables.count, true);
  bytes[30] = (version.major << 4) | version.minor;
  setChecksum(bytes, 21, 16, 15);
  setChecksum(bytes, 4, 0, entryPointSizeBytes);
  return bytes;
}

/** For firmware: it places the tables and fills in their address. */
export function createSmbiosFiles(machine: SmbiosMachine): ReadonlyMap<string, Uint8Array> {
  const tables = createTables(machine);
  return new Map([[smbiosFwCfgNames.anchor, createAnchor(tables, 0)], [smbiosFwCfgNames.tables, tables.bytes]]);
}

/** For boots without firmware: in 0xF0000 to 0xFFFFF, which the board must let be read as RAM. */
export function layOutSmbios(machine: SmbiosMachine): readonly MemoryWrite[] {
  const tables = createTables(machine);
  const tablesAddress = directStart + 0x20;
  const write = (name: string, address: number, bytes: Uint8Array): MemoryWrite => ({ name, address, bytes, sizeBytes: bytes.length });
  return [write("SMBIOS entry point", directStart, createAnchor(tables, tablesAddress)), write("SMBIOS tables", tablesAddress, tables.bytes)];
}
