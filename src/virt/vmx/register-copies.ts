/** What transitions copy between the processor's state area and a VMCS. */
import { copyFunctions, reversed, type CopyFunction, type FieldConstant, type FieldCopy } from "../../engine/copy-functions.ts";
import type { WasmMemory } from "../../engine/web-assembly.ts";
import * as layout from "../../isa/state.ts";
import type { StateField } from "../../isa/state.ts";
import { Activity } from "../../isa/system/mode.ts";
import { Field, segmentBlock, type VmcsField } from "./fields.ts";

const stackPointer = layout.gpr[4];
const noException = -1;
const debugControlAfterExit = 0x400;

/** Of all 64 bits, or of the lower half. */
function copyOf([register, field]: readonly [StateField, VmcsField], width: 32 | 64 = 64): FieldCopy {
  return { target: register.offset, source: field.offset, width };
}

function setTo({ offset }: StateField, value: number, width: 32 | 64 = 32): FieldConstant {
  return { target: offset, value, width };
}

/** The block of segment and descriptor-table registers, which is at `place` of a VMCS. */
function segmentCopies(place: number): FieldCopy[] {
  return Array.from({ length: segmentBlock.sizeBytes / 8 }, (_, index) => ({ target: segmentBlock.stateOffset + index * 8, source: place + index * 8, width: 64 }));
}

const guestRegisters: readonly FieldCopy[] = [
  ...([
    [layout.cr3, Field.guestCr3], [layout.cr4, Field.guestCr4], [layout.rip, Field.guestRip], [stackPointer, Field.guestRsp],
    [layout.sysenterEsp, Field.guestSysenterEsp], [layout.sysenterEip, Field.guestSysenterEip],
  ] as const).map((pair) => copyOf(pair)),
  copyOf([layout.sysenterCs, Field.guestSysenterCs], 32),
  ...segmentCopies(segmentBlock.offset),
];
/** Exits clear the upper halves that they do not load; the order matters. */
const hostRegisters: readonly (FieldCopy | FieldConstant)[] = [
  ...([
    [layout.cr3, Field.hostCr3], [layout.rip, Field.hostRip], [stackPointer, Field.hostRsp],
    [layout.sysenterEsp, Field.hostSysenterEsp], [layout.sysenterEip, Field.hostSysenterEip],
  ] as const).map((pair) => copyOf(pair)),
  setTo(layout.sysenterCs, 0, 64), copyOf([layout.sysenterCs, Field.hostSysenterCs], 32),
  setTo(layout.dr[7], debugControlAfterExit, 64), setTo(layout.cpl, 0),
  setTo(layout.interception, 0), setTo(layout.exceptionVector, noException), setTo(layout.interruptShadow, 0), setTo(layout.activity, Activity.active),
];

type Name = "loadGuest" | "saveGuest" | "loadHost" | "loadHostAndSegments" | "keepHostSegments";

/** The first argument is the target's place, the second one the source's: state area and VMCS, or the other way round. */
export type RegisterCopies = Readonly<Record<Name, CopyFunction>>;

export function registerCopies(memory: WasmMemory): RegisterCopies {
  const hostSegments = segmentCopies(layout.vmcsHostSegmentsOffset);
  return copyFunctions(memory, {
    loadGuest: [setTo(layout.sysenterCs, 0, 64), ...guestRegisters, setTo(layout.exceptionVector, noException)],
    saveGuest: reversed([copyOf([layout.cr0, Field.guestCr0]), ...guestRegisters]),
    loadHost: hostRegisters, loadHostAndSegments: [...hostRegisters, ...hostSegments], keepHostSegments: reversed(hostSegments),
  });
}
