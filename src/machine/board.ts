/** The board: every device, how they are wired, and what the ACPI tables say of them. The only list of devices. */
import type { MemoryMapping } from "../accel/contract.ts";
import { UserError } from "../base/errors.ts";
import type { Shape } from "../base/shape.ts";
import type { AcpiBoard } from "../boot/acpi/board.ts";
import { defaultPowerManagement } from "../boot/acpi/board.ts";
import { generationIdBase, hpetBase, ioApicBase, localApicBase, type MemoryMap } from "../boot/memory-map.ts";
import { generationChangeEvent, vmGenerationId, type VmGenerationId } from "../devices/acpi/vm-generation-id/index.ts";
import { pmBlock, type PmBlockDevice } from "../devices/acpi/pm-block/index.ts";
import { DispatchBus, portSpaceBytes } from "../devices/bus.ts";
import type { VirtualClock } from "../devices/clock.ts";
import type { Device, GuestMemory, IrqLine } from "../devices/contract.ts";
import { debugcon } from "../devices/debug/debugcon/index.ts";
import { isaDebugExit } from "../devices/debug/isa-debug-exit/index.ts";
import { vga, type VgaDevice } from "../devices/display/vga/index.ts";
import { fwCfg } from "../devices/firmware/fw-cfg/index.ts";
import type { FwCfg } from "../devices/firmware/fw-cfg/fw-cfg.ts";
import { i8042 } from "../devices/input/i8042/index.ts";
import { ioapic } from "../devices/irq/ioapic/index.ts";
import { ApicBus } from "../devices/irq/local-apic/index.ts";
import { decodeMessageSignal } from "../devices/irq/message.ts";
import { pic } from "../devices/irq/pic/index.ts";
import { fanOut, wiredOr } from "../devices/irq/wired-or.ts";
import { PciBus } from "../devices/pci/bus.ts";
import type { PciAddress, PciDeviceContext } from "../devices/pci/contract.ts";
import { hostBridge, type HostBridge, type ShadowRegion } from "../devices/pci/host-bridge/index.ts";
import { lpcBridge, type LpcBridge } from "../devices/pci/lpc-bridge/index.ts";
import { resetPorts } from "../devices/reset/reset-ports/index.ts";
import { ahci } from "../devices/sata/ahci/index.ts";
import { uart16550, type Uart16550 } from "../devices/serial/uart16550/index.ts";
import { hpet, LegacyGate } from "../devices/timers/hpet/index.ts";
import { pit } from "../devices/timers/pit/index.ts";
import { rtc } from "../devices/timers/rtc/index.ts";
import { virtioBlock } from "../devices/virtio/blk/index.ts";
import { virtioEntropy } from "../devices/virtio/rng/index.ts";
import type { MachineConfig, MachineEnd } from "./config.ts";
import { cmosContents } from "./cmos.ts";
import type { SavedComponents } from "./saved-components.ts";

/** What the board cannot do by itself. */
export interface BoardWires {
  map(mapping: MemoryMapping): void;
  readonly memory: GuestMemory;
  readonly clock: VirtualClock;
  readonly memoryMap: MemoryMap;
  /** Where reads of a shadow area go when they do not go to RAM: offset of the firmware's copy, if any. */
  firmwareOffset(address: number): number | undefined;
  /** Puts the generation ID into memory at its place. */
  placeGenerationId(id: Uint8Array): void;
  /** INTR of the interrupt controllers, towards LINT0. */
  readonly interruptOutput: IrqLine;
  onEnd(end: MachineEnd): void;
  onReset(kind: "platform" | "processor"): void;
}

const serialPortPlaces = [
  { basePort: 0x3f8, irqLine: 4 }, { basePort: 0x2f8, irqLine: 3 }, { basePort: 0x3e8, irqLine: 4 }, { basePort: 0x2e8, irqLine: 3 },
];
const lowShadowStart = 0xc_0000;

/** A named device, as snapshots and `vm.state` list it. */
export interface BoardDevice {
  readonly name: string;
  readonly stateVersion: number;
  readonly stateShape: Shape<unknown>;
  readonly device: Device<unknown>;
}

