/**
 * One virtual-machine control structure as the processor keeps it while it is active (SDM volume 3, "VMCS Region" and
 * "Software Use of Virtual-Machine Control Structures"). Memory holds it before VMPTRLD and after VMCLEAR.
 */
import { vmcsSizeBytes, vmcsUncheckedOffset } from "../../isa/state.ts";
import { vmcsRegionBytes } from "./capabilities.ts";
import { allUnchecked } from "./checks/pending.ts";
import type { Exit } from "./exit-reasons.ts";
import { Field, sizeBytesOf, type VmcsField } from "./fields.ts";

const revisionWord = 0;
const abortWord = 1;
const launchWord = 2;
const shadowIndicatorMask = 0x8000_0000;
const launchedMark = 0x4c41_5543;

/** Numbers of words. */
const Word = {
  reason: Field.exitReason.offset >>> 2, qualification: Field.exitQualification.offset >>> 2,
  guestLinearAddress: Field.guestLinearAddress.offset >>> 2, guestPhysicalAddress: Field.guestPhysicalAddress.offset >>> 2,
  interruption: Field.exitInterruptionInformation.offset >>> 2, errorCode: Field.exitInterruptionErrorCode.offset >>> 2,
  instructionInformation: Field.exitInstructionInformation.offset >>> 2, instructionLength: Field.exitInstructionLength.offset >>> 2,
  idtVectoring: Field.idtVectoringInformation.offset >>> 2, idtVectoringErrorCode: Field.idtVectoringErrorCode.offset >>> 2,
} as const;

/** Everything that VMCS fields hold, by field; 64-bit and natural-width ones also in two halves. */
export class Vmcs {
  /** Physical address of the region. */
  readonly address: number;
  /** Its place in linear memory, or wherever it is kept. */
  readonly place: number;
  /** Whether the host was in IA-32e mode when its state was checked last. */
  wasCheckedInLongMode = false;
  readonly bytes: Uint8Array;
  readonly #words: Uint32Array;
  readonly #halves: Uint16Array;
  readonly #wide: BigUint64Array;

  /** In memory of its own, or in `buffer` at `place`, where `state.vmcsSizeBytes` are its own. */
  constructor(address: number, buffer: ArrayBufferLike = new ArrayBuffer(vmcsSizeBytes), place: number = 0) {
    this.address = address;
    this.place = place;
    this.bytes = new Uint8Array(buffer, place, vmcsRegionBytes);
    this.#words = new Uint32Array(buffer, place, vmcsSizeBytes / 4);
    this.#halves = new Uint16Array(buffer, place, vmcsRegionBytes / 2);
    this.#wide = new BigUint64Array(buffer, place, vmcsRegionBytes / 8);
    this.unchecked = allUnchecked;
  }

  /** What VM entry has to check again, in bits of `Unchecked`: see `checks/pending.ts`. Generated code adds to it. */
  get unchecked(): number {
    return this.#words[vmcsUncheckedOffset / 4];
  }

  set unchecked(groups: number) {
    this.#words[vmcsUncheckedOffset / 4] = groups;
  }

  get revision(): number {
    return (this.#words[revisionWord] & ~shadowIndicatorMask) >>> 0;
  }

  get isShadow(): boolean {
    return (this.#words[revisionWord] & shadowIndicatorMask) !== 0;
  }

  get abortIndicator(): number {
    return this.#words[abortWord];
  }

  set abortIndicator(reason: number) {
    this.#words[abortWord] = reason;
  }

  get isLaunched(): boolean {
    return this.#words[launchWord] === launchedMark;
  }

  set isLaunched(isLaunched: boolean) {
    this.#words[launchWord] = isLaunched ? launchedMark : 0;
  }

  /** Low 32 bits of a field, or all of a shorter one. */
  get32(field: VmcsField): number {
    return field.width === 16 ? this.#halves[field.offset >>> 1] : this.#words[field.offset >>> 2];
  }

  /** Upper half of a 64-bit or natural-width field. */
  getHigh32(field: VmcsField): number {
    return this.#words[(field.offset >>> 2) + 1];
  }

  set32(field: VmcsField, value: number): void {
    if (field.width === 16) this.#halves[field.offset >>> 1] = value;
    else this.#words[field.offset >>> 2] = value;
  }

  setHigh32(field: VmcsField, value: number): void {
    this.#words[(field.offset >>> 2) + 1] = value;
  }

  get(field: VmcsField): bigint {
    return sizeBytesOf(field.width) === 8 ? this.#wide[field.offset >>> 3] : BigInt(this.get32(field));
  }

  /** Bits beyond the field's width are dropped. */
  set(field: VmcsField, value: bigint): void {
    if (sizeBytesOf(field.width) === 8) this.#wide[field.offset >>> 3] = value;
    else this.set32(field, Number(value & 0xffff_ffffn));
  }

  /** All fields of VM-exit information at once: most are 0, of nearly every exit. */
  setExitInformation(
    { reason, guestLinearAddress, guestPhysicalAddress, errorCode, instructionInformation }: Exit, qualification: bigint, interruption: number,
    instructionLength: number, idtVectoring: number, idtVectoringErrorCode: number,
  ): void {
    const words = this.#words, wide = this.#wide;
    words[Word.reason] = reason;
    wide[Word.qualification >>> 1] = qualification;
    wide[Word.guestLinearAddress >>> 1] = guestLinearAddress;
    words[Word.guestPhysicalAddress] = guestPhysicalAddress;
    words[Word.guestPhysicalAddress + 1] = guestPhysicalAddress / 0x1_0000_0000;
    words[Word.interruption] = interruption;
    words[Word.errorCode] = errorCode;
    words[Word.instructionInformation] = instructionInformation;
    words[Word.instructionLength] = instructionLength;
    words[Word.idtVectoring] = idtVectoring;
    words[Word.idtVectoringErrorCode] = idtVectoringErrorCode;
  }

  /** The value as an address: exact below 2^53, which is beyond every physical address. */
  getAddress(field: VmcsField): number {
    const word = field.offset >>> 2;
    return this.#words[word + 1] * 0x1_0000_0000 + this.#words[word];
  }
}
