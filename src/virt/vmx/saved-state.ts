/** What VMX keeps beside the processor's registers, as snapshots have it. */
import { boolean, bytes, integer, list, object, oneOf, optional, uint16, uint32, type Shape, unsigned } from "../../base/shape.ts";
import { maximumActive } from "./active-structures.ts";
import { vmcsRegionBytes } from "./capabilities.ts";

/** An exit that is to follow the instruction that was executed last. */
interface PendingExitState {
  readonly reason: number;
  readonly qualification: bigint;
}

/** Of a guest that is running. */
export interface VmxGuestState {
  /** Address of its VMCS, which is one of the active ones. */
  readonly vmcs: bigint;
  readonly activity: number;
  readonly pendingDebug: number;
  readonly monitorTrap: "off" | "armed" | "pending";
  readonly isInterruptRecognized: boolean;
  readonly pendingExit: PendingExitState | undefined;
  readonly hasTimer: boolean;
  readonly timerStartTicks: bigint;
  readonly timerStartValue: number;
  readonly soloBoundaries: number;
  readonly unblockedAt: bigint | undefined;
}

export interface VmxState {
  readonly featureControl: bigint;
  /** VMX operation; undefined outside of it. */
  readonly vmxonPointer: bigint | undefined;
  readonly current: bigint | undefined;
  readonly structures: readonly { readonly address: bigint; readonly bytes: Uint8Array }[];
  readonly guest: VmxGuestState | undefined;
}

const uint64 = unsigned(64);

const guestShape: Shape<VmxGuestState> = object<VmxGuestState>({
  vmcs: uint64, activity: integer(0, 3), pendingDebug: uint16, monitorTrap: oneOf("off", "armed", "pending"),
  isInterruptRecognized: boolean, pendingExit: optional(object<PendingExitState>({ reason: uint16, qualification: uint64 })),
  hasTimer: boolean, timerStartTicks: uint64, timerStartValue: uint32, soloBoundaries: integer(0, 2), unblockedAt: optional(uint64),
});

export const vmxStateShape: Shape<VmxState> = object<VmxState>({
  featureControl: uint64, vmxonPointer: optional(uint64), current: optional(uint64),
  structures: list(object({ address: uint64, bytes: bytes(vmcsRegionBytes) }), { maximum: maximumActive }),
  guest: optional(guestShape),
});
