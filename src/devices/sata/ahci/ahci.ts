/** AHCI host bus adapter: generic host control and its ports behind a PCI function (AHCI 1.3.1, 2 and 3.1; ICH9 SATA controller). */
import { boolean, list, object, type Shape } from "../../../base/shape.ts";
import { invariant } from "../../../base/errors.ts";
import type { GuestMemory, RegisterBlock } from "../../contract.ts";
import { PciFunction, type PciFunctionPorts, type PciFunctionState, pciFunctionStateShape } from "../../pci/function.ts";
import type { Msi } from "../../pci/msi.ts";
import type { SataDrive } from "../contract.ts";
import { AhciPort, type AhciPortState, ahciPortStateShape, portBytes } from "./port.ts";

const registersBytes = 0x1000;
const firstPortOffset = 0x100;
const maximumPorts = 6;

const Register = { capabilities: 0x00, globalControl: 0x04, interruptStatus: 0x08, portsImplemented: 0x0c, version: 0x10 } as const;

/** 64-bit addresses, command list override, AHCI only, generation 1 links, 32 command slots. */
const capabilities = 0x8000_0000 + 0x0100_0000 + 0x0010_0000 + 0x0004_0000 + (31 << 8);
const version13 = 0x0001_0300;
const hostResetMask = 0x1;
const interruptEnableMask = 0x2;
const ahciEnableMask = 0x8000_0000;
/** The address map register: the controller works as AHCI, not as IDE. */
const addressMapOffset = 0x90;
const addressMapAhci = 0x40;

export interface AhciPorts extends PciFunctionPorts {
  readonly memory: GuestMemory;
}

export interface AhciState {
  readonly pci: PciFunctionState;
  isInterruptEnabled: boolean;
  readonly ports: readonly AhciPortState[];
}

export function ahciStateShape(portCount: number): Shape<AhciState> {
  return object<AhciState>({ pci: pciFunctionStateShape(), isInterruptEnabled: boolean, ports: list(ahciPortStateShape, portCount) });
}

export class Ahci {
  readonly state: AhciState;
  readonly pciFunction: PciFunction;
  readonly #portModels: readonly AhciPort[];
  readonly #msi: Msi;
  #wasInterrupting = false;
  #isBuilt = false;

  /** `drives` are on ports 0, 1, …; one port at least exists. */
  constructor(drives: readonly (SataDrive | undefined)[], ports: AhciPorts) {
    invariant(drives.length >= 1 && drives.length <= maximumPorts, "the controller has one to six ports");
    this.pciFunction = new PciFunction(
      {
        vendorId: 0x8086,
        deviceId: 0x2922,
        revisionId: 2,
        classCode: 0x010601,
        subsystemVendorId: 0x1af4,
        subsystemId: 0x1100,
        interruptPin: 1,
      },
      ports,
      [{ kind: "memory32", index: 5, sizeBytes: registersBytes, registers: this.#registers, name: "ahci" }],
    );
    this.pciFunction.setFixed(addressMapOffset, 1, addressMapAhci);
    this.#msi = this.pciFunction.addMsi();
    this.#msi.onControlChange(() => this.#update(false));
    this.#portModels = drives.map(
      (drive) =>
        new AhciPort(drive, {
          memory: ports.memory,
          interruptChanged: (isNew) => this.#update(isNew),
          canMasterBus: () => this.pciFunction.isBusMaster,
        }),
    );
    this.state = {
      pci: this.pciFunction.state,
      isInterruptEnabled: false,
      ports: this.#portModels.map((port) => port.state),
    };
    this.#isBuilt = true;
  }

  restore(saved: AhciState): void {
    this.pciFunction.restore(saved.pci);
    this.state.isInterruptEnabled = saved.isInterruptEnabled;
    this.#portModels.forEach((port, i) => port.restore(saved.ports[i]));
    this.#update(false);
  }

  reset(): void {
    this.#resetHost();
    this.pciFunction.reset();
  }

  readonly #registers: RegisterBlock = {
    read: (offset, sizeBytes) => {
      const value = this.#read(offset & ~3) >>> (8 * (offset & 3));
      return sizeBytes === 4 ? value : value & ((1 << (8 * sizeBytes)) - 1);
    },
    // The specification lets software write doublewords only.
    write: (offset, sizeBytes, value) => {
      if (sizeBytes === 4 && (offset & 3) === 0) this.#write(offset, value);
    },
  };

  #read(offset: number): number {
    if (offset >= firstPortOffset) {
      return this.#portModels[Math.floor((offset - firstPortOffset) / portBytes)]?.read(offset % portBytes) ?? 0;
    }
    switch (offset) {
      case Register.capabilities:
        return capabilities + this.#portModels.length - 1;
      case Register.globalControl:
        return ahciEnableMask + (this.state.isInterruptEnabled ? interruptEnableMask : 0);
      case Register.interruptStatus:
        return this.#interruptStatus;
      case Register.portsImplemented:
        return (1 << this.#portModels.length) - 1;
      case Register.version:
        return version13;
      default:
        return 0;
    }
  }

  #write(offset: number, value: number): void {
    if (offset >= firstPortOffset) {
      this.#portModels[Math.floor((offset - firstPortOffset) / portBytes)]?.write(offset % portBytes, value);
    } else if (offset === Register.globalControl) {
      if ((value & hostResetMask) !== 0) this.#resetHost();
      else this.state.isInterruptEnabled = (value & interruptEnableMask) !== 0;
      this.#update(false);
    } else if (offset === Register.interruptStatus) {
      // A port's bit is the port's status; clearing it there clears it here.
      this.#update(false);
    }
  }

  get #interruptStatus(): number {
    return this.#portModels.reduce((bits, port, i) => bits | (port.isInterrupting ? 1 << i : 0), 0);
  }

  #resetHost(): void {
    this.state.isInterruptEnabled = false;
    for (const port of this.#portModels) port.reset();
  }

  #update(isNew: boolean): void {
    // Ports report while they are being built; nothing is enabled then.
    if (!this.#isBuilt) return;
    const isInterrupting = this.state.isInterruptEnabled && this.#interruptStatus !== 0;
    this.pciFunction.setInterrupt(isInterrupting);
    if (isInterrupting && (isNew || !this.#wasInterrupting)) this.#msi.signal();
    this.#wasInterrupting = isInterrupting;
  }
}
