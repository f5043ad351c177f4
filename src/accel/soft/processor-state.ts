/** The soft processor's state area as the accelerators' common state, and back. */
import type { SoftProcessor } from "../../engine/processor.ts";
import { allFlagsMask, readFlags, writeFlags } from "../../isa/flags.ts";
import type { StateField } from "../../isa/state.ts";
import * as state from "../../isa/state.ts";
import type { StateView } from "../../isa/state-view.ts";
import { Activity, Cr0Mask, Cr4Mask, EferMask } from "../../isa/system/mode.ts";
import { loadSegmentCache } from "../../isa/system/segments.ts";
import { Svm } from "../../virt/svm/svm.ts";
import { Vmx } from "../../virt/vmx/vmx.ts";
import {
  processorStateVersion, type CoreMsrState, type FloatingPointState, type ProcessorActivity, type ProcessorState,
} from "../processor-state.ts";

const msrFields = {
  efer: state.efer, star: state.star, lstar: state.lstar, cstar: state.cstar, fmask: state.fmask,
  kernelGsBase: state.kernelGsBase, sysenterCs: state.sysenterCs, sysenterEsp: state.sysenterEsp,
  sysenterEip: state.sysenterEip, tscAux: state.tscAux, pat: state.pat,
} as const satisfies Readonly<Record<keyof CoreMsrState, StateField>>;

const activities: readonly ProcessorActivity[] = ["active", "halted", "shutdown", "waiting-for-sipi"];
const shadows = ["none", "sti", "stack-segment"] as const;

function topOfStack(status: number): number {
  return (status >>> 11) & 7;
}

function upperHalf(field: StateField): StateField {
  return { name: field.name, offset: field.offset + 8, width: 64 };
}

function readFloatingPoint(s: StateView): FloatingPointState {
  const statusWord = s.get16(state.x87Status);
  return {
    controlWord: s.get16(state.x87Control), statusWord, abridgedTagWord: s.get16(state.x87Tag) & 0xff,
    lastOpcode: s.get16(state.x87Opcode),
    instructionPointer: s.get64(state.x87InstructionPointer), instructionSelector: s.get16(state.x87InstructionSelector),
    dataPointer: s.get64(state.x87DataPointer), dataSelector: s.get16(state.x87DataSelector),
    stack: state.x87.map((_, index) => {
      const register = state.x87[(topOfStack(statusWord) + index) & 7];
      return { significand: s.get64(register), signAndExponent: s.get16(upperHalf(register)) };
    }),
  };
}

function writeFloatingPoint(s: StateView, fpu: FloatingPointState): void {
  s.set16(state.x87Control, fpu.controlWord);
  s.set16(state.x87Status, fpu.statusWord);
  s.set16(state.x87Tag, fpu.abridgedTagWord);
  s.set16(state.x87Opcode, fpu.lastOpcode);
  s.set64(state.x87InstructionPointer, fpu.instructionPointer);
  s.set16(state.x87InstructionSelector, fpu.instructionSelector);
  s.set64(state.x87DataPointer, fpu.dataPointer);
  s.set16(state.x87DataSelector, fpu.dataSelector);
  fpu.stack.forEach(({ significand, signAndExponent }, index) => {
    const register = state.x87[(topOfStack(fpu.statusWord) + index) & 7];
    s.set64(register, significand);
    s.set64(upperHalf(register), BigInt(signAndExponent));
  });
}

