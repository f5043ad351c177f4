/** Checks of VMRUN: what makes a VMCB's contents illegal and VMRUN end in VMEXIT_INVALID (AMD APM volume 2, "Canonicalization and Consistency Checks"). */
import type { CpuModel } from "../../isa/processor.ts";
import type { StateView } from "../../isa/state-view.ts";
import { Cr0Mask, Cr4Mask, EferMask } from "../../isa/system/mode.ts";
import { Intercept } from "./exit-codes.ts";
import { Control, EventInfo, EventType, InterruptControlMask, nestedPagingMask, Save, SaveSegment, type VmcbField } from "./vmcb.ts";

/** What the checks depend on beside the VMCB. */
export interface CheckContext {
  readonly model: Pick<CpuModel, "physicalAddressBits" | "hasFeature">;
  readonly writableCr4Mask: number;
  readonly writableEferMask: number;
  /** CR0.PG of the host. */
  readonly hasHostPaging: boolean;
}

interface Check {
  /** What is wrong, as a monitor shows it. */
  readonly problem: string;
  /** What it looks at. */
  readonly fields: readonly VmcbField[];
  isViolated(vmcb: StateView, context: CheckContext): boolean;
}

const iopmBytes = 0x3000;
const msrpmBytes = 0x2000;
/** CS.L and CS.D as the VMCB packs attributes. */
const packedLongAndBigMask = 0x600;

function hasBits(vmcb: StateView, field: VmcbField, mask: number): boolean {
  return (vmcb.get32(field) & mask) !== 0;
}

function isLongModeWanted(vmcb: StateView): boolean {
  return hasBits(vmcb, Save.efer, EferMask.LME) && hasBits(vmcb, Save.cr0, Cr0Mask.PG);
}

function endsBeyond(address: bigint, sizeBytes: number, bits: number): boolean {
  return ((address & ~0xfffn) + BigInt(sizeBytes - 1)) >> BigInt(bits) !== 0n;
}

function isPatValid(pat: bigint): boolean {
  for (let shift = 0n; shift < 64n; shift += 8n) {
    const type = Number((pat >> shift) & 0xffn);
    if (type > 7 || type === 2 || type === 3) return false;
  }
  return true;
}

/** Events that cannot be: reserved types, exceptions that are none, OF and BR in 64-bit mode. */
function isEventIllegal(vmcb: StateView): boolean {
  const event = vmcb.get32(Control.eventInjection);
  if ((event & EventInfo.validMask) === 0) return false;
  const vector = event & 0xff, type = (event >>> EventInfo.typeShift) & 7;
  switch (type) {
    case EventType.interrupt: case EventType.nmi: case EventType.software: return false;
    case EventType.exception: {
      const nmiVector = 2, overflowVector = 4, boundVector = 5, longMask = 0x200;
      const isIn64BitMode = isLongModeWanted(vmcb) && (vmcb.get16(SaveSegment.cs.attributes) & longMask) !== 0;
      return vector === nmiVector || vector > 31 || (isIn64BitMode && (vector === overflowVector || vector === boundVector));
    }
    default: return true;
  }
}

const avicPages: readonly VmcbField[] = [Control.avicBackingPage, Control.avicLogicalTable, Control.avicPhysicalTable];

function hasAvic(vmcb: StateView, model: CheckContext["model"]): boolean {
  return hasBits(vmcb, Control.interruptControl, InterruptControlMask.avicEnable) && model.hasFeature("avic");
}

