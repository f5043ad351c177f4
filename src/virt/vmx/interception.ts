/** Which instructions leave the guest, and what their exits tell (SDM volume 3, "Instructions That Cause VM Exits" and "Exit Qualification"). */
import { Vector } from "../../isa/definition.ts";
import type { Interceptable, PlainInstruction } from "../../isa/virtualization.ts";
import { InterceptionMask } from "../../isa/virtualization.ts";
import * as layout from "../../isa/state.ts";
import { Cr0Mask } from "../../isa/system/mode.ts";
import { Control, type Control as ControlDefinition } from "./controls.ts";
import type { VmxContext } from "./context.ts";
import { eventExit, ExitReason, instructionExit, type Exit } from "./exit-reasons.ts";
import { cr3Targets, Field, type VmcsField } from "./fields.ts";
import { displacementQualification, generalRegister, instructionInformation, operandLinearAddress } from "./instruction-information.ts";

/** Instructions that exit while a control is 1, and those that always do. */
type PlainExit = readonly [reason: number, control: ControlDefinition | undefined];

const plainExits: ReadonlyMap<PlainInstruction, PlainExit> = new Map<PlainInstruction, PlainExit>([
  ["cpuid", [ExitReason.cpuid, undefined]], ["invd", [ExitReason.invd, undefined]],
  ["hlt", [ExitReason.hlt, Control.hltExiting]], ["rdpmc", [ExitReason.rdpmc, Control.rdpmcExiting]],
  ["rdtsc", [ExitReason.rdtsc, Control.rdtscExiting]], ["rdtscp", [ExitReason.rdtscp, Control.rdtscExiting]],
  ["monitor", [ExitReason.monitor, Control.monitorExiting]], ["mwait", [ExitReason.mwait, Control.mwaitExiting]],
  ["wbinvd", [ExitReason.wbinvd, Control.wbinvdExiting]], ["invpcid", [ExitReason.invpcid, Control.invlpgExiting]],
  ["rdrand", [ExitReason.rdrand, Control.rdrandExiting]], ["rdseed", [ExitReason.rdseed, Control.rdseedExiting]],
  ...(["sgdt", "sidt", "lgdt", "lidt"] as const).map((name) => [name, [ExitReason.gdtrIdtr, Control.descriptorTableExiting]] as const),
  ...(["sldt", "str", "lldt", "ltr"] as const).map((name) => [name, [ExitReason.ldtrTr, Control.descriptorTableExiting]] as const),
]);

/** Of those, the ones whose operands are described. */
const describedInstructions: ReadonlySet<PlainInstruction> = new Set([
  "invpcid", "rdrand", "rdseed", "sgdt", "sidt", "lgdt", "lidt", "sldt", "str", "lldt", "ltr",
]);

/** Access types of control registers in bits 5:4 of the qualification. */
const CrAccess = { write: 0, read: 0x10, clts: 0x20, lmsw: 0x30 } as const;
const registerShift = 8;
const lmswMemoryMask = 0x40;
const lmswSourceShift = 16;
const drReadMask = 0x10;
const machineStatusMask = 0xf;

const taskSwitchSources = { call: 0, return: 1, jump: 2, gate: 3 } as const;
const taskSwitchSourceShift = 30;

/** PAUSE-loop exiting watches loops whose rounds are at most PLE_Gap apart, at privilege level 0. */
interface PauseLoop {
  first: bigint;
  last: bigint;
}

export class Interception {
  readonly #context: VmxContext;
  #pauseLoop: PauseLoop | undefined;
  /** What instructions without a routine ask for, by the controls. */
  #controlMask = 0;
  /** None of the guest's page faults leaves it. */
  keepsPageFaults = true;

  constructor(context: VmxContext) {
    this.#context = context;
  }

  /** Takes over the controls of the guest that is entered. */
  configure(): void {
    const context = this.#context;
    let mask = 0;
    if (context.has(Control.pauseExiting) || context.has(Control.pauseLoopExiting)) mask |= InterceptionMask.pause;
    if (context.has(Control.descriptorTableExiting)) mask |= InterceptionMask.globalTables | InterceptionMask.localTables;
    if (!context.has(Control.rdtscp)) mask |= InterceptionMask.rdpid;
    if (context.has(Control.cr3StoreExiting) || context.has(Control.cr8StoreExiting) || context.has(Control.tprShadow)) {
      mask |= InterceptionMask.readControlRegister;
    }
    this.#controlMask = mask;
  }

