/** What transitions copy between the processor's state area and a VMCS. */
import { copyFunctions, reversed, type CopyFunction, type FieldCopy } from "../../engine/copy-functions.ts";
import type { WasmMemory } from "../../engine/web-assembly.ts";
import * as layout from "../../isa/state.ts";
import type { StateField } from "../../isa/state.ts";
import { Field, segmentBlock, type VmcsField } from "./fields.ts";

const stackPointer = layout.gpr[4];

function copyOf([register, field]: readonly [StateField, VmcsField]): FieldCopy {
  return { target: register.offset, source: field.offset, width: 64 };
}

/** The block of segment and descriptor-table registers, which is at `place` of a VMCS. */
function segmentCopies(place: number): FieldCopy[] {
  return Array.from({ length: segmentBlock.sizeBytes / 8 }, (_, index) => ({ target: segmentBlock.stateOffset + index * 8, source: place + index * 8, width: 64 }));
}

const guestRegisters: readonly FieldCopy[] = [
  ...([
    [layout.cr3, Field.guestCr3], [layout.cr4, Field.guestCr4], [layout.rip, Field.guestRip], [stackPointer, Field.guestRsp],
    [layout.sysenterEsp, Field.guestSysenterEsp], [layout.sysenterEip, Field.guestSysenterEip],
  ] as const).map(copyOf),
  ...segmentCopies(segmentBlock.offset),
];
const hostRegisters: readonly FieldCopy[] = ([
  [layout.cr3, Field.hostCr3], [layout.rip, Field.hostRip], [stackPointer, Field.hostRsp],
  [layout.sysenterEsp, Field.hostSysenterEsp], [layout.sysenterEip, Field.hostSysenterEip],
] as const).map(copyOf);

/** The first argument is the target's place, the second one the source's: state area and VMCS, or the other way round. */
export type RegisterCopies = Readonly<Record<"loadGuest" | "saveGuest" | "loadHost" | "loadHostSegments" | "keepHostSegments", CopyFunction>>;

export function registerCopies(memory: WasmMemory): RegisterCopies {
  const hostSegments = segmentCopies(layout.vmcsHostSegmentsOffset);
  return copyFunctions(memory, {
    loadGuest: guestRegisters,
    saveGuest: reversed([copyOf([layout.cr0, Field.guestCr0]), ...guestRegisters]),
    loadHost: hostRegisters, loadHostSegments: hostSegments, keepHostSegments: reversed(hostSegments),
  });
}