/** In the order in which they are made. */
export const consistencyChecks: readonly Check[] = [
  {
    problem: "the VMRUN intercept bit is clear", fields: [Control.interceptMisc2],
    isViolated: (vmcb) => !hasBits(vmcb, Control.interceptMisc2, 1 << (Intercept.VMRUN & 31)),
  },
  {
    problem: "virtual NMIs are enabled while the NMI intercept is clear", fields: [Control.interruptControl, Control.interceptMisc1],
    isViolated: (vmcb) => hasVirtualNmi(vmcb) && !hasBits(vmcb, Control.interceptMisc1, 1 << Intercept.NMI),
  },
  { problem: "ASID is zero", fields: [Control.asid], isViolated: (vmcb) => vmcb.get32(Control.asid) === 0 },
  { problem: "EFER.SVME is zero", fields: [Save.efer], isViolated: (vmcb) => !hasBits(vmcb, Save.efer, EferMask.SVME) },
  {
    problem: "a reserved bit of EFER is set", fields: [Save.efer],
    isViolated: (vmcb, { writableEferMask }) => vmcb.getHigh32(Save.efer) !== 0 || hasBits(vmcb, Save.efer, ~writableEferMask),
  },
  {
    problem: "CR0.CD is zero and CR0.NW is set", fields: [Save.cr0],
    isViolated: (vmcb) => !hasBits(vmcb, Save.cr0, Cr0Mask.CD) && hasBits(vmcb, Save.cr0, Cr0Mask.NW),
  },
  { problem: "CR0[63:32] are not zero", fields: [Save.cr0], isViolated: (vmcb) => vmcb.getHigh32(Save.cr0) !== 0 },
  {
    problem: "a reserved bit of CR3 is set", fields: [Save.cr3],
    isViolated: (vmcb, { model }) => isLongModeWanted(vmcb) && vmcb.get64(Save.cr3) >> BigInt(model.physicalAddressBits) !== 0n,
  },
  {
    problem: "a reserved bit of CR4 is set", fields: [Save.cr4],
    isViolated: (vmcb, { writableCr4Mask }) => vmcb.getHigh32(Save.cr4) !== 0 || hasBits(vmcb, Save.cr4, ~writableCr4Mask),
  },
  { problem: "DR6[63:32] are not zero", fields: [Save.dr6], isViolated: (vmcb) => vmcb.getHigh32(Save.dr6) !== 0 },
  { problem: "DR7[63:32] are not zero", fields: [Save.dr7], isViolated: (vmcb) => vmcb.getHigh32(Save.dr7) !== 0 },
  {
    problem: "EFER.LME and CR0.PG are set and CR4.PAE is zero", fields: [Save.efer, Save.cr0, Save.cr4],
    isViolated: (vmcb) => isLongModeWanted(vmcb) && !hasBits(vmcb, Save.cr4, Cr4Mask.PAE),
  },
  {
    problem: "EFER.LME and CR0.PG are set and CR0.PE is zero", fields: [Save.efer, Save.cr0],
    isViolated: (vmcb) => isLongModeWanted(vmcb) && !hasBits(vmcb, Save.cr0, Cr0Mask.PE),
  },
  {
    problem: "EFER.LME, CR0.PG, CR4.PAE, CS.L and CS.D are all set", fields: [Save.efer, Save.cr0, Save.cr4, SaveSegment.cs.attributes],
    isViolated: (vmcb) => isLongModeWanted(vmcb) && (vmcb.get16(SaveSegment.cs.attributes) & packedLongAndBigMask) === packedLongAndBigMask,
  },
  {
    problem: "the I/O permission map extends beyond the physical address space", fields: [Control.iopmBase],
    isViolated: (vmcb, { model }) => endsBeyond(vmcb.get64(Control.iopmBase), iopmBytes, model.physicalAddressBits),
  },
  {
    problem: "the MSR permission map extends beyond the physical address space", fields: [Control.msrpmBase],
    isViolated: (vmcb, { model }) => endsBeyond(vmcb.get64(Control.msrpmBase), msrpmBytes, model.physicalAddressBits),
  },
  { problem: "the event to inject is illegal", fields: [Control.eventInjection], isViolated: isEventIllegal },
  {
    problem: "AVIC is enabled without nested paging", fields: [Control.interruptControl, Control.nestedControl],
    isViolated: (vmcb, { model }) => hasAvic(vmcb, model) && !hasNestedPaging(vmcb),
  },
  {
    problem: "a page or table of AVIC lies beyond the physical address space", fields: avicPages,
    isViolated: (vmcb, { model }) => hasAvic(vmcb, model) && avicPages.some((field) => vmcb.get64(field) >> BigInt(model.physicalAddressBits) !== 0n),
  },
  {
    problem: "nested paging is enabled while the host does not page", fields: [Control.nestedControl],
    isViolated: (vmcb, { hasHostPaging }) => hasNestedPaging(vmcb) && !hasHostPaging,
  },
  {
    problem: "a reserved bit of the nested CR3 is set", fields: [Control.nestedCr3],
    isViolated: (vmcb, { model }) => hasNestedPaging(vmcb) && vmcb.get64(Control.nestedCr3) >> BigInt(model.physicalAddressBits) !== 0n,
  },
  {
    problem: "G_PAT has a reserved memory type", fields: [Save.guestPat],
    isViolated: (vmcb) => hasNestedPaging(vmcb) && !isPatValid(vmcb.get64(Save.guestPat)),
  },
];

/** Words of the VMCB that the checks look at. */
const checkedOffsets: readonly number[] = [
  Control.interceptMisc1, Control.interceptMisc2, Control.asid, Control.eventInjection, Control.nestedControl, SaveSegment.cs.selector,
].map(({ offset }) => offset).concat([
  Save.efer, Save.cr0, Save.cr3, Save.cr4, Save.dr6, Save.dr7, Control.iopmBase, Control.msrpmBase, Control.nestedCr3, Save.guestPat, ...avicPages,
].flatMap(({ offset }) => [offset, offset + 4]));

/** Knows a VMCB again that has passed: a hypervisor changes little between two entries. */
export class CheckMemory {
  readonly #words = new Uint32Array(checkedOffsets.length);
  #hasHostPaging: boolean | undefined;
  #interruptBits = 0;

  /** Whether exactly this has passed the last time. */
  isKnown(vmcb: StateView, hasHostPaging: boolean): boolean {
    if (this.#hasHostPaging !== hasHostPaging || this.#interruptBits !== checkedInterruptBits(vmcb)) return false;
    const first = vmcb.base >>> 2;
    for (let index = 0; index < checkedOffsets.length; index++) {
      if (vmcb.u32[first + (checkedOffsets[index] >>> 2)] !== this.#words[index]) return false;
    }
    return true;
  }

  keep(vmcb: StateView, hasHostPaging: boolean): void {
    this.#hasHostPaging = hasHostPaging;
    this.#interruptBits = checkedInterruptBits(vmcb);
    const first = vmcb.base >>> 2;
    for (let index = 0; index < checkedOffsets.length; index++) this.#words[index] = vmcb.u32[first + (checkedOffsets[index] >>> 2)];
  }

  forget(): void {
    this.#hasHostPaging = undefined;
  }
}

function checkedInterruptBits(vmcb: StateView): number {
  return vmcb.get32(Control.interruptControl) & (InterruptControlMask.virtualNmiEnable | InterruptControlMask.avicEnable);
}

function hasVirtualNmi(vmcb: StateView): boolean {
  return hasBits(vmcb, Control.interruptControl, InterruptControlMask.virtualNmiEnable);
}

export function hasNestedPaging(vmcb: StateView): boolean {
  return hasBits(vmcb, Control.nestedControl, nestedPagingMask);
}

/** The first problem of the VMCB; undefined: VMRUN enters the guest. */
export function findViolation(vmcb: StateView, context: CheckContext): string | undefined {
  return consistencyChecks.find((check) => check.isViolated(vmcb, context))?.problem;
}