/** To be called between two instructions, outside of `run`. */
export function readProcessorState(processor: SoftProcessor): ProcessorState {
  const s = processor.state;
  const usesPointers = (s.get32(state.cr0) & Cr0Mask.PG) !== 0 && (s.get32(state.cr4) & Cr4Mask.PAE) !== 0 &&
    (s.get32(state.efer) & EferMask.LMA) === 0;
  const { isNmiPending, event, heldDebugConditions } = processor.waiting;
  return {
    version: processorStateVersion,
    general: state.gpr.map((field) => s.get64(field)),
    rip: s.get64(state.rip), rflags: readFlags(s), privilegeLevel: s.get32(state.cpl),
    segments: state.segments.map(({ selector, base, limit, attributes }) => ({
      selector: s.get16(selector), base: s.get64(base), limit: s.get32(limit), attributes: s.get32(attributes),
    })),
    gdtr: { base: s.get64(state.gdtrBase), limit: s.get32(state.gdtrLimit) },
    idtr: { base: s.get64(state.idtrBase), limit: s.get32(state.idtrLimit) },
    cr0: s.get64(state.cr0), cr2: s.get64(state.cr2), cr3: s.get64(state.cr3), cr4: s.get64(state.cr4),
    xcr0: s.get64(state.xcr0),
    ...(usesPointers ? { pageDirectoryPointers: [...processor.memory.pageDirectoryPointers] } : {}),
    breakpointAddresses: [0, 1, 2, 3].map((index) => s.get64(state.dr[index])),
    dr6: s.get64(state.dr[6]), dr7: s.get64(state.dr[7]),
    floatingPoint: readFloatingPoint(s),
    mxcsr: s.get32(state.mxcsr),
    xmm: state.xmm.map((field) => ({ low: s.get64(field), high: s.get64(upperHalf(field)) })),
    pkru: s.get32(state.pkru),
    msrs: Object.fromEntries(Object.entries(msrFields).map(([name, field]) => [name, s.get64(field)])) as unknown as CoreMsrState,
    storedMsrs: [...processor.msrs, ...processor.virtualization?.changedRegisters() ?? []].toSorted(([a], [b]) => a - b),
    activity: activities[s.get32(state.activity)],
    shadow: shadows[s.get32(state.interruptShadow) & 2 ? 2 : s.get32(state.interruptShadow) & 1],
    isNmiBlocked: s.get32(state.nmiBlocked) !== 0,
    isNmiPending,
    ...(event === undefined ? {} : { pendingEvent: event }),
    heldDebugConditions,
    ...(processor.virtualization instanceof Svm ? { svm: processor.virtualization.state } : {}),
    ...(processor.virtualization instanceof Vmx ? { vmx: processor.virtualization.state } : {}),
  };
}

/** The next instruction runs in this state. Guest memory must already be what it will be. */
export function writeProcessorState(processor: SoftProcessor, saved: ProcessorState): void {
  const s = processor.state;
  state.gpr.forEach((field, number) => s.set64(field, saved.general[number]));
  s.set64(state.rip, saved.rip);
  for (const name of ["cr0", "cr2", "cr3", "cr4", "xcr0"] as const) s.set64(state[name], saved[name]);
  for (const name of Object.keys(msrFields) as (keyof CoreMsrState)[]) s.set64(msrFields[name], saved.msrs[name]);
  s.set32(state.cpl, saved.privilegeLevel);
  // After CR0, which decides what the limits are checked for.
  saved.segments.forEach(({ selector, base, limit, attributes }, index) => loadSegmentCache(s, index, selector, { base, limit, attributes }));
  s.set64(state.gdtrBase, saved.gdtr.base);
  s.set32(state.gdtrLimit, saved.gdtr.limit);
  s.set64(state.idtrBase, saved.idtr.base);
  s.set32(state.idtrLimit, saved.idtr.limit);
  saved.breakpointAddresses.forEach((address, index) => s.set64(state.dr[index], address));
  s.set64(state.dr[6], saved.dr6);
  s.set64(state.dr[7], saved.dr7);
  writeFloatingPoint(s, saved.floatingPoint);
  s.set32(state.mxcsr, saved.mxcsr);
  saved.xmm.forEach(({ low, high }, index) => {
    s.set64(state.xmm[index], low);
    s.set64(upperHalf(state.xmm[index]), high);
  });
  s.set32(state.pkru, saved.pkru);
  processor.msrs.clear();
  for (const [index, value] of saved.storedMsrs) {
    if (processor.virtualization?.restoreRegister(index, value) !== true) processor.msrs.set(index, value);
  }
  writeFlags(s, saved.rflags, allFlagsMask);
  s.set32(state.activity, Activity[activityName(saved.activity)]);
  s.set32(state.interruptShadow, shadows.indexOf(saved.shadow));
  s.set32(state.nmiBlocked, saved.isNmiBlocked ? 1 : 0);
  processor.waiting = {
    isNmiPending: saved.isNmiPending, event: saved.pendingEvent, heldDebugConditions: saved.heldDebugConditions,
  };
  if (saved.svm !== undefined && processor.virtualization instanceof Svm) processor.virtualization.restore(saved.svm);
  if (saved.vmx !== undefined && processor.virtualization instanceof Vmx) processor.virtualization.restore(saved.vmx);
  processor.stateReplaced();
  if (saved.pageDirectoryPointers !== undefined) processor.memory.pageDirectoryPointers.set(saved.pageDirectoryPointers);
}

function activityName(activity: ProcessorActivity): keyof typeof Activity {
  return activity === "waiting-for-sipi" ? "waitingForSipi" : activity;
}
