/** The differentiated system description table: the devices that an operating system cannot find by looking for them. */
import {
  argument, createDwordField, device, eisaId, equal, integer, method, name, nameString, notify, or, otherwise, packageOf, returnValue, scope, string, uuid, when,
  type Aml,
} from "./aml.ts";
import { gpe0SizeBytes, powerManagementOffsets, powerManagementSizeBytes, type AcpiBoard, type AcpiPci } from "./board.ts";
import { busNumbers, ioPorts, ioWindow, isaInterrupt, memoryRange, memoryWindow32, memoryWindow64, resourceTemplate } from "./resources.ts";

const present = 0x0f;
const anyFunction = 0xffff;
const pciHostBridgeControlUuid = "33DB4D5B-1FF7-401C-9657-7441C03DD766";
const unrecognizedUuidMask = 0x04;
const ecamBytesPerBus = 0x10_0000;
/** What the device is notified of. */
const generationChanged = 0x80;

function isaDevice(path: string, identifier: string, resources: Aml, uniqueId?: number): Aml {
  return device(path,
    name("_HID", eisaId(identifier)),
    ...(uniqueId === undefined ? [] : [name("_UID", integer(uniqueId))]),
    name("_STA", integer(present)),
    name("_CRS", resources));
}

function isaDevices(board: AcpiBoard): Aml[] {
  const devices: Aml[] = [];
  if (board.hasRtc) devices.push(isaDevice("RTC", "PNP0B00", resourceTemplate(ioPorts(0x70, 8), isaInterrupt(8))));
  if (board.hasKeyboardController) {
    devices.push(
      isaDevice("KBD", "PNP0303", resourceTemplate(ioPorts(0x60, 1), ioPorts(0x64, 1), isaInterrupt(1))),
      isaDevice("MOU", "PNP0F13", resourceTemplate(isaInterrupt(12))),
    );
  }
  board.serialPorts.forEach(({ port, interrupt }, index) => {
    devices.push(isaDevice(`COM${index + 1}`, "PNP0501", resourceTemplate(ioPorts(port, 8), isaInterrupt(interrupt)), index + 1));
  });
  return devices;
}

/** Grants what the system asks for: there is no firmware that would want to keep a feature for itself. */
function operatingSystemCapabilities(): Aml {
  return method("_OSC", 4,
    createDwordField(argument(3), integer(0), "CDW1"),
    when(equal(argument(0), uuid(pciHostBridgeControlUuid)), returnValue(argument(3))),
    otherwise(or(nameString("CDW1"), integer(unrecognizedUuidMask), nameString("CDW1")), returnValue(argument(3))));
}

function interruptRouting(pci: AcpiPci): Aml {
  const routes = pci.interruptRoutes.map(({ device: slot, pin, globalInterrupt }) =>
    packageOf([integer(slot * 0x1_0000 + anyFunction), integer(pin), integer(0), integer(globalInterrupt)]));
  return name("_PRT", packageOf(routes));
}

function hostBridge(pci: AcpiPci, board: AcpiBoard): Aml {
  const windows = [
    busNumbers(0, pci.busCount - 1),
    ...(pci.ioWindows.some(({ minimum, maximum }) => minimum <= 0xcf8 && maximum >= 0xcff) ? [] : [ioPorts(0xcf8, 8)]),
    ...pci.ioWindows.map(({ minimum, maximum }) => ioWindow(minimum, maximum)),
    ...pci.memoryWindows.map(({ minimum, maximum }) => memoryWindow32(minimum, maximum, maximum < 0x10_0000)),
    ...(pci.memoryWindow64 === undefined ? [] : [memoryWindow64(pci.memoryWindow64.minimum, pci.memoryWindow64.maximum)]),
  ];
  return device("PCI0",
    name("_HID", eisaId("PNP0A08")),
    name("_CID", eisaId("PNP0A03")),
    name("_UID", integer(0)),
    name("_BBN", integer(0)),
    operatingSystemCapabilities(),
    name("_CRS", resourceTemplate(...windows)),
    interruptRouting(pci),
    ...(pci.hasLpcBridge ? [device("ISA", name("_ADR", integer(0x1f_0000)), ...isaDevices(board))] : []));
}

/** Ranges that belong to the board and to no driver. */
function boardResources(board: AcpiBoard): Aml {
  const { base } = board.powerManagement;
  return device("BRD",
    name("_HID", eisaId("PNP0C02")),
    name("_CRS", resourceTemplate(
      ioPorts(base + powerManagementOffsets.pm1Event, powerManagementOffsets.gpe0),
      ioPorts(base + powerManagementOffsets.gpe0, gpe0SizeBytes),
      ioPorts(base + powerManagementOffsets.gpe0 + gpe0SizeBytes, powerManagementSizeBytes - powerManagementOffsets.gpe0 - gpe0SizeBytes),
      ...(board.pci === undefined ? [] : [memoryRange(board.pci.ecamBase, board.pci.busCount * ecamBytesPerBus)]),
    )));
}

/** Microsoft, "Virtual Machine Generation ID": systems find it by its compatible ID, and its bytes by the package ADDR. */
function generationId({ address, event }: NonNullable<AcpiBoard["generationId"]>): Aml[] {
  const handler = `_E${event.toString(16).toUpperCase().padStart(2, "0")}`;
  return [
    scope("\\_SB", device("VGEN",
      name("_HID", string("RING0001")),
      name("_CID", string("VM_Gen_Counter")),
      name("_DDN", string("VM_Gen_Counter")),
      name("ADDR", packageOf([integer(address % 2 ** 32), integer(Math.floor(address / 2 ** 32))])))),
    scope("\\_GPE", method(handler, 0, notify("\\_SB.VGEN", integer(generationChanged)))),
  ];
}

/** The table's definition block, without the table header. */
export function createDefinitionBlock(board: AcpiBoard): Aml[] {
  const { softOffSleepType } = board.powerManagement;
  return [
    scope("\\_SB",
      ...(board.pci === undefined ? [] : [hostBridge(board.pci, board)]),
      ...(board.pci?.hasLpcBridge === true ? [] : isaDevices(board)),
      boardResources(board),
      ...(board.hpetBase === undefined ? [] : [device("HPET",
        name("_HID", eisaId("PNP0103")),
        name("_UID", integer(0)),
        name("_CRS", resourceTemplate(memoryRange(board.hpetBase, 0x400, false))))]),
      ...board.processors.map((_, index) => device(`C${index.toString(16).toUpperCase().padStart(3, "0")}`,
        name("_HID", string("ACPI0007")),
        name("_UID", integer(index))))),
    ...(board.generationId === undefined ? [] : generationId(board.generationId)),
    name("\\_S5", packageOf([integer(softOffSleepType), integer(softOffSleepType), integer(0), integer(0)])),
  ];
}
