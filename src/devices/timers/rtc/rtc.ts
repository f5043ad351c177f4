/**
 * Motorola MC146818 real-time clock with 256 bytes of battery-backed memory, as in the ICH9 ("Real Time
 * Clock Registers"), and the century byte at 0x32 that ACPI's FADT announces.
 */
import { finite, integer, list, object, type Shape, uint8 } from "../../../base/shape.ts";
import type { ByteRegisters } from "../../byte-registers.ts";
import type { Clock, Device, IrqLine, Timer } from "../../contract.ts";
import { nsOfTick, ticksAt } from "../../ticks.ts";
import {
  type Alarm,
  decodeHour,
  decodeNumber,
  encodeHour,
  encodeNumber,
  type Encoding,
  fromSeconds,
  nextAlarm,
  toSeconds,
  weekday,
} from "./calendar.ts";

export const cmosBytes = 256;

export const Cmos = {
  second: 0x00,
  secondAlarm: 0x01,
  minute: 0x02,
  minuteAlarm: 0x03,
  hour: 0x04,
  hourAlarm: 0x05,
  weekday: 0x06,
  day: 0x07,
  month: 0x08,
  year: 0x09,
  statusA: 0x0a,
  statusB: 0x0b,
  statusC: 0x0c,
  statusD: 0x0d,
  century: 0x32,
} as const;

const StatusA = { rateMask: 0x0f, dividerMask: 0x70, dividerRunning: 0x20, dividerResetMask: 0x60, updateInProgressMask: 0x80 };
const StatusB = { is24HourMask: 0x02, isBinaryMask: 0x04, updateMask: 0x10, alarmMask: 0x20, periodicMask: 0x40, setMask: 0x80 };
/** The flags of status C stand where status B enables them. */
const StatusC = { updateMask: 0x10, alarmMask: 0x20, periodicMask: 0x40, requestMask: 0x80, flagsMask: 0x70 };
const statusDValid = 0x80;
const alarmWildcardMask = 0xc0;

const crystalHertz = 32_768;
const nsPerSecond = 1e9;
const updateWarningNs = 244_000;
/** After the divider is released the first update comes half a second later. */
const dividerReleasePhaseNs = nsPerSecond / 2;

const timeRegisters: ReadonlySet<number> = new Set([
  Cmos.second,
  Cmos.minute,
  Cmos.hour,
  Cmos.weekday,
  Cmos.day,
  Cmos.month,
  Cmos.year,
  Cmos.century,
]);

export interface RtcPorts {
  readonly clock: Clock;
  readonly interrupt: IrqLine;
}

export interface RtcState {
  /** All battery-backed bytes. The time registers among them are meaningful only while the update is halted. */
  cmos: number[];
  index: number;
  extendedIndex: number;
  /** The running calendar: it showed `baseSeconds` (since 1970) from `baseNs` on. */
  baseSeconds: number;
  baseNs: number;
  /** What the guest has set the weekday ahead of the calendar's. */
  weekdayOffset: number;
  /** Status C without the request bit, complete up to `checkedNs`. */
  flags: number;
  checkedNs: number;
}

export const rtcStateShape: Shape<RtcState> = object({
  cmos: list(uint8, cmosBytes), index: integer(0, 0x7f), extendedIndex: integer(0, 0x7f),
  baseSeconds: integer(-1e12, 1e12), baseNs: finite, weekdayOffset: integer(0, 6), flags: uint8, checkedNs: finite,
});

export interface RtcPowerOn {
  /** Wall clock at virtual time 0, milliseconds since 1970, UTC. */
  readonly startEpochMs: number;
  /** Values of single CMOS bytes that firmware reads (memory sizes, boot order). */
  readonly contents?: Readonly<Record<number, number>>;
}

export function powerOnRtcState(powerOn: RtcPowerOn, nowNs: number): RtcState {
  const cmos = Array.from({ length: cmosBytes }, () => 0);
  for (const [index, value] of Object.entries(powerOn.contents ?? {})) cmos[Number(index) & 0xff] = value & 0xff;
  cmos[Cmos.statusA] = 0x26;
  cmos[Cmos.statusB] = StatusB.is24HourMask;
  const baseSeconds = Math.floor(powerOn.startEpochMs / 1000);
  return {
    cmos,
    index: 0,
    extendedIndex: 0,
    baseSeconds,
    baseNs: Math.round((baseSeconds * 1000 - powerOn.startEpochMs) * 1e6),
    weekdayOffset: 0,
    flags: 0,
    checkedNs: nowNs,
  };
}

export class Rtc implements ByteRegisters, Device<RtcState> {
  readonly state: RtcState;
  readonly #ports: RtcPorts;
  #timer: Timer | undefined;

  constructor(ports: RtcPorts, state: RtcState) {
    this.#ports = ports;
    this.state = state;
    this.#update();
  }

  /** The RESET pin: interrupts off; time and memory live on their battery. */
  reset(): void {
    this.state.cmos[Cmos.statusB] &= ~(StatusB.updateMask | StatusB.alarmMask | StatusB.periodicMask);
    this.state.index = 0;
    this.state.extendedIndex = 0;
    this.#collectFlags();
    this.state.flags = 0;
    this.#update();
  }

