/** A processor after RESET and INIT (SDM volume 3, "Processor State After Reset"). */
import type { CpuModel } from "../../isa/processor.ts";
import { Cr0Mask } from "../../isa/system/mode.ts";
import { debugControlReset, debugStatusReset } from "../../isa/system/debug.ts";
import { processorStateVersion, type ProcessorState, type SegmentState } from "../processor-state.ts";

const fixedFlag = 2;
const data: SegmentState = { selector: 0, base: 0n, limit: 0xffff, attributes: 0x93 };
const code: SegmentState = { selector: 0xf000, base: 0xffff_0000n, limit: 0xffff, attributes: 0x9b };
const localTable: SegmentState = { ...data, attributes: 0x82 };
const task: SegmentState = { ...data, attributes: 0x8b };
const table = { base: 0n, limit: 0xffff };

export function stateAfterReset(model: CpuModel): ProcessorState {
  const signature = model.cpuid(1, 0).eax >>> 0;
  return {
    version: processorStateVersion,
    general: Array.from({ length: 16 }, (_, number) => (number === 2 ? BigInt(signature) : 0n)),
    rip: 0xfff0n, rflags: fixedFlag, privilegeLevel: 0,
    segments: [data, code, data, data, data, data, localTable, task],
    gdtr: table, idtr: table,
    cr0: BigInt.asUintN(32, BigInt(Cr0Mask.CD | Cr0Mask.NW | Cr0Mask.ET)), cr2: 0n, cr3: 0n, cr4: 0n, xcr0: 1n,
    breakpointAddresses: [0n, 0n, 0n, 0n], dr6: debugStatusReset, dr7: debugControlReset,
    floatingPoint: {
      controlWord: 0x40, statusWord: 0, abridgedTagWord: 0xff, lastOpcode: 0,
      instructionPointer: 0n, instructionSelector: 0, dataPointer: 0n, dataSelector: 0,
      stack: Array.from({ length: 8 }, () => ({ significand: 0n, signAndExponent: 0 })),
    },
    mxcsr: 0x1f80,
    xmm: Array.from({ length: 16 }, () => ({ low: 0n, high: 0n })),
    pkru: 0,
    msrs: {
      efer: 0n, star: 0n, lstar: 0n, cstar: 0n, fmask: 0n, kernelGsBase: 0n, sysenterCs: 0n, sysenterEsp: 0n, sysenterEip: 0n,
      tscAux: 0n, pat: 0x0007_0406_0007_0406n,
    },
    storedMsrs: [], activity: "active", shadow: "none", isNmiBlocked: false, isNmiPending: false, heldDebugConditions: 0,
  };
}

/** INIT keeps x87 and SSE state, XCR0, most MSRs, and the cache bits of CR0. */
export function stateAfterInit(model: CpuModel, before: ProcessorState): ProcessorState {
  const reset = stateAfterReset(model);
  const cacheMask = BigInt.asUintN(32, BigInt(Cr0Mask.CD | Cr0Mask.NW));
  return {
    ...reset,
    cr0: (reset.cr0 & ~cacheMask) | (before.cr0 & cacheMask), xcr0: before.xcr0,
    floatingPoint: before.floatingPoint, mxcsr: before.mxcsr, xmm: before.xmm, pkru: before.pkru,
    msrs: { ...before.msrs, efer: 0n }, storedMsrs: before.storedMsrs,
  };
}
