/** A processor with a VMCS of random contents around a guest that could run, for fuzzers. */
import { Place, Select } from "../../../engine/testing/engine-machine.ts";
import type { JitSettings } from "../../../engine/jit/settings.ts";
import * as state from "../../../isa/state.ts";
import { FuzzedGuest as AnyFuzzedGuest, GuestPlace, interestingValues, sensitiveInstructions } from "../../testing/fuzzed-guest.ts";
import type { Random } from "../../testing/random.ts";
import { vmcsRevision } from "../capabilities.ts";
import { Control, controls } from "../controls.ts";
import { Field, guestSegments, sizeBytesOf, vmcsFields, type FieldKey } from "../fields.ts";
import { Vmcs } from "../vmcs.ts";
import { Vmx } from "../vmx.ts";
import { validVmcs } from "./valid-vmcs.ts";

/** Guest-physical places beside those of `Place`. */
const FuzzPlace = {
  vmxon: 0x4_0000, vmcs: 0x4_1000, ioBitmaps: 0x4_2000, msrBitmap: 0x4_4000, virtualApic: 0x4_5000, apicAccess: 0x4_6000, area: 0x4_7000, resumesLeft: 0x4_8000,
  ept: GuestPlace.tables, guestCode: GuestPlace.code, guestStack: GuestPlace.stack,
} as const;

/** What the host does: VMLAUNCH, then HLT. */
const launchCode = "0f01c2 f4";
/** Where exits lead to: a few times VMRESUME behind the instruction (or wherever the length of none leads to), then HLT. */
const exitCode = [
  "ff0c25 00800400", "781e", // dec dword [resumesLeft]; js to HLT
  "41bc1e680000 450f78e5", // GUEST_RIP to R13
  "41be0c440000 450f78f7", // EXIT_INSTRUCTION_LENGTH to R15
  "4d01fd 450f79e5", // their sum to GUEST_RIP
  "0f01c3 f4",
].join(" ");
const maximumResumes = 6;
const exitOffset = 0x100;
const failedEntryMask = 0x8000_0000;

const segmentFields: readonly (readonly [name: string, selector: number])[] = [
  ["CS", Select.code0], ["ES", Select.data0], ["SS", Select.data0], ["DS", Select.data0], ["FS", Select.data0], ["GS", Select.data0], ["TR", Select.tss],
];

/** Without a VPID nothing is kept across transitions. */
function tag(vmcs: Vmcs): void {
  vmcs.set32(Field.primaryControls, (vmcs.get32(Field.primaryControls) | Control.secondaryControls.mask) >>> 0);
  vmcs.set32(Field.secondaryControls, (vmcs.get32(Field.secondaryControls) | Control.vpid.mask) >>> 0);
  vmcs.set32(Field.virtualProcessorId, 1);
}

export class FuzzedGuest extends AnyFuzzedGuest<"exit" | "refused" | "invalid guest state"> {
  readonly vmx: Vmx;
  protected readonly interesting: readonly bigint[] = [
    ...interestingValues, 3n, 0xa09bn, 0xc093n, 0x8000_0031n, 0x500n, 0x8000_0b0en, 0x8000_0020n, 0x8000_0202n, 0x8000_0480n, 0x8000_0700n,
    ...Object.values(FuzzPlace).map(BigInt), BigInt(FuzzPlace.ept) | 0x1en, BigInt(FuzzPlace.ept) | 0x5en,
  ];
  protected readonly sensitive: readonly string[] = [
    ...sensitiveInstructions, "0f01c1", "0f01c2", "0f01c3", "0f01c4", "0f01d4", "0fc730", "0f78d8", "0f79d8", "440f20c0", "440f22c0", "48cf",
    "0f01f9", "0fc7f0", "0fc7f8", "0f01d1", "660f388200", "8b03", "8903", "ebfe", "0f06", "0f01f0",
  ];
  protected readonly tableBits = { table: 7n, leaf: 0x437n } as const;
  protected readonly keptRegister: number = 4;

  constructor(jit?: JitSettings) {
    let vmx: Vmx | undefined;
    super({
      model: { vendor: "intel", hasFeature: (name) => name !== "la57" && name !== "svm", linearAddressBits: 48, physicalAddressBits: 40 },
      virtualization: (processor) => (vmx = new Vmx(processor)), ...(jit === undefined ? {} : { jit }),
    });
    this.vmx = vmx!;
  }

  /** A fresh host, a guest that could run, and then random changes of both by `seed`. */
  protected prepare(random: Random): void {
    this.reset();
    const m = this.machine, s = m.processor.state;
    s.set64(state.cr0, s.get64(state.cr0) | 0x20n);
    s.set64(state.cr4, s.get64(state.cr4) | 0x2000n);
    m.processor.modeChanged();
    m.write(Place.code, launchCode);
    m.write(Place.code + exitOffset, exitCode);
    m.view.setUint32(FuzzPlace.resumesLeft, random.below(maximumResumes + 1), true);
    const vmcs = this.#guest();
    if (random.below(2) === 0) tag(vmcs);
    this.writeTables(random);
    this.writeCode(random);
    this.#writeAreas(random);
    for (let change = random.below(5); change > 0; change--) this.#toggleControl(vmcs, random);
    for (let change = random.below(4); change > 0; change--) this.#changeField(vmcs, random);
    this.vmx.restore({
      featureControl: 5n, vmxonPointer: BigInt(FuzzPlace.vmxon), current: BigInt(FuzzPlace.vmcs),
      structures: [{ address: BigInt(FuzzPlace.vmcs), bytes: vmcs.bytes }], guest: undefined,
    });
  }

