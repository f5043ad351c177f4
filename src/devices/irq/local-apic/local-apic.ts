/**
 * Local APIC in xAPIC and x2APIC mode (Intel SDM volume 3, "Advanced Programmable Interrupt Controller").
 * One per processor; it knows the others only through the injected bus.
 */
import type { AccessSize, Device, RegisterBlock } from "../../contract.ts";
import { registerSlice } from "../../register-slice.ts";
import { DeliveryMode, type InterruptMessage, messageTo } from "../message.ts";
import {
  ApicBase,
  apicBaseMsr,
  ErrorStatus,
  firstX2ApicMsr,
  InterruptCommand,
  isReadable,
  isX2ApicValue,
  lastX2ApicMsr,
  Lvt,
  lvtCount,
  lvtWritableMasks,
  Register,
  SpuriousVector,
  tscDeadlineMsr,
  versionValue,
} from "./registers.ts";
import {
  defaultBaseAddress,
  initialRegisters,
  lint0Index,
  type LocalApicConfig,
  type LocalApicPorts,
  type LocalApicState,
  resetLocalApicState,
} from "./state.ts";
import { ApicTimer } from "./timer.ts";
import { addVector, hasVector, highestVector, removeVector } from "./vector-set.ts";

const x2ApicBroadcast = 0xffff_ffff;
const errorIndex = Register.lvtError - Register.lvtTimer;

export class LocalApic implements RegisterBlock, Device<LocalApicState> {
  readonly state: LocalApicState;
  readonly id: number;
  readonly #isBootProcessor: boolean;
  readonly #ports: LocalApicPorts;
  readonly #timer: ApicTimer;
  #isPending = false;

