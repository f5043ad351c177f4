/** One AHCI port: registers, link, command issue and received FISes (AHCI 1.3.1, 3.3 and 5). */
import { boolean, object, type Shape, uint32 } from "../../../base/shape.ts";
import { guestPhysical } from "../../../base/address.ts";
import type { GuestMemory } from "../../contract.ts";
import { whenDone } from "../../disk/contract.ts";
import type { SataDrive, TaskResult } from "../contract.ts";
import { type CommandSlot, pioSetup, readCommandSlot, registerFis, writeByteCount } from "./command.ts";

export const portBytes = 0x80;

const Register = {
  commandListBase: 0x00,
  commandListBaseHigh: 0x04,
  fisBase: 0x08,
  fisBaseHigh: 0x0c,
  interruptStatus: 0x10,
  interruptEnable: 0x14,
  command: 0x18,
  taskFile: 0x20,
  signature: 0x24,
  sataStatus: 0x28,
  sataControl: 0x2c,
  sataError: 0x30,
  sataActive: 0x34,
  commandIssue: 0x38,
} as const;

const startMask = 0x0001;
const spinUpMask = 0x0002;
const powerOnMask = 0x0004;
const overrideMask = 0x0008;
const receiveEnableMask = 0x0010;
const receiveRunningMask = 0x4000;
const listRunningMask = 0x8000;
const packetDriveMask = 0x0100_0000;
const ledMask = 0x0200_0000;
const currentSlotShift = 8;

const registerFisInterrupt = 0x0000_0001;
const pioSetupInterrupt = 0x0000_0002;
const connectChangeInterrupt = 0x0000_0040;
const hostBusFatalInterrupt = 0x2000_0000;
const taskFileErrorInterrupt = 0x4000_0000;
const interruptEnableMask = 0x7dc0_007f;

const linkUp = 0x113;
const exchangedError = 0x0400_0000;
const noDriveStatus = 0x7f;
const busyStatus = 0x80;
const dataRequestStatus = 0x08;
const errorStatus = 0x01;
const resetDone = 0x01;
const detectResetValue = 1;

const pioSetupOffset = 0x20;
const registerFisOffset = 0x40;

export interface AhciPortState {
  commandListBase: number;
  commandListBaseHigh: number;
  fisBase: number;
  fisBaseHigh: number;
  interruptStatus: number;
  interruptEnable: number;
  command: number;
  taskFile: number;
  signature: number;
  sataStatus: number;
  sataControl: number;
  sataError: number;
  commandIssue: number;
  /** A software reset was begun and not ended yet. */
  isInSoftwareReset: boolean;
  /** A command failed: no further one starts until software has restarted the list. */
  hasStopped: boolean;
}

export const ahciPortStateShape: Shape<AhciPortState> = object({
  commandListBase: uint32, commandListBaseHigh: uint32, fisBase: uint32, fisBaseHigh: uint32, interruptStatus: uint32,
  interruptEnable: uint32, command: uint32, taskFile: uint32, signature: uint32, sataStatus: uint32, sataControl: uint32,
  sataError: uint32, commandIssue: uint32, isInSoftwareReset: boolean, hasStopped: boolean,
});

export interface AhciPortPorts {
  readonly memory: GuestMemory;
  /** The interrupt status may have changed; `isNew` when an event was added. */
  readonly interruptChanged: (isNew: boolean) => void;
  readonly canMasterBus: () => boolean;
}

export class AhciPort {
  readonly state: AhciPortState;
  readonly #ports: AhciPortPorts;
  readonly #drive: SataDrive | undefined;
  /** Raised whenever commands under way must come to nothing. */
  #generation = 0;
  #executing: CommandSlot | undefined;

  constructor(drive: SataDrive | undefined, ports: AhciPortPorts) {
    this.#drive = drive;
    this.#ports = ports;
    this.state = {
      commandListBase: 0,
      commandListBaseHigh: 0,
      fisBase: 0,
      fisBaseHigh: 0,
      interruptStatus: 0,
      interruptEnable: 0,
      command: 0,
      taskFile: 0,
      signature: 0,
      sataStatus: 0,
      sataControl: 0,
      sataError: 0,
      commandIssue: 0,
      isInSoftwareReset: false,
      hasStopped: false,
    };
    this.reset();
  }

  get isInterrupting(): boolean {
    return (this.state.interruptStatus & this.state.interruptEnable) !== 0;
  }

