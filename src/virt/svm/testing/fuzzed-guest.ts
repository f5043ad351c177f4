/** A processor with a control block of random contents around a guest that could run, for fuzzers. */
import { bytesOf, Place, Select } from "../../../engine/testing/engine-machine.ts";
import type { JitSettings } from "../../../engine/jit/settings.ts";
import * as state from "../../../isa/state.ts";
import { EferMask } from "../../../isa/system/mode.ts";
import { FuzzedGuest as AnyFuzzedGuest, GuestPlace, interestingValues, sensitiveInstructions } from "../../testing/fuzzed-guest.ts";
import type { Random } from "../../testing/random.ts";
import { Svm } from "../svm.ts";
import { InterruptControlMask, vmcbFields } from "../vmcb.ts";

/** Guest-physical places beside those of `Place`. */
export const FuzzPlace: Readonly<Record<"vmcb" | "iopm" | "msrpm" | "apic" | "nested" | "guestCode" | "guestStack", number>> = {
  vmcb: 0x4_0000, iopm: 0x4_1000, msrpm: 0x4_4000, apic: 0x4_8000, nested: GuestPlace.tables, guestCode: GuestPlace.code, guestStack: GuestPlace.stack,
};

/** What the host does: VMRUN, then HLT. */
const hostCode = "0f01d8 f4";
const refused = 0xffff_ffff;
/** Task priority, end of interrupt, interrupt command, and one that is the hypervisor's. */
const avicRegisters: readonly number[] = [0x80, 0xb0, 0x300, 0x310, 0x390];
const pageBytes = 0x1000;

export class FuzzedGuest extends AnyFuzzedGuest<"exit" | "invalid"> {
  readonly svm: Svm;
  protected readonly interesting: readonly bigint[] = [...interestingValues, 0xa9bn, 0xc93n, 0x8000_0011n, 0x1500n, BigInt(FuzzPlace.vmcb), ...avicRegisters.map((offset) => BigInt(FuzzPlace.apic + offset))];
  protected readonly sensitive: readonly string[] = [
    ...sensitiveInstructions, "0f01d9", "0f01d8", "0f01da", "0f01db", "0f01dc", "0f01dd", "0f01df", "eb00",
  ];
  protected readonly tableBits = { table: 7n, leaf: 7n } as const;
  protected readonly keptRegister: number = 0;

  constructor(jit?: JitSettings) {
    let svm: Svm | undefined;
    super({
      model: { vendor: "amd", hasFeature: (name) => name !== "la57", linearAddressBits: 48 }, virtualization: (processor) => (svm = new Svm(processor)),
      ...(jit === undefined ? {} : { jit }),
    });
    this.svm = svm!;
  }

  /** A fresh host about to execute VMRUN, and a guest that can run. */
  prepareValid(): void {
    this.reset();
    const m = this.machine, s = m.processor.state;
    s.set64(state.efer, s.get64(state.efer) | BigInt(EferMask.SVME));
    m.processor.modeChanged();
    m.physical.writeRange(Place.code, bytesOf(hostCode));
    m.setRegister(0, BigInt(FuzzPlace.vmcb));
    this.#writeGuest();
  }

  /** The same with random changes of both. */
  protected prepare(random: Random): void {
    this.prepareValid();
    this.writeTables(random);
    if (random.below(2) === 0) this.#set("NESTED_CTL", 1n);
    this.writeCode(random);
    if (random.below(6) === 0) this.#enableAvic(random);
    if (random.below(8) === 0) {
      this.#set("VIRT_EXT", 1n);
      this.#set("DBGCTL", 1n);
    }
    for (let change = random.below(8); change > 0; change--) this.#changeField(random);
    if (random.below(3) === 0) this.#set("INTERCEPT_MISC1", BigInt(random.next()));
    if (random.below(3) === 0) this.#set("INTERCEPT_MISC2", BigInt(random.next() | 1));
    if (random.below(3) === 0) this.#set("INTERCEPT_EXCEPTIONS", BigInt(random.next()));
  }

  /** The page that the guest sees lies before those that AVIC works with. */
  #enableAvic(random: Random): void {
    const values = {
      NESTED_CTL: 1n, VINTR_CONTROL: BigInt(InterruptControlMask.avicEnable), AVIC_APIC_BAR: BigInt(FuzzPlace.apic),
      AVIC_BACKING_PAGE: BigInt(FuzzPlace.apic + pageBytes), AVIC_LOGICAL_TABLE: BigInt(FuzzPlace.apic + 2 * pageBytes),
      AVIC_PHYSICAL_TABLE: BigInt(FuzzPlace.apic + 3 * pageBytes + random.below(256)),
    };
    for (const [name, value] of Object.entries(values)) this.#set(name, value);
    for (let word = random.below(64); word > 0; word--) this.machine.view.setUint32(FuzzPlace.apic + pageBytes + random.below(0xc00) * 4, random.next(), true);
  }

  protected get isGuest(): boolean {
    return this.svm.isGuest;
  }

  protected endOf(): "exit" | "invalid" {
    return this.machine.view.getUint32(FuzzPlace.vmcb + 0x70, true) === refused ? "invalid" : "exit";
  }

  #set(name: string, value: bigint): void {
    const { offset, width } = vmcbFields.find((field) => field.name === name)!;
    const at = FuzzPlace.vmcb + offset;
    for (let byte = 0; byte < width / 8; byte++) this.machine.view.setUint8(at + byte, Number((value >> BigInt(8 * byte)) & 0xffn));
  }

  #changeField(random: Random): void {
    const { name, width } = random.pick(vmcbFields);
    const wide = (BigInt(random.next()) << 32n) | BigInt(random.next());
    const value = random.pick([random.pick(this.interesting), wide, 1n << BigInt(random.below(width)), BigInt(random.below(256))]);
    this.#set(name, BigInt.asUintN(width, value));
  }

  #writeGuest(): void {
    const segment = (name: string, selector: number, attributes: number): void => {
      this.#set(`${name}.selector`, BigInt(selector));
      this.#set(`${name}.attributes`, BigInt(attributes));
      this.#set(`${name}.limit`, 0xffff_ffffn);
    };
    segment("CS", Select.code0, 0xa9b);
    for (const name of ["ES", "SS", "DS", "FS", "GS"]) segment(name, Select.data0, 0xc93);
    const values: Readonly<Record<string, bigint>> = {
      INTERCEPT_MISC2: 3n, INTERCEPT_MISC1: 0x8000_0000n, IOPM_BASE_PA: BigInt(FuzzPlace.iopm), MSRPM_BASE_PA: BigInt(FuzzPlace.msrpm), GUEST_ASID: 1n,
      EFER: BigInt(EferMask.SVME | EferMask.LME | EferMask.LMA | EferMask.NXE), CR0: 0x8001_0031n, CR3: BigInt(Place.level4), CR4: 0x2a0n,
      DR6: 0xffff_0ff0n, DR7: 0x400n, RFLAGS: 2n, RIP: BigInt(FuzzPlace.guestCode), RSP: BigInt(FuzzPlace.guestStack), G_PAT: 0x0007_0406_0007_0406n,
      N_CR3: BigInt(FuzzPlace.nested), "GDTR.base": BigInt(Place.gdt), "GDTR.limit": 0xffn, "IDTR.base": BigInt(Place.idt), "IDTR.limit": 0xfffn,
      "TR.selector": BigInt(Select.tss), "TR.attributes": 0x8bn, "TR.limit": 0x67n, "TR.base": BigInt(Place.tss),
    };
    for (const [name, value] of Object.entries(values)) this.#set(name, value);
  }
}
