/** What SVM keeps beside the processor's registers, as snapshots have it. What a guest's control block says is in memory. */
import { boolean, object, optional, record, uint16, uint32, uint8, type Shape, unsigned } from "../../base/shape.ts";
import { UserError } from "../../base/errors.ts";
import * as layout from "../../isa/state.ts";
import type { SvmContext } from "./context.ts";
import { eventExit } from "./exit-codes.ts";
import { vmcbBytes } from "./vmcb.ts";

interface AvicState {
  readonly soloBoundaries: number;
  readonly exit: { readonly code: number; readonly info1: bigint; readonly info2: bigint } | undefined;
}

/** Of a guest that is running. */
interface SvmGuestState {
  /** Address of its control block. */
  readonly vmcb: bigint;
  readonly interruptControl: number;
  readonly interruptVector: number;
  readonly pauseCount: number;
  readonly hostPat: bigint;
  /** An exit that is due behind the last instruction, and how long instructions are executed alone: where AVIC is on. */
  readonly avic: AvicState | undefined;
  /** The host's last-branch registers, by place, where the guest has its own. */
  readonly hostBranches: Readonly<Record<string, bigint>> | undefined;
  /** The host's registers, by name. */
  readonly host: Readonly<Record<string, bigint>>;
}

/** Its model-specific registers are saved with the processor's others. */
export interface SvmState {
  /** The global interrupt flag. */
  readonly gif: boolean;
  readonly guest: SvmGuestState | undefined;
}

const uint64 = unsigned(64);
const maximumHostValues = 100;

export const svmStateShape: Shape<SvmState> = object<SvmState>({
  gif: boolean,
  guest: optional(object<SvmGuestState>({
    vmcb: uint64, interruptControl: uint32, interruptVector: uint8, pauseCount: uint16, hostPat: uint64,
    avic: optional(object<AvicState>({
      soloBoundaries: uint8, exit: optional(object<NonNullable<AvicState["exit"]>>({ code: uint16, info1: uint64, info2: uint64 })),
    })),
    hostBranches: optional(record(uint64, maximumHostValues)), host: record(uint64, maximumHostValues),
  })),
});

export function saveContext({ isGuest, gif, host, hostPat, hostBranches, vmcbAddress, interrupts, pauseFilter, avic, soloBoundaries }: SvmContext): SvmState {
  const guest = isGuest ? {
    vmcb: BigInt(vmcbAddress), interruptControl: interrupts.control, interruptVector: interrupts.vector, pauseCount: pauseFilter.count, hostPat,
    avic: avic.isEnabled ? { soloBoundaries, exit: avic.pendingExit && { code: avic.pendingExit.code, info1: avic.pendingExit.info1, info2: avic.pendingExit.info2 } } : undefined,
    hostBranches: hostBranches === undefined ? undefined : Object.fromEntries(hostBranches.map((value, index) => [String(index), value])),
    host: host.getState(),
  } : undefined;
  return { gif, guest };
}

/** @throws UserError BAD_SNAPSHOT when it cannot be a state of this machine. */
export function restoreContext(context: SvmContext, { gif, guest }: SvmState): void {
  const { processor: p, interrupts, pauseFilter } = context;
  context.reset("init");
  context.gif = gif;
  if (guest === undefined) return;
  context.host.setState((name) => {
    if (Object.hasOwn(guest.host, name)) return guest.host[name];
    throw new UserError("BAD_SNAPSHOT", `The snapshot holds no complete state of SVM: the host's ${name} is missing.`);
  });
  const address = Number(guest.vmcb);
  const at = address % vmcbBytes === 0 ? p.physical.writable(address) : 0;
  if (at === 0) throw new UserError("BAD_SNAPSHOT", "The snapshot's control block of SVM is not in memory.");
  context.vmcbAddress = address;
  context.loadControls(context.view(at));
  context.hostPat = guest.hostPat;
  context.hostBranches = guest.hostBranches === undefined ? undefined : Object.values(guest.hostBranches);
  interrupts.control = guest.interruptControl;
  interrupts.vector = guest.interruptVector;
  pauseFilter.count = guest.pauseCount;
  context.soloBoundaries = guest.avic?.soloBoundaries ?? 0;
  const exit = guest.avic?.exit;
  context.avic.pendingExit = exit && eventExit(exit.code, exit.info1, exit.info2);
  context.isGuest = true;
  p.state.set32(layout.interception, context.interception.mask);
  context.enterSpace(context.vmcb);
}
