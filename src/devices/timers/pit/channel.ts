/**
 * One counter of an Intel 8254 (data sheet 231164, modes 0 to 5). Nothing ticks: count and output are
 * computed from the input clock's tick number whenever somebody looks.
 */
import { boolean, count, integer, object, optional, type Shape, uint16, uint8 } from "../../../base/shape.ts";

export const pitHertz = 1_193_182;

/** Access modes of the control word. */
const Access = { lowOnly: 1, highOnly: 2, lowThenHigh: 3 };

export interface PitChannelState {
  mode: number;
  access: number;
  isBcd: boolean;
  gate: boolean;
  /** The counter's reload value, 1 to 65,536; undefined until a count is written after the control word. */
  count: number | undefined;
  /** A count written in modes 2 and 3 that waits for the end of the period, or in modes 1 and 5 for a trigger. */
  nextCount: number | undefined;
  /** Tick at which the count was in the counting element; undefined while it does not count. */
  startTick: number | undefined;
  /** Ticks counted before the gate stopped a mode 0 or 4 count. */
  heldTicks: number | undefined;
  lowByteWritten: number | undefined;
  isHighByteNext: boolean;
  latchedCount: number | undefined;
  latchedStatus: number | undefined;
}

export const pitChannelStateShape: Shape<PitChannelState> = object({
  mode: integer(0, 5), access: integer(Access.lowOnly, Access.lowThenHigh), isBcd: boolean, gate: boolean,
  count: optional(integer(1, 0x1_0000)), nextCount: optional(integer(1, 0x1_0000)),
  startTick: optional(count), heldTicks: optional(count), lowByteWritten: optional(uint8), isHighByteNext: boolean,
  latchedCount: optional(uint16), latchedStatus: optional(uint8),
});

export function resetPitChannelState(): PitChannelState {
  return {
    mode: 3,
    access: Access.lowThenHigh,
    isBcd: false,
    gate: true,
    count: undefined,
    nextCount: undefined,
    startTick: undefined,
    heldTicks: undefined,
    lowByteWritten: undefined,
    isHighByteNext: false,
    latchedCount: undefined,
    latchedStatus: undefined,
  };
}

export class PitChannel {
  readonly state: PitChannelState;

  constructor(state: PitChannelState) {
    this.state = state;
  }

  writeControl(access: number, mode: number, isBcd: boolean): void {
    Object.assign(this.state, resetPitChannelState(), {
      gate: this.state.gate,
      access,
      mode: mode > 5 ? mode - 4 : mode,
      isBcd,
    });
  }

  writeCount(tick: number, byte: number): void {
    const { state } = this;
    switch (state.access) {
      case Access.lowOnly:
        this.#load(tick, byte);
        return;
      case Access.highOnly:
        this.#load(tick, byte << 8);
        return;
      default:
        if (state.lowByteWritten === undefined) {
          state.lowByteWritten = byte;
          // The first byte stops a mode 0 count and drops its output.
          if (state.mode === 0) {
            state.startTick = undefined;
            state.heldTicks = undefined;
          }
        } else {
          const low = state.lowByteWritten;
          state.lowByteWritten = undefined;
          this.#load(tick, low | (byte << 8));
        }
    }
  }

  read(tick: number): number {
    const { state } = this;
    if (state.latchedStatus !== undefined) {
      const status = state.latchedStatus;
      state.latchedStatus = undefined;
      return status;
    }
    const value = state.latchedCount ?? this.#countingElement(tick);
    let isDone = true;
    let isHigh = state.access === Access.highOnly;
    if (state.access === Access.lowThenHigh) {
      isHigh = state.isHighByteNext;
      state.isHighByteNext = !isHigh;
      isDone = isHigh;
    }
    if (isDone) state.latchedCount = undefined;
    return isHigh ? value >> 8 : value & 0xff;
  }

  latchCount(tick: number): void {
    this.state.latchedCount ??= this.#countingElement(tick);
  }

