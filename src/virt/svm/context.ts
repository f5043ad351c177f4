/** What all parts of SVM share: the present guest's control block as VMRUN has loaded it, and what the processor keeps beside it. */
import { hostSpace } from "../../engine/mmu.ts";
import { pagingModeOf } from "../../engine/page-walk.ts";
import type { SoftProcessor } from "../../engine/processor.ts";
import { Status } from "../../ir/index.ts";
import * as layout from "../../isa/state.ts";
import { StateView } from "../../isa/state-view.ts";
import { Cr4Mask, EferMask } from "../../isa/system/mode.ts";
import { exitVector, type Transition } from "../../isa/virtualization.ts";
import { Avic } from "./avic.ts";
import { CheckMemory, hasNestedPaging } from "./checks.ts";
import { eventExit, ExitCode, type Exit } from "./exit-codes.ts";
import { HostState } from "./host-state.ts";
import { Interception } from "./interception.ts";
import { VirtualInterrupts } from "./interrupts.ts";
import { NestedPaging } from "./nested-paging.ts";
import { PauseFilter } from "./pause-filter.ts";
import { SvmRegisters } from "./registers.ts";
import { Control, ExtensionMask, TlbControl } from "./vmcb.ts";

const maximumViews = 64;
/** ASIDs whose nested CR3 is remembered. */
const maximumRoots = 512;
const twoPow32 = 0x1_0000_0000;

interface SvmFeatures {
  readonly hasNestedPaging: boolean;
  /** Bits of the VMCB's extensions. */
  readonly extensionMask: number;
  readonly hasNextRip: boolean;
  readonly hasAvic: boolean;
  readonly hasDecodeAssists: boolean;
}

export class SvmContext {
  readonly processor: SoftProcessor;
  readonly features: SvmFeatures;
  readonly registers: SvmRegisters;
  readonly interception: Interception;
  readonly interrupts: VirtualInterrupts = new VirtualInterrupts();
  readonly pauseFilter: PauseFilter = new PauseFilter();
  readonly nested: NestedPaging;
  readonly avic: Avic;
  /** Boundaries up to which the guest executes one instruction at a time. */
  soloBoundaries = 0;
  readonly host: HostState = new HostState();
  readonly checked: CheckMemory = new CheckMemory();
  isGuest = false;
  /** The global interrupt flag. */
  gif = true;
  vmcb: StateView;
  /** Physical address of the control block that VMRUN has named last; -1: none so far. */
  vmcbAddress = -1;
  hasNestedPaging = false;
  tscOffset = 0n;
  extensions = 0;
  /** Without nested paging, host and guest share one. */
  hostPat = 0n;
  /** While the guest has last-branch records of its own. */
  hostBranches: readonly bigint[] | undefined = undefined;
  /** The exit recorded last. */
  exit: Exit = eventExit(ExitCode.invalid);
  observer: ((transition: Transition) => void) | undefined = undefined;
  /** Views of the control blocks used last, by their place in linear memory. */
  readonly #views = new Map<number, StateView>();
  /** Nested CR3 by ASID, as the translations of that ASID have it; -1 without nested paging. */
  readonly #nestedRoots = new Map<number, number>();

  constructor(processor: SoftProcessor) {
    const { model, physical } = processor;
    this.processor = processor;
    this.vmcb = processor.state;
    this.interception = new Interception(processor, physical);
    this.registers = new SvmRegisters(model);
    const avicHost = {
      record: (exit: Exit): void => void (this.exit = exit),
      get isStepping(): boolean {
        return processor.isStepping;
      },
    };
    this.avic = new Avic(physical, avicHost);
    processor.memory.virtualPage = this.avic;
    this.nested = new NestedPaging(physical, () => {
      this.exit = this.#nestedPageFault();
    });
    this.features = {
      hasNestedPaging: model.hasFeature("npt"),
      extensionMask: (model.hasFeature("v_vmsave_vmload") ? ExtensionMask.virtualLoadAndSave : 0) | (model.hasFeature("lbrv") ? ExtensionMask.lastBranchRecord : 0),
      hasAvic: model.hasFeature("avic"), hasNextRip: model.hasFeature("nrip_save"), hasDecodeAssists: model.hasFeature("decodeassists"),
    };
  }

  reset(kind: "reset" | "init"): void {
    if (this.isGuest) {
      this.isGuest = false;
      this.processor.memory.enterSpace(hostSpace, undefined, 0);
    }
    this.processor.state.set32(layout.interception, 0);
    this.vmcbAddress = -1;
    this.gif = true;
    this.checked.forget();
    if (kind === "reset") this.registers.reset();
  }

