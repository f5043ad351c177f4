/** A processor with a VMCS of random contents around a guest that could run, for fuzzers. */
import { EngineMachine, PageBit, Place, Select } from "../../../engine/testing/engine-machine.ts";
import * as state from "../../../isa/state.ts";
import { Random } from "../../testing/random.ts";
import { vmcsRevision } from "../capabilities.ts";
import { controls } from "../controls.ts";
import { Field, guestSegments, sizeBytesOf, vmcsFields, type FieldKey } from "../fields.ts";
import { Vmcs } from "../vmcs.ts";
import { Vmx } from "../vmx.ts";
import { validVmcs } from "./valid-vmcs.ts";

/** Guest-physical places beside those of `Place`. */
const FuzzPlace = {
  vmxon: 0x4_0000, vmcs: 0x4_1000, ioBitmaps: 0x4_2000, msrBitmap: 0x4_4000, virtualApic: 0x4_5000, apicAccess: 0x4_6000, area: 0x4_7000,
  ept: 0x5_0000, guestCode: 0x6_0000, guestStack: 0x7_0000,
} as const;

/** What the host does: VMLAUNCH, then HLT; and HLT where exits lead to. */
const launchCode = "0f01c2 f4";
const exitOffset = 0x100;
const ramBytes = 0x20_0000;
/** How many instructions a guest may execute before it is given up. */
const maximumInstructions = 3000;

export type FuzzEnd = "exit" | "refused" | "invalid guest state" | "fault" | "shutdown" | "running";

/** Values that mean something more often than chance does. */
const interesting: readonly bigint[] = [
  0n, 1n, 2n, 3n, 0xffn, 0x7fffn, 0xffffn, 0x8000_0000n, 0xffff_ffffn, 0x1_0000_0000n, 0x7fff_ffff_ffffn, 0x8000_0000_0000n,
  0xffff_8000_0000_0000n, 0xffff_ffff_ffff_ffffn, 0x1000n, 0xfffn, 0xa09bn, 0xc093n, 0x93n, 0x8bn, 0x8000_0031n, 0x500n, 0x8000_0b0en,
  0x8000_0020n, 0x8000_0202n, 0x8000_0480n, 0x8000_0700n,
  ...Object.values(FuzzPlace).map(BigInt), BigInt(Place.level4), 0xfe00_0000n, BigInt(FuzzPlace.ept) | 0x1en, BigInt(FuzzPlace.ept) | 0x5en,
];

/** Instructions that hypervisors care about; the rest of the guest's code is random. */
const sensitive: readonly string[] = [
  "0fa2", "f4", "0f01c1", "0f01c2", "0f01c3", "0f01c4", "0f01d4", "0fc730", "0f78d8", "0f79d8", "0f32", "0f30", "e480", "e680", "6c",
  "6e", "f36c", "f36e", "0f20c0", "0f22c0", "0f22d8", "0f22e0", "440f20c0", "440f22c0", "0f21f8", "0f23f8", "0f0138", "0f01f8", "cd80",
  "cc", "0f0b", "9c", "9d", "cf", "48cf", "fa", "fb", "0f08", "0f09", "f390", "0f31", "0f01f9", "0f0108", "0f0110", "0f0118", "0f00c8",
  "0f00d8", "8ed8", "8ed0", "ff28", "0fc7f0", "0fc7f8", "0f01d1", "660f388200", "8b00", "8900", "8b03", "8903", "c3", "cb", "ebfe", "50",
  "58", "0f06", "0f01f0",
];

const segmentFields: readonly (readonly [name: string, selector: number])[] = [
  ["CS", Select.code0], ["ES", Select.data0], ["SS", Select.data0], ["DS", Select.data0], ["FS", Select.data0], ["GS", Select.data0], ["TR", Select.tss],
];

export class FuzzedGuest {
  readonly machine: EngineMachine;
  readonly vmx: Vmx;

  constructor() {
    let vmx: Vmx | undefined;
    this.machine = new EngineMachine({
      ramBytes, model: { vendor: "intel", hasFeature: (name) => name !== "la57" && name !== "svm", linearAddressBits: 48, physicalAddressBits: 40 },
      virtualization: (processor) => (vmx = new Vmx(processor)),
    });
    this.vmx = vmx!;
  }

