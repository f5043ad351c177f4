/** 16550A UART (National PC16550D data sheet): the register model only. Line, clock and host console are injected. */
import { boolean, finite, list, object, optional, type Shape, uint16, uint8 } from "../../../base/shape.ts";
import type { ByteRegisters } from "../../byte-registers.ts";
import type { Clock, Device, IrqLine, Timer } from "../../contract.ts";

export const fifoSizeBytes = 16;

const InterruptEnable = { receivedDataMask: 0x01, transmitterEmptyMask: 0x02, lineStatusMask: 0x04, modemStatusMask: 0x08 };
const InterruptIdentification = {
  none: 0x01,
  modemStatus: 0x00,
  transmitterEmpty: 0x02,
  receivedData: 0x04,
  lineStatus: 0x06,
  characterTimeout: 0x0c,
  fifosEnabledMask: 0xc0,
};
const FifoControl = { enableMask: 0x01, clearReceiveMask: 0x02, keptMask: 0xc9, triggerShift: 6 };
const LineControl = { wordLengthMask: 0x03, stopMask: 0x04, parityMask: 0x08, divisorLatchMask: 0x80 };
const ModemControl = { dtrMask: 0x01, rtsMask: 0x02, out1Mask: 0x04, out2Mask: 0x08, loopbackMask: 0x10, writableMask: 0x1f };
const LineStatus = {
  dataReadyMask: 0x01,
  overrunMask: 0x02,
  breakMask: 0x10,
  errorsMask: 0x1e,
  transmitterEmptyMask: 0x60,
  errorInFifoMask: 0x80,
};
const ModemStatus = { ctsMask: 0x10, dsrMask: 0x20, ringMask: 0x40, carrierMask: 0x80, inputsMask: 0xf0, trailingRingMask: 0x04 };

const triggerLevels = [1, 4, 8, 14];
/** 1.8432 MHz crystal, divided by 16. */
const maximumBaud = 115_200;

export interface SerialPorts {
  readonly clock: Clock;
  readonly interrupt: IrqLine;
  /** A byte leaves on the wire. */
  transmit(byte: number): void;
  /** After `feed` took less than it was given: there is room again. */
  receiveReady?(): void;
}

export interface SerialState {
  divisor: number;
  interruptEnable: number;
  fifoControl: number;
  lineControl: number;
  modemControl: number;
  /** Wires from the other end, in the positions of MSR bits 4 to 7. */
  modemInputs: number;
  modemDeltas: number;
  scratch: number;
  /** Received characters, oldest first; their line-status errors in bits 8 and up. */
  receiveFifo: number[];
  isOverrun: boolean;
  isTransmitterEmptyPending: boolean;
  /** When the characters now waiting raise a timeout interrupt; undefined when none will. */
  timeoutAtNs: number | undefined;
}

export const serialStateShape: Shape<SerialState> = object({
  divisor: uint16, interruptEnable: uint8, fifoControl: uint8, lineControl: uint8, modemControl: uint8, modemInputs: uint8,
  modemDeltas: uint8, scratch: uint8, receiveFifo: list(uint16, { maximum: fifoSizeBytes }), isOverrun: boolean,
  isTransmitterEmptyPending: boolean, timeoutAtNs: optional(finite),
});

export function resetSerialState(): SerialState {
  return {
    divisor: 12,
    interruptEnable: 0,
    fifoControl: 0,
    lineControl: 0,
    modemControl: 0,
    modemInputs: ModemStatus.ctsMask | ModemStatus.dsrMask | ModemStatus.carrierMask,
    modemDeltas: 0,
    scratch: 0,
    receiveFifo: [],
    isOverrun: false,
    isTransmitterEmptyPending: false,
    timeoutAtNs: undefined,
  };
}

export class Uart16550 implements ByteRegisters, Device<SerialState> {
  readonly state: SerialState;
  readonly #ports: SerialPorts;
  #timeout: Timer | undefined;
  #hasRefused = false;

  constructor(ports: SerialPorts, state: SerialState = resetSerialState()) {
    this.#ports = ports;
    this.state = state;
    this.#armTimeout();
    this.#updateInterrupt();
  }

  reset(): void {
    const { modemInputs } = this.state;
    Object.assign(this.state, resetSerialState(), { modemInputs });
    this.#armTimeout();
    this.#updateInterrupt();
    this.#offerRoom();
  }

  /**
   * Characters from the other end of the wire. Returns how many were taken, so the caller owns
   * back-pressure: it feeds the rest after `receiveReady`.
   */
  feed(bytes: Uint8Array): number {
    const room = this.#isLoopback() ? 0 : this.#capacity() - this.state.receiveFifo.length;
    const accepted = Math.max(0, Math.min(room, bytes.length));
    for (let index = 0; index < accepted; index++) this.state.receiveFifo.push(bytes[index]);
    this.#hasRefused = accepted < bytes.length;
    if (accepted > 0) this.#receivedChanged();
    return accepted;
  }

