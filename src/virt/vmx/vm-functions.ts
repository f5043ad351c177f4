/** VMFUNC: EPTP switching (SDM volume 3, "VM Functions"). */
import * as layout from "../../isa/state.ts";
import { isValidEptPointer } from "./checks/controls.ts";
import { Unchecked } from "./checks/pending.ts";
import { VmxMsr } from "./capabilities.ts";
import { Control } from "./controls.ts";
import type { VmxContext } from "./context.ts";
import type { ExtendedPageTables } from "./extended-page-tables.ts";
import { Field } from "./fields.ts";
import type { Translations } from "./translations.ts";

const eptpSwitching = 0;
const listEntries = 512;
const rax = layout.gpr[0], rcx = layout.gpr[1];

export class VmFunctions {
  readonly #context: VmxContext;
  readonly #ept: ExtendedPageTables;
  readonly #translations: Translations;

  constructor(context: VmxContext, ept: ExtendedPageTables, translations: Translations) {
    this.#context = context;
    this.#ept = ept;
    this.#translations = translations;
  }

  /** The function that EAX names; false: an exit takes its place. */
  execute(): boolean {
    const context = this.#context;
    const { state, vmcs, processor: { memory, physical } } = context;
    if (state.get32(rax) !== eptpSwitching || !context.has(Control.eptpSwitching)) return false;
    const index = state.get32(rcx);
    if (index >= listEntries) return false;
    const at = vmcs.getAddress(Field.eptpListAddress) + index * 8;
    const pointer = (BigInt(physical.read32(at + 4)) << 32n) | BigInt(physical.read32(at));
    const supported = context.capabilities.registers.get(VmxMsr.EPT_VPID_CAP) ?? 0n;
    if (!isValidEptPointer(pointer, supported, context.capabilities.physicalAddressBits)) return false;
    vmcs.set(Field.eptPointer, pointer);
    if (context.has(Control.eptViolationVe)) vmcs.set32(Field.eptpIndex, index);
    vmcs.unchecked |= Unchecked.controls;
    this.#ept.configure();
    const vpid = context.has(Control.vpid) ? vmcs.get32(Field.virtualProcessorId) : 0;
    this.#translations.switchTable(vpid, this.#ept.root, this.#ept, state.getAddress(layout.cr3));
    if (memory.paging.mode !== "pae") context.processor.contextReplaced();
    return true;
  }
}
