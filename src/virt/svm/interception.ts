/** Which instructions a VMCB intercepts, and what the exit tells (AMD APM volume 2, "Instruction Intercepts", "IOIO Intercepts", "MSR Intercepts"). */
import type { PhysicalMemory } from "../../engine/physical-memory.ts";
import type { Processor } from "../../isa/processor.ts";
import * as layout from "../../isa/state.ts";
import type { StateView } from "../../isa/state-view.ts";
import { Cr0Mask } from "../../isa/system/mode.ts";
import { InterceptionMask, type Interceptable } from "../../isa/virtualization.ts";
import { FlagMask, hasSystemFlag } from "../../isa/flags.ts";
import { operandLinearAddress } from "../operand-address.ts";
import { ExitCode, instructionExit, Intercept, plainIntercepts, type Exit } from "./exit-codes.ts";
import { Control } from "./vmcb.ts";

/** Each MSR has two bits, for reads and for writes, in the map of its range. */
const msrRanges = [{ first: 0, offset: 0 }, { first: 0xc000_0000, offset: 0x800 }, { first: 0xc001_0000, offset: 0x1000 }] as const;
const msrRangeSize = 0x2000;

/** Bits of EXITINFO1 of an I/O intercept. */
const PortInfo = { inMask: 1, stringMask: 4, repeatMask: 8, sizeShift: 4, addressSizeShift: 7, segmentShift: 10, portShift: 16 } as const;
/** Bits of EXITINFO2 of a task switch. */
const TaskInfo = { return: 1n << 36n, jump: 1n << 38n, hasErrorCode: 1n << 44n, resumeFlag: 1n << 48n } as const;
/** EXITINFO1 of a CR access: it was MOV, with this register. */
const movMask = 1n << 63n;

export class Interception {
  readonly #processor: Processor;
  readonly #physical: PhysicalMemory;
  /** CR reads, CR writes, DR reads, DR writes. */
  readonly #registers = new Uint16Array(4);
  #exceptions = 0;
  /** The three words of miscellaneous intercepts. */
  readonly #words = new Uint32Array(3);
  #iopm = 0;
  #msrpm = 0;

  constructor(processor: Processor, physical: PhysicalMemory) {
    this.#processor = processor;
    this.#physical = physical;
  }

  load(vmcb: StateView): void {
    this.#registers[0] = vmcb.get16(Control.interceptCrRead);
    this.#registers[1] = vmcb.get16(Control.interceptCrWrite);
    this.#registers[2] = vmcb.get16(Control.interceptDrRead);
    this.#registers[3] = vmcb.get16(Control.interceptDrWrite);
    this.#exceptions = vmcb.get32(Control.interceptExceptions);
    this.#words[0] = vmcb.get32(Control.interceptMisc1);
    this.#words[1] = vmcb.get32(Control.interceptMisc2);
    this.#words[2] = vmcb.get32(Control.interceptMisc3);
    const pageMask = ~0xfffn;
    this.#iopm = Number(vmcb.get64(Control.iopmBase) & pageMask);
    this.#msrpm = Number(vmcb.get64(Control.msrpmBase) & pageMask);
  }

