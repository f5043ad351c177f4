/** Brings tables to the guest: at addresses of ours for boots without firmware, or as files with a linker script for firmware. */
import { invariant } from "../../base/errors.ts";
import { alignUp, ascii, concatBytes } from "../bytes.ts";
import type { MemoryWrite } from "../contract.ts";
import { biosAreaEnd } from "../memory-map.ts";
import type { AcpiBoard } from "./board.ts";
import { resolveTable, type AcpiTable } from "./table.ts";
import { createAcpiTables, rootPointerName } from "./tables.ts";

/** The area that systems search for the root pointer, 0xE0000 to 0xFFFFF; ours comes before what else lies there. */
export const acpiAreaStart = 0xe_0000;
const acpiAreaEnd: number = biosAreaEnd - 0x1_0000;

/** Tables with addresses filled in. The board must let 0xE0000 to 0xFFFFF be read as RAM. */
export interface DirectAcpiTables {
  readonly rsdpAddress: number;
  readonly writes: readonly MemoryWrite[];
}

/** For boots without firmware: all tables in the reserved area below 1 MiB. */
export function layOutAcpiTables(board: AcpiBoard): DirectAcpiTables {
  const tables = createAcpiTables(board, 2);
  const addresses = new Map<string, number>();
  let next = acpiAreaStart;
  for (const { name, bytes, alignment } of tables) {
    const address = alignUp(next, alignment);
    addresses.set(name, address);
    next = address + bytes.length;
  }
  invariant(next <= acpiAreaEnd, "the ACPI tables fit below 0xF0000");
  return {
    rsdpAddress: addresses.get(rootPointerName) ?? acpiAreaStart,
    writes: tables.map((table) => ({
      name: `ACPI ${table.name}`,
      address: addresses.get(table.name) ?? acpiAreaStart,
      bytes: resolveTable(table, addresses),
      sizeBytes: table.bytes.length,
    })),
  };
}

export const fwCfgNames = { tables: "etc/acpi/tables", rsdp: "etc/acpi/rsdp", loader: "etc/table-loader" } as const;

const command = { allocate: 1, addPointer: 2, addChecksum: 3 } as const;
const zone = { high: 1, fSegment: 2 } as const;
const commandSizeBytes = 128;
const fileNameBytes = 56;
const tablesAlignment = 64;

function loaderCommand(type: number, fill: (bytes: Uint8Array, view: DataView) => void): Uint8Array {
  const bytes = new Uint8Array(commandSizeBytes);
  const view = new DataView(bytes.buffer);
  view.setUint32(0, type, true);
  fill(bytes, view);
  return bytes;
}

function allocate(file: string, alignment: number, where: number): Uint8Array {
  return loaderCommand(command.allocate, (bytes, view) => {
    bytes.set(ascii(file), 4);
    view.setUint32(4 + fileNameBytes, alignment, true);
    view.setUint8(8 + fileNameBytes, where);
  });
}

function addPointer(file: string, source: string, offset: number, sizeBytes: number): Uint8Array {
  return loaderCommand(command.addPointer, (bytes, view) => {
    bytes.set(ascii(file), 4);
    bytes.set(ascii(source), 4 + fileNameBytes);
    view.setUint32(4 + 2 * fileNameBytes, offset, true);
    view.setUint8(8 + 2 * fileNameBytes, sizeBytes);
  });
}

function addChecksum(file: string, offset: number, start: number, length: number): Uint8Array {
  return loaderCommand(command.addChecksum, (bytes, view) => {
    bytes.set(ascii(file), 4);
    view.setUint32(4 + fileNameBytes, offset, true);
    view.setUint32(8 + fileNameBytes, start, true);
    view.setUint32(12 + fileNameBytes, length, true);
  });
}

/** Files for fw_cfg, by name. */
export type FwCfgFiles = ReadonlyMap<string, Uint8Array>;

/** For firmware: pointers hold offsets in `etc/acpi/tables`, and the script in `etc/table-loader` makes addresses of them. */
export function createAcpiFiles(board: AcpiBoard, revision: 0 | 2 = 0): FwCfgFiles {
  const tables = createAcpiTables(board, revision);
  const offsets = new Map<string, number>();
  const parts: Uint8Array[] = [];
  let end = 0;
  const [rootPointer, ...listed] = tables;
  const resolved = (table: AcpiTable): Uint8Array => resolveTable({ ...table, checksums: [] }, offsets);
  for (const { name, bytes, alignment } of listed) {
    const offset = alignUp(end, alignment);
    offsets.set(name, offset);
    end = offset + bytes.length;
  }
  end = 0;
  for (const table of listed) {
    const offset = offsets.get(table.name) ?? 0;
    parts.push(new Uint8Array(offset - end), resolved(table));
    end = offset + table.bytes.length;
  }
  const script = [allocate(fwCfgNames.rsdp, 16, zone.fSegment), allocate(fwCfgNames.tables, tablesAlignment, zone.high)];
  for (const table of [...listed, rootPointer]) {
    const isRoot = table === rootPointer;
    const file = isRoot ? fwCfgNames.rsdp : fwCfgNames.tables;
    const base = isRoot ? 0 : (offsets.get(table.name) ?? 0);
    for (const pointer of table.pointers) script.push(addPointer(file, fwCfgNames.tables, base + pointer.offset, pointer.sizeBytes));
    for (const sum of table.checksums) script.push(addChecksum(file, base + sum.offset, base + sum.start, sum.length));
  }
  return new Map([
    [fwCfgNames.tables, concatBytes(parts)],
    [fwCfgNames.rsdp, resolved(rootPointer)],
    [fwCfgNames.loader, concatBytes(script)],
  ]);
}
