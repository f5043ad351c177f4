/** How instructions, event delivery and the engine ask the processor's virtualization extension (SVM, VMX) for interception. */
import { Status } from "../ir/index.ts";
import type { Processor } from "./processor.ts";
import type { ProcessorEvent } from "./system/exceptions.ts";

/**
 * What `exceptionVector` holds when an exit takes the place of the instruction, or of an event's delivery: like a fault
 * it leaves nothing committed, but instead of a handler the hypervisor goes on.
 */
export const exitVector = 0x100;

/** Bits of the state's `interception`: instructions without a routine ask only while theirs is set. */
export const InterceptionMask = {
  pushf: 1, pause: 2, readControlRegister: 4, smsw: 8, popf: 0x40,
  /** SGDT, SIDT, LGDT, LIDT. */
  globalTables: 0x10,
  /** SLDT, STR, LLDT, LTR. */
  localTables: 0x20,
  /** Concealed, with RDTSCP. */
  rdpid: 0x80,
} as const;

/** Instructions of which an interceptor needs to know no more than that they are about to be executed. */
export type PlainInstruction =
  | "cpuid" | "hlt" | "invd" | "wbinvd" | "rdtsc" | "rdtscp" | "rdpmc" | "pause" | "monitor" | "mwait" | "rsm" | "pushf"
  | "popf" | "iret" | "clts" | "smsw" | "icebp" | "sgdt" | "sidt" | "lgdt" | "lidt" | "sldt" | "str" | "lldt" | "ltr"
  | "rdrand" | "rdseed" | "invpcid";

/** Instructions that a hypervisor can take away from its guest. */
export type ConcealableInstruction = "rdtscp" | "invpcid" | "xsaves";

/** A sensitive instruction that has passed its privilege checks, or a task switch about to happen. */
export type Interceptable =
  | { readonly kind: PlainInstruction }
  | { readonly kind: "read cr" | "read dr"; readonly number: number }
  | { readonly kind: "write cr" | "write dr"; readonly number: number; readonly value: bigint }
  /** `value` is the new CR0, `word` the operand. */
  | { readonly kind: "lmsw"; readonly value: bigint; readonly word: number }
  /** Before any check of an access to a debug register. */
  | { readonly kind: "mov dr"; readonly number: number; readonly isWrite: boolean }
  | { readonly kind: "rdmsr"; readonly index: number }
  | { readonly kind: "wrmsr" | "xsetbv"; readonly index: number; readonly value: bigint }
  | { readonly kind: "in" | "out"; readonly port: number; readonly sizeBytes: number; readonly isString: boolean }
  | { readonly kind: "invlpg"; readonly linear: bigint }
  | { readonly kind: "int"; readonly vector: number }
  | {
    readonly kind: "task switch"; readonly selector: number; readonly reason: "jump" | "call" | "return" | "gate";
    /** Of the exception that goes through a task gate. */
    readonly errorCode: number | undefined;
    /** Event that goes through a task gate. */
    readonly event: ProcessorEvent | undefined;
  };

/** Instructions of the extensions themselves. */
export type VirtualizationInstruction =
  | "vmrun" | "vmload" | "vmsave" | "vmmcall" | "stgi" | "clgi" | "invlpga"
  | "vmxon" | "vmxoff" | "vmclear" | "vmptrld" | "vmptrst" | "vmread" | "vmwrite" | "vmlaunch" | "vmresume" | "vmcall"
  | "vmfunc" | "invept" | "invvpid";

/** What the engine has to offer between two instructions. */
export interface PendingEvents {
  readonly nmi: boolean;
  /** The interrupt controller holds a maskable interrupt. */
  readonly interrupt: boolean;
  /** `interruptShadow` as far as it applies to this boundary. */
  readonly shadow: number;
}