  /** A VMCS whose guest runs in the machine's address space. */
  #guest(): Vmcs {
    const vmcs = validVmcs();
    const s = this.machine.processor.state;
    vmcs.bytes.set([vmcsRevision & 0xff, (vmcsRevision >>> 8) & 0xff, (vmcsRevision >>> 16) & 0xff, vmcsRevision >>> 24]);
    for (const [name, selector] of segmentFields) {
      vmcs.set32(Field[`guest${name}Selector` as FieldKey], selector);
      if (name !== "TR") vmcs.set32(Field[`host${name}Selector` as FieldKey], selector);
    }
    const values: Partial<Record<FieldKey, bigint | number>> = {
      hostTRSelector: Select.tss, guestTRBase: Place.tss, hostTRBase: Place.tss, guestGdtrBase: Place.gdt, hostGdtrBase: Place.gdt,
      guestGdtrLimit: 0xff, guestIdtrBase: Place.idt, hostIdtrBase: Place.idt, guestIdtrLimit: 0xfff,
      guestCr0: s.get64(state.cr0), hostCr0: s.get64(state.cr0), guestCr3: Place.level4, hostCr3: Place.level4, guestCr4: s.get64(state.cr4),
      hostCr4: s.get64(state.cr4), guestEfer: s.get64(state.efer), hostEfer: s.get64(state.efer), guestRip: FuzzPlace.guestCode,
      guestRsp: FuzzPlace.guestStack, hostRip: Place.code + exitOffset, hostRsp: Place.stack,
      ioBitmapA: FuzzPlace.ioBitmaps, ioBitmapB: FuzzPlace.ioBitmaps + 0x1000, msrBitmaps: FuzzPlace.msrBitmap,
      virtualApicAddress: FuzzPlace.virtualApic, apicAccessAddress: FuzzPlace.apicAccess, eptPointer: FuzzPlace.ept | 0x1e,
      pmlAddress: FuzzPlace.area, eptpListAddress: FuzzPlace.area, vmreadBitmap: FuzzPlace.area, vmwriteBitmap: FuzzPlace.area,
      virtualizationExceptionAddress: FuzzPlace.area, postedInterruptDescriptorAddress: FuzzPlace.area,
      entryMsrLoadAddress: FuzzPlace.area, exitMsrLoadAddress: FuzzPlace.area + 0x100, exitMsrStoreAddress: FuzzPlace.area + 0x200,
    };
    for (const [key, value] of Object.entries(values)) vmcs.set(Field[key as FieldKey], BigInt(value));
    return vmcs;
  }

  /** Controls that exist, most often; others are refused anyway. */
  #toggleControl(vmcs: Vmcs, random: Random): void {
    const { group, mask } = random.pick(controls);
    const words = {
      pin: Field.pinControls, primary: Field.primaryControls, secondary: Field.secondaryControls, exit: Field.exitControls,
      entry: Field.entryControls, function: Field.vmFunctionControls,
    };
    vmcs.set32(words[group], (vmcs.get32(words[group]) ^ mask) >>> 0);
    if (group === "secondary") vmcs.set32(words.primary, (vmcs.get32(words.primary) | 0x8000_0000) >>> 0);
  }

  #changeField(vmcs: Vmcs, random: Random): void {
    const field = random.below(4) === 0 ? random.pick(guestSegments).accessRights : random.pick(vmcsFields);
    const bits = sizeBytesOf(field.width) * 8;
    const wide = (BigInt(random.next()) << 32n) | BigInt(random.next());
    const flipped = vmcs.get(field) ^ (1n << BigInt(random.below(bits)));
    vmcs.set(field, BigInt.asUintN(bits, random.pick([random.pick(this.interesting), wide, flipped, BigInt(random.below(256))])));
  }

  #writeAreas(random: Random): void {
    for (const start of [FuzzPlace.ioBitmaps, FuzzPlace.msrBitmap, FuzzPlace.virtualApic, FuzzPlace.area]) {
      if (random.below(2) === 0) continue;
      for (let count = 64; count > 0; count--) this.machine.view.setUint32(start + random.below(1024) * 4, random.next(), true);
    }
  }

  protected get isGuest(): boolean {
    return this.vmx.context.isGuest;
  }

  protected endOf(): "exit" | "refused" | "invalid guest state" {
    if (this.machine.rip < BigInt(Place.code + exitOffset)) return "refused";
    return (this.vmx.context.vmcs.get32(Field.exitReason) & failedEntryMask) === 0 ? "exit" : "invalid guest state";
  }
}
