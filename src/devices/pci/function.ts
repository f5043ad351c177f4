/** A PCI function with a type 0 header: identity, BARs, capabilities, INTx, MSI and MSI-X (PCI Local Bus Specification 3.0, chapter 6). */
import { absent, boolean, bytes, object, optional, type Shape } from "../../base/shape.ts";
import { invariant } from "../../base/errors.ts";
import type { AccessSize, Bus, IrqLine, MessageSignal } from "../contract.ts";
import { BaseAddress, type BaseAddressDefinition } from "./base-address.ts";
import { PciConfigSpace } from "./config-space.ts";
import { Msi, msiCapability } from "./msi.ts";
import { Msix, msixCapability, msixResetState, type MsixState, msixStateShape } from "./msix.ts";
import {
  busMasterEnableMask,
  capabilitiesListMask,
  commandWritableMask,
  Config,
  configSizeBytes,
  interruptDisableMask,
  interruptStatusMask,
  ioSpaceEnableMask,
  memorySpaceEnableMask,
  multiFunctionMask,
} from "./registers.ts";

export interface PciIdentity {
  readonly vendorId: number;
  readonly deviceId: number;
  readonly revisionId?: number;
  /** Base class, subclass and programming interface: 0xCCSSPP. */
  readonly classCode: number;
  readonly subsystemVendorId?: number;
  readonly subsystemId?: number;
  /** INTA# to INTD# as 1 to 4; 0 for none. */
  readonly interruptPin?: 0 | 1 | 2 | 3 | 4;
  readonly isMultiFunction?: boolean;
}

/** What a function needs of the board. */
export interface PciFunctionPorts {
  readonly ports: Bus;
  readonly memoryBus: Bus;
  readonly signalMessage: MessageSignal;
}

export interface PciFunctionState {
  readonly config: Uint8Array;
  /** The function's interrupt request, whether INTx is disabled or not. */
  isInterruptRequested: boolean;
  msix: MsixState | undefined;
}

/** For a function with this many MSI-X vectors. */
export function pciFunctionStateShape(vectorCount = 0): Shape<PciFunctionState> {
  return object<PciFunctionState>({
    config: bytes(configSizeBytes), isInterruptRequested: boolean,
    msix: vectorCount === 0 ? absent : optional(msixStateShape(vectorCount)),
  });
}

/** Replaces plain bytes at `offset` of the configuration space, for windows such as virtio's PCI configuration access. */
export interface ConfigHook {
  readonly offset: number;
  readonly sizeBytes: number;
  /** Called before a read returns the bytes, so that it can refresh them. */
  beforeRead?(offset: number, sizeBytes: AccessSize): void;
  /** Called after software's write took effect. */
  afterWrite?(offset: number, sizeBytes: AccessSize, previous: Uint8Array): void;
}

export class PciFunction {
  readonly config: PciConfigSpace;
  readonly state: PciFunctionState;
  readonly baseAddresses: readonly BaseAddress[];
  msix: Msix | undefined;
  msi: Msi | undefined;
  readonly #identity: PciIdentity;
  readonly #ports: PciFunctionPorts;
  readonly #hooks: ConfigHook[] = [];
  /** Copies of writable bytes as they are after reset. */
  readonly #resetBytes: Uint8Array = new Uint8Array(configSizeBytes);
  #nextCapability = 0x40;
  #lastCapabilityLink: number = Config.capabilitiesPointer;
  #interrupt: IrqLine = { set: () => {} };

  constructor(identity: PciIdentity, ports: PciFunctionPorts, baseAddresses: readonly BaseAddressDefinition[] = []) {
    this.#identity = identity;
    this.#ports = ports;
    this.state = { config: new Uint8Array(configSizeBytes), isInterruptRequested: false, msix: undefined };
    this.config = new PciConfigSpace(this.state.config);
    this.#writeIdentity();
    this.config.permit(Config.command, 2, commandWritableMask);
    this.config.permit(Config.cacheLineSize, 1, 0xff);
    if (this.interruptPin !== 0) this.config.permit(Config.interruptLine, 1, 0xff);
    this.baseAddresses = baseAddresses.map((bar) => new BaseAddress(bar, this.config, ports.ports, ports.memoryBus));
    this.#resetBytes.set(this.config.bytes);
    this.#resetBytes.fill(0, Config.command, Config.command + 2);
    this.update();
  }

  get identity(): PciIdentity {
    return this.#identity;
  }

  get interruptPin(): number {
    return this.#identity.interruptPin ?? 0;
  }

  get command(): number {
    return this.config.get(Config.command, 2);
  }

  /** DMA and message-signalled interrupts need it. */
  get isBusMaster(): boolean {
    return (this.command & busMasterEnableMask) !== 0;
  }

