/** The instructions of VMX but for VM entry (SDM volume 3, "VMX Instruction Reference"). */
import { Status } from "../../ir/index.ts";
import { Vector } from "../../isa/definition.ts";
import { FlagMask, statusFlagsMask, writeFlags } from "../../isa/flags.ts";
import { VmxOutcome } from "../../isa/semantics/vmx.ts";
import * as layout from "../../isa/state.ts";
import { hasCr4, is64BitMode, isLongMode, isProtectedMode, isVirtual8086 } from "../../isa/system/mode.ts";
import type { VirtualizationInstruction } from "../../isa/virtualization.ts";
import { cr0FixedToOne, cr4FixedToOne, FeatureControlMask, vmcsRevision, VmxMsr } from "./capabilities.ts";
import { isValidEptPointer } from "./checks/controls.ts";
import { noLinkPointer } from "./checks/guest.ts";
import { noteFieldWrite } from "./checks/pending.ts";
import { Control } from "./controls.ts";
import { noAddress, type VmxContext } from "./context.ts";
import { ExitReason } from "./exit-reasons.ts";
import { Field, findField, sizeBytesOf } from "./fields.ts";
import type { Translations } from "./translations.ts";
import type { Vmcs } from "./vmcs.ts";

/** Numbers of the VM-instruction error field. */
export const InstructionError = {
  vmcallInRoot: 1, vmclearAddress: 2, vmclearVmxonPointer: 3, launchNotClear: 4, resumeNotLaunched: 5,
  entryControls: 7, entryHostState: 8, vmptrldAddress: 9, vmptrldVmxonPointer: 10, vmptrldRevision: 11,
  unsupportedField: 12, vmxonInRoot: 15, entryWithMovSsBlocking: 26, invalidOperand: 28,
} as const;

/** Exit reasons of the instructions in a guest. */
const exitReasons: Readonly<Partial<Record<VirtualizationInstruction, number>>> = {
  vmcall: ExitReason.vmcall, vmclear: ExitReason.vmclear, vmlaunch: ExitReason.vmlaunch, vmptrld: ExitReason.vmptrld,
  vmptrst: ExitReason.vmptrst, vmread: ExitReason.vmread, vmresume: ExitReason.vmresume, vmwrite: ExitReason.vmwrite,
  vmxoff: ExitReason.vmxoff, vmxon: ExitReason.vmxon, invept: ExitReason.invept, invvpid: ExitReason.invvpid,
};
const plainInstructions: ReadonlySet<VirtualizationInstruction> = new Set(["vmcall", "vmlaunch", "vmresume", "vmxoff"]);

const addressMask = 0xfff;
const shadowBit = 0x8000_0000;
const InveptType = { single: 1n, all: 2n } as const;
const InvvpidType = { address: 0n, single: 1n, all: 2n, retainingGlobals: 3n } as const;
const allOnes = 0xffff_ffff_ffff_ffffn;

/** What `prepare` leaves to its caller. */
export type Preparation = { readonly kind: "go on" } | { readonly kind: "ended"; readonly status: Status } |
  { readonly kind: "exit"; readonly reason: number; readonly isPlain: boolean };

const goOn: Preparation = { kind: "go on" };
const exits: Readonly<Partial<Record<VirtualizationInstruction, Preparation>>> = Object.fromEntries(
  Object.entries(exitReasons).map(([name, reason]) => [name, { kind: "exit", reason, isPlain: plainInstructions.has(name as VirtualizationInstruction) }]),
);

export class VmxInstructions {
  readonly #context: VmxContext;
  readonly #translations: Translations;

  constructor(context: VmxContext, translations: Translations) {
    this.#context = context;
    this.#translations = translations;
  }