  latchStatus(tick: number): void {
    const { state } = this;
    if (state.latchedStatus !== undefined) return;
    const out = this.output(tick);
    state.latchedStatus =
      (out ? 0x80 : 0) | (this.#isNullCount(tick) ? 0x40 : 0) | (state.access << 4) | (state.mode << 1) | (state.isBcd ? 1 : 0);
  }

  setGate(tick: number, level: boolean): void {
    const { state } = this;
    if (level === state.gate) return;
    if (state.mode === 0 || state.mode === 4) {
      if (!level && state.startTick !== undefined) {
        state.heldTicks = tick - state.startTick;
      } else if (level && state.heldTicks !== undefined) {
        state.startTick = tick - state.heldTicks;
        state.heldTicks = undefined;
      }
    } else if (level && (state.nextCount ?? state.count) !== undefined) {
      state.count = state.nextCount ?? state.count;
      state.nextCount = undefined;
      state.startTick = tick + 1;
    }
    state.gate = level;
  }

  /** Level of the OUT pin. */
  output(tick: number): boolean {
    const { state } = this;
    const elapsed = this.#elapsed(tick);
    if (elapsed === undefined || state.count === undefined) return state.mode !== 0;
    const { count } = state;
    switch (state.mode) {
      case 0:
        return elapsed >= count;
      case 1:
        return elapsed < 0 || elapsed >= count;
      case 2:
        return !state.gate || elapsed < 0 || elapsed % count !== count - 1;
      case 3:
        return !state.gate || elapsed < 0 || elapsed % count < Math.ceil(count / 2);
      default:
        return elapsed !== count;
    }
  }

  /** The first tick after `tick` at which OUT rises by itself; undefined if it never will. */
  nextRise(tick: number): number | undefined {
    const { state } = this;
    const elapsed = this.#elapsed(tick);
    if (elapsed === undefined || state.count === undefined || state.startTick === undefined || !state.gate) return undefined;
    const { count, startTick, mode } = state;
    if (mode === 2 || mode === 3) {
      return startTick + (elapsed < 0 ? count : (Math.floor(elapsed / count) + 1) * count);
    }
    const rise = mode === 0 || mode === 1 ? count : count + 1;
    return elapsed < rise ? startTick + rise : undefined;
  }

  /** Takes the count of a just completed write, as the mode says. */
  #load(tick: number, registerValue: number): void {
    const { state } = this;
    const count = state.isBcd ? fromBcd(registerValue) || 10_000 : registerValue || 0x1_0000;
    const isRunning = state.startTick !== undefined;
    switch (state.mode) {
      case 1:
      case 5:
        state.nextCount = count;
        return;
      case 2:
      case 3:
        this.#elapsed(tick);
        if (isRunning) {
          state.nextCount = count;
          return;
        }
        state.count = count;
        if (state.gate) state.startTick = tick + 1;
        return;
      default:
        state.count = count;
        state.startTick = tick + 1;
        state.heldTicks = state.gate ? undefined : 0;
    }
  }

  /** Ticks since the count was loaded (negative just before), after moving on to a waiting count. */
  #elapsed(tick: number): number | undefined {
    const { state } = this;
    if (state.startTick === undefined || state.count === undefined) return undefined;
    if (state.heldTicks !== undefined) return state.heldTicks;
    const isPeriodic = state.mode === 2 || state.mode === 3;
    const elapsed = tick - state.startTick;
    if (isPeriodic && state.nextCount !== undefined && elapsed >= state.count) {
      // The write was seen in the current period, so its end is the one boundary that matters.
      state.startTick += state.count;
      state.count = state.nextCount;
      state.nextCount = undefined;
      return tick - state.startTick;
    }
    if (isPeriodic && elapsed >= state.count) {
      // Keeps the start within a period, so that a count written later waits for the end of the right one.
      state.startTick += Math.floor(elapsed / state.count) * state.count;
      return tick - state.startTick;
    }
    return elapsed;
  }

  #isNullCount(tick: number): boolean {
    const elapsed = this.#elapsed(tick);
    return elapsed === undefined || elapsed < 0 || this.state.nextCount !== undefined;
  }

  /** The counting element as the data bus shows it, 16 bits. */
  #countingElement(tick: number): number {
    const { state } = this;
    const elapsed = Math.max(0, this.#elapsed(tick) ?? 0);
    const { count } = state;
    if (count === undefined) return 0;
    let value: number;
    if (state.mode === 2) {
      value = count - (elapsed % count);
    } else if (state.mode === 3) {
      const phase = elapsed % count;
      const highTicks = Math.ceil(count / 2);
      value = (count & ~1) - 2 * (phase < highTicks ? phase : phase - highTicks);
    } else {
      value = count - elapsed;
    }
    if (!state.isBcd) return value & 0xffff;
    return toBcd(((value % 10_000) + 10_000) % 10_000);
  }
}

function fromBcd(value: number): number {
  return (value & 15) + ((value >> 4) & 15) * 10 + ((value >> 8) & 15) * 100 + ((value >> 12) & 15) * 1000;
}

function toBcd(value: number): number {
  return (value % 10) | ((Math.floor(value / 10) % 10) << 4) | ((Math.floor(value / 100) % 10) << 8) | (Math.floor(value / 1000) << 12);
}