  /** A break condition on the wire (Linux's serial SysRq). False when there was no room for it. */
  feedBreak(): boolean {
    if (this.#isLoopback() || this.state.receiveFifo.length >= this.#capacity()) return false;
    this.state.receiveFifo.push(LineStatus.breakMask << 8);
    this.#receivedChanged();
    return true;
  }

  /** The other end drives its modem lines. */
  setModemInputs(lines: { isClearToSend: boolean; isDataSetReady: boolean; isRinging: boolean; isCarrierDetected: boolean }): void {
    const before = this.#modemLines();
    this.state.modemInputs =
      (lines.isClearToSend ? ModemStatus.ctsMask : 0) |
      (lines.isDataSetReady ? ModemStatus.dsrMask : 0) |
      (lines.isRinging ? ModemStatus.ringMask : 0) |
      (lines.isCarrierDetected ? ModemStatus.carrierMask : 0);
    this.#modemLinesChanged(before);
  }

  read(offset: number): number {
    const state = this.state;
    switch (offset & 7) {
      case 0:
        return this.#isDivisorLatched() ? state.divisor & 0xff : this.#readReceived();
      case 1:
        return this.#isDivisorLatched() ? state.divisor >> 8 : state.interruptEnable;
      case 2: {
        const identification = this.#identifyInterrupt();
        if (identification === InterruptIdentification.transmitterEmpty) {
          state.isTransmitterEmptyPending = false;
          this.#updateInterrupt();
        }
        return identification | (this.#isFifoEnabled() ? InterruptIdentification.fifosEnabledMask : 0);
      }
      case 3:
        return state.lineControl;
      case 4:
        return state.modemControl;
      case 5:
        return this.#readLineStatus();
      case 6: {
        const value = this.#modemLines() | state.modemDeltas;
        state.modemDeltas = 0;
        this.#updateInterrupt();
        return value;
      }
      default:
        return state.scratch;
    }
  }

  write(offset: number, value: number): void {
    const state = this.state;
    switch (offset & 7) {
      case 0:
        if (this.#isDivisorLatched()) state.divisor = (state.divisor & 0xff00) | value;
        else this.#transmit(value);
        break;
      case 1:
        if (this.#isDivisorLatched()) {
          state.divisor = (state.divisor & 0xff) | (value << 8);
          break;
        }
        // The transmitter is always empty here, so enabling its interrupt raises it; drivers probe for that.
        if (value & ~state.interruptEnable & InterruptEnable.transmitterEmptyMask) state.isTransmitterEmptyPending = true;
        state.interruptEnable = value & 0x0f;
        this.#armTimeout();
        this.#updateInterrupt();
        break;
      case 2:
        this.#writeFifoControl(value);
        break;
      case 3:
        state.lineControl = value;
        break;
      case 4: {
        const before = this.#modemLines();
        const wasLoopback = this.#isLoopback();
        state.modemControl = value & ModemControl.writableMask;
        this.#modemLinesChanged(before);
        if (wasLoopback && !this.#isLoopback()) this.#offerRoom();
        break;
      }
      case 7:
        state.scratch = value;
        break;
      default: // LSR and MSR: writing is a factory test
    }
  }

  #isDivisorLatched(): boolean {
    return (this.state.lineControl & LineControl.divisorLatchMask) !== 0;
  }

  #isFifoEnabled(): boolean {
    return (this.state.fifoControl & FifoControl.enableMask) !== 0;
  }

  #isLoopback(): boolean {
    return (this.state.modemControl & ModemControl.loopbackMask) !== 0;
  }

  #capacity(): number {
    return this.#isFifoEnabled() ? fifoSizeBytes : 1;
  }

