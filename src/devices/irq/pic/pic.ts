/**
 * Intel 8259A programmable interrupt controller (data sheet 231468) with the edge/level control register
 * of the ISA bridges (ICH9 data sheet, "ELCR1/ELCR2"), and the PC's cascade of two.
 */
import { boolean, integer, object, oneOf, type Shape, uint8 } from "../../../base/shape.ts";
import type { ByteRegisters } from "../../byte-registers.ts";
import type { Device, IrqLine } from "../../contract.ts";

const Icw1 = { initializeMask: 0x10, needsIcw4Mask: 0x01, singleMask: 0x02, levelTriggeredMask: 0x08 };
const Icw4 = { automaticEoiMask: 0x02, specialFullyNestedMask: 0x10 };
const Ocw3 = { selectMask: 0x08, readCommandMask: 0x03, readIsr: 0x03, readIrr: 0x02, pollMask: 0x04, specialMaskModeMask: 0x60 };
const Ocw2 = {
  commandShift: 5,
  levelMask: 0x07,
  clearRotateOnAutomaticEoi: 0,
  nonSpecificEoi: 1,
  specificEoi: 3,
  rotateOnAutomaticEoi: 4,
  rotateOnNonSpecificEoi: 5,
  setPriority: 6,
  rotateOnSpecificEoi: 7,
};
const spuriousInput = 7;
const cascadeInput = 2;
const inputsPerChip = 8;

export interface Pic8259State {
  /** Levels on the input pins. */
  pins: number;
  requests: number;
  inService: number;
  mask: number;
  /** ELCR: inputs that are level-triggered. */
  levelTriggered: number;
  vectorBase: number;
  /** 0 when operational, else the number of the initialization word expected next. */
  nextInitializationWord: number;
  needsIcw4: boolean;
  isSingle: boolean;
  isAllLevelTriggered: boolean;
  isAutomaticEoi: boolean;
  isSpecialFullyNested: boolean;
  isSpecialMaskMode: boolean;
  isRotatedOnAutomaticEoi: boolean;
  isPolled: boolean;
  readsInService: boolean;
  /** The input of highest priority. */
  highestPriority: number;
}

const pic8259StateShape: Shape<Pic8259State> = object({
  pins: uint8, requests: uint8, inService: uint8, mask: uint8, levelTriggered: uint8, vectorBase: uint8,
  nextInitializationWord: oneOf(0, 2, 3, 4), needsIcw4: boolean, isSingle: boolean, isAllLevelTriggered: boolean,
  isAutomaticEoi: boolean, isSpecialFullyNested: boolean, isSpecialMaskMode: boolean, isRotatedOnAutomaticEoi: boolean,
  isPolled: boolean, readsInService: boolean, highestPriority: integer(0, 7),
});

export function resetPic8259State(): Pic8259State {
  return {
    pins: 0,
    requests: 0,
    inService: 0,
    mask: 0,
    levelTriggered: 0,
    vectorBase: 0,
    nextInitializationWord: 0,
    needsIcw4: false,
    isSingle: false,
    isAllLevelTriggered: false,
    isAutomaticEoi: false,
    isSpecialFullyNested: false,
    isSpecialMaskMode: false,
    isRotatedOnAutomaticEoi: false,
    isPolled: false,
    readsInService: false,
    highestPriority: 0,
  };
}

/** One 8259A. */
export class Pic8259 implements ByteRegisters {
  readonly state: Pic8259State;
  readonly #output: IrqLine;
  readonly #isMaster: boolean;
  readonly #elcrMask: number;

  /** `elcrMask` has the inputs whose trigger mode the ELCR can change. */
  constructor(output: IrqLine, isMaster: boolean, elcrMask: number, state: Pic8259State = resetPic8259State()) {
    this.state = state;
    this.#output = output;
    this.#isMaster = isMaster;
    this.#elcrMask = elcrMask;
  }

  /** Drives the output from the state: after restoring, once everything is wired. */
  refresh(): void {
    this.#output.set(this.#pendingInput() !== undefined);
  }

  /** Back to power-on values; the levels on the pins are the devices', not ours. */
  reset(): void {
    const { pins } = this.state;
    Object.assign(this.state, resetPic8259State(), { pins });
    this.refresh();
  }