  #raise(vector: number): Preparation {
    const { processor } = this.#context;
    return { kind: "ended", status: vector === Vector.GP ? processor.raise(vector, 0) : processor.raise(vector) };
  }

  /** #UD, exits and #GP, in the manual's order. */
  prepare(instruction: VirtualizationInstruction): Preparation {
    const context = this.#context;
    const { state } = context;
    // In a guest neither asks for a mode or a privilege level.
    if (context.isGuest && (instruction === "vmcall" || instruction === "vmfunc")) return this.#prepareInGuest(instruction);
    const hasMode = isProtectedMode(state) && !isVirtual8086(state) && (!isLongMode(state) || is64BitMode(state));
    if (instruction === "vmcall" || instruction === "vmfunc") {
      if (!context.isOn || instruction === "vmfunc" || !hasMode) return this.#raise(Vector.UD);
    } else if (instruction === "vmxon") {
      if (!hasMode || !hasCr4(state, cr4FixedToOne)) return this.#raise(Vector.UD);
      if (context.isGuest) return this.#prepareInGuest(instruction);
      if (!context.isOn && !this.#maySwitchOn()) return this.#raise(Vector.GP);
    } else {
      if (!context.isOn || !hasMode || !this.#isOffered(instruction)) return this.#raise(Vector.UD);
      if (context.isGuest) return this.#prepareInGuest(instruction);
    }
    return state.get32(layout.cpl) === 0 ? goOn : this.#raise(Vector.GP);
  }

  /** INVEPT and INVVPID come with what they are about. */
  #isOffered(instruction: VirtualizationInstruction): boolean {
    const { mayBeOne } = this.#context.capabilities.controls.secondary;
    if (instruction === "invept") return (mayBeOne & Control.ept.mask) !== 0;
    return instruction !== "invvpid" || (mayBeOne & Control.vpid.mask) !== 0;
  }

  #prepareInGuest(instruction: VirtualizationInstruction): Preparation {
    const context = this.#context;
    if (instruction === "vmfunc") return context.has(Control.vmFunctions) ? goOn : this.#raise(Vector.UD);
    if ((instruction === "vmread" || instruction === "vmwrite") && this.#isShadowed(instruction)) {
      return context.state.get32(layout.cpl) === 0 ? goOn : this.#raise(Vector.GP);
    }
    return exits[instruction]!;
  }

  /** Whether the guest's VMREAD or VMWRITE reaches the shadow VMCS; the encoding is argument 0. */
  #isShadowed(instruction: "vmread" | "vmwrite"): boolean {
    const { vmcs, processor, state } = this.#context;
    if (!this.#context.has(Control.vmcsShadowing)) return false;
    const encoding = state.argument64(0);
    if (encoding > 0x7fffn) return false;
    const bit = Number(encoding);
    const bitmap = vmcs.getAddress(instruction === "vmread" ? Field.vmreadBitmap : Field.vmwriteBitmap);
    return ((processor.physical.read8(bitmap + (bit >>> 3)) >>> (bit & 7)) & 1) === 0;
  }

  #maySwitchOn(): boolean {
    const { state, featureControl } = this.#context;
    const enabled = FeatureControlMask.locked | FeatureControlMask.vmxOutsideSmx;
    const cr0 = state.get32(layout.cr0);
    return state.get32(layout.cpl) === 0 && (cr0 & cr0FixedToOne) >>> 0 === cr0FixedToOne && (featureControl & enabled) === enabled;
  }

  // --- ends --------------------------------------------------------------------------------------------------------

  #end(outcome: keyof typeof VmxOutcome): Status {
    const { state } = this.#context;
    const flags = outcome === "succeed" ? 0 : outcome === "failInvalid" ? FlagMask.CF : FlagMask.ZF;
    writeFlags(state, flags, statusFlagsMask);
    return Status.Next;
  }

  /** VMfail: VMfailValid with an error number while there is a current VMCS. */
  fail(error: number): Status {
    const { current } = this.#context;
    if (current === undefined) return this.#end("failInvalid");
    current.set32(Field.instructionError, error);
    return this.#end("failValid");
  }

  failInvalid(): Status {
    return this.#end("failInvalid");
  }

  /** An address in memory's range, a page's; undefined otherwise. */
  #pageAddress(pointer: bigint): number | undefined {
    const isPage = (pointer & BigInt(addressMask)) === 0n && pointer >> BigInt(this.#context.capabilities.physicalAddressBits) === 0n;
    return isPage ? Number(pointer) : undefined;
  }

  // --- instructions ------------------------------------------------------------------------------------------------

  /** After `prepare`; arguments are in the scratch slots. */
  execute(instruction: Exclude<VirtualizationInstruction, "vmlaunch" | "vmresume">): Status {
    const { state } = this.#context;
    switch (instruction) {
      case "vmxon": return this.#switchOn(state.argument64(0));
      case "vmxoff": return this.#switchOff();
      case "vmclear": return this.#clear(state.argument64(0));
      case "vmptrld": return this.#loadPointer(state.argument64(0));
      case "vmptrst": return this.#storePointer();
      case "vmread": return this.#readField(state.argument64(0));
      case "vmwrite": return this.#writeField(state.argument64(0), state.argument64(1));
      case "vmcall": return this.fail(InstructionError.vmcallInRoot);
      case "invept": return this.#invalidateEpt(state.argument64(0), state.argument64(1));
      case "invvpid": return this.#invalidateVpid(state.argument64(0), state.argument64(1), state.argument64(2));
      default: return this.#context.processor.raise(Vector.UD);
    }
  }

  #switchOn(pointer: bigint): Status {
    const context = this.#context;
    if (context.isOn) return this.fail(InstructionError.vmxonInRoot);
    const address = this.#pageAddress(pointer);
    if (address === undefined || context.processor.physical.read32(address) !== vmcsRevision) return this.#end("failInvalid");
    context.isOn = true;
    context.vmxonPointer = address;
    context.current = undefined;
    return this.#end("succeed");
  }

  #switchOff(): Status {
    const context = this.#context;
    context.structures.drop();
    context.isOn = false;
    context.vmxonPointer = noAddress;
    context.current = undefined;
    this.#translations.forgetAll();
    return this.#end("succeed");
  }

  #clear(pointer: bigint): Status {
    const context = this.#context;
    const address = this.#pageAddress(pointer);
    if (address === undefined) return this.fail(InstructionError.vmclearAddress);
    if (address === context.vmxonPointer) return this.fail(InstructionError.vmclearVmxonPointer);
    const vmcs = context.structures.activate(address);
    vmcs.isLaunched = false;
    context.structures.writeBack(address);
    if (context.current === vmcs) context.current = undefined;
    return this.#end("succeed");
  }

  #loadPointer(pointer: bigint): Status {
    const context = this.#context;
    const address = this.#pageAddress(pointer);
    if (address === undefined) return this.fail(InstructionError.vmptrldAddress);
    if (address === context.vmxonPointer) return this.fail(InstructionError.vmptrldVmxonPointer);
    const first = context.processor.physical.read32(address);
    if ((first & ~shadowBit) >>> 0 !== vmcsRevision) return this.fail(InstructionError.vmptrldRevision);
    context.current = context.structures.activate(address);
    return this.#end("succeed");
  }

  /** The pointer is result 0. */
  #storePointer(): Status {
    const { state, current } = this.#context;
    state.result64(0, current === undefined ? allOnes : BigInt(current.address));
    return Status.Next;
  }

  /** The VMCS that VMREAD and VMWRITE reach: in a guest the shadow VMCS. */
  #target(): Vmcs | undefined {
    const context = this.#context;
    if (!context.isGuest) return context.current;
    const link = context.vmcs.get(Field.vmcsLinkPointer);
    return link === noLinkPointer ? undefined : context.structures.activate(Number(link));
  }

  /** The value is result 0, the outcome result 1. */
  #readField(encoding: bigint): Status {
    const { state } = this.#context;
    const target = this.#target();
    const found = encoding >> 32n === 0n ? findField(Number(encoding)) : undefined;
    if (target === undefined) return this.#outcome(VmxOutcome.failInvalid);
    if (found === undefined || !this.#exists(found.field.requires)) return this.#failField(target);
    state.result64(0, found.isHigh ? BigInt(target.getHigh32(found.field)) : target.get(found.field));
    return this.#outcome(VmxOutcome.succeed);
  }

  #outcome(outcome: number): Status {
    this.#context.state.result32(1, outcome);
    return Status.Next;
  }

  /** Outside of a guest the error is recorded in the current VMCS, in a guest in the shadow. */
  #failField(target: Vmcs): Status {
    target.set32(Field.instructionError, InstructionError.unsupportedField);
    this.#context.state.result64(0, 0n);
    return this.#outcome(VmxOutcome.failValid);
  }

  /** Whether the control that a field belongs to is offered. */
  #exists(control: string | undefined): boolean {
    return control === undefined || this.#context.offeredControls.has(control);
  }

  /** The outcome is result 0. */
  #writeField(encoding: bigint, value: bigint): Status {
    const { state } = this.#context;
    const target = this.#target();
    const found = encoding >> 32n === 0n ? findField(Number(encoding)) : undefined;
    if (target === undefined) {
      state.result32(0, VmxOutcome.failInvalid);
      return Status.Next;
    }
    if (found === undefined || !this.#exists(found.field.requires)) {
      target.set32(Field.instructionError, InstructionError.unsupportedField);
      state.result32(0, VmxOutcome.failValid);
      return Status.Next;
    }
    noteFieldWrite(target, found.field, value);
    if (found.isHigh) target.setHigh32(found.field, Number(value & 0xffff_ffffn));
    // Outside of 64-bit mode a full access to a 64-bit field clears its upper half.
    else target.set(found.field, is64BitMode(state) || sizeBytesOf(found.field.width) < 8 ? value : value & 0xffff_ffffn);
    state.result32(0, VmxOutcome.succeed);
    return Status.Next;
  }

  #invalidateEpt(type: bigint, eptPointer: bigint): Status {
    const { capabilities } = this.#context;
    if (type === InveptType.all) {
      this.#translations.forgetGuests();
      return this.#end("succeed");
    }
    const supported = capabilities.registers.get(VmxMsr.EPT_VPID_CAP) ?? 0n;
    const isValid = type === InveptType.single && isValidEptPointer(eptPointer, supported, capabilities.physicalAddressBits);
    if (!isValid) return this.fail(InstructionError.invalidOperand);
    this.#translations.forgetEpt(eptPointer);
    return this.#end("succeed");
  }

  #invalidateVpid(type: bigint, descriptor: bigint, linear: bigint): Status {
    const vpid = Number(descriptor & 0xffffn);
    const isCanonical = BigInt.asUintN(64, BigInt.asIntN(this.#context.processor.model.linearAddressBits, linear)) === linear;
    const isRefused = type > InvvpidType.retainingGlobals || descriptor >> 16n !== 0n || (type !== InvvpidType.all && vpid === 0) ||
      (type === InvvpidType.address && !isCanonical);
    if (isRefused) return this.fail(InstructionError.invalidOperand);
    if (type === InvvpidType.all) this.#translations.forgetGuests();
    else if (type === InvvpidType.address) this.#translations.forgetPage(vpid, linear);
    else this.#translations.forgetVpid(vpid);
    return this.#end("succeed");
  }
}