  /** Controller reset. */
  reset(): void {
    this.#abandon();
    Object.assign(this.state, {
      commandListBase: 0,
      commandListBaseHigh: 0,
      fisBase: 0,
      fisBaseHigh: 0,
      interruptStatus: 0,
      interruptEnable: 0,
      command: spinUpMask | powerOnMask | (this.#drive?.isPacketDrive === true ? packetDriveMask : 0),
      sataControl: 0,
      sataError: 0,
      isInSoftwareReset: false,
    });
    this.#resetLink();
  }

  read(offset: number): number {
    const { state } = this;
    switch (offset) {
      case Register.commandListBase:
        return state.commandListBase;
      case Register.commandListBaseHigh:
        return state.commandListBaseHigh;
      case Register.fisBase:
        return state.fisBase;
      case Register.fisBaseHigh:
        return state.fisBaseHigh;
      case Register.interruptStatus:
        return state.interruptStatus;
      case Register.interruptEnable:
        return state.interruptEnable;
      case Register.command:
        return state.command;
      case Register.taskFile:
        return state.taskFile;
      case Register.signature:
        return state.signature;
      case Register.sataStatus:
        return state.sataStatus;
      case Register.sataControl:
        return state.sataControl;
      case Register.sataError:
        return state.sataError;
      case Register.commandIssue:
        return state.commandIssue;
      default:
        return 0;
    }
  }

  write(offset: number, value: number): void {
    const { state } = this;
    switch (offset) {
      case Register.commandListBase:
        state.commandListBase = (value & ~0x3ff) >>> 0;
        break;
      case Register.commandListBaseHigh:
        state.commandListBaseHigh = value;
        break;
      case Register.fisBase:
        state.fisBase = (value & ~0xff) >>> 0;
        break;
      case Register.fisBaseHigh:
        state.fisBaseHigh = value;
        break;
      case Register.interruptStatus:
        state.interruptStatus = (state.interruptStatus & ~value) >>> 0;
        this.#ports.interruptChanged(false);
        break;
      case Register.interruptEnable:
        state.interruptEnable = (value & interruptEnableMask) >>> 0;
        this.#ports.interruptChanged(false);
        break;
      case Register.command:
        this.#writeCommand(value);
        break;
      case Register.sataControl:
        this.#writeSataControl(value);
        break;
      case Register.sataError:
        state.sataError = (state.sataError & ~value) >>> 0;
        // The connect change is reported for as long as its cause is there.
        if ((state.sataError & exchangedError) === 0) state.interruptStatus = (state.interruptStatus & ~connectChangeInterrupt) >>> 0;
        this.#ports.interruptChanged(false);
        break;
      case Register.commandIssue:
        if ((state.command & startMask) !== 0) {
          state.commandIssue = (state.commandIssue | value) >>> 0;
          this.#executeNext();
        }
        break;
      default:
        break;
    }
  }

  /** Goes on with what was issued when the state was saved. */
  restore(saved: AhciPortState): void {
    Object.assign(this.state, saved);
    this.#executeNext();
  }

  #writeCommand(value: number): void {
    const { state } = this;
    const settable = startMask | spinUpMask | powerOnMask | receiveEnableMask | ledMask;
    const wasReceiving = (state.command & receiveEnableMask) !== 0;
    const wasStarted = (state.command & startMask) !== 0;
    let command = (state.command & ~(settable | receiveRunningMask | listRunningMask)) | (value & settable);
    if ((command & receiveEnableMask) !== 0) command |= receiveRunningMask;
    if ((command & startMask) !== 0) command |= listRunningMask;
    state.command = command >>> 0;
    if ((value & overrideMask) !== 0) state.taskFile &= ~(busyStatus | dataRequestStatus);
    if (wasStarted && (command & startMask) === 0) this.#abandon();
    if (!wasReceiving && (command & receiveEnableMask) !== 0 && this.#drive !== undefined) this.#postSignature();
  }

  #writeSataControl(value: number): void {
    const wasResetting = (this.state.sataControl & 0x0f) === detectResetValue;
    this.state.sataControl = value & 0x0fff;
    const isResetting = (value & 0x0f) === detectResetValue;
    if (isResetting && !wasResetting) {
      this.#abandon();
      this.state.sataStatus = 0;
      this.state.taskFile = this.#drive === undefined ? noDriveStatus : busyStatus;
    } else if (wasResetting && !isResetting) {
      this.#resetLink();
    }
  }