  setInput(input: number, level: boolean): void {
    const { state } = this;
    const bit = 1 << input;
    const wasHigh = (state.pins & bit) !== 0;
    if (wasHigh === level) return;
    state.pins = level ? state.pins | bit : state.pins & ~bit;
    if (level) state.requests |= bit;
    // An edge stays latched when its pulse ends before the processor has looked.
    else if (this.#isLevelTriggered(bit)) state.requests &= ~bit;
    this.refresh();
  }

  /** The processor's INTA: the input to serve; 7, not in service, when the request has gone (spurious). */
  acknowledge(): number {
    const input = this.#pendingInput();
    if (input === undefined) return spuriousInput;
    this.#accept(input);
    this.refresh();
    return input;
  }

  vectorOf(input: number): number {
    return this.state.vectorBase | input;
  }

  readElcr(): number {
    return this.state.levelTriggered;
  }

  writeElcr(value: number): void {
    this.state.levelTriggered = value & this.#elcrMask;
  }

  read(offset: number): number {
    const { state } = this;
    if (state.isPolled) {
      state.isPolled = false;
      const input = this.#pendingInput();
      if (input === undefined) return 0;
      this.#accept(input);
      this.refresh();
      return 0x80 | input;
    }
    if (offset & 1) return state.mask;
    return state.readsInService ? state.inService : state.requests;
  }

  write(offset: number, value: number): void {
    if (offset & 1) this.#writeData(value);
    else if (value & Icw1.initializeMask) this.#startInitialization(value);
    else if (value & Ocw3.selectMask) this.#writeOcw3(value);
    else this.#writeOcw2(value);
    this.refresh();
  }

  #isLevelTriggered(bit: number): boolean {
    return this.state.isAllLevelTriggered || (this.state.levelTriggered & bit) !== 0;
  }