  has(intercept: number): boolean {
    return (this.#words[intercept >>> 5] & (1 << (intercept & 31))) !== 0;
  }

  hasException(vector: number): boolean {
    return vector < 32 && (this.#exceptions & (1 << vector)) !== 0;
  }

  #hasAny(...intercepts: readonly number[]): boolean {
    return intercepts.some((intercept) => this.has(intercept));
  }

  /** The bits that instructions without a routine look at. */
  get mask(): number {
    const { GDTR_READ, IDTR_READ, GDTR_WRITE, IDTR_WRITE, LDTR_READ, TR_READ, LDTR_WRITE, TR_WRITE } = Intercept;
    let mask = 0;
    if (this.has(Intercept.PUSHF)) mask |= InterceptionMask.pushf;
    if (this.has(Intercept.POPF)) mask |= InterceptionMask.popf;
    if (this.has(Intercept.PAUSE)) mask |= InterceptionMask.pause;
    if (this.#registers[0] !== 0) mask |= InterceptionMask.readControlRegister;
    if ((this.#registers[0] & 1) !== 0) mask |= InterceptionMask.smsw;
    if (this.#hasAny(GDTR_READ, IDTR_READ, GDTR_WRITE, IDTR_WRITE)) mask |= InterceptionMask.globalTables;
    if (this.#hasAny(LDTR_READ, TR_READ, LDTR_WRITE, TR_WRITE)) mask |= InterceptionMask.localTables;
    return mask;
  }

  /** The exit that an instruction leads to, PAUSE apart; undefined: it is executed. */
  exitOf(instruction: Interceptable): Exit | undefined {
    switch (instruction.kind) {
      case "read cr": return this.#register(0, ExitCode.crRead, instruction.number, movMask);
      case "write cr": return this.#writeControl(instruction.number, instruction.value);
      case "read dr": return this.#register(2, ExitCode.drRead, instruction.number, 0n);
      case "write dr": return this.#register(3, ExitCode.drWrite, instruction.number, 0n);
      case "smsw": return (this.#registers[0] & 1) !== 0 ? this.#controlExit(ExitCode.crRead) : undefined;
      case "clts": return (this.#registers[1] & 1) !== 0 ? this.#controlExit(ExitCode.crWrite) : undefined;
      case "lmsw":
        if ((this.#registers[1] & 1) !== 0) return this.#controlExit(ExitCode.crWrite);
        return this.#isSelected(instruction.value) ? instructionExit(Intercept.CR0_SEL_WRITE) : undefined;
      case "rdmsr": return this.#msr(instruction.index, 0);
      case "wrmsr": return this.#msr(instruction.index, 1);
      case "in": case "out": return this.#port(instruction);
      case "xsetbv": return this.has(Intercept.XSETBV) ? instructionExit(Intercept.XSETBV) : undefined;
      case "invlpg": return this.has(Intercept.INVLPG) ? instructionExit(Intercept.INVLPG, instruction.linear) : undefined;
      case "invpcid": return this.has(Intercept.INVPCID) ? this.#invalidateContext() : undefined;
      case "mov dr": return undefined;
      case "int": return this.has(Intercept.SWINT) ? instructionExit(Intercept.SWINT, BigInt(instruction.vector)) : undefined;
      case "mwait": return this.has(Intercept.MWAIT) ? instructionExit(Intercept.MWAIT)
        : this.has(Intercept.MWAIT_CONDITIONAL) ? instructionExit(Intercept.MWAIT_CONDITIONAL) : undefined;
      case "task switch": return this.has(Intercept.TASK_SWITCH) ? this.#taskSwitch(instruction) : undefined;
      default: {
        const intercept = plainIntercepts[instruction.kind];
        return intercept !== undefined && this.has(intercept) ? instructionExit(intercept) : undefined;
      }
    }
  }

  #controlExit(code: number): Exit {
    return { code, info1: 0n, info2: 0n, hasNextRip: true, hasInstructionBytes: false };
  }

  #register(group: number, code: number, number: number, flag: bigint): Exit | undefined {
    if ((this.#registers[group] & (1 << number)) === 0) return undefined;
    return { ...this.#controlExit(code + number), info1: flag | BigInt(this.#generalRegister()) };
  }

  /** Number of the general register that a MOV of a control or debug register names. */
  #generalRegister(): number {
    const operand = this.#processor.decodeCurrent()?.operands.find((candidate) => candidate.kind === "register" && candidate.file === "gpr");
    return operand?.kind === "register" ? operand.number : 0;
  }

  #writeControl(number: number, value: bigint): Exit | undefined {
    const exit = this.#register(1, ExitCode.crWrite, number, movMask);
    if (exit !== undefined || number !== 0 || !this.#isSelected(value)) return exit;
    return instructionExit(Intercept.CR0_SEL_WRITE, movMask | BigInt(this.#generalRegister()));
  }

  /** Whether a write of CR0 changes more than TS and MP, and is intercepted for that. */
  #isSelected(value: bigint): boolean {
    if (!this.has(Intercept.CR0_SEL_WRITE)) return false;
    const changed = this.#processor.state.get64(layout.cr0) ^ value;
    return (changed & ~BigInt(Cr0Mask.TS | Cr0Mask.MP)) !== 0n;
  }

  #msr(index: number, isWrite: 0 | 1): Exit | undefined {
    if (!this.has(Intercept.MSR)) return undefined;
    const range = msrRanges.find(({ first }) => index >= first && index < first + msrRangeSize);
    if (range !== undefined) {
      const bit = (index - range.first) * 2 + isWrite;
      const byte = this.#physical.read8(this.#msrpm + range.offset + (bit >>> 3));
      if ((byte & (1 << (bit & 7))) === 0) return undefined;
    }
    return instructionExit(Intercept.MSR, BigInt(isWrite));
  }

  #port({ kind, port, sizeBytes, isString }: Extract<Interceptable, { kind: "in" | "out" }>): Exit | undefined {
    if (!this.has(Intercept.IOIO)) return undefined;
    const at = this.#iopm + (port >>> 3);
    const bits = (this.#physical.read8(at) | (this.#physical.read8(at + 1) << 8)) >>> (port & 7);
    if ((bits & ((1 << sizeBytes) - 1)) === 0) return undefined;
    const decoded = this.#processor.decodeCurrent();
    let info = (port << PortInfo.portShift) | (sizeBytes << PortInfo.sizeShift) | (kind === "in" ? PortInfo.inMask : 0);
    const addressSize = decoded?.addressSize ?? 16;
    info |= (addressSize >>> 4) << PortInfo.addressSizeShift;
    if (isString) {
      const memory = decoded?.operands.find((operand) => operand.kind === "memory");
      info |= PortInfo.stringMask | (decoded?.repeat === "none" ? 0 : PortInfo.repeatMask);
      info |= (memory?.kind === "memory" ? memory.segment : 0) << PortInfo.segmentShift;
    }
    return instructionExit(Intercept.IOIO, BigInt(info >>> 0), this.#processor.nextRip());
  }

  /** EXITINFO1 is where the descriptor is, EXITINFO2 the type. */
  #invalidateContext(): Exit {
    const p = this.#processor;
    const decoded = p.decodeCurrent();
    const [type, descriptor] = decoded?.operands ?? [];
    const address = decoded !== undefined && descriptor?.kind === "memory" ? operandLinearAddress(p, descriptor, decoded.addressSize) : 0n;
    const typeValue = type?.kind === "register" ? p.state.get64(layout.gpr[type.number]) : 0n;
    return instructionExit(Intercept.INVPCID, address, typeValue);
  }

  #taskSwitch({ selector, reason, errorCode, event }: Extract<Interceptable, { kind: "task switch" }>): Exit {
    let info = BigInt(errorCode ?? 0);
    if (reason === "return") info |= TaskInfo.return;
    if (reason === "jump") info |= TaskInfo.jump;
    if (errorCode !== undefined) info |= TaskInfo.hasErrorCode;
    if (hasSystemFlag(this.#processor.state, FlagMask.RF)) info |= TaskInfo.resumeFlag;
    const isByInstruction = event === undefined || event.kind === "software" || event.kind === "software exception";
    return { ...instructionExit(Intercept.TASK_SWITCH, BigInt(selector), info), hasNextRip: isByInstruction };
  }
}