/** What happens between two instructions. */
export type BoundaryAction =
  /** The next instruction is executed. */
  | "none"
  /** The NMI, or the interrupt that the controller holds, is delivered through the IDT. */
  | "nmi" | "interrupt"
  /** The NMI has left the guest and is no longer pending. */
  | "nmi taken"
  /** The extension itself has delivered something or left the guest. */
  | "done";

/** An entry into a guest, or an exit from it, as an observer sees it. */
export interface Transition {
  readonly kind: "entry" | "exit";
  /** The manual's name: of the instruction that enters, or of the exit's reason. */
  readonly reason: string;
  readonly code: number;
  /** ASID or VPID. */
  readonly space: number;
  /** Physical address of the VMCB or VMCS. */
  readonly controlBlock: number;
  /** The guest's. */
  readonly rip: bigint;
  /** Of an exit EXITINFO1 and EXITINFO2, or its qualification and the guest-physical address. */
  readonly information: readonly [bigint, bigint];
}

/** A field of a VMCB or VMCS. */
export interface ControlBlockField {
  /** As the manual has it. */
  readonly name: string;
  readonly value: bigint;
  readonly widthBits: number;
  /** The names of what is set, where bits have names. */
  readonly meaning: string | undefined;
}

/** A check of an entry that the contents of a control block fail. */
export interface ControlBlockProblem {
  readonly problem: string;
  /** Names of the fields that the check looks at. */
  readonly fields: readonly string[];
}

/** The current VMCB or VMCS, decoded. */
export interface ControlBlock {
  readonly kind: "VMCB" | "VMCS";
  readonly address: bigint;
  /** Its guest runs at this moment: what the block says of the guest's registers is of the entry. */
  readonly isRunning: boolean;
  readonly fields: readonly ControlBlockField[];
  readonly problems: readonly ControlBlockProblem[];
}

/** Where a processor that can do so records branches. */
export interface BranchRecord {
  /** A branch that was taken, by its address and its target's. */
  note(from: bigint, to: bigint): void;
  /** An event that was delivered, with the address of the instruction that it came to, and its handler's. */
  noteEvent(event: ProcessorEvent, from: bigint, to: bigint): void;
}

/** The extension as those see it who watch what the guest's own hypervisor does. */
export type ObservableVirtualization = Pick<Virtualization, "extension" | "isOn" | "controlBlock" | "observer">;

/** The virtualization extension of one processor. Processors without one have none, and pay for none. */
export interface Virtualization {
  readonly extension: "svm" | "vmx";
  /** Software has switched it on. */
  readonly isOn: boolean;
  /** The extension runs a guest now: SVM's guest mode, VMX non-root operation. What follows is asked only then, except where noted. */
  readonly isGuest: boolean;
  /**
   * Whether an exit takes the instruction's place; it is recorded then, with `exitVector` as the exception. Asked after
   * #UD and privilege checks, before all else.
   */
  intercepts(instruction: Interceptable): boolean;
  /**
   * The same for an event about to be delivered. `during` is the event whose own delivery raised this exception. Called
   * once per event, for an exception raised during another's delivery before they combine to a double fault.
   */
  interceptsEvent(event: ProcessorEvent, during: ProcessorEvent | undefined): boolean;
  /** The same for what a third fault would shut down. */
  interceptsShutdown(): boolean;
  /** Leaves the guest by the exit recorded last; `during` is the event whose delivery it interrupts. */
  exit(during: ProcessorEvent | undefined): void;

  /** What comes before an instruction of the extension reads its operand in memory: mode, privilege, interception. At any time. */
  prepare(instruction: VirtualizationInstruction): Status;
  /** Executes an instruction of the extension; asked at any time, privilege and mode unchecked where `prepare` was not asked. */
  execute(instruction: VirtualizationInstruction, addressBits?: 16 | 32 | 64): Status;
  /** Whether the instruction raises #UD in this guest. */
  conceals(instruction: ConcealableInstruction): boolean;
  /** What CR0 or CR4 becomes when software writes `value`: bits may be the hypervisor's; undefined: refused (#GP). At any time. */
  admitControlValue(number: 0 | 4, value: bigint): bigint | undefined;
  /** What the guest reads of CR0 or CR4, asked while `InterceptionMask.readControlRegister` or `smsw` is set. */
  visibleControlValue(number: 0 | 4): bigint;
  /** IRET begins: it unblocks NMIs. */
  unblockNmi(): void;
  /** Conditions of a debug exception that is going to leave the guest: true keeps them out of DR6. */
  takesDebugConditions(conditions: number): boolean;

