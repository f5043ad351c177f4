/** Makes every ACPI table from the board's description (ACPI specification 6.5, section 5.2; HPET specification 1.0a; PCI Firmware specification 3.3, section 4.1.2). */
import { ascii, concatBytes } from "../bytes.ts";
import { gpe0SizeBytes, powerManagementOffsets, type AcpiBoard, type AcpiPci } from "./board.ts";
import { createDefinitionBlock } from "./dsdt.ts";
import { systemTable, type AcpiTable, type TablePointer } from "./table.ts";

export const rootPointerName = "RSDP";
const rootPointerLengths = { 0: 20, 2: 36 } as const;
const rsdtPointerOffset = 16;
const xsdtPointerOffset = 24;

const fixedFeature = { wbinvdMask: 1 << 0, processorC1Mask: 1 << 2, noSleepButtonMask: 1 << 5, rtcWakeMask: 1 << 7, resetRegisterMask: 1 << 10 } as const;
const bootArchitecture = { legacyDevicesMask: 1 << 0, keyboardControllerMask: 1 << 1, noVgaMask: 1 << 2, noCmosRtcMask: 1 << 5 } as const;
const rtcCenturyIndex = 0x32;
/** Of the body, that is after the header. */
const fadtOffsets = { firmwareControl: 36 - 36, dsdt: 40 - 36, extendedDsdt: 140 - 36 } as const;
const fadtBodySizeBytes = 244 - 36;
const addressSpaceIo = 1;

function genericAddress(view: DataView, offset: number, address: number, sizeBytes: number): void {
  view.setUint8(offset, addressSpaceIo);
  view.setUint8(offset + 1, sizeBytes * 8);
  view.setUint8(offset + 2, 0);
  // Access size: 1 byte, 2 word, 3 doubleword.
  view.setUint8(offset + 3, [0, 1, 2, 0, 3][sizeBytes] ?? 1);
  view.setBigUint64(offset + 4, BigInt(address), true);
}

/** Fixed ACPI description table, revision 3: registers of the ICH9. */
function fixedDescription(board: AcpiBoard): AcpiTable {
  const body = new Uint8Array(fadtBodySizeBytes);
  const view = new DataView(body.buffer);
  // Offsets as in the specification, which counts from the start of the table.
  const at = (offset: number): number => offset - 36;
  const pm = board.powerManagement;
  const pm1Event = pm.base + powerManagementOffsets.pm1Event;
  const pm1Control = pm.base + powerManagementOffsets.pm1Control;
  const timer = pm.base + powerManagementOffsets.timer;
  const gpe0 = pm.base + powerManagementOffsets.gpe0;
  view.setUint16(at(46), pm.sciInterrupt, true);
  if (pm.mode !== undefined) {
    view.setUint32(at(48), pm.mode.commandPort, true);
    view.setUint8(at(52), pm.mode.enable);
    view.setUint8(at(53), pm.mode.disable);
  }
  view.setUint32(at(56), pm1Event, true);
  view.setUint32(at(64), pm1Control, true);
  view.setUint32(at(76), timer, true);
  view.setUint32(at(80), gpe0, true);
  body.set([4, 2, 0, 4, gpe0SizeBytes], at(88));
  // C2 and C3 latencies above 100 and 1000 µs mean that the states do not exist.
  view.setUint16(at(96), 0xfff, true);
  view.setUint16(at(98), 0xfff, true);
  if (board.hasRtc) view.setUint8(at(108), rtcCenturyIndex);
  view.setUint16(at(109),
    bootArchitecture.legacyDevicesMask
    | (board.hasKeyboardController ? bootArchitecture.keyboardControllerMask : 0)
    | (board.hasVga ? 0 : bootArchitecture.noVgaMask)
    | (board.hasRtc ? 0 : bootArchitecture.noCmosRtcMask), true);
  view.setUint32(at(112),
    fixedFeature.wbinvdMask | fixedFeature.processorC1Mask | fixedFeature.noSleepButtonMask | fixedFeature.rtcWakeMask | fixedFeature.resetRegisterMask, true);
  genericAddress(view, at(116), pm.reset.port, 1);
  view.setUint8(at(128), pm.reset.value);
  genericAddress(view, at(148), pm1Event, 4);
  genericAddress(view, at(172), pm1Control, 2);
  genericAddress(view, at(208), timer, 4);
  genericAddress(view, at(220), gpe0, gpe0SizeBytes);
  const pointers: TablePointer[] = [
    { offset: fadtOffsets.firmwareControl, sizeBytes: 4, target: "FACS" },
    { offset: fadtOffsets.dsdt, sizeBytes: 4, target: "DSDT" },
    { offset: fadtOffsets.extendedDsdt, sizeBytes: 8, target: "DSDT" },
  ];
  return systemTable("FACP", 3, [body], pointers);
}

function firmwareControl(): AcpiTable {
  const bytes = new Uint8Array(64);
  bytes.set(ascii("FACS"), 0);
  bytes[4] = bytes.length;
  return { name: "FACS", bytes, alignment: 64, pointers: [], checksums: [] };
}

const madtType = { localApic: 0, ioApic: 1, interruptOverride: 2, localApicNmi: 4, localX2Apic: 9, localX2ApicNmi: 10 } as const;
const enabledMask = 1;
const dualPicMask = 1;
const activeHighLevel = 0x000d;
const allProcessors = 0xff;
const firstX2ApicId = 0xff;