  /** The link comes up and the drive sends its first FIS. */
  #resetLink(): void {
    const { state } = this;
    const drive = this.#drive;
    if (drive === undefined) {
      state.sataStatus = 0;
      state.taskFile = noDriveStatus;
      state.signature = 0xffff_ffff;
      return;
    }
    state.sataStatus = linkUp;
    state.sataError = (state.sataError | exchangedError) >>> 0;
    this.#raise(connectChangeInterrupt);
    this.#resetDrive(drive);
  }

  #resetDrive(drive: SataDrive): void {
    drive.reset();
    this.state.isInSoftwareReset = false;
    this.state.signature = drive.signature;
    this.state.taskFile = drive.resetStatus | (resetDone << 8);
    this.#postSignature();
  }

  #postSignature(): void {
    const { signature, taskFile } = this.state;
    this.#receive(
      registerFisOffset,
      registerFis(
        { status: taskFile & 0xff, error: taskFile >> 8, lba: signature >>> 8, count: signature & 0xff, isPioIn: false },
        0,
      ),
    );
  }

  /** Forgets everything issued. */
  #abandon(): void {
    this.#generation++;
    this.#executing?.data.cancel();
    this.#executing = undefined;
    this.state.commandIssue = 0;
    this.state.hasStopped = false;
  }

  /** Commands run one after the other, lowest slot first. */
  #executeNext(): void {
    const { state } = this;
    while (this.#executing === undefined && state.commandIssue !== 0 && !state.hasStopped) {
      if ((state.command & startMask) === 0 || !this.#ports.canMasterBus()) return;
      const slot = 31 - Math.clz32(state.commandIssue & -state.commandIssue);
      state.command = ((state.command & ~(0x1f << currentSlotShift)) | (slot << currentSlotShift)) >>> 0;
      const command = readCommandSlot(this.#ports.memory, this.#commandList, slot);
      if (command === undefined || this.#drive === undefined) {
        this.#stop(hostBusFatalInterrupt);
        return;
      }
      this.#execute(this.#drive, command, slot);
    }
  }

  #execute(drive: SataDrive, command: CommandSlot, slot: number): void {
    if (command.task === undefined) {
      this.#finishSlot(slot);
      if (command.isSoftwareReset) this.state.isInSoftwareReset = true;
      else if (this.state.isInSoftwareReset) this.#resetDrive(drive);
      return;
    }
    const { device } = command.task;
    const generation = this.#generation;
    const outcome = drive.execute(command.task, command.data);
    this.#executing = command;
    if (outcome instanceof Promise) this.state.taskFile |= busyStatus;
    void whenDone(outcome, (result) => {
      if (generation !== this.#generation) return;
      this.#executing = undefined;
      this.#complete(command, slot, result, device);
      if (outcome instanceof Promise) this.#executeNext();
    });
  }

  #complete(command: CommandSlot, slot: number, result: TaskResult, device: number): void {
    const { state } = this;
    const hasFailed = (result.status & errorStatus) !== 0;
    state.taskFile = result.status | (result.error << 8);
    if (!writeByteCount(this.#ports.memory, command)) {
      this.#stop(hostBusFatalInterrupt);
      return;
    }
    if (hasFailed) {
      this.#receive(registerFisOffset, registerFis(result, device));
      this.#stop(registerFisInterrupt | taskFileErrorInterrupt);
      return;
    }
    this.#finishSlot(slot);
    if (result.isPioIn) this.#receive(pioSetupOffset, pioSetup(result, device, command.data.transferredBytes));
    else this.#receive(registerFisOffset, registerFis(result, device));
    this.#raise(result.isPioIn ? pioSetupInterrupt : registerFisInterrupt);
  }

  #stop(interrupts: number): void {
    this.state.hasStopped = true;
    this.#raise(interrupts);
  }

  #finishSlot(slot: number): void {
    this.state.commandIssue = (this.state.commandIssue & ~(1 << slot)) >>> 0;
  }

  #receive(offset: number, fis: Uint8Array): void {
    const { fisBase, fisBaseHigh, command } = this.state;
    if ((command & receiveEnableMask) === 0 || !this.#ports.canMasterBus()) return;
    const address = guestPhysical(fisBaseHigh * 2 ** 32 + fisBase + offset);
    if (!this.#ports.memory.write(address, fis)) this.#raise(hostBusFatalInterrupt);
  }

  #raise(interrupts: number): void {
    this.state.interruptStatus = (this.state.interruptStatus | interrupts) >>> 0;
    this.#ports.interruptChanged(true);
  }

  get #commandList(): number {
    return this.state.commandListBaseHigh * 2 ** 32 + this.state.commandListBase;
  }
}
