/** A processor with a control block of random contents around a guest that could run, for fuzzers. */
import { EngineMachine, PageBit, Place, Select } from "../../../engine/testing/engine-machine.ts";
import * as state from "../../../isa/state.ts";
import { EferMask } from "../../../isa/system/mode.ts";
import { Random } from "../../testing/random.ts";
import { Svm } from "../svm.ts";
import { vmcbFields } from "../vmcb.ts";

/** Guest-physical places beside those of `Place`. */
export const FuzzPlace = { vmcb: 0x4_0000, iopm: 0x4_1000, msrpm: 0x4_4000, nested: 0x5_0000, guestCode: 0x6_0000, guestStack: 0x7_0000 } as const;

/** What the host does: VMRUN, then HLT. */
const hostCode = "0f01d8 f4";
const ramBytes = 0x20_0000;
/** How many instructions a guest may execute before it is given up. */
const maximumInstructions = 3000;

export type FuzzEnd = "exit" | "invalid" | "fault" | "shutdown" | "running";

/** Values that mean something more often than chance does. */
const interesting: readonly bigint[] = [
  0n, 1n, 2n, 0xffn, 0x7fffn, 0xffffn, 0x8000_0000n, 0xffff_ffffn, 0x1_0000_0000n, 0x7fff_ffff_ffffn, 0x8000_0000_0000n,
  0xffff_8000_0000_0000n, 0xffff_ffff_ffff_ffffn, 0x1000n, 0xfffn, 0xa9bn, 0xc93n, 0x93n, 0x8bn, 0x8000_0011n, 0x1500n,
  BigInt(FuzzPlace.vmcb), BigInt(FuzzPlace.nested), BigInt(FuzzPlace.guestCode), BigInt(Place.level4), 0xfe00_0000n,
];

/** Instructions that hypervisors care about; the rest of the guest's code is random. */
const sensitive: readonly string[] = [
  "0fa2", "f4", "0f01d9", "0f32", "0f30", "e480", "e680", "6c", "6e", "f36c", "f36e", "0f20c0", "0f22c0", "0f22d8", "0f22e0",
  "0f21f8", "0f23f8", "0f0138", "0f01f8", "cd80", "cc", "0f0b", "9c", "9d", "cf", "fa", "fb", "0f08", "0f09", "f390", "0f31",
  "0f01d8", "0f01da", "0f01db", "0f01dc", "0f01dd", "0f01df", "0f0108", "0f0110", "0f0118", "0f00c8", "0f00d8", "8ed8", "8ed0", "ff28",
  "8b00", "8900", "c3", "cb", "eb00", "50", "58",
];

export class FuzzedGuest {
  readonly machine: EngineMachine;
  readonly svm: Svm;

  constructor() {
    let svm: Svm | undefined;
    this.machine = new EngineMachine({
      ramBytes, model: { vendor: "amd", hasFeature: (name) => name !== "la57", linearAddressBits: 48 },
      virtualization: (processor) => (svm = new Svm(processor)),
    });
    this.svm = svm!;
  }

  /** A fresh host about to execute VMRUN, and a guest that can run. */
  prepareValid(): void {
    const m = this.machine, s = m.processor.state;
    m.ram.fill(0);
    m.interrupts.length = 0;
    m.processor.reset("reset");
    m.longMode();
    s.set64(state.efer, s.get64(state.efer) | BigInt(EferMask.SVME));
    m.processor.modeChanged();
    m.physical.writeRange(Place.code, Uint8Array.from(hostCode.match(/[0-9a-f]{2}/gu) ?? [], (digits) => Number.parseInt(digits, 16)));
    m.setRegister(0, BigInt(FuzzPlace.vmcb));
    this.#writeGuest();
  }

  /** The same with random changes of both. */
  #prepare(random: Random): void {
    this.prepareValid();
    const m = this.machine;
    this.#writeNestedTables(random);
    this.#writeCode(random);
    const changes = random.below(8);
    for (let change = 0; change < changes; change++) this.#changeField(random);
    if (random.below(3) === 0) this.#set("INTERCEPT_MISC1", BigInt(random.next()));
    if (random.below(3) === 0) this.#set("INTERCEPT_MISC2", BigInt(random.next() | 1));
    if (random.below(3) === 0) this.#set("INTERCEPT_EXCEPTIONS", BigInt(random.next()));
    for (let register = 1; register < 16; register++) m.setRegister(register, random.below(2) === 0 ? random.pick(interesting) : BigInt(random.next()));
    if (random.below(4) === 0) m.interrupts.push(random.below(256));
  }

  #set(name: string, value: bigint): void {
    const { offset, width } = vmcbFields.find((field) => field.name === name)!;
    const at = FuzzPlace.vmcb + offset;
    for (let byte = 0; byte < width / 8; byte++) this.machine.view.setUint8(at + byte, Number((value >> BigInt(8 * byte)) & 0xffn));
  }

  #changeField(random: Random): void {
    const { name, width } = random.pick(vmcbFields);
    const wide = (BigInt(random.next()) << 32n) | BigInt(random.next());
    const value = random.pick([random.pick(interesting), wide, 1n << BigInt(random.below(width)), BigInt(random.below(256))]);
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

  /** Four levels that map RAM to itself, with some entries changed. */
  #writeNestedTables(random: Random): void {
    const all = PageBit.present | PageBit.writable | PageBit.user;
    const put = (at: number, entry: bigint): void => this.machine.view.setBigUint64(at, entry, true);
    put(FuzzPlace.nested, BigInt(FuzzPlace.nested + 0x1000) | all);
    put(FuzzPlace.nested + 0x1000, BigInt(FuzzPlace.nested + 0x2000) | all);
    put(FuzzPlace.nested + 0x2000, BigInt(FuzzPlace.nested + 0x3000) | all);
    for (let page = 0; page < 512; page++) put(FuzzPlace.nested + 0x3000 + page * 8, BigInt(page * 4096) | all);
    for (let change = random.below(6); change > 0; change--) {
      const entry = (BigInt(random.next()) << 32n) | BigInt(random.next());
      put(FuzzPlace.nested + random.pick([0, 0x1000, 0x2000, 0x3000]) + random.below(16) * 8, random.pick([entry, entry & 0x1fffffn | all, 0n, all | 0x80n]));
    }
    if (random.below(2) === 0) this.#set("NESTED_CTL", 1n);
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
    if (this.svm.isGuest) return "running";
    if (m.delivered() !== undefined) return "fault";
    return m.view.getUint32(FuzzPlace.vmcb + 0x70, true) === 0xffff_ffff ? "invalid" : "exit";
  }
}
