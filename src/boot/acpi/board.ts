/** What ACPI and SMBIOS tables tell of a board, as plain data; the machine makes it from its list of devices. */

/** An interrupt pin of a device on PCI bus 0. */
export interface PciInterruptRoute {
  /** 0 to 31. */
  readonly device: number;
  /** 0 is INTA#. */
  readonly pin: number;
  /** Global system interrupt, which is the pin of the I/O APIC. */
  readonly globalInterrupt: number;
}

/** Both ends are inclusive. */
export interface AddressWindow {
  readonly minimum: number;
  readonly maximum: number;
}

export interface AcpiProcessor {
  readonly apicId: number;
}

export interface AcpiPci {
  readonly ecamBase: number;
  readonly busCount: number;
  readonly ioWindows: readonly AddressWindow[];
  readonly memoryWindows: readonly AddressWindow[];
  /** Above 4 GiB. */
  readonly memoryWindow64?: AddressWindow;
  readonly interruptRoutes: readonly PciInterruptRoute[];
  /** The LPC bridge at 1F.0, below which the ISA devices hang. */
  readonly hasLpcBridge: boolean;
}

/** The ACPI registers of the ICH9, in I/O space. */
export interface AcpiPowerManagement {
  readonly base: number;
  readonly sciInterrupt: number;
  /** The port that turns ACPI mode on and off, and the bytes to write; absent where it is always on. */
  readonly mode?: { readonly commandPort: number; readonly enable: number; readonly disable: number };
  /** SLP_TYP in PM1_CNT for soft off. */
  readonly softOffSleepType: number;
  /** Port and byte that reset the machine. */
  readonly reset: { readonly port: number; readonly value: number };
}

export interface AcpiBoard {
  readonly processors: readonly AcpiProcessor[];
  readonly localApicBase: number;
  readonly ioApic: { readonly id: number; readonly base: number };
  readonly pci?: AcpiPci;
  readonly powerManagement: AcpiPowerManagement;
  /** Base ports and ISA interrupts of 16550s, COM1 first. */
  readonly serialPorts: readonly { readonly port: number; readonly interrupt: number }[];
  readonly hasKeyboardController: boolean;
  readonly hasRtc: boolean;
  readonly hasVga: boolean;
  readonly hpetBase?: number;
  /** Where the generation ID is, and the general-purpose event of its change. */
  readonly generationId?: { readonly address: number; readonly event: number };
}

/** Distances from the base of the ACPI registers (Intel ICH9 datasheet, section 13.8.3). */
export const powerManagementOffsets = { pm1Event: 0x00, pm1Control: 0x04, timer: 0x08, gpe0: 0x20 } as const;
export const gpe0SizeBytes = 16;
export const powerManagementSizeBytes = 0x80;

/** ICH9 as QEMU and firmware in the field lay it out. */
export const defaultPowerManagement: AcpiPowerManagement = {
  base: 0x600,
  sciInterrupt: 9,
  mode: { commandPort: 0xb2, enable: 0x02, disable: 0x03 },
  softOffSleepType: 0,
  reset: { port: 0xcf9, value: 0x0f },
};
