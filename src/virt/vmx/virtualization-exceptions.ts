/** Virtualization exceptions (#VE): EPT violations that the guest handles by itself (SDM volume 3, "Virtualization Exceptions"). */
import * as layout from "../../isa/state.ts";
import { Cr0Mask } from "../../isa/system/mode.ts";
import { Control } from "./controls.ts";
import type { VmxContext } from "./context.ts";
import { ExitReason, type Exit } from "./exit-reasons.ts";
import { Field } from "./fields.ts";

const busyMark = 0xffff_ffff;
/** Offsets in the virtualization-exception information area. */
const Area = { reason: 0, busy: 4, qualification: 8, linearAddress: 16, physicalAddress: 24, eptpIndex: 32 } as const;

export class VirtualizationExceptions {
  readonly vector: number = 20;
  readonly #context: VmxContext;

  constructor(context: VmxContext) {
    this.#context = context;
  }

  /** Whether an exception takes the place of the exit; the information area is filled then. */
  replaces(exit: Exit, isConvertible: boolean): boolean {
    const context = this.#context;
    if (exit.reason !== ExitReason.eptViolation || !isConvertible || !context.has(Control.eptViolationVe)) return false;
    if ((context.state.get32(layout.cr0) & Cr0Mask.PE) === 0) return false;
    const { physical } = context.processor;
    const area = context.vmcs.getAddress(Field.virtualizationExceptionAddress);
    if (physical.read32(area + Area.busy) !== 0) return false;
    const write64 = (offset: number, value: bigint): void => {
      physical.write32(area + offset, Number(value & 0xffff_ffffn));
      physical.write32(area + offset + 4, Number(value >> 32n));
    };
    physical.write32(area + Area.reason, ExitReason.eptViolation);
    physical.write32(area + Area.busy, busyMark);
    write64(Area.qualification, exit.qualification);
    write64(Area.linearAddress, exit.guestLinearAddress);
    write64(Area.physicalAddress, BigInt(exit.guestPhysicalAddress));
    const eptpIndex = context.vmcs.get32(Field.eptpIndex);
    physical.write8(area + Area.eptpIndex, eptpIndex & 0xff);
    physical.write8(area + Area.eptpIndex + 1, eptpIndex >>> 8);
    return true;
  }
}
