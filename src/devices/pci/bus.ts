/** PCI bus 0: slots, configuration access by address, interrupt pins, and the resource assignment that firmware would do. */
import { invariant, UserError } from "../../base/errors.ts";
import type { AccessSize } from "../contract.ts";
import type { BaseAddress } from "./base-address.ts";
import { allOnes } from "./config-space.ts";
import type { PciAddress } from "./contract.ts";
import type { PciFunction } from "./function.ts";
import { Config } from "./registers.ts";

/** Routes interrupt pins; `pin` is 0 for INTA# to 3 for INTD#. */
export interface InterruptRouter {
  setPin(device: number, pin: number, level: boolean): void;
  /** The ISA interrupt that the pin's PIRQ is wired to, for the Interrupt Line register. */
  isaInterrupt(device: number, pin: number): number;
  /** The I/O APIC input, which is the global system interrupt, that the pin is wired to. */
  ioApicPin(device: number, pin: number): number;
}

/** One line of ACPI's PCI routing table; `pin` is 0 for INTA#. */
export interface InterruptRoute {
  readonly device: number;
  readonly pin: number;
  readonly globalInterrupt: number;
}

/** Address ranges that {@link PciBus.assignResources} may give out; ends are exclusive. */
export interface ResourceWindows {
  readonly memory: { readonly start: number; readonly end: number };
  readonly io: { readonly start: number; readonly end: number };
}

const defaultResourceWindows: ResourceWindows = {
  memory: { start: 0xc000_0000, end: 0xfec0_0000 },
  io: { start: 0xc000, end: 0x10000 },
};

const deviceCount = 32;
const functionsPerDevice = 8;
/** Slot 0 is the host bridge, slot 1 is where guests expect a display, 0x1F the chipset. */
const firstFreeSlot = 2;
const endOfFreeSlots = 0x1e;

export class PciBus {
  readonly #functions: (PciFunction | undefined)[] = Array.from({ length: deviceCount * functionsPerDevice });
  /** How many functions of a device hold a pin down, indexed by 4 * device + pin. */
  readonly #pinHolders: Uint8Array = new Uint8Array(4 * deviceCount);
  #router: InterruptRouter | undefined;

  /** The chipset's interrupt router; pins that are already asserted are passed on to it. */
  connectRouter(router: InterruptRouter): void {
    this.#router = router;
    for (let wire = 0; wire < this.#pinHolders.length; wire++) {
      if (this.#pinHolders[wire] > 0) router.setPin(wire >> 2, wire & 3, true);
    }
  }

  /** Where the pins of all devices lead with an I/O APIC. */
  interruptRoutes(): InterruptRoute[] {
    const router = this.#router;
    if (router === undefined) return [];
    return Array.from({ length: 4 * deviceCount }, (_, wire) => {
      const device = wire >> 2;
      const pin = wire & 3;
      return { device, pin, globalInterrupt: router.ioApicPin(device, pin) };
    });
  }

  /** Plugs a function in and returns its address. Fails with a user error when the bus is full. */
  attach(pciFunction: PciFunction, wanted?: PciAddress): PciAddress {
    const address = wanted ?? { device: this.#freeSlot(), function: 0 };
    const index = address.device * functionsPerDevice + address.function;
    invariant(address.device < deviceCount && address.function < functionsPerDevice, "a PCI address is in range");
    invariant(this.#functions[index] === undefined, `PCI ${address.device}.${address.function} is free`);
    this.#functions[index] = pciFunction;
    const { interruptPin } = pciFunction;
    if (interruptPin !== 0) {
      let isAsserted = false;
      pciFunction.connectInterrupt({
        set: (level) => {
          if (level === isAsserted) return;
          isAsserted = level;
          this.#hold(address.device, interruptPin - 1, level);
        },
      });
    }
    return address;
  }

  function(address: PciAddress): PciFunction | undefined {
    return this.#functions[address.device * functionsPerDevice + address.function];
  }

  /** Every function plugged in, with its address, in bus order. */
  functions(): { readonly address: PciAddress; readonly pciFunction: PciFunction }[] {
    return this.#functions.flatMap((pciFunction, index) =>
      pciFunction === undefined ? [] : [{ address: { device: index >> 3, function: index & 7 }, pciFunction }],
    );
  }

  /** `location` holds bus, device and function as in an ECAM address shifted right by 12. */
  readConfig(location: number, offset: number, sizeBytes: AccessSize): number {
    const target = location < this.#functions.length ? this.#functions[location] : undefined;
    return target === undefined ? allOnes(sizeBytes) : target.readConfig(offset, sizeBytes);
  }

  writeConfig(location: number, offset: number, sizeBytes: AccessSize, value: number): void {
    if (location < this.#functions.length) this.#functions[location]?.writeConfig(offset, sizeBytes, value);
  }

  /**
   * Assigns BARs and interrupt lines and turns decoding on: what firmware does before an operating system starts,
   * for boots without firmware. Fails with a user error when the devices do not fit into the windows.
   */
  assignResources(windows: ResourceWindows = defaultResourceWindows): void {
    const plugged = this.functions();
    const regions = plugged.flatMap(({ pciFunction }) => pciFunction.baseAddresses);
    place(regions.filter(({ definition }) => definition.kind === "io"), windows.io, "I/O port");
    place(regions.filter(({ definition }) => definition.kind !== "io"), windows.memory, "memory");
    for (const { address, pciFunction } of plugged) {
      if (pciFunction.interruptPin !== 0 && this.#router !== undefined) {
        const line = this.#router.isaInterrupt(address.device, pciFunction.interruptPin - 1);
        pciFunction.config.write(Config.interruptLine, 1, line);
      }
      pciFunction.enable();
    }
  }

  #freeSlot(): number {
    for (let device = firstFreeSlot; device < endOfFreeSlots; device++) {
      const first = device * functionsPerDevice;
      if (this.#functions.slice(first, first + functionsPerDevice).every((entry) => entry === undefined)) return device;
    }
    throw new UserError("BAD_CONFIG", "The machine has no free PCI slot left: remove a disk or another device.");
  }

  #hold(device: number, pin: number, level: boolean): void {
    const wire = 4 * device + pin;
    const wasHeld = this.#pinHolders[wire] > 0;
    this.#pinHolders[wire] += level ? 1 : -1;
    const isHeld = this.#pinHolders[wire] > 0;
    if (isHeld !== wasHeld) this.#router?.setPin(device, pin, isHeld);
  }
}

/** Largest first, so that natural alignment leaves no holes. */
function place(regions: readonly BaseAddress[], window: ResourceWindows["memory"], what: string): void {
  let next = window.start;
  for (const region of regions.toSorted((a, b) => b.definition.sizeBytes - a.definition.sizeBytes)) {
    const { sizeBytes } = region.definition;
    // Regions smaller than a page get one of their own, so that a guest can map them separately.
    const alignment = region.definition.kind === "io" ? sizeBytes : Math.max(sizeBytes, 4096);
    const address = Math.ceil(next / alignment) * alignment;
    if (address + sizeBytes > window.end) {
      throw new UserError("BAD_CONFIG", `The devices' ${what} regions do not fit: remove a device.`);
    }
    region.assign(address);
    next = address + sizeBytes;
  }
}
