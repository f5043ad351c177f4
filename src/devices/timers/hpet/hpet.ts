/** High Precision Event Timers (IA-PC HPET specification 1.0a): a 100 MHz, 64-bit counter with three timers. */
import { finite, integer, list, object, pair, type Shape, uint32 } from "../../../base/shape.ts";
import type { AccessSize, Clock, Device, IrqLine, MessageSignal, RegisterBlock, Timer } from "../../contract.ts";
import { registerSlice } from "../../register-slice.ts";
import {
  advance, type HpetTimerState, hpetTimerStateShape, join, resetHpetTimerState, routeCapabilities, split, ticksToMatch, TimerConfiguration,
} from "./comparator.ts";

export const hpetTimerCount = 3;
export const hpetBytes = 0x400;
const nsPerTick = 10;
const periodFemtoseconds = nsPerTick * 1_000_000;

const Register = { capabilities: 0x000, configuration: 0x010, status: 0x020, counter: 0x0f0, firstTimer: 0x100 };
const TimerRegister = { configuration: 0x00, comparator: 0x08, message: 0x10 };
const timerStride = 0x20;
/** Intel, 64-bit counter, legacy replacement, three timers, revision 1. */
const capabilitiesLow = (0x8086_a001 | ((hpetTimerCount - 1) << 8)) >>> 0;
const Configuration = { enableMask: 0x01, legacyMask: 0x02 };
/** Pin 2 is where ISA line 0 arrives at the I/O APIC. */
const timerPin = 2;
const timerLine = 0;
const rtcLine = 8;
const noLine = -1;

export interface HpetPorts {
  readonly clock: Clock;
  readonly signalMessage: MessageSignal;
  /** A wire to an ISA line or I/O APIC pin. */
  irq(line: number): IrqLine;
  /** While true, lines 0 and 8 are the HPET's and not the PIT's and the RTC's. */
  legacyReplacement(isActive: boolean): void;
}

export interface HpetState {
  configuration: number;
  /** Level-triggered interrupts that are asserted, one bit per timer. */
  status: number;
  /** The counter's value at `counterNs`; while disabled, its value. */
  counter: [number, number];
  counterNs: number;
  timers: HpetTimerState[];
  /** Which line each timer holds high for a level-triggered interrupt; -1 for none. */
  assertedLines: number[];
}

export const hpetStateShape: Shape<HpetState> = object({
  configuration: uint32, status: integer(0, 2 ** hpetTimerCount - 1), counter: pair(uint32), counterNs: finite,
  timers: list(hpetTimerStateShape, hpetTimerCount), assertedLines: list(integer(noLine, 23), hpetTimerCount),
});

export function resetHpetState(): HpetState {
  return {
    configuration: 0,
    status: 0,
    counter: [0, 0],
    counterNs: 0,
    timers: Array.from({ length: hpetTimerCount }, () => resetHpetTimerState()),
    assertedLines: Array.from({ length: hpetTimerCount }, () => noLine),
  };
}

export class Hpet implements RegisterBlock, Device<HpetState> {
  readonly state: HpetState;
  readonly #ports: HpetPorts;
  /** Wires of each timer, made when it first uses a line. */
  readonly #wires: Map<number, IrqLine>[] = Array.from({ length: hpetTimerCount }, () => new Map());
  #timer: Timer | undefined;

  constructor(ports: HpetPorts, state: HpetState = resetHpetState()) {
    this.#ports = ports;
    this.state = state;
    ports.legacyReplacement(this.#isLegacy());
    for (const [index, line] of state.assertedLines.entries()) {
      if (line !== noLine) this.#wire(index, line).set(true);
    }
    this.#arm();
  }

  reset(): void {
    for (let index = 0; index < hpetTimerCount; index++) this.#lower(index);
    Object.assign(this.state, resetHpetState());
    this.#ports.legacyReplacement(false);
    this.#arm();
  }

  read(offset: number, sizeBytes: AccessSize): number {
    return registerSlice(this.#readWord(offset & ~3), offset, sizeBytes);
  }

  /** Registers are written in words; the specification leaves narrower writes undefined and they are ignored. */
  write(offset: number, sizeBytes: AccessSize, value: number): void {
    if (sizeBytes !== 4 || offset & 3) return;
    this.#catchUp();
    this.#writeWord(offset, value);
    this.#arm();
  }

  #isEnabled(): boolean {
    return (this.state.configuration & Configuration.enableMask) !== 0;
  }

  #isLegacy(): boolean {
    return (this.state.configuration & Configuration.legacyMask) !== 0;
  }