  #triggerLevel(): number {
    return this.#isFifoEnabled() ? triggerLevels[this.state.fifoControl >> FifoControl.triggerShift] : 1;
  }

  /** CTS, DSR, RI and DCD as MSR shows them; in loopback they follow RTS, DTR, OUT1 and OUT2. */
  #modemLines(): number {
    const { modemControl, modemInputs } = this.state;
    if (!this.#isLoopback()) return modemInputs;
    return (
      (modemControl & ModemControl.rtsMask ? ModemStatus.ctsMask : 0) |
      (modemControl & ModemControl.dtrMask ? ModemStatus.dsrMask : 0) |
      (modemControl & ModemControl.out1Mask ? ModemStatus.ringMask : 0) |
      (modemControl & ModemControl.out2Mask ? ModemStatus.carrierMask : 0)
    );
  }

  #modemLinesChanged(before: number): void {
    const after = this.#modemLines();
    const changed = ((before ^ after) & ~ModemStatus.ringMask) >> 4;
    const ringEnded = before & ~after & ModemStatus.ringMask ? ModemStatus.trailingRingMask : 0;
    this.state.modemDeltas |= changed | ringEnded;
    this.#updateInterrupt();
  }

  #readReceived(): number {
    const { receiveFifo } = this.state;
    const character = receiveFifo.shift();
    if (character === undefined) return 0;
    this.#receivedChanged();
    if (receiveFifo.length === 0) this.#offerRoom();
    return character & 0xff;
  }

  #readLineStatus(): number {
    const state = this.state;
    const { receiveFifo } = state;
    let value = LineStatus.transmitterEmptyMask | this.#lineErrors();
    if (receiveFifo.length > 0) value |= LineStatus.dataReadyMask;
    if (this.#isFifoEnabled() && receiveFifo.some((character) => character > 0xff)) value |= LineStatus.errorInFifoMask;
    state.isOverrun = false;
    if (receiveFifo.length > 0) receiveFifo[0] &= 0xff;
    this.#updateInterrupt();
    return value;
  }

  #lineErrors(): number {
    const { receiveFifo, isOverrun } = this.state;
    const first = receiveFifo.length > 0 ? receiveFifo[0] >> 8 : 0;
    return (first & LineStatus.errorsMask) | (isOverrun ? LineStatus.overrunMask : 0);
  }

  #writeFifoControl(value: number): void {
    const state = this.state;
    const isToggled = ((value ^ state.fifoControl) & FifoControl.enableMask) !== 0;
    state.fifoControl = value & FifoControl.enableMask ? value & FifoControl.keptMask : 0;
    if (isToggled || (value & FifoControl.enableMask && value & FifoControl.clearReceiveMask)) {
      state.receiveFifo.length = 0;
      this.#receivedChanged();
      this.#offerRoom();
    } else {
      this.#armTimeout();
      this.#updateInterrupt();
    }
  }

  #transmit(byte: number): void {
    const state = this.state;
    if (this.#isLoopback()) {
      if (state.receiveFifo.length < this.#capacity()) {
        state.receiveFifo.push(byte);
      } else {
        state.isOverrun = true;
        // Without FIFO the newcomer replaces the character in the holding register; with FIFO it is lost.
        if (!this.#isFifoEnabled()) state.receiveFifo[0] = byte;
      }
      this.#receivedChanged();
    } else {
      this.#ports.transmit(byte);
    }
    state.isTransmitterEmptyPending = true;
    this.#updateInterrupt();
  }

  #receivedChanged(): void {
    const { receiveFifo } = this.state;
    this.state.timeoutAtNs =
      this.#isFifoEnabled() && receiveFifo.length > 0 && receiveFifo.length < this.#triggerLevel()
        ? this.#ports.clock.nowNs() + 4 * this.#characterTimeNs()
        : undefined;
    this.#armTimeout();
    this.#updateInterrupt();
  }

  #characterTimeNs(): number {
    const { lineControl, divisor } = this.state;
    const bits =
      1 +
      5 +
      (lineControl & LineControl.wordLengthMask) +
      (lineControl & LineControl.parityMask ? 1 : 0) +
      (lineControl & LineControl.stopMask ? 2 : 1);
    return Math.ceil((bits * (divisor === 0 ? 0x1_0000 : divisor) * 1e9) / maximumBaud);
  }

  /** A timer only while somebody would see it: the interrupt is enabled and has not been raised yet. */
  #armTimeout(): void {
    this.#timeout?.cancel();
    this.#timeout = undefined;
    const { timeoutAtNs, interruptEnable } = this.state;
    if (timeoutAtNs === undefined || !(interruptEnable & InterruptEnable.receivedDataMask) || this.#isTimedOut()) return;
    this.#timeout = this.#ports.clock.at(timeoutAtNs, () => this.#updateInterrupt());
  }

  #isTimedOut(): boolean {
    const { timeoutAtNs } = this.state;
    return timeoutAtNs !== undefined && this.#ports.clock.nowNs() >= timeoutAtNs;
  }

  /** The pending enabled interrupt of highest priority, as IIR names it. */
  #identifyInterrupt(): number {
    const { interruptEnable, receiveFifo, isTransmitterEmptyPending, modemDeltas } = this.state;
    if (interruptEnable & InterruptEnable.lineStatusMask && this.#lineErrors() !== 0) return InterruptIdentification.lineStatus;
    if (interruptEnable & InterruptEnable.receivedDataMask) {
      if (receiveFifo.length >= this.#triggerLevel()) return InterruptIdentification.receivedData;
      if (this.#isTimedOut()) return InterruptIdentification.characterTimeout;
    }
    if (interruptEnable & InterruptEnable.transmitterEmptyMask && isTransmitterEmptyPending) {
      return InterruptIdentification.transmitterEmpty;
    }
    if (interruptEnable & InterruptEnable.modemStatusMask && modemDeltas !== 0) return InterruptIdentification.modemStatus;
    return InterruptIdentification.none;
  }

  /** On a PC the OUT2 pin gates the interrupt to the bus. */
  #updateInterrupt(): void {
    const isPending = this.#identifyInterrupt() !== InterruptIdentification.none;
    this.#ports.interrupt.set(isPending && (this.state.modemControl & ModemControl.out2Mask) !== 0);
  }

  #offerRoom(): void {
    if (!this.#hasRefused) return;
    this.#hasRefused = false;
    this.#ports.receiveReady?.();
  }
}
