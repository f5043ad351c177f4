/** Which processor states a snapshot may hold, and how it spells them. */
import {
  boolean, integer, list, mapped, object, oneOf, optional, type Shape, uint16, uint32, uint8, unsigned,
} from "../base/shape.ts";
import {
  type CoreMsrState, type DescriptorTableState, type FloatingPointState, type PendingEvent, type ProcessorState, processorStateVersion,
  type SegmentState,
} from "./processor-state.ts";
import { svmStateShape, type SvmState } from "../virt/svm/saved-state.ts";
import { vmxStateShape, type VmxState } from "../virt/vmx/saved-state.ts";

const uint64 = unsigned(64);
const maximumStoredMsrs = 4096;

const segmentShape: Shape<SegmentState> = object<SegmentState>({ selector: uint16, base: uint64, limit: uint32, attributes: integer(0, 0x1_ffff) });
const descriptorTableShape: Shape<DescriptorTableState> = object<DescriptorTableState>({ base: uint64, limit: uint16 });

const floatingPointShape: Shape<FloatingPointState> = object<FloatingPointState>({
  controlWord: uint16, statusWord: uint16, abridgedTagWord: uint8, lastOpcode: uint16, instructionPointer: uint64,
  instructionSelector: uint16, dataPointer: uint64, dataSelector: uint16,
  stack: list(object({ significand: uint64, signAndExponent: uint16 }), 8),
});

const coreMsrShape: Shape<CoreMsrState> = object<CoreMsrState>({
  efer: uint64, star: uint64, lstar: uint64, cstar: uint64, fmask: uint64, kernelGsBase: uint64, sysenterCs: uint64,
  sysenterEsp: uint64, sysenterEip: uint64, tscAux: uint64, pat: uint64,
});

const pendingEventShape: Shape<PendingEvent> = mapped(
  object({ kind: oneOf("exception", "external", "nmi"), vector: uint8, errorCode: optional(uint32) }),
  ({ kind, vector, errorCode }: PendingEvent) => ({ kind, vector, errorCode }),
  ({ kind, vector, errorCode }) => ({ kind, vector, ...(errorCode === undefined ? {} : { errorCode }) }),
);

const storedMsrShape: Shape<readonly [index: number, value: bigint]> = mapped(
  object({ index: uint32, value: uint64 }),
  ([index, value]: readonly [number, bigint]) => ({ index, value }),
  ({ index, value }) => [index, value] as const,
);

/** The state with undefined where it leaves a property out. */
type Complete = Omit<ProcessorState, "pageDirectoryPointers" | "pendingEvent" | "svm" | "vmx"> & {
  readonly svm: SvmState | undefined;
  readonly vmx: VmxState | undefined;
  readonly pageDirectoryPointers: readonly bigint[] | undefined;
  readonly pendingEvent: PendingEvent | undefined;
};

const completeShape: Shape<Complete> = object<Complete>({
  version: oneOf(processorStateVersion), general: list(uint64, 16), rip: uint64, rflags: uint32, privilegeLevel: integer(0, 3), segments: list(segmentShape, 8),
  gdtr: descriptorTableShape, idtr: descriptorTableShape, cr0: uint64, cr2: uint64, cr3: uint64, cr4: uint64, xcr0: uint64,
  pageDirectoryPointers: optional(list(uint64, 4)), breakpointAddresses: list(uint64, 4), dr6: uint64, dr7: uint64,
  floatingPoint: floatingPointShape, mxcsr: uint32, xmm: list(object({ low: uint64, high: uint64 }), 16), pkru: uint32,
  msrs: coreMsrShape, storedMsrs: list(storedMsrShape, { maximum: maximumStoredMsrs }),
  activity: oneOf("active", "halted", "shutdown", "waiting-for-sipi"), shadow: oneOf("none", "sti", "stack-segment"),
  isNmiBlocked: boolean, isNmiPending: boolean, pendingEvent: optional(pendingEventShape), heldDebugConditions: integer(0, 0xffff),
  svm: optional(svmStateShape), vmx: optional(vmxStateShape),
});

export const processorStateShape: Shape<ProcessorState> = mapped(
  completeShape,
  ({ pageDirectoryPointers, pendingEvent, svm, vmx, ...rest }: ProcessorState): Complete =>
    ({ ...rest, pageDirectoryPointers, pendingEvent, svm, vmx }),
  ({ pageDirectoryPointers, pendingEvent, svm, vmx, ...rest }): ProcessorState => ({
    ...rest,
    ...(pageDirectoryPointers === undefined ? {} : { pageDirectoryPointers }),
    ...(pendingEvent === undefined ? {} : { pendingEvent }),
    ...(svm === undefined ? {} : { svm }),
    ...(vmx === undefined ? {} : { vmx }),
  }),
);