  /** VM entry; what instructions without a routine ask for is the result. */
  enter(): number {
    const { vmcs } = this.#context;
    this.#pauseLoop = undefined;
    const isSelected = ((vmcs.get32(Field.exceptionBitmap) >>> Vector.PF) & 1) !== 0;
    this.keepsPageFaults = !isSelected && vmcs.get32(Field.pageFaultErrorCodeMask) === 0 && vmcs.get32(Field.pageFaultErrorCodeMatch) === 0;
    if (vmcs.get32(Field.cr0Mask) !== 0) return this.#controlMask | InterceptionMask.smsw | InterceptionMask.readControlRegister;
    return vmcs.get32(Field.cr4Mask) !== 0 ? this.#controlMask | InterceptionMask.readControlRegister : this.#controlMask;
  }

  /** What takes the instruction's place; undefined: nothing. */
  exitOf(instruction: Interceptable): Exit | undefined {
    const context = this.#context;
    switch (instruction.kind) {
      case "read cr": return this.#readControl(instruction.number);
      case "write cr": return this.#writeControl(instruction.number, instruction.value);
      case "lmsw": return this.#loadMachineStatus(instruction.value, instruction.word);
      case "clts": return this.#clearTaskSwitched();
      case "mov dr": return this.#moveDebug(instruction.number, instruction.isWrite);
      case "rdmsr": return this.#interceptsMsr(instruction.index, 0) ? instructionExit(ExitReason.rdmsr) : undefined;
      case "wrmsr": return this.#interceptsMsr(instruction.index, 0x800) ? instructionExit(ExitReason.wrmsr) : undefined;
      case "xsetbv": return instructionExit(ExitReason.xsetbv);
      case "in": case "out": return this.#port(instruction);
      case "invlpg": return context.has(Control.invlpgExiting) ? instructionExit(ExitReason.invlpg, instruction.linear) : undefined;
      case "task switch": return this.#taskSwitch(instruction);
      case "pause": return this.#pause() ? instructionExit(ExitReason.pause) : undefined;
      case "read dr": case "write dr": case "int": return undefined;
      default: return this.#plain(instruction.kind);
    }
  }

  #plain(kind: PlainInstruction): Exit | undefined {
    const found = plainExits.get(kind);
    if (found === undefined) return undefined;
    const [reason, control] = found;
    if (control !== undefined && !this.#context.has(control)) return undefined;
    return describedInstructions.has(kind) ? this.described(reason) : instructionExit(reason);
  }

  /** An exit that describes the current instruction's operands. */
  described(reason: number): Exit {
    const { processor } = this.#context;
    const decoded = processor.decodeCurrent();
    return instructionExit(reason, displacementQualification(processor, decoded), { instructionInformation: instructionInformation(decoded) });
  }

  // --- control and debug registers ---------------------------------------------------------------------------------

  #accessExit(number: number, access: number): Exit {
    const register = generalRegister(this.#context.processor.decodeCurrent());
    return instructionExit(ExitReason.crAccess, BigInt(number | access | (register << registerShift)));
  }

