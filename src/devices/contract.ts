/**
 * What a device may touch. Device cores are pure register models; everything of the board or the host
 * comes to them through these ports, so that a core can be tested, saved and run under any accelerator.
 */
import type { GuestPhysical } from "../base/address.ts";
import type { Shape } from "../base/shape.ts";

export type AccessSize = 1 | 2 | 4;

/** Registers on the I/O or memory bus. `offset` is relative to the start of the mapped range. */
export interface RegisterBlock {
  /** Returns an unsigned value of `sizeBytes`; unimplemented registers read as all ones (floating bus). */
  read(offset: number, sizeBytes: AccessSize): number;
  write(offset: number, sizeBytes: AccessSize, value: number): void;
}

/** A range on a bus that can be moved or switched off (PCI BARs move at run time). */
export interface Mapping {
  /** Moves the range; `undefined` disables decoding. */
  relocate(base: number | undefined): void;
}

/** Either the 64 KiB port space or the guest-physical memory space. 8-byte memory accesses arrive as two of 4. */
export interface Bus {
  map(base: number | undefined, sizeBytes: number, registers: RegisterBlock, name: string): Mapping;
}

/** A level-triggered wire. `set(true)` asserts it; setting the same level again does nothing. */
export interface IrqLine {
  set(level: boolean): void;
}

/** A pending call of {@link Clock.at}. */
export interface Timer {
  cancel(): void;
}

/** Virtual machine time: nanoseconds since power-on. Owned by the machine; never read a host clock in a device. */
export interface Clock {
  nowNs(): number;
  /** Calls `action` once, when `nowNs()` has reached `deadlineNs`, between two guest instructions. */
  at(deadlineNs: number, action: () => void): Timer;
}

/** Guest RAM as devices reach it (DMA). A range that is not wholly RAM is refused, never clipped. */
export interface GuestMemory {
  /** Total RAM in bytes. */
  readonly sizeBytes: number;
  /** Copies RAM into `target`; false (and `target` untouched) when the range is not wholly RAM. */
  read(address: GuestPhysical, target: Uint8Array): boolean;
  /** Copies `source` to RAM, invalidating cached code of the pages; false when the range is not wholly RAM. */
  write(address: GuestPhysical, source: Uint8Array): boolean;
}

/** Delivers a message-signalled interrupt: a 32-bit write of `data` to `address` (0xFEEx_xxxx). */
export type MessageSignal = (address: number, data: number) => void;

/** What the board hands to a device's factory. */
export interface DeviceContext {
  readonly ports: Bus;
  readonly memoryBus: Bus;
  readonly clock: Clock;
  readonly memory: GuestMemory;
  readonly signalMessage: MessageSignal;
  /** ISA interrupt line 0..15, or I/O APIC pin 16..23. Each call gives a wire of its own; wires of one line are ORed. */
  irq(line: number): IrqLine;
}

/** A device on the board. `state` is plain data (typed arrays allowed) that names its state in full. */
export interface Device<State> {
  readonly state: State;
  /** Requests handed to a back end that has not answered: they are not part of `state`, so saving waits for them. */
  readonly requestsUnderWay?: number;
  /**
   * Platform reset (not power-on: battery-backed contents survive). The board resets interrupt controllers
   * last, when the devices have let go of their lines.
   */
  reset(): void;
}

/**
 * One line in the catalog: from it the board, API, CLI, snapshot and documents derive. `Built` is what the
 * board gets when it needs more of the device than its state (a console's `feed`, say).
 */
export interface DeviceDefinition<Config, State, Built extends Device<State> = Device<State>> {
  readonly name: string;
  readonly description: string;
  /** Raised when the meaning of `State` changes. */
  readonly stateVersion: number;
  /** What a saved state looks like. Saved states may come from anybody: nothing that it allows may break the device. */
  stateShape(config: Config): Shape<State>;
  /** Builds the device as after power-on or, given a saved `state`, continues it (timers re-armed, lines driven). */
  create(config: Config, context: DeviceContext, state?: State): Built;
}
