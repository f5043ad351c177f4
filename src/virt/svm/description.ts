/** The current VMCB by its fields, with what its bits mean and which consistency checks it fails. */
import { supportedCr4 } from "../../isa/system/control-registers.ts";
import { Cr0Mask } from "../../isa/system/mode.ts";
import { supportedEfer } from "../../isa/system/model-specific.ts";
import * as layout from "../../isa/state.ts";
import type { ControlBlock, ControlBlockField } from "../../isa/virtualization.ts";
import { type BitNames, cr0Bits, cr4Bits, describeAccessRights, describeBits, eferBits, flagBits, numberedBits } from "../bit-names.ts";
import { consistencyChecks } from "./checks.ts";
import type { SvmContext } from "./context.ts";
import { exitCodeName, Intercept } from "./exit-codes.ts";
import { unpackAttributes } from "./guest-state.ts";
import { Control, EventInfo, ExtensionMask, InterruptControlMask, nestedPagingMask, Save, TlbControl, vmcbFields, type VmcbField } from "./vmcb.ts";

type Describe = (value: bigint) => string;

const bits = (names: BitNames): Describe => (value) => describeBits(value, names);
const named = (values: Readonly<Record<string, number>>): Describe => (value) =>
  Object.entries(values).find(([, number]) => BigInt(number) === value)?.[0] ?? "reserved";

const sixteen = (prefix: string): BitNames => Array.from({ length: 16 }, (_, number) => [`${prefix}${number}`, 1n << BigInt(number)]);
const exceptionNames: BitNames = Array.from({ length: 32 }, (_, vector) => [`EXCP${vector}`, 1n << BigInt(vector)]);
const eventTypeNames: Readonly<Record<number, string>> = { 0: "interrupt", 2: "NMI", 3: "exception", 4: "software interrupt" };

const interruptControlBits: BitNames = [
  ["V_IRQ", BigInt(InterruptControlMask.virtualInterrupt)], ["V_GIF", BigInt(InterruptControlMask.virtualGif)],
  ["V_NMI", BigInt(InterruptControlMask.virtualNmi)], ["V_NMI_MASK", BigInt(InterruptControlMask.virtualNmiMask)],
  ["V_IGN_TPR", BigInt(InterruptControlMask.ignoreTaskPriority)], ["V_INTR_MASKING", BigInt(InterruptControlMask.masking)],
  ["V_GIF_ENABLE", BigInt(InterruptControlMask.virtualGifEnable)], ["V_NMI_ENABLE", BigInt(InterruptControlMask.virtualNmiEnable)],
  ["AVIC_ENABLE", BigInt(InterruptControlMask.avicEnable)],
];
/** V_TPR and V_INTR_PRIO are numbers. */
const interruptNumbersMask = BigInt(InterruptControlMask.taskPriority | InterruptControlMask.priority);

function describeInterruptControl(value: bigint): string {
  const priority = (value >> 16n) & 0xfn, task = value & 0xffn;
  return [`V_TPR=${task} V_INTR_PRIO=${priority}`, describeBits(value & ~interruptNumbersMask, interruptControlBits)].join(" ").trimEnd();
}

function describeEvent(value: bigint): string {
  const word = Number(value);
  if ((word & EventInfo.validMask) === 0) return "none";
  const type = (word >>> EventInfo.typeShift) & 7;
  const errorCode = (word & EventInfo.errorCodeValidMask) !== 0 ? " with error code" : "";
  return `${eventTypeNames[type] ?? `reserved type ${type}`}, vector ${word & 0xff}${errorCode}`;
}

/** Fields with a meaning beyond their number. */
const descriptions: ReadonlyMap<VmcbField, Describe> = new Map<VmcbField, Describe>([
  [Control.interceptCrRead, bits(sixteen("CR"))], [Control.interceptCrWrite, bits(sixteen("CR"))],
  [Control.interceptDrRead, bits(sixteen("DR"))], [Control.interceptDrWrite, bits(sixteen("DR"))],
  [Control.interceptExceptions, bits(exceptionNames)],
  [Control.interceptMisc1, bits(numberedBits(Intercept, 0))], [Control.interceptMisc2, bits(numberedBits(Intercept, 32))],
  [Control.interceptMisc3, bits(numberedBits(Intercept, 64))],
  [Control.tlbControl, named(TlbControl)], [Control.interruptControl, describeInterruptControl],
  [Control.exitCode, (value) => exitCodeName(Number(BigInt.asIntN(64, value)))],
  [Control.exitInterruptInfo, describeEvent], [Control.eventInjection, describeEvent],
  [Control.nestedControl, bits([["NP_ENABLE", BigInt(nestedPagingMask)]])],
  [Control.extensions, bits([["LBR_VIRTUALIZATION_ENABLE", BigInt(ExtensionMask.lastBranchRecord)], ["VIRTUALIZED_VMSAVE_VMLOAD", BigInt(ExtensionMask.virtualLoadAndSave)]])],
  [Save.efer, bits(eferBits)], [Save.cr4, bits(cr4Bits)], [Save.cr0, bits(cr0Bits)], [Save.rflags, bits(flagBits)],
]);

function describe(field: VmcbField, value: bigint): string | undefined {
  if (field.name.endsWith(".attributes")) return describeAccessRights(unpackAttributes(Number(value)));
  return descriptions.get(field)?.(value);
}

/** Undefined: VMRUN has named none. */
export function describeVmcb(context: SvmContext): ControlBlock | undefined {
  const { processor: p, isGuest, host, vmcbAddress } = context;
  const at = vmcbAddress < 0 ? 0 : p.physical.readable(vmcbAddress);
  if (at === 0) return undefined;
  const vmcb = context.view(at);
  const fields = vmcbFields.map((field): ControlBlockField => {
    const value = field.width === 8 ? BigInt(vmcb.get8(field)) : field.width === 16 ? BigInt(vmcb.get16(field))
      : field.width === 32 ? BigInt(vmcb.get32(field) >>> 0) : vmcb.get64(field);
    return { name: field.name, value, widthBits: field.width, meaning: describe(field, value) };
  });
  const hostCr0 = isGuest ? host.cr0 : p.state.get32(layout.cr0);
  const checkContext = {
    model: p.model, writableCr4Mask: supportedCr4(p), writableEferMask: supportedEfer(p), hasHostPaging: (hostCr0 & Cr0Mask.PG) !== 0,
  };
  const failed = consistencyChecks.filter((check) => check.isViolated(vmcb, checkContext));
  return {
    kind: "VMCB", address: BigInt(vmcbAddress), isRunning: isGuest, fields,
    problems: failed.map((check) => ({ problem: check.problem, fields: check.fields.map(({ name }) => name) })),
  };
}
