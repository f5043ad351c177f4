/** One timer of an HPET (IA-PC HPET specification 1.0a, "Timer N Configuration and Comparator"): pure arithmetic. */
import { checked, object, pair, type Shape, uint16, uint32 } from "../../../base/shape.ts";

export const TimerConfiguration = {
  levelMask: 0x0002,
  enableMask: 0x0004,
  periodicMask: 0x0008,
  setAccumulatorMask: 0x0040,
  narrowMask: 0x0100,
  routeShift: 9,
  routeMask: 0x1f,
  messageMask: 0x4000,
  /** Periodic and 64-bit capable, and can send messages. */
  capabilities: 0x8030,
  writableMask: 0x7f4e,
} as const;

/** I/O APIC pins that a timer may be routed to: 2, 8 and 16 to 23. */
export const routeCapabilities = 0x00ff_0104;

export interface HpetTimerState {
  configuration: number;
  /** 64-bit values in two words, low first. */
  comparator: [number, number];
  period: [number, number];
  messageData: number;
  messageAddress: number;
}

export const hpetTimerStateShape: Shape<HpetTimerState> = object({
  configuration: checked(uint16, hasRoute, "a configuration with a route that exists"),
  comparator: pair(uint32), period: pair(uint32), messageData: uint32, messageAddress: uint32,
});

function hasRoute(configuration: number): boolean {
  const route = (configuration >> TimerConfiguration.routeShift) & TimerConfiguration.routeMask;
  return route === 0 || (routeCapabilities & (1 << route)) !== 0;
}

export function resetHpetTimerState(): HpetTimerState {
  return { configuration: 0, comparator: [0xffff_ffff, 0xffff_ffff], period: [0, 0], messageData: 0, messageAddress: 0 };
}

export function join(words: readonly [number, number]): bigint {
  return (BigInt(words[1]) << 32n) | BigInt(words[0]);
}

export function split(value: bigint): [number, number] {
  return [Number(value & 0xffff_ffffn), Number((value >> 32n) & 0xffff_ffffn)];
}

function width(timer: HpetTimerState): number {
  return timer.configuration & TimerConfiguration.narrowMask ? 32 : 64;
}

/** Ticks until the counter next equals the comparator: 1 to 2^width. */
export function ticksToMatch(timer: HpetTimerState, counter: bigint): bigint {
  const bits = width(timer);
  const distance = BigInt.asUintN(bits, join(timer.comparator) - counter);
  return distance === 0n ? 1n << BigInt(bits) : distance;
}

/**
 * Accounts for the counter's run from `before` (exclusive) to `now` (inclusive). A periodic comparator moves
 * past `now`, however many periods that skips. Returns whether it matched.
 */
export function advance(timer: HpetTimerState, before: bigint, now: bigint): boolean {
  const distance = ticksToMatch(timer, before);
  const elapsed = BigInt.asUintN(64, now - before);
  if (distance > elapsed) return false;
  const bits = width(timer);
  const period = BigInt.asUintN(bits, join(timer.period));
  if (timer.configuration & TimerConfiguration.periodicMask && period !== 0n) {
    const periods = (elapsed - distance) / period + 1n;
    timer.comparator = split(BigInt.asUintN(bits, join(timer.comparator) + periods * period));
  }
  return true;
}