  /** A fresh host, a guest that could run, and then random changes of both by `seed`. */
  #prepare(random: Random): void {
    const m = this.machine, s = m.processor.state;
    m.ram.fill(0);
    m.interrupts.length = 0;
    m.processor.reset("reset");
    m.longMode();
    s.set64(state.cr0, s.get64(state.cr0) | 0x20n);
    s.set64(state.cr4, s.get64(state.cr4) | 0x2000n);
    m.processor.modeChanged();
    m.write(Place.code, launchCode);
    m.write(Place.code + exitOffset, "f4");
    const vmcs = this.#guest();
    this.#writeTables(random);
    this.#writeCode(random);
    this.#writeAreas(random);
    for (let change = random.below(5); change > 0; change--) this.#toggleControl(vmcs, random);
    for (let change = random.below(4); change > 0; change--) this.#changeField(vmcs, random);
    this.vmx.restore({
      featureControl: 5n, vmxonPointer: BigInt(FuzzPlace.vmxon), current: BigInt(FuzzPlace.vmcs),
      structures: [{ address: BigInt(FuzzPlace.vmcs), bytes: vmcs.bytes }], guest: undefined,
    });
    for (let register = 0; register < 16; register++) {
      if (register !== 4) m.setRegister(register, random.below(2) === 0 ? random.pick(interesting) : BigInt(random.next()));
    }
    if (random.below(4) === 0) m.interrupts.push(random.below(256));
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
    vmcs.set(field, BigInt.asUintN(bits, random.pick([random.pick(interesting), wide, flipped, BigInt(random.below(256))])));
  }

  /** Four levels that map RAM to itself, with some entries changed. */
  #writeTables(random: Random): void {
    const put = (at: number, entry: bigint): void => this.machine.view.setBigUint64(at, entry, true);
    const all = 7n, leaf = 0x437n;
    put(FuzzPlace.ept, BigInt(FuzzPlace.ept + 0x1000) | all);
    put(FuzzPlace.ept + 0x1000, BigInt(FuzzPlace.ept + 0x2000) | all);
    put(FuzzPlace.ept + 0x2000, BigInt(FuzzPlace.ept + 0x3000) | all);
    for (let page = 0; page < 512; page++) put(FuzzPlace.ept + 0x3000 + page * 8, BigInt(page * 4096) | leaf);
    for (let change = random.below(6); change > 0; change--) {
      const entry = (BigInt(random.next()) << 32n) | BigInt(random.next());
      put(FuzzPlace.ept + random.pick([0, 0x1000, 0x2000, 0x3000]) + random.below(16) * 8, random.pick([entry, (entry & 0x1f_ffffn) | leaf, 0n, leaf | PageBit.large]));
    }
  }

  #writeAreas(random: Random): void {
    for (const start of [FuzzPlace.ioBitmaps, FuzzPlace.msrBitmap, FuzzPlace.virtualApic, FuzzPlace.area]) {
      if (random.below(2) === 0) continue;
      for (let count = 64; count > 0; count--) this.machine.view.setUint32(start + random.below(1024) * 4, random.next(), true);
    }
  }

  #writeCode(random: Random): void {
    const bytes: number[] = [];
    while (bytes.length < 256) {
      if (random.below(3) === 0) bytes.push(random.below(256));
      else for (const digits of random.pick(sensitive).match(/../gu) ?? []) bytes.push(Number.parseInt(digits, 16));
    }
    this.machine.physical.writeRange(FuzzPlace.guestCode, Uint8Array.from(bytes));
  }

  /** Enters the guest of `seed`. Throws, or comes back when the processor has made something of it. */
  run(seed: number): FuzzEnd {
    this.#prepare(new Random(seed));
    const m = this.machine;
    const stop = m.run(maximumInstructions);
    if (stop === "shutdown") return "shutdown";
    const { isGuest, vmcs } = this.vmx.context;
    if (isGuest) return "running";
    if (m.delivered() !== undefined) return "fault";
    if (m.rip < BigInt(Place.code + exitOffset)) return "refused";
    return (vmcs.get32(Field.exitReason) & 0x8000_0000) !== 0 ? "invalid guest state" : "exit";
  }
}