  constructor(config: LocalApicConfig, ports: LocalApicPorts, state: LocalApicState = resetLocalApicState(config)) {
    this.id = config.id;
    this.#isBootProcessor = config.isBootProcessor;
    this.#ports = ports;
    this.state = state;
    this.#timer = new ApicTimer(
      {
        clock: ports.clock,
        tscDeadlineToNs: (tsc) => ports.tscDeadlineToNs(tsc),
        expire: () => this.#raiseLvt(Register.lvtTimer - Register.lvtTimer),
      },
      state.timer,
    );
    ports.mappingChanged?.(this.mappedBase());
    this.#update();
  }

  /** Platform reset: INIT and IA32_APIC_BASE. */
  reset(): void {
    Object.assign(this.state, { isEnabled: true, isX2Apic: false, baseAddress: defaultBaseAddress });
    this.#ports.mappingChanged?.(this.mappedBase());
    this.initialize();
  }

  /** What INIT does: everything but the ID and IA32_APIC_BASE. */
  initialize(): void {
    Object.assign(this.state, initialRegisters(this.#isBootProcessor));
    this.#timer.reset();
    if (this.state.isX2Apic) this.state.logicalDestination = this.#x2ApicLogicalId();
    this.#update();
  }

  /** Where the memory-mapped registers are; undefined in x2APIC mode and when disabled. */
  mappedBase(): number | undefined {
    const { isEnabled, isX2Apic, baseAddress } = this.state;
    return isEnabled && !isX2Apic ? baseAddress : undefined;
  }

  // Interrupts, as the processor sees them

  /** Whether an interrupt waits that RFLAGS.IF alone decides about. */
  hasInterrupt(): boolean {
    return this.#isPending;
  }

  /** The processor takes the interrupt: its vector, in service from now on; the spurious vector if it has gone. */
  acknowledge(): number {
    const vector = this.#deliverableVector();
    if (vector >= 0) {
      removeVector(this.state.requests, vector);
      addVector(this.state.inService, vector);
      this.#update();
      return vector;
    }
    if (this.#isExternalRequested()) {
      this.state.isExternalPending = false;
      const external = this.#ports.processor.acknowledgeExternal();
      this.#update();
      return external;
    }
    return this.state.spuriousVector & 0xff;
  }

  /** A write to the EOI register, in whatever mode the APIC is. */
  endOfInterrupt(): void {
    this.#endOfInterrupt();
  }

  /** CR8: the upper half of the task priority. */
  getCr8(): number {
    return this.state.taskPriority >> 4;
  }

  setCr8(value: number): void {
    this.state.taskPriority = (value & 0x0f) << 4;
    this.#update();
  }

  /** The guest's TSC no longer runs as `tscDeadlineToNs` last said. */
  tscChanged(): void {
    this.#timer.tscChanged();
  }

  // Messages, as the bus sees them

  /** Whether a message for `destination` is for this processor. */
  matches(message: InterruptMessage): boolean {
    const { state } = this;
    if (!state.isEnabled) return false;
    if (message.target !== "destination") return true;
    const { destination } = message;
    if (!message.isLogical) return destination === (state.isX2Apic ? this.id : this.id & 0xff);
    const own = state.logicalDestination;
    if (state.isX2Apic) return destination >>> 16 === own >>> 16 && (destination & own & 0xffff) !== 0;
    const ownLogicalId = own >>> 24;
    if (destination === 0xff) return true;
    if (state.destinationFormat >>> 28 === 0xf) return (ownLogicalId & destination) !== 0;
    return ownLogicalId >> 4 === (destination >> 4) && (ownLogicalId & destination & 0x0f) !== 0;
  }

  /** Whether a lowest-priority message may be given to this processor (its APIC is enabled by software). */
  acceptsLowestPriority(): boolean {
    return this.state.isEnabled && this.#isSoftwareEnabled();
  }

  /** The processor priority register: the lower, the rather this processor gets a lowest-priority message. */
  processorPriority(): number {
    const { taskPriority, inService } = this.state;
    const inServiceVector = Math.max(0, highestVector(inService));
    return taskPriority >> 4 >= inServiceVector >> 4 ? taskPriority : inServiceVector & 0xf0;
  }

  /** A message that matches. */
  receive(message: InterruptMessage): void {
    const { processor } = this.#ports;
    switch (message.deliveryMode) {
      case DeliveryMode.fixed:
      case DeliveryMode.lowestPriority:
        this.#accept(message.vector, message.isLevelTriggered);
        return;
      case DeliveryMode.smi:
        processor.smi();
        return;
      case DeliveryMode.nmi:
        processor.nmi();
        return;
      case DeliveryMode.init:
        processor.init();
        return;
      case DeliveryMode.startUp:
        processor.startUp(message.vector);
        return;
      case DeliveryMode.external:
        this.state.isExternalPending = true;
        this.#update();
        return;
      default: // reserved
    }
  }

  /** The local interrupt pins: LINT0 carries INTR of the 8259A pair, LINT1 NMI. */
  setLint(pin: 0 | 1, level: boolean): void {
    const { state } = this;
    const wasHigh = state.lintLevels[pin];
    if (wasHigh === level) return;
    state.lintLevels[pin] = level;
    if (!state.isEnabled) {
      // Without an APIC the pins are the processor's INTR and NMI.
      if (pin === 1 && level) this.#ports.processor.nmi();
    } else if (level) {
      this.#raiseLvt(lint0Index + pin);
    }
    this.#update();
  }

  // Registers

  /** The 4 KiB page of xAPIC registers. Only the aligned first word of each 16 bytes is a register. */
  read(offset: number, sizeBytes: AccessSize): number {
    if (offset & 0x0c) return 0;
    const register = (offset >> 4) & 0xff;
    if (register === Register.id) return registerSlice(this.id << 24, offset, sizeBytes);
    if (!isReadable(register)) {
      this.#recordError(ErrorStatus.illegalRegisterMask);
      return 0;
    }
    return registerSlice(this.#readRegister(register), offset, sizeBytes);
  }

  write(offset: number, _sizeBytes: AccessSize, value: number): void {
    if (offset & 0x0f) return;
    const register = (offset >> 4) & 0xff;
    switch (register) {
      case Register.logicalDestination:
        this.state.logicalDestination = (value & 0xff00_0000) >>> 0;
        return;
      case Register.destinationFormat:
        this.state.destinationFormat = (value | 0x0fff_ffff) >>> 0;
        return;
      case Register.interruptCommandHigh:
        this.state.commandHigh = (value & 0xff00_0000) >>> 0;
        return;
      case Register.interruptCommandLow:
        this.#command(value, this.state.commandHigh >>> 24);
        return;
      default:
        if (!this.#writeRegister(register, value)) this.#recordError(ErrorStatus.illegalRegisterMask);
    }
  }

  /** Whether {@link readMsr} and {@link writeMsr} are the ones to ask for this MSR. */
  static ownsMsr(msr: number): boolean {
    return msr === apicBaseMsr || msr === tscDeadlineMsr || (msr >= firstX2ApicMsr && msr <= lastX2ApicMsr);
  }

  /** The value of one of this APIC's MSRs; undefined is #GP(0). */
  readMsr(msr: number): bigint | undefined {
    if (msr === apicBaseMsr) return this.#readBase();
    if (msr === tscDeadlineMsr) return this.#timer.deadline;
    if (!this.state.isX2Apic || msr < firstX2ApicMsr || msr > lastX2ApicMsr) return undefined;
    const register = msr - firstX2ApicMsr;
    if (register === Register.id) return BigInt(this.id);
    if (register === Register.interruptCommandLow) {
      return (BigInt(this.state.commandHigh) << 32n) | BigInt(this.state.commandLow);
    }
    const isAbsent = register === Register.destinationFormat || register === Register.interruptCommandHigh;
    if (isAbsent || register === Register.arbitrationPriority || register === Register.remoteRead || !isReadable(register)) {
      return undefined;
    }
    return BigInt(this.#readRegister(register));
  }

  /** False is #GP(0). */
  writeMsr(msr: number, value: bigint): boolean {
    if (msr === apicBaseMsr) return this.#writeBase(value);
    if (msr === tscDeadlineMsr) {
      this.#timer.writeDeadline(value);
      return true;
    }
    if (!this.state.isX2Apic || msr < firstX2ApicMsr || msr > lastX2ApicMsr) return false;
    const register = msr - firstX2ApicMsr;
    const low = Number(value & 0xffff_ffffn);
    if (register === Register.interruptCommandLow) {
      if (low & InterruptCommand.reservedMask) return false;
      this.state.commandHigh = Number(value >> 32n);
      this.#command(low, this.state.commandHigh);
      return true;
    }
    if (value >> 32n !== 0n || !isX2ApicValue(register, low)) return false;
    if (register === Register.selfIpi) {
      this.#sendToSelf(low & 0xff);
      return true;
    }
    return this.#writeRegister(register, low);
  }

  #readRegister(register: number): number {
    const { state } = this;
    if (register >= Register.lvtTimer && register <= Register.lvtError) return state.lvt[register - Register.lvtTimer];
    if (register >= Register.inService && register < Register.triggerMode) return state.inService[register & 7];
    if (register >= Register.triggerMode && register < Register.interruptRequest) return state.triggerModes[register & 7];
    if (register >= Register.interruptRequest && register < Register.errorStatus) return state.requests[register & 7];
    switch (register) {
      case Register.version:
        return versionValue;
      case Register.taskPriority:
        return state.taskPriority;
      case Register.arbitrationPriority:
      case Register.processorPriority:
        return this.processorPriority();
      case Register.logicalDestination:
        return state.logicalDestination;
      case Register.destinationFormat:
        return state.destinationFormat;
      case Register.spuriousVector:
        return state.spuriousVector;
      case Register.errorStatus:
        return state.errorStatus;
      case Register.interruptCommandLow:
        return state.commandLow;
      case Register.interruptCommandHigh:
        return state.commandHigh;
      case Register.initialCount:
        return this.#timer.state.initialCount;
      case Register.currentCount:
        return this.#timer.currentCount();
      case Register.divideConfiguration:
        return this.#timer.state.divideConfiguration;
      default:
        return 0;
    }
  }

  /** The registers that behave alike in both modes; false when there is none to write. */
  #writeRegister(register: number, value: number): boolean {
    const { state } = this;
    if (register >= Register.lvtTimer && register <= Register.lvtError) {
      this.#writeLvt(register - Register.lvtTimer, value);
      return true;
    }
    switch (register) {
      case Register.taskPriority:
        state.taskPriority = value & 0xff;
        this.#update();
        return true;
      case Register.endOfInterrupt:
        this.#endOfInterrupt();
        return true;
      case Register.spuriousVector:
        state.spuriousVector = value & SpuriousVector.writableMask;
        if (!this.#isSoftwareEnabled()) this.#maskAllLvts();
        return true;
      case Register.errorStatus:
        state.errorStatus = state.pendingErrors;
        state.pendingErrors = 0;
        return true;
      case Register.initialCount:
        this.#timer.writeInitialCount(value);
        return true;
      case Register.divideConfiguration:
        this.#timer.writeDivideConfiguration(value);
        return true;
      default:
        return false;
    }
  }

  #writeLvt(index: number, value: number): void {
    const { state } = this;
    let entry = value & lvtWritableMasks[index];
    if (!this.#isSoftwareEnabled()) entry |= Lvt.maskedMask;
    state.lvt[index] = entry | (state.lvt[index] & Lvt.remoteIrrMask);
    if (index === 0) {
      this.#timer.configure(entry & Lvt.timerModeMask, (entry & Lvt.maskedMask) !== 0);
    } else if (index === lint0Index || index === lint0Index + 1) {
      if (!(entry & Lvt.levelMask)) state.lvt[index] &= ~Lvt.remoteIrrMask;
      else if (state.lintLevels[index === lint0Index ? 0 : 1]) this.#raiseLvt(index);
      this.#update();
    }
  }

  #maskAllLvts(): void {
    for (let index = 0; index < lvtCount; index++) this.#writeLvt(index, this.state.lvt[index] | Lvt.maskedMask);
  }

  #isSoftwareEnabled(): boolean {
    return (this.state.spuriousVector & SpuriousVector.enableMask) !== 0;
  }

  /** A local source fires: its LVT entry says what happens. */
  #raiseLvt(index: number): void {
    const { lvt } = this.state;
    const entry = lvt[index];
    if (entry & Lvt.maskedMask) return;
    const isPin = index === lint0Index || index === lint0Index + 1;
    const mode = isPin || lvtWritableMasks[index] & 0x700 ? (entry >> 8) & 7 : DeliveryMode.fixed;
    if (mode === DeliveryMode.external) return; // follows the pin, see #isExternalRequested
    if (mode !== DeliveryMode.fixed) {
      this.receive(messageTo(this.id, false, entry, false));
      return;
    }
    const isLevel = isPin && (entry & Lvt.levelMask) !== 0;
    if (isLevel) {
      if (entry & Lvt.remoteIrrMask) return;
      lvt[index] = entry | Lvt.remoteIrrMask;
    }
    this.#accept(entry & 0xff, isLevel);
  }

  #accept(vector: number, isLevelTriggered: boolean): void {
    const { state } = this;
    if (vector < 16) {
      this.#recordError(ErrorStatus.receiveIllegalVectorMask);
      return;
    }
    if (!state.isEnabled || !this.#isSoftwareEnabled()) return;
    addVector(state.requests, vector);
    if (isLevelTriggered) addVector(state.triggerModes, vector);
    else removeVector(state.triggerModes, vector);
    this.#update();
  }

  #endOfInterrupt(): void {
    const { state } = this;
    const vector = highestVector(state.inService);
    if (vector < 0) return;
    removeVector(state.inService, vector);
    this.#update();
    if (!hasVector(state.triggerModes, vector)) return;
    for (const pin of [0, 1] as const) {
      const index = lint0Index + pin;
      const entry = state.lvt[index];
      if ((entry & 0xff) !== vector || !(entry & Lvt.remoteIrrMask)) continue;
      state.lvt[index] = entry & ~Lvt.remoteIrrMask;
      if (state.lintLevels[pin]) this.#raiseLvt(index);
    }
    if (!(state.spuriousVector & SpuriousVector.suppressEoiBroadcastMask)) this.#ports.bus.broadcastEndOfInterrupt(vector);
  }

  #recordError(mask: number): void {
    const { state } = this;
    const isNew = (state.pendingErrors & mask) === 0;
    state.pendingErrors |= mask;
    // An illegal vector in the error entry itself must not raise the error again, without end.
    if (isNew && (state.lvt[errorIndex] & 0xff) >= 16) this.#raiseLvt(errorIndex);
  }

  /** A write to the low half of the interrupt command register. */
  #command(value: number, destination: number): void {
    const low = value & InterruptCommand.writableMask;
    this.state.commandLow = low;
    const message = messageTo(destination, (low & InterruptCommand.logicalMask) !== 0, low, false);
    const { deliveryMode, vector } = message;
    // INIT level de-assert only synchronized arbitration IDs on old processors.
    if (deliveryMode === DeliveryMode.init && low & InterruptCommand.levelMask && !(low & InterruptCommand.assertMask)) return;
    if ((deliveryMode === DeliveryMode.fixed || deliveryMode === DeliveryMode.lowestPriority) && vector < 16) {
      this.#recordError(ErrorStatus.sendIllegalVectorMask);
      return;
    }
    switch (low >> InterruptCommand.shorthandShift) {
      case 0: {
        const isBroadcast = this.state.isX2Apic ? destination >>> 0 === x2ApicBroadcast : destination === 0xff;
        this.#ports.bus.send({ ...message, target: isBroadcast ? "all" : "destination" }, this.id);
        return;
      }
      case 1:
        if (deliveryMode === DeliveryMode.fixed) this.#accept(vector, false);
        return;
      case 2:
        this.#ports.bus.send({ ...message, target: "all" }, this.id);
        return;
      default:
        this.#ports.bus.send({ ...message, target: "others" }, this.id);
    }
  }

  #sendToSelf(vector: number): void {
    if (vector < 16) this.#recordError(ErrorStatus.sendIllegalVectorMask);
    else this.#accept(vector, false);
  }

  #readBase(): bigint {
    const { isEnabled, isX2Apic, baseAddress } = this.state;
    return (
      BigInt(baseAddress) |
      (isEnabled ? ApicBase.enableMask : 0n) |
      (isX2Apic ? ApicBase.x2ApicMask : 0n) |
      (this.#isBootProcessor ? ApicBase.bootProcessorMask : 0n)
    );
  }

  #writeBase(value: bigint): boolean {
    const { state } = this;
    const { enableMask, x2ApicMask, addressMask, bootProcessorMask } = ApicBase;
    if (value & ~(enableMask | x2ApicMask | addressMask | bootProcessorMask)) return false;
    const isEnabled = (value & enableMask) !== 0n;
    const isX2Apic = (value & x2ApicMask) !== 0n;
    // The legal transitions (SDM, "x2APIC State Transitions"): only through xAPIC into x2APIC, only through disabled out.
    if (isX2Apic && (!isEnabled || !state.isEnabled)) return false;
    if (state.isX2Apic && isEnabled && !isX2Apic) return false;
    const isEntering = isX2Apic && !state.isX2Apic;
    const isLeaving = !isEnabled && state.isEnabled;
    Object.assign(state, { isEnabled, isX2Apic, baseAddress: Number(value & addressMask) });
    if (isLeaving) this.initialize();
    if (isEntering) {
      state.logicalDestination = this.#x2ApicLogicalId();
      state.commandHigh = 0;
    }
    this.#ports.mappingChanged?.(this.mappedBase());
    this.#update();
    return true;
  }

  #x2ApicLogicalId(): number {
    return (((this.id >>> 4) << 16) | (1 << (this.id & 15))) >>> 0;
  }

  #isExternalRequested(): boolean {
    const { isEnabled, isExternalPending, lintLevels, lvt } = this.state;
    if (!isEnabled) return lintLevels[0];
    if (isExternalPending) return true;
    const entry = lvt[lint0Index];
    return lintLevels[0] && !(entry & Lvt.maskedMask) && ((entry >> 8) & 7) === DeliveryMode.external;
  }

  /** The vector that outranks the processor priority, or -1. */
  #deliverableVector(): number {
    const vector = highestVector(this.state.requests);
    return vector >> 4 > this.processorPriority() >> 4 ? vector : -1;
  }

  #update(): void {
    const isPending = this.#deliverableVector() >= 0 || this.#isExternalRequested();
    if (isPending === this.#isPending) return;
    this.#isPending = isPending;
    this.#ports.processor.interruptPendingChanged(isPending);
  }
}