  #readControl(number: number): Exit | undefined {
    const context = this.#context;
    const isWanted = (number === 3 && context.has(Control.cr3StoreExiting)) || (number === 8 && context.has(Control.cr8StoreExiting));
    return isWanted ? this.#accessExit(number, CrAccess.read) : undefined;
  }

  #writeControl(number: number, value: bigint): Exit | undefined {
    const context = this.#context;
    switch (number) {
      case 0: return this.#changesOwned(value, Field.cr0Mask, Field.cr0ReadShadow) ? this.#accessExit(0, CrAccess.write) : undefined;
      case 4: return this.#changesOwned(value, Field.cr4Mask, Field.cr4ReadShadow) ? this.#accessExit(4, CrAccess.write) : undefined;
      case 3: return context.has(Control.cr3LoadExiting) && !this.#isTarget(value) ? this.#accessExit(3, CrAccess.write) : undefined;
      case 8: return context.has(Control.cr8LoadExiting) ? this.#accessExit(8, CrAccess.write) : undefined;
      default: return undefined;
    }
  }

  #changesOwned(value: bigint, mask: VmcsField, shadow: VmcsField): boolean {
    const { vmcs } = this.#context;
    return ((value ^ vmcs.get(shadow)) & vmcs.get(mask)) !== 0n;
  }

  #isTarget(value: bigint): boolean {
    const { vmcs } = this.#context;
    return cr3Targets.slice(0, vmcs.get32(Field.cr3TargetCount)).some((field) => vmcs.get(field) === value);
  }

  #loadMachineStatus(_value: bigint, word: number): Exit | undefined {
    const { vmcs, processor } = this.#context;
    const mask = vmcs.get32(Field.cr0Mask), shadow = vmcs.get32(Field.cr0ReadShadow);
    const changed = (word ^ shadow) & mask & machineStatusMask;
    // PE can be set but not cleared by LMSW.
    const setsProtection = (mask & word & ~shadow & Cr0Mask.PE) !== 0;
    if ((changed & ~Cr0Mask.PE) === 0 && !setsProtection) return undefined;
    const decoded = processor.decodeCurrent();
    const isMemory = decoded?.operands[0]?.kind === "memory";
    const qualification = BigInt(CrAccess.lmsw | (isMemory ? lmswMemoryMask : 0)) | (BigInt(word & 0xffff) << BigInt(lmswSourceShift));
    return instructionExit(ExitReason.crAccess, qualification, isMemory ? { guestLinearAddress: operandLinearAddress(processor, decoded) } : {});
  }

  #clearTaskSwitched(): Exit | undefined {
    const { vmcs } = this.#context;
    const isWanted = (vmcs.get32(Field.cr0Mask) & vmcs.get32(Field.cr0ReadShadow) & Cr0Mask.TS) !== 0;
    return isWanted ? instructionExit(ExitReason.crAccess, BigInt(CrAccess.clts)) : undefined;
  }

  #moveDebug(number: number, isWrite: boolean): Exit | undefined {
    const context = this.#context;
    if (!context.has(Control.movDrExiting) || number > 7) return undefined;
    const register = generalRegister(context.processor.decodeCurrent());
    return instructionExit(ExitReason.drAccess, BigInt(number | (isWrite ? 0 : drReadMask) | (register << registerShift)));
  }

  // --- ports, registers, tasks, pauses -----------------------------------------------------------------------------

  /** `area`: 0 for reads, 0x800 for writes; the upper registers' bits follow 0x400 further on. */
  #interceptsMsr(index: number, area: number): boolean {
    const context = this.#context;
    if (!context.has(Control.msrBitmaps)) return true;
    const isLow = index <= 0x1fff, isHigh = index >= 0xc000_0000 && index <= 0xc000_1fff;
    if (!isLow && !isHigh) return true;
    const bit = index & 0x1fff;
    const address = context.vmcs.getAddress(Field.msrBitmaps) + area + (isHigh ? 0x400 : 0) + (bit >>> 3);
    return ((context.processor.physical.read8(address) >>> (bit & 7)) & 1) !== 0;
  }

  #interceptsPort(port: number, sizeBytes: number): boolean {
    const context = this.#context;
    if (!context.has(Control.ioBitmaps)) return context.has(Control.unconditionalIoExiting);
    // An access that wraps around the end of the ports is intercepted in any case.
    if (port + sizeBytes > 0x1_0000) return true;
    for (let at = port; at < port + sizeBytes; at++) {
      const bitmap = context.vmcs.getAddress(at < 0x8000 ? Field.ioBitmapA : Field.ioBitmapB);
      if (((context.processor.physical.read8(bitmap + ((at & 0x7fff) >>> 3)) >>> (at & 7)) & 1) !== 0) return true;
    }
    return false;
  }

  #port({ kind, port, sizeBytes, isString }: Extract<Interceptable, { kind: "in" | "out" }>): Exit | undefined {
    if (!this.#interceptsPort(port, sizeBytes)) return undefined;
    const { processor } = this.#context;
    const decoded = processor.decodeCurrent();
    const isImmediate = decoded?.operands.some((operand) => operand.kind === "immediate") === true;
    const isRepeated = decoded !== undefined && decoded.repeat !== "none";
    const qualification = BigInt((sizeBytes - 1) | (kind === "in" ? 8 : 0) | (isString ? 0x10 : 0) | (isString && isRepeated ? 0x20 : 0) |
      (isImmediate ? 0x40 : 0)) | (BigInt(port) << 16n);
    if (!isString) return instructionExit(ExitReason.io, qualification);
    return instructionExit(ExitReason.io, qualification, {
      instructionInformation: instructionInformation(decoded), guestLinearAddress: operandLinearAddress(processor, decoded),
    });
  }

  #taskSwitch({ selector, reason, event }: Extract<Interceptable, { kind: "task switch" }>): Exit {
    const qualification = BigInt(selector) | (BigInt(taskSwitchSources[reason]) << BigInt(taskSwitchSourceShift));
    // Through a gate of the IDT: only events of the program have an instruction.
    return event === undefined ? instructionExit(ExitReason.taskSwitch, qualification)
      : eventExit(ExitReason.taskSwitch, qualification, { instructionLength: event.instructionLength ?? 0 });
  }

  #pause(): boolean {
    const context = this.#context;
    if (context.has(Control.pauseExiting)) return true;
    if (!context.has(Control.pauseLoopExiting) || context.state.get32(layout.cpl) !== 0) return false;
    const now = context.processor.bus.timeStampCounter();
    const loop = this.#pauseLoop;
    if (loop === undefined || now - loop.last > BigInt(context.vmcs.get32(Field.pleGap))) {
      this.#pauseLoop = { first: now, last: now };
      return false;
    }
    loop.last = now;
    return now - loop.first > BigInt(context.vmcs.get32(Field.pleWindow));
  }
}
