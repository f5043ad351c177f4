/**
 * ICH9 LPC bridge, device 31 function 0: ACPI base, PIRQ routing to PIC and I/O APIC, chipset configuration registers
 * (Intel I/O Controller Hub 9 Family datasheet, chapters 10.1 and 13.1).
 */
import { bytes, checked, object, type Shape, uint32, words16 } from "../../../base/shape.ts";
import type { IrqLine, Mapping, RegisterBlock } from "../../contract.ts";
import type { InterruptRouter } from "../bus.ts";
import { PciFunction, type PciFunctionPorts, type PciFunctionState, pciFunctionStateShape } from "../function.ts";

const pmBaseOffset = 0x40;
const acpiControlOffset = 0x44;
const pirqAToDOffset = 0x60;
const pirqEToHOffset = 0x68;
const gpioBaseOffset = 0x48;
const gpioControlOffset = 0x4c;
const serialIrqControlOffset = 0x64;
const ioDecodeOffset = 0x80;
const enablesOffset = 0x82;
const generalPmConfigurationOffset = 0xa0;
const firmwareHubOffset = 0xd0;
const biosControlOffset = 0xdc;
const rootComplexBaseOffset = 0xf0;

const acpiEnableMask = 0x80;
const sciSelectMask = 0x07;
const pirqDisabledMask = 0x80;
const pirqCount = 8;
const firstIoApicPin = 16;
/** ISA interrupts that a PIRQ may be steered to; the others are reserved in the datasheet. */
const steerableInterrupts: readonly number[] = [3, 4, 5, 6, 7, 9, 10, 11, 12, 14, 15];

const rootComplexSizeBytes = 0x4000;
const rootComplexEnableMask = 1;
/** The chipset configuration registers that exist here: interrupt routes of devices 31 to 25, and general control. */
const interruptRouteOffsets: Readonly<Record<number, number>> = {
  31: 0x3140,
  29: 0x3144,
  28: 0x3146,
  27: 0x3148,
  26: 0x314c,
  25: 0x3150,
};
const generalControlOffset = 0x3410;
const defaultInterruptRoute = 0x3210;
const dmiBridgeDevice = 30;

/** What firmware in the field (and an operating system's ACPI tables after it) expects: PIRQs on 10 and 11. */
const firmwarePirqRoutes: readonly number[] = [10, 10, 11, 11, 10, 10, 11, 11];

export interface LpcBridgePorts extends PciFunctionPorts {
  irq(line: number): IrqLine;
  /** The ACPI I/O block moved; undefined while it is switched off. */
  readonly pmBaseChanged: (base: number | undefined) => void;
  /** The system control interrupt was moved to another ISA interrupt or I/O APIC pin. */
  readonly sciChanged: (line: number) => void;
}

export interface LpcBridgeState {
  readonly pci: PciFunctionState;
  readonly interruptRoutes: Uint16Array;
  generalControl: number;
  /** Levels of the 4 × 32 interrupt pins. */
  readonly pins: Uint8Array;
}

export const lpcBridgeStateShape: Shape<LpcBridgeState> = object({
  pci: pciFunctionStateShape(), interruptRoutes: words16(32), generalControl: uint32,
  pins: checked(bytes(4 * 32), (levels) => levels.every((level) => level <= 1), "levels of 0 and 1"),
});

export class LpcBridge implements InterruptRouter {
  readonly state: LpcBridgeState;
  readonly pciFunction: PciFunction;
  readonly #ports: LpcBridgePorts;
  readonly #rootComplex: Mapping;
  readonly #isaLines: Map<number, IrqLine>;
  readonly #ioApicPins: readonly IrqLine[];
  readonly #pirqHolders: Uint8Array = new Uint8Array(pirqCount);

  constructor(ports: LpcBridgePorts) {
    this.#ports = ports;
    this.pciFunction = new PciFunction(
      {
        vendorId: 0x8086,
        deviceId: 0x2918,
        revisionId: 2,
        classCode: 0x060100,
        subsystemVendorId: 0x1af4,
        subsystemId: 0x1100,
        isMultiFunction: true,
      },
      ports,
    );
    this.state = {
      pci: this.pciFunction.state,
      interruptRoutes: new Uint16Array(32).fill(defaultInterruptRoute),
      generalControl: 0,
      pins: new Uint8Array(4 * 32),
    };
    this.#isaLines = new Map(steerableInterrupts.map((line) => [line, ports.irq(line)]));
    this.#ioApicPins = Array.from({ length: pirqCount }, (_, pirq) => ports.irq(firstIoApicPin + pirq));
    this.#rootComplex = ports.memoryBus.map(undefined, rootComplexSizeBytes, this.#chipsetRegisters, "ich9 rcba");
    this.#defineRegisters();
  }