  #counter(): bigint {
    const { counter, counterNs } = this.state;
    if (!this.#isEnabled()) return join(counter);
    const elapsed = Math.floor((this.#ports.clock.nowNs() - counterNs) / nsPerTick);
    return BigInt.asUintN(64, join(counter) + BigInt(elapsed));
  }

  #readWord(offset: number): number {
    const { state } = this;
    switch (offset) {
      case Register.capabilities:
        return capabilitiesLow;
      case Register.capabilities + 4:
        return periodFemtoseconds;
      case Register.configuration:
        return state.configuration;
      case Register.status:
        return state.status;
      case Register.counter:
        return split(this.#counter())[0];
      case Register.counter + 4:
        return split(this.#counter())[1];
      default:
        return this.#readTimer(offset);
    }
  }

  #readTimer(offset: number): number {
    const timer = this.state.timers[Math.floor((offset - Register.firstTimer) / timerStride)] as HpetTimerState | undefined;
    if (timer === undefined) return 0;
    switch (offset % timerStride) {
      case TimerRegister.configuration:
        return timer.configuration | TimerConfiguration.capabilities;
      case TimerRegister.configuration + 4:
        return routeCapabilities;
      case TimerRegister.comparator:
      case TimerRegister.comparator + 4:
        this.#catchUp();
        return timer.comparator[offset % timerStride === TimerRegister.comparator ? 0 : 1];
      case TimerRegister.message:
        return timer.messageData;
      case TimerRegister.message + 4:
        return timer.messageAddress;
      default:
        return 0;
    }
  }

  #writeWord(offset: number, value: number): void {
    const { state } = this;
    switch (offset) {
      case Register.configuration:
        this.#configure(value);
        return;
      case Register.status:
        for (let index = 0; index < hpetTimerCount; index++) {
          if (value & (1 << index)) this.#lower(index);
        }
        return;
      case Register.counter:
      case Register.counter + 4:
        // Writing a running counter is undefined; it takes the value and runs on.
        if (offset === Register.counter) state.counter[0] = value;
        else state.counter[1] = value;
        state.counterNs = this.#ports.clock.nowNs();
        return;
      default: {
        const index = Math.floor((offset - Register.firstTimer) / timerStride);
        if (index >= 0 && index < hpetTimerCount) this.#writeTimer(index, offset % timerStride, value);
      }
    }
  }

  #configure(value: number): void {
    const { state } = this;
    const wasEnabled = this.#isEnabled();
    const wasLegacy = this.#isLegacy();
    // #catchUp has just folded the elapsed time into the counter; from here it runs or stands.
    state.configuration = value & (Configuration.enableMask | Configuration.legacyMask);
    if (this.#isEnabled() !== wasEnabled) state.counterNs = this.#ports.clock.nowNs();
    if (this.#isLegacy() !== wasLegacy) {
      this.#lower(0);
      this.#lower(1);
      this.#ports.legacyReplacement(this.#isLegacy());
    }
  }

  #writeTimer(index: number, register: number, value: number): void {
    const timer = this.state.timers[index];
    switch (register) {
      case TimerRegister.configuration: {
        const before = timer.configuration;
        timer.configuration = value & TimerConfiguration.writableMask;
        // A route that does not exist reads back as it was, by which drivers probe.
        if (!(routeCapabilities & (1 << this.#route(timer)))) {
          const routeField = TimerConfiguration.routeMask << TimerConfiguration.routeShift;
          timer.configuration = (timer.configuration & ~routeField) | (before & routeField);
        }
        const isStillLevel = (timer.configuration & (TimerConfiguration.levelMask | TimerConfiguration.enableMask)) === 0x06;
        if (!isStillLevel) this.#lower(index);
        if (timer.configuration & TimerConfiguration.narrowMask) {
          timer.comparator[1] = 0;
          timer.period[1] = 0;
        }
        return;
      }
      case TimerRegister.comparator:
      case TimerRegister.comparator + 4:
        this.#writeComparator(timer, register === TimerRegister.comparator ? 0 : 1, value);
        return;
      case TimerRegister.message:
        timer.messageData = value;
        return;
      case TimerRegister.message + 4:
        timer.messageAddress = value;
        return;
      default:
    }
  }

  /** A periodic timer takes its period, and with "set accumulator" also its next match. */
  #writeComparator(timer: HpetTimerState, word: 0 | 1, value: number): void {
    const isNarrow = (timer.configuration & TimerConfiguration.narrowMask) !== 0;
    if (isNarrow && word === 1) return;
    const isPeriodic = (timer.configuration & TimerConfiguration.periodicMask) !== 0;
    const setsAccumulator = (timer.configuration & TimerConfiguration.setAccumulatorMask) !== 0;
    if (isPeriodic) timer.period[word] = value;
    if (!isPeriodic || setsAccumulator) timer.comparator[word] = value;
    // A 64-bit accumulator is written as two words, low first.
    if (isNarrow || word === 1) timer.configuration &= ~TimerConfiguration.setAccumulatorMask;
  }

  #route(timer: HpetTimerState): number {
    return (timer.configuration >> TimerConfiguration.routeShift) & TimerConfiguration.routeMask;
  }