  /** Adds a capability whose first byte is its id; the next pointer is filled in here. Returns its offset. */
  addCapability(body: Uint8Array, fixedOffset?: number): number {
    const offset = fixedOffset ?? this.#nextCapability;
    invariant(offset + body.length <= configSizeBytes, "capabilities fit into the configuration space");
    const next = this.config.get(this.#lastCapabilityLink, 1);
    for (let i = 0; i < body.length; i++) this.setFixed(offset + i, 1, i === 1 ? next : body[i]);
    this.setFixed(this.#lastCapabilityLink, 1, offset);
    this.#lastCapabilityLink = offset + 1;
    this.setFixed(Config.status, 2, this.config.get(Config.status, 2) | capabilitiesListMask);
    if (fixedOffset === undefined) this.#nextCapability = (offset + body.length + 3) & ~3;
    return offset;
  }

  /** Adds MSI-X whose table and pending bits the caller places into a BAR's register block. */
  addMsix(vectorCount: number, bar: number, tableOffset: number, pendingOffset: number): Msix {
    const offset = this.addCapability(msixCapability(vectorCount, bar, tableOffset, pendingOffset));
    this.config.permit(offset + 2, 2, 0xc000);
    const state = msixResetState(vectorCount);
    this.state.msix = state;
    const control = (): number => this.config.get(offset + 2, 2);
    const msix = new Msix(vectorCount, state, control, (address, data) => this.signalMessage(address, data));
    this.msix = msix;
    this.addHook({ offset: offset + 2, sizeBytes: 2, afterWrite: () => this.#messagesChanged() });
    return msix;
  }

  /** Adds MSI with one vector. */
  addMsi(): Msi {
    const offset = this.addCapability(msiCapability());
    const msi = new Msi(this.config, offset, (address, data) => this.signalMessage(address, data));
    this.msi = msi;
    this.addHook({ offset: offset + 2, sizeBytes: 2, afterWrite: () => this.#messagesChanged() });
    return msi;
  }

  addHook(hook: ConfigHook): void {
    this.#hooks.push(hook);
  }

  /** Sets bytes of the model's own that reset restores. */
  setFixed(offset: number, sizeBytes: AccessSize, value: number): void {
    this.config.set(offset, sizeBytes, value);
    for (let i = 0; i < sizeBytes; i++) this.#resetBytes[offset + i] = (value >>> (8 * i)) & 0xff;
  }

  /** The bus connects the pin when the function is plugged in. */
  connectInterrupt(line: IrqLine): void {
    this.#interrupt = line;
    this.#updateInterrupt();
  }

  /** Raises or lowers the function's INTx request. */
  setInterrupt(isRequested: boolean): void {
    if (this.state.isInterruptRequested === isRequested) return;
    this.state.isInterruptRequested = isRequested;
    this.#updateInterrupt();
  }

  /** Sends a message if the function may master the bus. */
  signalMessage(address: number, data: number): void {
    if (this.isBusMaster) this.#ports.signalMessage(address, data);
  }

  readConfig(offset: number, sizeBytes: AccessSize): number {
    for (const hook of this.#hooks) {
      if (hook.beforeRead !== undefined && touches(hook, offset, sizeBytes)) hook.beforeRead(offset, sizeBytes);
    }
    return this.config.read(offset, sizeBytes);
  }

  writeConfig(offset: number, sizeBytes: AccessSize, value: number): void {
    if (offset >= configSizeBytes) return;
    const hooks = this.#hooks.filter((hook) => hook.afterWrite !== undefined && touches(hook, offset, sizeBytes));
    const previous = hooks.length === 0 ? undefined : this.config.bytes.slice();
    this.config.write(offset, sizeBytes, value);
    if (offset < Config.command + 2 && offset + sizeBytes > Config.command) this.update();
    else for (const bar of this.baseAddresses) if (bar.overlaps(offset, sizeBytes)) bar.update(this.command);
    if (previous !== undefined) for (const hook of hooks) hook.afterWrite?.(offset, sizeBytes, previous);
  }

  /** Turns on decoding of every kind of region the function has, and bus mastering, as firmware does. */
  enable(): void {
    this.config.write(Config.command, 2, this.command | ioSpaceEnableMask | memorySpaceEnableMask | busMasterEnableMask);
    this.update();
  }

  /** Brings mappings and the interrupt pin in line with the configuration bytes. */
  update(): void {
    for (const bar of this.baseAddresses) bar.update(this.command);
    this.#updateInterrupt();
  }

  /** Continues from a saved state of the same model. */
  restore(saved: PciFunctionState): void {
    this.config.bytes.set(saved.config);
    this.state.isInterruptRequested = saved.isInterruptRequested;
    if (this.state.msix !== undefined && saved.msix !== undefined) {
      this.state.msix.table.set(saved.msix.table);
      this.state.msix.pending.set(saved.msix.pending);
    }
    this.update();
  }

  reset(): void {
    this.config.bytes.set(this.#resetBytes);
    this.state.isInterruptRequested = false;
    this.msix?.reset();
    this.update();
  }

  #messagesChanged(): void {
    this.msix?.controlChanged();
    this.msi?.controlChanged();
    this.#updateInterrupt();
  }

  #updateInterrupt(): void {
    const { isInterruptRequested } = this.state;
    const status = this.config.get(Config.status, 2);
    this.config.set(Config.status, 2, isInterruptRequested ? status | interruptStatusMask : status & ~interruptStatusMask);
    const usesMessages = this.msix?.isEnabled === true || this.msi?.isEnabled === true;
    this.#interrupt.set(isInterruptRequested && !usesMessages && (this.command & interruptDisableMask) === 0);
  }

  #writeIdentity(): void {
    const { vendorId, deviceId, classCode, revisionId, subsystemVendorId, subsystemId, isMultiFunction } = this.#identity;
    this.config.set(Config.vendorId, 2, vendorId);
    this.config.set(Config.deviceId, 2, deviceId);
    this.config.set(Config.revisionId, 1, revisionId ?? 0);
    this.config.set(Config.classCode, 1, classCode & 0xff);
    this.config.set(Config.classCode + 1, 2, classCode >>> 8);
    this.config.set(Config.headerType, 1, isMultiFunction === true ? multiFunctionMask : 0);
    this.config.set(Config.subsystemVendorId, 2, subsystemVendorId ?? 0);
    this.config.set(Config.subsystemId, 2, subsystemId ?? 0);
    this.config.set(Config.interruptPin, 1, this.interruptPin);
  }
}

function touches(hook: ConfigHook, offset: number, sizeBytes: number): boolean {
  return offset < hook.offset + hook.sizeBytes && offset + sizeBytes > hook.offset;
}