  /** The ACPI I/O block's base, or undefined while it is switched off. */
  get pmBase(): number | undefined {
    const { config } = this.pciFunction;
    if ((config.get(acpiControlOffset, 1) & acpiEnableMask) === 0) return undefined;
    return config.get(pmBaseOffset, 2) & 0xff80;
  }

  /** The line of the system control interrupt: 9, 10, 11 or 20, 21 (Table of SCI_IRQ_SEL). */
  get sciLine(): number {
    return [9, 10, 11, 9, 20, 21, 20, 21][this.pciFunction.config.get(acpiControlOffset, 1) & sciSelectMask];
  }

  setPin(device: number, pin: number, level: boolean): void {
    const wire = 4 * device + pin;
    if ((this.state.pins[wire] !== 0) === level) return;
    this.state.pins[wire] = level ? 1 : 0;
    this.#recountHolders();
  }

  isaInterrupt(device: number, pin: number): number {
    const route = this.#pirqRoute(this.#pirq(device, pin));
    return (route & pirqDisabledMask) === 0 ? route & 0x0f : 0xff;
  }

  /** The I/O APIC pin (global system interrupt) of a device's pin: what ACPI's _PRT says. `pin` 0 is INTA#. */
  ioApicPin(device: number, pin: number): number {
    return firstIoApicPin + this.#pirq(device, pin);
  }

  /** Sets up ACPI and PIRQ routes as firmware does, for boots without firmware. */
  assignResources(pmBase: number): void {
    firmwarePirqRoutes.forEach((line, pirq) => this.pciFunction.writeConfig(pirqRegister(pirq), 1, line));
    this.pciFunction.writeConfig(pmBaseOffset, 4, pmBase);
    this.pciFunction.writeConfig(acpiControlOffset, 1, acpiEnableMask);
  }

  /** Continues from a saved state. */
  restore(saved: LpcBridgeState): void {
    this.pciFunction.restore(saved.pci);
    this.state.interruptRoutes.set(saved.interruptRoutes);
    this.state.generalControl = saved.generalControl;
    this.state.pins.set(saved.pins);
    this.#update();
  }

  reset(): void {
    this.pciFunction.reset();
    this.state.interruptRoutes.fill(defaultInterruptRoute);
    this.state.generalControl = 0;
    this.#update();
  }