  /** 0 for the input of highest priority, 7 for the lowest; 8 when `inputs` is empty. */
  #bestRank(inputs: number): number {
    if (inputs === 0) return inputsPerChip;
    let rank = 0;
    while (!(inputs & (1 << ((rank + this.state.highestPriority) & 7)))) rank++;
    return rank;
  }

  #inputOfRank(rank: number): number {
    return (rank + this.state.highestPriority) & 7;
  }

  #pendingInput(): number | undefined {
    const { requests, mask, inService, isSpecialMaskMode, isSpecialFullyNested } = this.state;
    const rank = this.#bestRank(requests & ~mask);
    if (rank === inputsPerChip) return undefined;
    // In special mask mode a masked interrupt in service does not hold back those below it.
    let blockers = inService;
    if (isSpecialMaskMode) blockers &= ~mask;
    // The slave may interrupt again while it is in service: it has priorities of its own.
    if (isSpecialFullyNested && this.#isMaster) blockers &= ~(1 << cascadeInput);
    return rank < this.#bestRank(blockers) ? this.#inputOfRank(rank) : undefined;
  }

  #accept(input: number): void {
    const { state } = this;
    const bit = 1 << input;
    if (!this.#isLevelTriggered(bit)) state.requests &= ~bit;
    if (!state.isAutomaticEoi) state.inService |= bit;
    else if (state.isRotatedOnAutomaticEoi) state.highestPriority = (input + 1) & 7;
    // INT falls on acknowledge, so that the master sees an edge when a better request is already waiting here.
    this.#output.set(false);
  }

  #startInitialization(value: number): void {
    const { state } = this;
    const { pins, levelTriggered } = state;
    Object.assign(state, resetPic8259State(), {
      pins,
      levelTriggered,
      nextInitializationWord: 2,
      needsIcw4: (value & Icw1.needsIcw4Mask) !== 0,
      isSingle: (value & Icw1.singleMask) !== 0,
      isAllLevelTriggered: (value & Icw1.levelTriggeredMask) !== 0,
    });
    // The edge sense circuit is cleared; only level-triggered inputs request again by themselves.
    state.requests = state.isAllLevelTriggered ? pins : pins & levelTriggered;
  }

  #writeData(value: number): void {
    const { state } = this;
    switch (state.nextInitializationWord) {
      case 0:
        state.mask = value;
        return;
      case 2:
        state.vectorBase = value & 0xf8;
        state.nextInitializationWord = state.isSingle ? (state.needsIcw4 ? 4 : 0) : 3;
        return;
      case 3: // the cascade is wired on the board
        state.nextInitializationWord = state.needsIcw4 ? 4 : 0;
        return;
      default:
        state.isAutomaticEoi = (value & Icw4.automaticEoiMask) !== 0;
        state.isSpecialFullyNested = (value & Icw4.specialFullyNestedMask) !== 0;
        state.nextInitializationWord = 0;
    }
  }

  #writeOcw3(value: number): void {
    const { state } = this;
    if (value & Ocw3.pollMask) state.isPolled = true;
    const readCommand = value & Ocw3.readCommandMask;
    if (readCommand === Ocw3.readIsr) state.readsInService = true;
    else if (readCommand === Ocw3.readIrr) state.readsInService = false;
    if (value & 0x40) state.isSpecialMaskMode = (value & Ocw3.specialMaskModeMask) === Ocw3.specialMaskModeMask;
  }

  #writeOcw2(value: number): void {
    const { state } = this;
    const level = value & Ocw2.levelMask;
    switch (value >> Ocw2.commandShift) {
      case Ocw2.clearRotateOnAutomaticEoi:
        state.isRotatedOnAutomaticEoi = false;
        return;
      case Ocw2.rotateOnAutomaticEoi:
        state.isRotatedOnAutomaticEoi = true;
        return;
      case Ocw2.nonSpecificEoi:
      case Ocw2.rotateOnNonSpecificEoi: {
        // In special mask mode an interrupt whose mask bit is set is not cleared by a non-specific EOI.
        const candidates = state.isSpecialMaskMode ? state.inService & ~state.mask : state.inService;
        if (candidates === 0) return;
        const input = this.#inputOfRank(this.#bestRank(candidates));
        state.inService &= ~(1 << input);
        if (value >> Ocw2.commandShift === Ocw2.rotateOnNonSpecificEoi) state.highestPriority = (input + 1) & 7;
        return;
      }
      case Ocw2.specificEoi:
        state.inService &= ~(1 << level);
        return;
      case Ocw2.rotateOnSpecificEoi:
        state.inService &= ~(1 << level);
        state.highestPriority = (level + 1) & 7;
        return;
      case Ocw2.setPriority:
        state.highestPriority = (level + 1) & 7;
        return;
      default: // 2 is "no operation"
    }
  }
}

export interface PicPairState {
  master: Pic8259State;
  slave: Pic8259State;
}

export const picPairStateShape: Shape<PicPairState> = object({ master: pic8259StateShape, slave: pic8259StateShape });

/** The PC's two 8259As: 15 ISA lines, the slave cascaded into the master's input 2. */
export class PicPair implements Device<PicPairState> {
  readonly state: PicPairState;
  readonly master: Pic8259;
  readonly slave: Pic8259;

  /** `output` is INTR, towards the processor or LINT0 of its local APIC. */
  constructor(output: IrqLine, state: PicPairState = { master: resetPic8259State(), slave: resetPic8259State() }) {
    this.state = state;
    this.master = new Pic8259(output, true, 0xf8, state.master);
    this.slave = new Pic8259({ set: (level) => this.master.setInput(cascadeInput, level) }, false, 0xde, state.slave);
    this.slave.refresh();
    this.master.refresh();
  }

  reset(): void {
    this.slave.reset();
    this.master.reset();
  }

  /** ISA line 0 to 15 as a wire. */
  input(line: number): IrqLine {
    const chip = line < inputsPerChip ? this.master : this.slave;
    return { set: (level) => chip.setInput(line & 7, level) };
  }

  /** The processor's interrupt acknowledge cycle: the vector to deliver. */
  acknowledge(): number {
    const input = this.master.acknowledge();
    // A spurious 7 never selects the slave; a spurious slave leaves the master's input 2 in service, as on hardware.
    if (input !== cascadeInput) return this.master.vectorOf(input);
    return this.slave.vectorOf(this.slave.acknowledge());
  }
}