function structure(sizeBytes: number, fill: (view: DataView) => void): Uint8Array {
  const bytes = new Uint8Array(sizeBytes);
  fill(new DataView(bytes.buffer));
  return bytes;
}

function interruptOverride(isaLine: number, globalInterrupt: number, flags: number): Uint8Array {
  return structure(10, (view) => {
    view.setUint8(0, madtType.interruptOverride);
    view.setUint8(1, 10);
    view.setUint8(3, isaLine);
    view.setUint32(4, globalInterrupt, true);
    view.setUint16(8, flags, true);
  });
}

function processorApic(apicId: number, uniqueId: number): Uint8Array {
  if (apicId < firstX2ApicId) return Uint8Array.of(madtType.localApic, 8, uniqueId & 0xff, apicId, enabledMask, 0, 0, 0);
  return structure(16, (view) => {
    view.setUint8(0, madtType.localX2Apic);
    view.setUint8(1, 16);
    view.setUint32(4, apicId, true);
    view.setUint32(8, enabledMask, true);
    view.setUint32(12, uniqueId, true);
  });
}

/** Multiple APIC description table. */
function interruptControllers(board: AcpiBoard): AcpiTable {
  const hasX2Apic = board.processors.some(({ apicId }) => apicId >= firstX2ApicId);
  return systemTable("APIC", 3, [
    structure(8, (view) => {
      view.setUint32(0, board.localApicBase, true);
      view.setUint32(4, dualPicMask, true);
    }),
    ...board.processors.map(({ apicId }, index) => processorApic(apicId, index)),
    structure(12, (view) => {
      view.setUint8(0, madtType.ioApic);
      view.setUint8(1, 12);
      view.setUint8(2, board.ioApic.id);
      view.setUint32(4, board.ioApic.base, true);
    }),
    interruptOverride(0, 2, 0),
    interruptOverride(board.powerManagement.sciInterrupt, board.powerManagement.sciInterrupt, activeHighLevel),
    Uint8Array.of(madtType.localApicNmi, 6, allProcessors, 0, 0, 1),
    ...(hasX2Apic ? [Uint8Array.of(madtType.localX2ApicNmi, 12, 0, 0, 0xff, 0xff, 0xff, 0xff, 1, 0, 0, 0)] : []),
  ]);
}

function highPrecisionTimer(base: number): AcpiTable {
  return systemTable("HPET", 1, [structure(20, (view) => {
    // Vendor 8086, 64-bit counter, legacy replacement, 3 comparators, revision 1.
    view.setUint32(0, 0x8086_a201, true);
    view.setUint8(5, 64);
    view.setBigUint64(8, BigInt(base), true);
  })]);
}

function memoryMappedConfiguration(pci: AcpiPci): AcpiTable {
  return systemTable("MCFG", 1, [structure(24, (view) => {
    view.setBigUint64(8, BigInt(pci.ecamBase), true);
    view.setUint8(19, pci.busCount - 1);
  })]);
}

/** Windows ACPI emulated devices table: the PM timer may be read once, without the chipset's old erratum. */
function emulatedDevices(): AcpiTable {
  return systemTable("WAET", 1, [Uint8Array.of(2, 0, 0, 0)]);
}

function rootTable(signature: "RSDT" | "XSDT", targets: readonly string[]): AcpiTable {
  const sizeBytes = signature === "RSDT" ? 4 : 8;
  return systemTable(signature, 1, [new Uint8Array(targets.length * sizeBytes)], targets.map((target, i) => ({ offset: i * sizeBytes, sizeBytes, target })));
}

function rootPointer(revision: 0 | 2): AcpiTable {
  const length = rootPointerLengths[revision];
  const bytes = new Uint8Array(length);
  bytes.set(ascii("RSD PTR "), 0);
  bytes.set(ascii("RINGMS"), 9);
  bytes[15] = revision;
  if (revision === 2) bytes[20] = length;
  return {
    name: rootPointerName,
    bytes,
    alignment: 16,
    pointers: [
      { offset: rsdtPointerOffset, sizeBytes: 4, target: "RSDT" },
      ...(revision === 2 ? [{ offset: xsdtPointerOffset, sizeBytes: 8 as const, target: "XSDT" }] : []),
    ],
    checksums: [{ offset: 8, start: 0, length: 20 }, ...(revision === 2 ? [{ offset: 32, start: 0, length }] : [])],
  };
}

/** All tables of a board, the root pointer first. Revision 2 adds the XSDT. */
export function createAcpiTables(board: AcpiBoard, revision: 0 | 2): AcpiTable[] {
  const listed = [
    fixedDescription(board),
    interruptControllers(board),
    ...(board.hpetBase === undefined ? [] : [highPrecisionTimer(board.hpetBase)]),
    ...(board.pci === undefined ? [] : [memoryMappedConfiguration(board.pci)]),
    emulatedDevices(),
  ];
  const names = listed.map(({ name }) => name);
  return [
    rootPointer(revision),
    firmwareControl(),
    systemTable("DSDT", 2, [concatBytes(createDefinitionBlock(board))]),
    ...listed,
    rootTable("RSDT", names),
    ...(revision === 2 ? [rootTable("XSDT", names)] : []),
  ];
}
