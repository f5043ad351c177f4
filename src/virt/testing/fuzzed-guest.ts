/** What fuzzers of both extensions share: a processor with a host about to enter a guest, of which much is random. */
import { bytesOf, EngineMachine, PageBit, Place, type EngineMachineOptions } from "../../engine/testing/engine-machine.ts";
import { Random } from "./random.ts";

/** Guest-physical places beside those of `Place`. */
export const GuestPlace = { tables: 0x5_0000, code: 0x6_0000, stack: 0x7_0000 } as const;

const ramBytes = 0x20_0000;
const nothing = new Uint8Array(ramBytes);
const codeBytes = 256;
const pageBytes = 0x1000;
const tableBytes = 0x4000;
/** How many instructions a guest may execute before it is given up. */
const maximumInstructions = 3000;

/** Values that mean something to either extension more often than chance does. */
export const interestingValues: readonly bigint[] = [
  0n, 1n, 2n, 0xffn, 0x7fffn, 0xffffn, 0x8000_0000n, 0xffff_ffffn, 0x1_0000_0000n, 0x7fff_ffff_ffffn, 0x8000_0000_0000n,
  0xffff_8000_0000_0000n, 0xffff_ffff_ffff_ffffn, 0x1000n, 0xfffn, 0x93n, 0x8bn, BigInt(GuestPlace.tables), BigInt(GuestPlace.code),
  BigInt(Place.level4), 0xfe00_0000n,
];

/** Instructions that hypervisors of either extension care about. */
export const sensitiveInstructions: readonly string[] = [
  "0fa2", "f4", "0f32", "0f30", "e480", "e680", "6c", "6e", "f36c", "f36e", "0f20c0", "0f22c0", "0f22d8", "0f22e0", "0f21f8", "0f23f8",
  "0f0138", "0f01f8", "cd80", "cc", "0f0b", "9c", "9d", "cf", "fa", "fb", "0f08", "0f09", "f390", "0f31", "0f0108", "0f0110", "0f0118",
  "0f00c8", "0f00d8", "8ed8", "8ed0", "ff28", "8b00", "8900", "c3", "cb", "50", "58",
];

const noOperation = Uint8Array.of(0x90);

/** `End`: what can become of a guest, beside what either extension knows. */
export abstract class FuzzedGuest<End extends string> {
  readonly machine: EngineMachine;
  protected abstract readonly interesting: readonly bigint[];
  protected abstract readonly sensitive: readonly string[];
  /** Of entries in the tables: those that point to a table, and those that map a page. */
  protected abstract readonly tableBits: { readonly table: bigint; readonly leaf: bigint };
  /** The general register that the host needs. */
  protected abstract readonly keptRegister: number;

  constructor(options: Omit<EngineMachineOptions, "ramBytes">) {
    // With hot handlers in it, the dispatch loop goes on behind an exit; without, every exit ends it. Comparisons see both.
    const hotInstructions = (options.jit?.threshold ?? 0) === 0 ? [] : [noOperation];
    this.machine = new EngineMachine({ ...options, ramBytes, hotInstructions });
  }

  /** A fresh host about to enter a guest that can run, and then random changes. */
  protected abstract prepare(random: Random): void;
  protected abstract readonly isGuest: boolean;
  /** What became of a guest that has been left, or was not entered. */
  protected abstract endOf(): End;

  /** A processor after RESET in memory that is zero. */
  protected reset(): void {
    const m = this.machine;
    // By way of the processor, which has decoded what is there.
    m.physical.writeRange(0, nothing);
    m.interrupts.length = 0;
    m.deviceAccesses.length = 0;
    m.portWrites.length = 0;
    m.processor.reset("reset");
    m.longMode();
  }

  /** Four levels that map RAM to itself, with some entries changed. */
  protected writeTables(random: Random): void {
    const { table, leaf } = this.tableBits;
    const put = (at: number, entry: bigint): void => this.machine.view.setBigUint64(at, entry, true);
    const levels = [0, 1, 2, 3].map((level) => GuestPlace.tables + level * pageBytes);
    for (let level = 0; level < 3; level++) put(levels[level], BigInt(levels[level + 1]) | table);
    for (let page = 0; page < 512; page++) put(levels[3] + page * 8, BigInt(page * pageBytes) | leaf);
    for (let change = random.below(6); change > 0; change--) {
      const entry = (BigInt(random.next()) << 32n) | BigInt(random.next());
      put(random.pick(levels) + random.below(16) * 8, random.pick([entry, (entry & 0x1f_ffffn) | leaf, 0n, leaf | PageBit.large]));
    }
  }

  /** Random bytes between instructions that matter. */
  protected writeCode(random: Random): void {
    const bytes: number[] = [];
    while (bytes.length < codeBytes) bytes.push(...random.below(3) === 0 ? [random.below(256)] : bytesOf(random.pick(this.sensitive)));
    this.machine.physical.writeRange(GuestPlace.code, Uint8Array.from(bytes));
  }

  #writeRegisters(random: Random): void {
    for (let register = 0; register < 16; register++) {
      if (register !== this.keptRegister) this.machine.setRegister(register, random.below(2) === 0 ? random.pick(this.interesting) : BigInt(random.next()));
    }
    if (random.below(4) === 0) this.machine.interrupts.push(random.below(256));
  }

  /** Entries of the guest's tables and of the second stage's, without accessed and dirty bits. */
  #tables(): bigint[] {
    return [Place.level4, GuestPlace.tables].flatMap((start) => Array.from({ length: tableBytes / 8 }, (_, index) =>
      this.machine.view.getBigUint64(start + index * 8, true) & ~(PageBit.accessed | PageBit.dirty)));
  }

  /** Whether the guest has changed tables: what the processor then still knows of them is nobody's business. */
  hasChangedTables(seed: number): boolean {
    const after = this.#tables();
    this.prepare(new Random(seed));
    return this.#tables().some((entry, index) => entry !== after[index]);
  }

  /** Enters the guest of `seed`. Throws, or comes back when the processor has made something of it. */
  run(seed: number): End | "running" | "fault" | "shutdown" {
    const random = new Random(seed);
    this.prepare(random);
    this.#writeRegisters(random);
    const stop = this.machine.run(maximumInstructions);
    if (stop === "shutdown") return "shutdown";
    if (this.isGuest) return "running";
    return this.machine.delivered() === undefined ? this.endOf() : "fault";
  }
}