/** What all definitions have in common, whichever bus they are for. */
interface Definition<Config, State, Context, Built extends Device<State>> {
  readonly name: string;
  readonly stateVersion: number;
  stateShape(config: Config): Shape<State>;
  create(config: Config, context: Context, state?: State): Built;
}

export class Board {
  readonly ports: DispatchBus = new DispatchBus(portSpaceBytes);
  readonly memoryBus: DispatchBus;
  readonly pci: PciBus = new PciBus();
  readonly apicBus: ApicBus = new ApicBus();
  readonly serialPorts: readonly Uart16550[];
  readonly pic: ReturnType<typeof pic.create>;
  readonly hostBridge: HostBridge;
  readonly lpcBridge: LpcBridge;
  readonly power: PmBlockDevice;
  readonly fwCfg: FwCfg;
  readonly vga: VgaDevice | undefined;
  readonly keyboard: ReturnType<typeof i8042.create> | undefined;
  readonly generationId: VmGenerationId | undefined;
  readonly devices: BoardDevice[] = [];
  readonly #config: MachineConfig;

  /** With `saved`, every device continues from there; otherwise as after power-on. */
  constructor(config: MachineConfig, wires: BoardWires, memoryBus: DispatchBus, saved?: SavedComponents) {
    this.#config = config;
    this.memoryBus = memoryBus;
    const { clock, memory } = wires;
    const lines: (() => IrqLine)[] = [];
    const context: PciDeviceContext = {
      ports: this.ports, memoryBus, clock, memory, pci: this.pci,
      signalMessage: (address, data) => this.apicBus.send(decodeMessageSignal(address, data)),
      irq: (line) => lines[line](),
    };
    const add = <Config, State, Built extends Device<State>>(
      definition: Definition<Config, State, PciDeviceContext, Built>, deviceConfig: Config, place: { readonly suffix?: string; readonly address?: PciAddress } = {},
    ): Built => {
      const name = definition.name + (place.suffix ?? "");
      const { stateVersion } = definition;
      const stateShape = definition.stateShape(deviceConfig);
      const { address } = place;
      const device = definition.create(deviceConfig, address === undefined ? context : { ...context, address }, saved?.take(name, stateVersion, stateShape));
      this.devices.push({ name, stateVersion, stateShape: stateShape as Shape<unknown>, device });
      return device;
    };

    this.pic = add(pic, { output: wires.interruptOutput });
    const ioApic = add(ioapic, { base: ioApicBase, deliver: (message) => this.apicBus.send(message) });
    this.apicBus.onEndOfInterrupt((vector) => ioApic.endOfInterrupt(vector));
    for (let line = 0; line < 24; line++) {
      const toIoApic = ioApic.input(line === 0 ? 2 : line);
      lines.push(wiredOr(line < 16 && line !== 2 ? fanOut(this.pic.input(line), toIoApic) : toIoApic));
    }

    const gate = new LegacyGate();
    if (config.devices.hpet) add(hpet, { base: hpetBase, legacyReplacement: (isActive) => gate.setClosed(isActive) });
    add(pit, { interrupt: gate.through(lines[0]()) });
    if (config.devices.rtc) {
      add(rtc, { startEpochMs: config.startEpochMs, contents: cmosContents(wires.memoryMap), interrupt: gate.through(lines[8]()) });
    }
    // Every program since the 386 opens the gate first thing; it is always open here.
    const a20: IrqLine = { set: () => {} };
    if (config.devices.keyboard) this.keyboard = add(i8042, { a20, onReset: () => wires.onReset("processor") });
    this.power = add(pmBlock, {
      base: undefined,
      sciLine: defaultPowerManagement.sciInterrupt,
      onPowerOff: () => wires.onEnd({ kind: "poweroff" }),
    });
    if (config.devices.generationId) {
      this.generationId = add(vmGenerationId, {
        fillRandom: (target) => config.fillRandom(target), place: (id) => wires.placeGenerationId(id),
        onChange: () => this.power.block.raiseGpe(generationChangeEvent),
      });
    }
    this.serialPorts = serialPortPlaces.slice(0, config.devices.serialPorts).map((place, port) =>
      add(uart16550, {
        ...place, transmit: (byte) => config.onSerial(port, byte), receiveReady: () => config.onSerialReady?.(port),
      }, { suffix: `@${port}` }));
    this.fwCfg = add(fwCfg, {});
    const { debugConsolePort, debugExitPort } = config.devices;
    if (debugConsolePort !== undefined) add(debugcon, { port: debugConsolePort, onByte: (byte) => config.onDebugConsole?.(byte) });
    if (debugExitPort !== undefined) {
      add(isaDebugExit, { port: debugExitPort, onExit: (status) => wires.onEnd({ kind: "debug-exit", status }) });
    }

    this.hostBridge = add(hostBridge, { shadowChanged: (region) => this.#mapShadow(wires, region) });
    // After the host bridge, whose port 0xCF8 register would cover 0xCF9.
    add(resetPorts, { a20, onReset: (kind) => wires.onReset(kind) });
    this.lpcBridge = add(lpcBridge, { pmBaseChanged: (base) => this.power.mapping.relocate(base) });
    if (config.devices.vga) {
      const rom = config.firmware?.vgaBios;
      this.vga = add(vga, rom === undefined ? {} : { rom }, { address: { device: 1, function: 0 } });
    }
    config.disks.forEach(({ backend, serial }, index) => add(virtioBlock, {
      disk: backend, ...(serial === undefined ? {} : { serial }),
      failed: (failure) => config.onDiskFailure?.(failure),
    }, { suffix: `@${index}` }));
    if (config.devices.random) add(virtioEntropy, { source: (target) => config.fillRandom(target) });
    if (config.cdrom !== undefined) {
      add(ahci, { drives: [{ kind: "cdrom", disc: config.cdrom }] }, { address: { device: 0x1f, function: 2 } });
    }
    if (config.firmware === undefined && saved === undefined) {
      this.lpcBridge.assignResources(defaultPowerManagement.base);
      this.pci.assignResources();
      this.hostBridge.openShadow();
      this.hostBridge.enableEcam();
      this.vga?.vga.programTextMode();
    }
  }

  /** A shadow area between 0xC0000 and 0xFFFFF reads RAM or the firmware's flash, and writes RAM or nothing. */
  #mapShadow(wires: BoardWires, region: ShadowRegion): void {
    const { start, sizeBytes, readsRam, writesRam } = region;
    const firmware = wires.firmwareOffset(start);
    const hasRam = start + sizeBytes <= wires.memoryMap.ram[0].sizeBytes || start < lowShadowStart;
    wires.map({
      address: start, sizeBytes,
      readOffset: readsRam && hasRam ? start : firmware,
      writeOffset: writesRam && hasRam ? start : undefined,
    });
  }

  /** What the tables tell of this board. */
  describe(processorCount: number): AcpiBoard {
    const { devices } = this.#config;
    return {
      processors: Array.from({ length: processorCount }, (_, apicId) => ({ apicId })),
      localApicBase,
      ioApic: { id: 0, base: ioApicBase },
      pci: {
        ecamBase: 0xb000_0000, busCount: 256,
        ioWindows: [{ minimum: 0, maximum: 0x0cf7 }, { minimum: 0x0d00, maximum: 0xffff }],
        memoryWindows: [{ minimum: 0xa_0000, maximum: 0xb_ffff }, { minimum: 0xc000_0000, maximum: 0xfebf_ffff }],
        interruptRoutes: this.pci.interruptRoutes(), hasLpcBridge: true,
      },
      powerManagement: defaultPowerManagement,
      serialPorts: serialPortPlaces.slice(0, devices.serialPorts).map(({ basePort, irqLine }) => ({ port: basePort, interrupt: irqLine })),
      hasKeyboardController: devices.keyboard,
      hasRtc: devices.rtc,
      hasVga: devices.vga,
      ...(devices.hpet ? { hpetBase } : {}),
      ...(devices.generationId ? { generationId: { address: generationIdBase, event: generationChangeEvent } } : {}),
    };
  }

  /** Host input for a serial port; returns how many bytes were accepted. */
  feedSerial(port: number, bytes: Uint8Array): number {
    const uart = this.serialPorts[port];
    if (uart === undefined) throw new UserError("BAD_CONFIG", `this machine has no serial port ${port}`);
    return uart.feed(bytes);
  }

  reset(): void {
    // Interrupt controllers, first in the list, come last: devices drop their lines while they are being reset.
    for (const { device } of this.devices.toReversed()) device.reset();
  }
}
