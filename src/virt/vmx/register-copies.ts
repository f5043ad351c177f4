/** What transitions copy between the processor's state area and a VMCS, as parts of fast paths. */
import { constant, type Bits } from "../../ir/index.ts";
import { loadRegisters, saveRegisters, setField, setRegisters, type KeptRegister } from "../../isa/fast-path-parts.ts";
import * as layout from "../../isa/state.ts";
import type { StateField } from "../../isa/state.ts";
import { Activity } from "../../isa/system/mode.ts";
import { Field, segmentBlock, type VmcsField } from "./fields.ts";

const stackPointer = layout.gpr[4];
const noException = -1;
/** DR7 as exits set it. */
export const debugControlAfterExit = 0x400;

function kept({ offset }: StateField, field: VmcsField, width: 32 | 64 = 64): KeptRegister {
  return { offset, width, at: field.offset };
}

/** The block of segment and descriptor-table registers, which is at `place` of a VMCS. */
function segmentsAt(place: number): KeptRegister[] {
  return Array.from({ length: segmentBlock.sizeBytes / 8 }, (_, index) => ({ offset: segmentBlock.stateOffset + index * 8, width: 64, at: place + index * 8 }));
}

const guestRegisters: readonly KeptRegister[] = [
  kept(layout.cr3, Field.guestCr3), kept(layout.cr4, Field.guestCr4), kept(layout.rip, Field.guestRip), kept(stackPointer, Field.guestRsp),
  kept(layout.sysenterEsp, Field.guestSysenterEsp), kept(layout.sysenterEip, Field.guestSysenterEip),
  kept(layout.sysenterCs, Field.guestSysenterCs, 32),
  ...segmentsAt(segmentBlock.offset),
];
const hostRegisters: readonly KeptRegister[] = [
  kept(layout.cr3, Field.hostCr3), kept(layout.rip, Field.hostRip), kept(stackPointer, Field.hostRsp),
  kept(layout.sysenterEsp, Field.hostSysenterEsp), kept(layout.sysenterEip, Field.hostSysenterEip),
  kept(layout.sysenterCs, Field.hostSysenterCs, 32),
];
const hostSegments = segmentsAt(layout.vmcsHostSegmentsOffset);

/** The VMCS's field of 32 bits has no upper half to load. */
function loadWithSysenter(registers: readonly KeptRegister[], vmcs: Bits<32>): void {
  setField(layout.sysenterCs, constant(64, 0));
  loadRegisters(registers, vmcs);
}

/** `vmcs` is its place in linear memory. */
export const RegisterCopy = {
  /** All but CR0, EFER, DR7, flags and what controls decide. */
  loadGuest: (vmcs: Bits<32>): void => {
    loadWithSysenter(guestRegisters, vmcs);
    setRegisters([[layout.exceptionVector, noException]]);
  },
  saveGuest: (vmcs: Bits<32>): void => saveRegisters([kept(layout.cr0, Field.guestCr0), ...guestRegisters], vmcs),
  /** All but CR0, CR4, EFER, segments, flags and what controls decide. */
  loadHost: (vmcs: Bits<32>): void => {
    loadWithSysenter(hostRegisters, vmcs);
    setField(layout.dr[7], constant(64, debugControlAfterExit));
    setRegisters([
      [layout.cpl, 0], [layout.interception, 0], [layout.exceptionVector, noException], [layout.interruptShadow, 0], [layout.activity, Activity.active],
    ]);
  },
  /** As they were made of the host's fields. */
  loadHostSegments: (vmcs: Bits<32>): void => loadRegisters(hostSegments, vmcs),
  keepHostSegments: (vmcs: Bits<32>): void => saveRegisters(hostSegments, vmcs),
} as const;