  /** EFER.SVME. */
  get isEnabled(): boolean {
    return (this.processor.state.get32(layout.efer) & EferMask.SVME) !== 0;
  }

  /** The guest's VMLOAD and VMSAVE name guest-physical addresses. */
  get hasVirtualLoadAndSave(): boolean {
    return this.isGuest && this.hasNestedPaging && (this.extensions & ExtensionMask.virtualLoadAndSave) !== 0;
  }

  /** The guest has last-branch records of its own. */
  get hasOwnBranches(): boolean {
    return (this.extensions & ExtensionMask.lastBranchRecord) !== 0;
  }

  /** An instruction is being executed, and not fetched. */
  get isWithinInstruction(): boolean {
    return this.processor.state.get32(layout.currentRecord) !== 0;
  }

  /** An exit takes the place of the instruction. */
  record(exit: Exit): Status {
    this.exit = exit;
    return this.processor.raise(exitVector);
  }

  #nestedPageFault(): Exit {
    return {
      code: ExitCode.nestedPageFault, info1: this.nested.faultInfo, info2: BigInt(this.nested.faultAddress), hasNextRip: false,
      hasInstructionBytes: this.isWithinInstruction,
    };
  }

  /** The control block at a place in linear memory. */
  view(at: number): StateView {
    let view = this.#views.get(at);
    if (view === undefined) {
      if (this.#views.size === maximumViews) this.#views.clear();
      view = new StateView(this.processor.physical.bytes.buffer, at);
      this.#views.set(at, view);
    }
    return view;
  }

  /** Takes over the control area; the host's state has been kept. */
  loadControls(vmcb: StateView): void {
    this.vmcb = vmcb;
    this.interception.load(vmcb);
    this.interrupts.load(vmcb);
    this.pauseFilter.load(vmcb);
    this.tscOffset = vmcb.get64(Control.tscOffset);
    this.extensions = vmcb.get32(Control.extensions) & this.features.extensionMask;
    this.hasNestedPaging = this.features.hasNestedPaging && hasNestedPaging(vmcb);
    this.soloBoundaries = 0;
    if (this.features.hasAvic) this.avic.load(vmcb);
    this.nested.virtualPage = this.avic.guestPage;
    if (this.hasNestedPaging) this.#configureNestedPaging(vmcb);
  }

  /** The nested tables have the form of the host's own. */
  #configureNestedPaging(vmcb: StateView): void {
    const { paging } = this.nested;
    const { cr0, cr4, efer } = this.host;
    const { physicalAddressBits, gigabytePages } = this.processor.memory.paging;
    const mode = pagingModeOf(cr0, cr4, efer);
    const rootLow = vmcb.get32(Control.nestedCr3), rootHigh = vmcb.getHigh32(Control.nestedCr3);
    paging.mode = mode;
    paging.root = mode === "pae" ? (rootLow & 0xffff_ffe0) >>> 0 : (rootLow & 0xffff_f000) >>> 0;
    if (mode === "level4" || mode === "level5") paging.root += (rootHigh & 0xf_ffff) * twoPow32;
    paging.noExecute = (efer & EferMask.NXE) !== 0;
    paging.pageSizeExtension = (cr4 & Cr4Mask.PSE) !== 0;
    paging.smep = (cr4 & Cr4Mask.SMEP) !== 0;
    paging.physicalAddressBits = physicalAddressBits;
    paging.gigabytePages = gigabytePages;
    if (mode === "pae") this.processor.physical.readRange(paging.root, new Uint8Array(paging.pdpte.buffer));
  }

  /** Goes on with the translations of the guest's ASID, as far as TLB_CONTROL leaves them. */
  enterSpace(vmcb: StateView): void {
    const { memory, state } = this.processor;
    const asid = vmcb.get32(Control.asid);
    switch (vmcb.get8(Control.tlbControl)) {
      case TlbControl.nothing: break;
      case TlbControl.flushAll:
        memory.flush({ keepGlobal: false });
        memory.forgetGuestSpaces();
        break;
      default:
        memory.forgetSpace(asid);
    }
    const nestedRoot = this.hasNestedPaging ? this.nested.paging.root : -1;
    if (this.#nestedRoots.get(asid) !== nestedRoot) {
      memory.forgetSpace(asid);
      // Without its root an ASID begins anew.
      if (this.#nestedRoots.size >= maximumRoots) this.#nestedRoots.clear();
      this.#nestedRoots.set(asid, nestedRoot);
    }
    memory.noteRoot(this.host.root);
    memory.enterSpace(asid, this.hasNestedPaging ? this.nested : undefined, state.getAddress(layout.cr3));
  }
}