  #lineOf(index: number): number {
    if (this.#isLegacy() && index === 0) return timerLine;
    if (this.#isLegacy() && index === 1) return rtcLine;
    const route = this.#route(this.state.timers[index]);
    return route === timerPin ? timerLine : route;
  }

  #wire(index: number, line: number): IrqLine {
    const wires = this.#wires[index];
    let wire = wires.get(line);
    if (wire === undefined) {
      wire = this.#ports.irq(line);
      wires.set(line, wire);
    }
    return wire;
  }

  #lower(index: number): void {
    const { state } = this;
    state.status &= ~(1 << index);
    const line = state.assertedLines[index];
    if (line !== noLine) this.#wire(index, line).set(false);
    state.assertedLines[index] = noLine;
  }

  /** Folds the time since the last look into counter and comparators, and interrupts for the matches in it. */
  #catchUp(): void {
    const { state } = this;
    if (!this.#isEnabled()) return;
    const before = join(state.counter);
    const elapsed = Math.floor((this.#ports.clock.nowNs() - state.counterNs) / nsPerTick);
    if (elapsed <= 0) return;
    const now = BigInt.asUintN(64, before + BigInt(elapsed));
    state.counter = split(now);
    state.counterNs += elapsed * nsPerTick;
    for (const [index, timer] of state.timers.entries()) {
      if (advance(timer, before, now) && timer.configuration & TimerConfiguration.enableMask) this.#interrupt(index, timer);
    }
  }

  #interrupt(index: number, timer: HpetTimerState): void {
    const { state } = this;
    if (timer.configuration & TimerConfiguration.messageMask) {
      this.#ports.signalMessage(timer.messageAddress, timer.messageData);
      return;
    }
    const line = this.#lineOf(index);
    // No route chosen: nowhere to go. (Line 0 is reached by pin 2 or by legacy replacement.)
    if (!this.#isLegacy() && this.#route(timer) === 0) return;
    const wire = this.#wire(index, line);
    if (timer.configuration & TimerConfiguration.levelMask) {
      state.status |= 1 << index;
      state.assertedLines[index] = line;
      wire.set(true);
    } else {
      wire.set(true);
      wire.set(false);
    }
  }

  /** One host timer for the earliest match that interrupts. */
  #arm(): void {
    this.#timer?.cancel();
    this.#timer = undefined;
    if (!this.#isEnabled()) return;
    const { state } = this;
    const counter = join(state.counter);
    let deadlineNs = Infinity;
    for (const [index, timer] of state.timers.entries()) {
      const isWaiting = timer.configuration & TimerConfiguration.enableMask && !(state.status & (1 << index));
      if (isWaiting) deadlineNs = Math.min(deadlineNs, state.counterNs + Number(ticksToMatch(timer, counter)) * nsPerTick);
    }
    if (deadlineNs === Infinity) return;
    this.#timer = this.#ports.clock.at(deadlineNs, () => {
      this.#catchUp();
      this.#arm();
    });
  }
}
