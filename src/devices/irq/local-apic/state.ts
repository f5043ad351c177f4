/** What a local APIC knows (its whole state) and whom it talks to. */
import { boolean, checked, integer, list, object, pair, type Shape, uint32, uint8 } from "../../../base/shape.ts";
import type { Clock } from "../../contract.ts";
import { DeliveryMode, type InterruptMessage } from "../message.ts";
import { Lvt, lvtCount, Register } from "./registers.ts";
import { type ApicTimerState, apicTimerStateShape, resetApicTimerState } from "./timer.ts";
import { emptyVectorSet, type VectorSet } from "./vector-set.ts";

/** The processor this APIC belongs to. */
export interface LocalProcessor {
  /** `hasInterrupt()` has changed. */
  interruptPendingChanged(isPending: boolean): void;
  nmi(): void;
  smi(): void;
  /** INIT arrived. The processor calls `LocalApic.initialize()` when it obeys (VMX root operation blocks INIT). */
  init(): void;
  /** SIPI; ignored unless the processor waits for it. Execution starts at `vector << 12`. */
  startUp(vector: number): void;
  /** The INTA cycle of the external interrupt controller: its vector. */
  acknowledgeExternal(): number;
}

/** What connects the local APICs with each other and with the I/O APICs. */
export interface InterProcessorBus {
  /** Delivers to every matching processor; `others` leaves out the one with index `sender`. */
  send(message: InterruptMessage, sender: number): void;
  /** A level-triggered interrupt is finished. */
  broadcastEndOfInterrupt(vector: number): void;
}

export interface LocalApicPorts {
  readonly clock: Clock;
  readonly bus: InterProcessorBus;
  readonly processor: LocalProcessor;
  /** When the guest's TSC will have reached `tsc`, in clock nanoseconds. */
  tscDeadlineToNs(tsc: bigint): number;
  /** The base or mode of the memory-mapped registers has changed; undefined when they are not mapped. */
  mappingChanged?(base: number | undefined): void;
}

export interface LocalApicConfig {
  /** Initial APIC ID, up to 32 bits. */
  readonly id: number;
  readonly isBootProcessor: boolean;
}

export interface LocalApicState {
  isEnabled: boolean;
  isX2Apic: boolean;
  baseAddress: number;
  taskPriority: number;
  logicalDestination: number;
  destinationFormat: number;
  spuriousVector: number;
  errorStatus: number;
  /** Errors since the last write to the error status register. */
  pendingErrors: number;
  commandLow: number;
  commandHigh: number;
  /** LVT entries: timer, thermal, performance, LINT0, LINT1, error. */
  lvt: number[];
  requests: VectorSet;
  inService: VectorSet;
  triggerModes: VectorSet;
  /** Levels on LINT0 and LINT1. */
  lintLevels: [boolean, boolean];
  /** An ExtINT message has come and the external controller has not been acknowledged. */
  isExternalPending: boolean;
  timer: ApicTimerState;
}

const vectorSetShape: Shape<VectorSet> = list(uint32, 8);

export const localApicStateShape: Shape<LocalApicState> = object({
  isEnabled: boolean, isX2Apic: boolean,
  baseAddress: checked(integer(0, 2 ** 52 - 1), (address) => address % 0x1000 === 0, "the address of a page"),
  taskPriority: uint8, logicalDestination: uint32, destinationFormat: uint32, spuriousVector: uint32,
  errorStatus: uint32, pendingErrors: uint32, commandLow: uint32, commandHigh: uint32, lvt: list(uint32, lvtCount),
  requests: vectorSetShape, inService: vectorSetShape, triggerModes: vectorSetShape, lintLevels: pair(boolean),
  isExternalPending: boolean, timer: apicTimerStateShape,
});

export const defaultBaseAddress = 0xfee0_0000;
export const lint0Index: number = Register.lvtLint0 - Register.lvtTimer;

/** Everything that INIT resets. */
export function initialRegisters(isBootProcessor: boolean): Omit<LocalApicState, "isEnabled" | "isX2Apic" | "baseAddress" | "lintLevels" | "timer"> {
  const lvt = Array.from({ length: lvtCount }, (): number => Lvt.maskedMask);
  // Virtual wire mode, which firmware sets up on the boot processor; kernels that are booted without firmware rely on it.
  if (isBootProcessor) lvt[lint0Index] = DeliveryMode.external << 8;
  return {
    taskPriority: 0,
    logicalDestination: 0,
    destinationFormat: 0xffff_ffff,
    spuriousVector: 0xff,
    errorStatus: 0,
    pendingErrors: 0,
    commandLow: 0,
    commandHigh: 0,
    lvt,
    requests: emptyVectorSet(),
    inService: emptyVectorSet(),
    triggerModes: emptyVectorSet(),
    isExternalPending: false,
  };
}

export function resetLocalApicState(config: LocalApicConfig): LocalApicState {
  return {
    ...initialRegisters(config.isBootProcessor),
    isEnabled: true,
    isX2Apic: false,
    baseAddress: defaultBaseAddress,
    lintLevels: [false, false],
    timer: resetApicTimerState(),
  };
}