  #update(): void {
    this.#relocateRootComplex();
    this.#acpiChanged();
    this.#recountHolders();
  }

  readonly #chipsetRegisters: RegisterBlock = {
    read: (offset, sizeBytes) => {
      let value = 0;
      for (let i = 0; i < sizeBytes; i++) value |= this.#readChipsetByte(offset + i) << (8 * i);
      return value >>> 0;
    },
    write: (offset, sizeBytes, value) => {
      for (let i = 0; i < sizeBytes; i++) this.#writeChipsetByte(offset + i, (value >>> (8 * i)) & 0xff);
      this.#recountHolders();
    },
  };

  #readChipsetByte(offset: number): number {
    if (offset >= generalControlOffset && offset < generalControlOffset + 4) {
      return (this.state.generalControl >>> (8 * (offset - generalControlOffset))) & 0xff;
    }
    const device = routedDevice(offset);
    if (device === undefined) return 0;
    return (this.state.interruptRoutes[device] >> (8 * (offset - interruptRouteOffsets[device]))) & 0xff;
  }

  #writeChipsetByte(offset: number, value: number): void {
    if (offset >= generalControlOffset && offset < generalControlOffset + 4) {
      const shift = 8 * (offset - generalControlOffset);
      this.state.generalControl = ((this.state.generalControl & ~(0xff << shift)) | (value << shift)) >>> 0;
      return;
    }
    const device = routedDevice(offset);
    if (device === undefined) return;
    const shift = 8 * (offset - interruptRouteOffsets[device]);
    const old = this.state.interruptRoutes[device];
    // Three bits a pin: bits 3, 7, 11 and 15 are reserved.
    this.state.interruptRoutes[device] = ((old & ~(0xff << shift)) | (value << shift)) & 0x7777;
  }

  #defineRegisters(): void {
    const { config } = this.pciFunction;
    this.pciFunction.setFixed(pmBaseOffset, 4, 1);
    config.permit(pmBaseOffset, 4, 0xff80);
    config.permit(acpiControlOffset, 1, acpiEnableMask | sciSelectMask);
    this.pciFunction.setFixed(gpioBaseOffset, 4, 1);
    config.permit(gpioBaseOffset, 4, 0xff80);
    config.permit(gpioControlOffset, 1, 0x10);
    for (let pirq = 0; pirq < pirqCount; pirq++) {
      this.pciFunction.setFixed(pirqRegister(pirq), 1, pirqDisabledMask);
      config.permit(pirqRegister(pirq), 1, 0x8f);
    }
    this.pciFunction.setFixed(serialIrqControlOffset, 1, 0x10);
    config.permit(serialIrqControlOffset, 1, 0xff);
    config.permit(ioDecodeOffset, 2, 0x1377);
    config.permit(enablesOffset, 2, 0x3f0f);
    config.permit(generalPmConfigurationOffset, 2, 0xffff);
    config.permit(firmwareHubOffset, 4, 0xffffffff);
    config.permit(firmwareHubOffset + 4, 2, 0xffff);
    config.permit(biosControlOffset, 1, 0x0f);
    config.permit(rootComplexBaseOffset, 4, 0xffffc001);
    this.pciFunction.addHook({ offset: pmBaseOffset, sizeBytes: 5, afterWrite: () => this.#acpiChanged() });
    this.pciFunction.addHook({ offset: pirqAToDOffset, sizeBytes: 12, afterWrite: () => this.#driveLines() });
    this.pciFunction.addHook({ offset: rootComplexBaseOffset, sizeBytes: 4, afterWrite: () => this.#relocateRootComplex() });
  }

  #acpiChanged(): void {
    this.#ports.pmBaseChanged(this.pmBase);
    this.#ports.sciChanged(this.sciLine);
  }

  #relocateRootComplex(): void {
    const value = this.pciFunction.config.get(rootComplexBaseOffset, 4);
    this.#rootComplex.relocate((value & rootComplexEnableMask) === 0 ? undefined : (value & ~0x3fff) >>> 0);
  }

  /** Devices up to 24 and the DMI bridge use PIRQE–H by rotation; 25 to 31 what the interrupt route registers say. */
  #pirq(device: number, pin: number): number {
    if (device < 25 || device === dmiBridgeDevice) return 4 + ((device + pin) & 3);
    return (this.state.interruptRoutes[device] >> (4 * pin)) & 7;
  }

  #pirqRoute(pirq: number): number {
    return this.pciFunction.config.get(pirqRegister(pirq), 1);
  }

  #recountHolders(): void {
    this.#pirqHolders.fill(0);
    this.state.pins.forEach((level, wire) => {
      this.#pirqHolders[this.#pirq(wire >> 2, wire & 3)] += level;
    });
    this.#driveLines();
  }

  #driveLines(): void {
    const isaLevels = new Set<number>();
    for (let pirq = 0; pirq < pirqCount; pirq++) {
      const isAsserted = this.#pirqHolders[pirq] > 0;
      const route = this.#pirqRoute(pirq);
      if (isAsserted && (route & pirqDisabledMask) === 0) isaLevels.add(route & 0x0f);
      this.#ioApicPins[pirq].set(isAsserted);
    }
    for (const [line, wire] of this.#isaLines) wire.set(isaLevels.has(line));
  }
}

function pirqRegister(pirq: number): number {
  return pirq < 4 ? pirqAToDOffset + pirq : pirqEToHOffset + pirq - 4;
}

/** The device whose interrupt route register holds the byte at `offset`. */
function routedDevice(offset: number): number | undefined {
  for (const [device, start] of Object.entries(interruptRouteOffsets)) {
    if (offset === start || offset === start + 1) return Number(device);
  }
  return undefined;
}