  /** Ports 0x70 to 0x73: index and data of the lower 128 bytes, then of the upper. */
  read(offset: number): number {
    switch (offset & 3) {
      case 1:
        return this.readCmos(this.state.index);
      case 3:
        return this.readCmos(0x80 | this.state.extendedIndex);
      default:
        return 0xff;
    }
  }

  write(offset: number, value: number): void {
    switch (offset & 3) {
      case 0: // bit 7 masks NMI on real boards
        this.state.index = value & 0x7f;
        return;
      case 1:
        this.#writeCmos(this.state.index, value);
        return;
      case 2:
        this.state.extendedIndex = value & 0x7f;
        return;
      default:
        this.#writeCmos(0x80 | this.state.extendedIndex, value);
    }
  }

  readCmos(index: number): number {
    const { state } = this;
    if (timeRegisters.has(index)) return this.#isHalted() ? state.cmos[index] : this.#encodeTime(index, this.#seconds());
    switch (index) {
      case Cmos.statusA:
        return state.cmos[index] | (this.#isUpdateInProgress() ? StatusA.updateInProgressMask : 0);
      case Cmos.statusC: {
        this.#collectFlags();
        const value = state.flags | (this.#isRequesting() ? StatusC.requestMask : 0);
        state.flags = 0;
        this.#update();
        return value;
      }
      case Cmos.statusD:
        return statusDValid;
      default:
        return state.cmos[index];
    }
  }

  #writeCmos(index: number, value: number): void {
    const { state } = this;
    if (index === Cmos.statusC || index === Cmos.statusD) return;
    this.#collectFlags();
    if (index === Cmos.statusA) this.#writeStatusA(value & ~StatusA.updateInProgressMask);
    else if (index === Cmos.statusB) this.#writeStatusB(value);
    else if (timeRegisters.has(index) && !this.#isHalted()) this.#setRunningTime(index, value);
    else state.cmos[index] = value;
    this.#update();
  }

  #writeStatusA(value: number): void {
    const { state } = this;
    const wasReset = this.#isDividerReset();
    const wasHalted = this.#isHalted();
    if (!wasHalted && (value & StatusA.dividerMask) !== StatusA.dividerRunning) this.#freezeTime();
    state.cmos[Cmos.statusA] = value;
    if (wasReset && !this.#isDividerReset()) state.baseNs = this.#ports.clock.nowNs() - dividerReleasePhaseNs;
    if (wasHalted && !this.#isHalted()) this.#resumeTime();
  }

  #writeStatusB(value: number): void {
    const { state } = this;
    const wasHalted = this.#isHalted();
    const isSet = (value & StatusB.setMask) !== 0;
    if (!wasHalted && isSet) this.#freezeTime();
    // SET clears the update interrupt's enable (data sheet, "Register B").
    state.cmos[Cmos.statusB] = isSet ? value & ~StatusB.updateMask : value;
    if (wasHalted && !this.#isHalted()) this.#resumeTime();
  }

  #encoding(): Encoding {
    const statusB = this.state.cmos[Cmos.statusB];
    return { isBinary: (statusB & StatusB.isBinaryMask) !== 0, is24Hour: (statusB & StatusB.is24HourMask) !== 0 };
  }

  #isDividerReset(): boolean {
    return (this.state.cmos[Cmos.statusA] & StatusA.dividerResetMask) === StatusA.dividerResetMask;
  }

  #isHalted(): boolean {
    const { cmos } = this.state;
    const isDividing = (cmos[Cmos.statusA] & StatusA.dividerMask) === StatusA.dividerRunning;
    return !isDividing || (cmos[Cmos.statusB] & StatusB.setMask) !== 0;
  }