  /** At any time: the extension decides about interrupts and NMIs, since a guest runs or they are held off. */
  readonly decidesEvents: boolean;
  /**
   * While a guest runs: nothing of the extension's own follows from system calls, IRET, POPF and STI. It intercepts none of them,
   * and no event of its own waits for the guest's interrupt flag. Physical events are the engine's to look for.
   */
  readonly isGuestOrdinary: boolean;
  /** Of a guest: whether none of its page faults leaves it. */
  readonly keepsPageFaults: boolean;
  /** Whether an event would be taken as soon as no shadow covers the boundary; while `decidesEvents`, and asked often. */
  hasEvent(pending: PendingEvents): boolean;
  /** Decides, while `decidesEvents`. */
  takeEvent(pending: PendingEvents): BoundaryAction;
  /** The next instruction is to be executed alone, so that what follows from it comes right behind it. At any time. */
  readonly stepsAlone: boolean;
  /** While branches are recorded, at any time; `stepsAlone` then. */
  readonly branchRecord: BranchRecord | undefined;
  /** RESET or INIT has arrived, at any time: it takes effect, is kept pending, or has become an exit. */
  admitReset(kind: "reset" | "init"): "admitted" | "pending" | "taken";
  /** A start-up IPI has arrived, at any time; false: it has become an exit. */
  admitsStartUp(vector: number): boolean;
  reset(kind: "reset" | "init"): void;
  /** Told of every entry and exit, entries that were refused among them. */
  observer: ((transition: Transition) => void) | undefined;
  /** The control block that is current, between two instructions; undefined: none has been so far. */
  controlBlock(): ControlBlock | undefined;

  /** Model-specific registers of the extension, at any time; undefined: not one of them. */
  readMsr(index: number): bigint | undefined;
  /** "unknown": not one of them; false: refused (#GP). */
  writeMsr(index: number, value: bigint): boolean | "unknown";
  /** Its model-specific registers that are not as after a reset, for a state to be saved. */
  changedRegisters(): readonly (readonly [index: number, value: bigint])[];
  /** Takes such a register back, whatever software may write to it; false: not one of them. */
  restoreRegister(index: number, value: bigint): boolean;
  /** Bits of EFER and CR4 that the extension lets software set now, at any time. */
  readonly writableEferMask: number;
  readonly writableCr4Mask: number;
  /** The time stamp counter as the guest sees it. */
  guestTimeStampCounter(host: bigint): bigint;
  /** The guest's own task priority; undefined: CR8 is the local APIC's. */
  guestTaskPriority(): number | undefined;
  /** False: CR8 is the local APIC's. */
  setGuestTaskPriority(value: number): boolean;
}

/** Whether an exit takes the instruction's place: the routine then returns `Status.Fault`. */
export function isIntercepted(p: Processor, instruction: Interceptable): boolean {
  const { virtualization } = p;
  return virtualization !== undefined && virtualization.isGuest && virtualization.intercepts(instruction);
}

/** The same as a status, for routines that do nothing else. */
export function interceptionStatus(p: Processor, kind: PlainInstruction): Status {
  return isIntercepted(p, { kind }) ? Status.Fault : Status.Next;
}

/** Whether the instruction raises #UD because the hypervisor does not want its guest to have it. */
export function isConcealed(p: Processor, instruction: ConcealableInstruction): boolean {
  return p.virtualization?.isGuest === true && p.virtualization.conceals(instruction);
}
