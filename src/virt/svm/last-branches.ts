/**
 * The last branch, and the last one before an exception or interrupt, as DebugCtl.LBR has them recorded (AMD APM volume 2,
 * "Control-Transfer Breakpoint Features"), and what of that changes hands with a guest ("Last Branch Record Virtualization").
 */
import { Vector } from "../../isa/definition.ts";
import type { StateView } from "../../isa/state-view.ts";
import type { ProcessorEvent } from "../../isa/system/exceptions.ts";
import type { BranchRecord } from "../../isa/virtualization.ts";
import { Save, type VmcbField } from "./vmcb.ts";

const Msr = { DebugCtl: 0x1d9, LastBranchFromIP: 0x1db, LastBranchToIP: 0x1dc, LastExceptionFromIP: 0x1dd, LastExceptionToIP: 0x1de } as const;
const recordMask = 1n;
/** LBR and BTF. */
const writableMask = 3n;

/** The registers, with the places where VMRUN and #VMEXIT keep a guest's. */
const registers: readonly (readonly [index: number, place: VmcbField])[] = [
  [Msr.DebugCtl, Save.debugControl], [Msr.LastBranchFromIP, Save.lastBranchFrom], [Msr.LastBranchToIP, Save.lastBranchTo],
  [Msr.LastExceptionFromIP, Save.lastExceptionFrom], [Msr.LastExceptionToIP, Save.lastExceptionTo],
];

export class LastBranches implements BranchRecord {
  /** In the order of `registers`. */
  #values: readonly bigint[] = registers.map(() => 0n);

  #isRecording = false;

  /** Asked between any two slices of execution. */
  get isRecording(): boolean {
    return this.#isRecording;
  }

  /** All five, to be given back to `values`. */
  get values(): readonly bigint[] {
    return this.#values;
  }

  set values(values: readonly bigint[]) {
    this.#values = registers.map((_, index) => values[index] ?? 0n);
    this.#isRecording = (this.#values[0] & recordMask) !== 0n;
  }

  reset(): void {
    this.values = [];
  }

  /** Undefined: not one of these. */
  read(index: number): bigint | undefined {
    const place = registers.findIndex(([number]) => number === index);
    return place < 0 ? undefined : this.#values[place];
  }

  /** False: #GP. */
  write(index: number, value: bigint): boolean | "unknown" {
    if (index !== Msr.DebugCtl) return this.read(index) === undefined ? "unknown" : false;
    if ((value & ~writableMask) !== 0n) return false;
    this.values = this.#values.with(0, value);
    return true;
  }

  changed(): (readonly [index: number, value: bigint])[] {
    return registers.flatMap(([index], place) => this.#values[place] === 0n ? [] : [[index, this.#values[place]] as const]);
  }

  restore(index: number, value: bigint): boolean {
    const place = registers.findIndex(([number]) => number === index);
    if (place >= 0) this.values = this.#values.with(place, place === 0 ? value & writableMask : value);
    return place >= 0;
  }

  note(from: bigint, to: bigint): void {
    const [control, , , exceptionFrom, exceptionTo] = this.#values;
    this.#values = [control, from, to, exceptionFrom, exceptionTo];
  }

  noteEvent({ vector }: ProcessorEvent, from: bigint, to: bigint): void {
    const [control, branchFrom, branchTo] = this.#values;
    // A debug exception ends the recording, and leaves what has been recorded to its handler.
    this.values = vector === Vector.DB ? this.#values.with(0, control & ~writableMask) : [control, from, to, branchFrom, branchTo];
  }

  load(vmcb: StateView): void {
    this.values = registers.map(([, place], index) => index === 0 ? vmcb.get64(place) & writableMask : vmcb.get64(place));
  }

  save(vmcb: StateView): void {
    for (const [index, [, place]] of registers.entries()) vmcb.set64(place, this.#values[index]);
  }
}