  #secondsAt(ns: number): number {
    return this.state.baseSeconds + Math.floor((ns - this.state.baseNs) / nsPerSecond);
  }

  #seconds(): number {
    return this.#secondsAt(this.#ports.clock.nowNs());
  }

  #nsOfSecond(seconds: number): number {
    return this.state.baseNs + (seconds - this.state.baseSeconds) * nsPerSecond;
  }

  #isUpdateInProgress(): boolean {
    return !this.#isHalted() && this.#secondsAt(this.#ports.clock.nowNs() + updateWarningNs) > this.#seconds();
  }

  #encodeTime(index: number, seconds: number): number {
    const encoding = this.#encoding();
    const time = fromSeconds(seconds);
    switch (index) {
      case Cmos.second:
        return encodeNumber(time.second, encoding);
      case Cmos.minute:
        return encodeNumber(time.minute, encoding);
      case Cmos.hour:
        return encodeHour(time.hour, encoding);
      case Cmos.weekday:
        return encodeNumber(((weekday(seconds) + this.state.weekdayOffset) % 7) + 1, encoding);
      case Cmos.day:
        return encodeNumber(time.day, encoding);
      case Cmos.month:
        return encodeNumber(time.month, encoding);
      case Cmos.year:
        return encodeNumber(time.year % 100, encoding);
      default:
        return encodeNumber(Math.floor(time.year / 100) % 100, encoding);
    }
  }

  /** Copies the running time into the bytes that the guest sees while the update is halted. */
  #freezeTime(): void {
    const seconds = this.#seconds();
    for (const index of timeRegisters) this.state.cmos[index] = this.#encodeTime(index, seconds);
  }

  /** Runs on from the bytes, keeping the phase within the second. */
  #resumeTime(): void {
    const { state } = this;
    const nowNs = this.#ports.clock.nowNs();
    state.baseSeconds = this.#decodeTime();
    state.baseNs += Math.floor((nowNs - state.baseNs) / nsPerSecond) * nsPerSecond;
  }

  #setRunningTime(index: number, value: number): void {
    this.#freezeTime();
    this.state.cmos[index] = value;
    this.#resumeTime();
  }

  #decodeTime(): number {
    const { cmos } = this.state;
    const encoding = this.#encoding();
    const decode = (index: number): number => decodeNumber(cmos[index], encoding);
    const seconds = toSeconds({
      year: decode(Cmos.century) * 100 + decode(Cmos.year),
      month: decode(Cmos.month),
      day: decode(Cmos.day),
      hour: decodeHour(cmos[Cmos.hour], encoding),
      minute: decode(Cmos.minute),
      second: decode(Cmos.second),
    });
    this.state.weekdayOffset = (((decode(Cmos.weekday) - 1 - weekday(seconds)) % 7) + 7) % 7;
    return seconds;
  }

  #alarm(): Alarm {
    const { cmos } = this.state;
    const encoding = this.#encoding();
    const field = (index: number, decode: typeof decodeNumber): number | undefined =>
      (cmos[index] & alarmWildcardMask) === alarmWildcardMask ? undefined : decode(cmos[index], encoding);
    return {
      hour: field(Cmos.hourAlarm, decodeHour),
      minute: field(Cmos.minuteAlarm, decodeNumber),
      second: field(Cmos.secondAlarm, decodeNumber),
    };
  }

  /** Ticks of the crystal between two periodic interrupts; 0 when there are none. */
  #periodTicks(): number {
    const rate = this.state.cmos[Cmos.statusA] & StatusA.rateMask;
    // Rates 1 and 2 repeat 8 and 9 with a 32,768 Hz time base.
    return rate === 0 ? 0 : 1 << (rate <= 2 ? rate + 6 : rate - 1);
  }

  #isRequesting(): boolean {
    return (this.state.flags & this.state.cmos[Cmos.statusB] & StatusC.flagsMask) !== 0;
  }

  /** The flags are raised whether or not they interrupt; nobody ticks for that, it is worked out here. */
  #collectFlags(): void {
    const { state } = this;
    const nowNs = this.#ports.clock.nowNs();
    const periodTicks = this.#periodTicks();
    if (
      periodTicks !== 0 &&
      Math.floor(ticksAt(nowNs, crystalHertz) / periodTicks) > Math.floor(ticksAt(state.checkedNs, crystalHertz) / periodTicks)
    ) {
      state.flags |= StatusC.periodicMask;
    }
    if (!this.#isHalted()) {
      const before = this.#secondsAt(state.checkedNs);
      const now = this.#secondsAt(nowNs);
      if (now > before) {
        state.flags |= StatusC.updateMask;
        const alarmAt = nextAlarm(before, this.#alarm());
        if (alarmAt !== undefined && alarmAt <= now) state.flags |= StatusC.alarmMask;
      }
    }
    state.checkedNs = nowNs;
  }

  /** Drives the line and arms one timer for the next flag that would raise it. */
  #update(): void {
    this.#timer?.cancel();
    this.#timer = undefined;
    const isRequesting = this.#isRequesting();
    this.#ports.interrupt.set(isRequesting);
    if (isRequesting) return;
    const deadlineNs = this.#nextInterruptNs();
    if (deadlineNs === Infinity) return;
    this.#timer = this.#ports.clock.at(deadlineNs, () => {
      this.#collectFlags();
      this.#update();
    });
  }

  #nextInterruptNs(): number {
    const { state } = this;
    const statusB = state.cmos[Cmos.statusB];
    let deadlineNs = Infinity;
    const periodTicks = this.#periodTicks();
    if (statusB & StatusB.periodicMask && periodTicks !== 0) {
      const period = Math.floor(ticksAt(state.checkedNs, crystalHertz) / periodTicks) + 1;
      deadlineNs = nsOfTick(period * periodTicks, crystalHertz);
    }
    if (this.#isHalted()) return deadlineNs;
    const seconds = this.#secondsAt(state.checkedNs);
    if (statusB & StatusB.updateMask) deadlineNs = Math.min(deadlineNs, this.#nsOfSecond(seconds + 1));
    if (statusB & StatusB.alarmMask) {
      const alarmAt = nextAlarm(seconds, this.#alarm());
      if (alarmAt !== undefined) deadlineNs = Math.min(deadlineNs, this.#nsOfSecond(alarmAt));
    }
    return deadlineNs;
  }
}
