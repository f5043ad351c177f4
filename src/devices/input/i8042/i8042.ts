/** Intel 8042 keyboard controller as IBM's PS/2 programs it ("Keyboard and Auxiliary Device Controller"). */
import { boolean, list, object, optional, type Shape, uint8 } from "../../../base/shape.ts";
import type { Device, IrqLine } from "../../contract.ts";
import { Keyboard, type KeyboardState, keyboardStateShape, resetKeyboardState } from "./keyboard.ts";
import { Mouse, type MouseMovement, type MouseState, mouseStateShape, resetMouseState } from "./mouse.ts";
import { breakPrefix, translateScancode } from "./translation.ts";

const Status = {
  outputFullMask: 0x01,
  systemMask: 0x04,
  commandMask: 0x08,
  unlockedMask: 0x10,
  auxiliaryMask: 0x20,
};
const Configuration = {
  keyboardInterruptMask: 0x01,
  auxiliaryInterruptMask: 0x02,
  systemMask: 0x04,
  keyboardDisabledMask: 0x10,
  auxiliaryDisabledMask: 0x20,
  translateMask: 0x40,
};
const OutputPort = { notResetMask: 0x01, a20Mask: 0x02, keyboardFullMask: 0x10, auxiliaryFullMask: 0x20, idleMask: 0xcc };

const Command = {
  readRam: 0x20,
  writeRam: 0x60,
  disableAuxiliary: 0xa7,
  enableAuxiliary: 0xa8,
  testAuxiliary: 0xa9,
  selfTest: 0xaa,
  testKeyboard: 0xab,
  disableKeyboard: 0xad,
  enableKeyboard: 0xae,
  readInputPort: 0xc0,
  readOutputPort: 0xd0,
  writeOutputPort: 0xd1,
  writeKeyboardBuffer: 0xd2,
  writeAuxiliaryBuffer: 0xd3,
  writeAuxiliary: 0xd4,
  disableA20: 0xdd,
  enableA20: 0xdf,
  readTestInputs: 0xe0,
  firstPulse: 0xf0,
} as const;

const passwordTest = 0xa4;
const passwordAbsent = 0xf1;
const selfTestPassed = 0x55;
const inputPortValue = 0x80;
const ramBytes = 32;

export interface I8042Wires {
  readonly keyboardInterrupt: IrqLine;
  readonly auxiliaryInterrupt: IrqLine;
  /** High opens address line 20. */
  readonly a20: IrqLine;
  /** The reset pin is pulsed. */
  onReset(): void;
  /** After `sendScancodes` took less than it was given: there is room again. */
  scancodesReady?(): void;
}

/** A byte the controller shows, with where it comes from. */
interface OutputByte {
  value: number;
  isAuxiliary: boolean;
}

export interface I8042State {
  /** Controller memory; byte 0 is the configuration. */
  ram: number[];
  isA20Open: boolean;
  hasSystemFlag: boolean;
  /** The command whose data byte comes next; undefined when none does. */
  command: number | undefined;
  wasCommandWritten: boolean;
  /** What port 0x60 shows; it stays readable after it was fetched. */
  output: OutputByte;
  isOutputFull: boolean;
  /** Answers of the controller itself, ahead of what the devices send. */
  answers: OutputByte[];
  /** Translation has swallowed a break prefix. */
  isBreakPending: boolean;
  keyboard: KeyboardState;
  mouse: MouseState;
}

const outputByteShape: Shape<OutputByte> = object({ value: uint8, isAuxiliary: boolean });

export const i8042StateShape: Shape<I8042State> = object({
  ram: list(uint8, ramBytes), isA20Open: boolean, hasSystemFlag: boolean, command: optional(uint8), wasCommandWritten: boolean,
  output: outputByteShape, isOutputFull: boolean, answers: list(outputByteShape, { maximum: 1 }), isBreakPending: boolean,
  keyboard: keyboardStateShape, mouse: mouseStateShape,
});

export function resetI8042State(): I8042State {
  return {
    ram: Array.from({ length: ramBytes }, (_, index) =>
      index === 0 ? Configuration.translateMask | Configuration.auxiliaryInterruptMask | Configuration.keyboardInterruptMask : 0,
    ),
    isA20Open: true,
    hasSystemFlag: false,
    command: undefined,
    wasCommandWritten: false,
    output: { value: 0, isAuxiliary: false },
    isOutputFull: false,
    answers: [],
    isBreakPending: false,
    keyboard: resetKeyboardState(),
    mouse: resetMouseState(),
  };
}

export class I8042 implements Device<I8042State> {
  readonly state: I8042State;
  readonly #wires: I8042Wires;
  readonly #keyboard: Keyboard;
  readonly #mouse: Mouse;
  #hasRefused = false;

  constructor(wires: I8042Wires, state: I8042State = resetI8042State()) {
    this.#wires = wires;
    this.state = state;
    this.#keyboard = new Keyboard(state.keyboard);
    this.#mouse = new Mouse(state.mouse);
    wires.a20.set(state.isA20Open);
    this.#update();
  }

  reset(): void {
    const { state } = this;
    const { keyboard, mouse } = state;
    const fresh = resetI8042State();
    Object.assign(keyboard, fresh.keyboard);
    Object.assign(mouse, fresh.mouse);
    Object.assign(state, fresh, { keyboard, mouse });
    this.#wires.a20.set(true);
    this.#update();
  }

  /**
   * Key presses and releases as scan codes of set 2 (what a keyboard sends; the controller translates for
   * the guest). Returns how many bytes were taken; the caller sends the rest after `scancodesReady`.
   */
  sendScancodes(scancodes: Uint8Array): number {
    const accepted = this.#keyboard.feed(scancodes);
    this.#hasRefused = accepted < scancodes.length;
    this.#update();
    return accepted;
  }

  moveMouse(movement: MouseMovement): void {
    this.#mouse.move(movement);
    this.#update();
  }

  /** Lights of the keyboard: scroll, num and caps lock in bits 0 to 2. */
  get indicators(): number {
    return this.state.keyboard.indicators;
  }

  /** Port 0x60. */
  readData(): number {
    const { state } = this;
    const { value } = state.output;
    if (state.isOutputFull) {
      state.isOutputFull = false;
      // The line falls before the next byte raises it: the guest sees one edge per byte.
      this.#driveInterrupts();
      this.#update();
    }
    if (this.#hasRefused && !this.#keyboard.hasData()) {
      this.#hasRefused = false;
      this.#wires.scancodesReady?.();
    }
    return value;
  }

  /** Port 0x64. */
  readStatus(): number {
    const { state } = this;
    return (
      Status.unlockedMask |
      (state.isOutputFull ? Status.outputFullMask : 0) |
      (state.isOutputFull && state.output.isAuxiliary ? Status.auxiliaryMask : 0) |
      (state.hasSystemFlag ? Status.systemMask : 0) |
      (state.wasCommandWritten ? Status.commandMask : 0)
    );
  }

  writeData(value: number): void {
    const { state } = this;
    const { command } = state;
    state.command = undefined;
    state.wasCommandWritten = false;
    if (command === undefined) {
      // Talking to the keyboard re-enables its clock.
      state.ram[0] &= ~Configuration.keyboardDisabledMask;
      this.#keyboard.receive(value);
    } else {
      this.#receiveCommandData(command, value);
    }
    this.#update();
  }

  writeCommand(command: number): void {
    this.state.command = undefined;
    this.state.wasCommandWritten = true;
    this.#execute(command);
    this.#update();
  }

  #receiveCommandData(command: number, value: number): void {
    const { state } = this;
    switch (command) {
      case Command.writeOutputPort:
        this.#setA20((value & OutputPort.a20Mask) !== 0);
        if (!(value & OutputPort.notResetMask)) this.#wires.onReset();
        return;
      case Command.writeKeyboardBuffer:
        this.#answer(value);
        return;
      case Command.writeAuxiliaryBuffer:
        this.#answer(value, true);
        return;
      case Command.writeAuxiliary:
        state.ram[0] &= ~Configuration.auxiliaryDisabledMask;
        this.#mouse.receive(value);
        return;
      default:
        this.#writeRam(command - Command.writeRam, value);
    }
  }

  #writeRam(index: number, value: number): void {
    this.state.ram[index] = value;
    if (index === 0) this.state.hasSystemFlag = (value & Configuration.systemMask) !== 0;
  }

  #execute(command: number): void {
    const { state } = this;
    if (command >= Command.readRam && command < Command.readRam + ramBytes) {
      this.#answer(state.ram[command - Command.readRam]);
      return;
    }
    if (command >= Command.writeRam && command < Command.writeRam + ramBytes) {
      state.command = command;
      return;
    }
    if (command >= Command.firstPulse) {
      // Pulses the output port's lower bits whose command bit is 0; bit 0 is the reset pin.
      if (!(command & OutputPort.notResetMask)) this.#wires.onReset();
      return;
    }
    switch (command) {
      case passwordTest:
        this.#answer(passwordAbsent);
        return;
      case Command.disableAuxiliary:
        state.ram[0] |= Configuration.auxiliaryDisabledMask;
        return;
      case Command.enableAuxiliary:
        state.ram[0] &= ~Configuration.auxiliaryDisabledMask;
        return;
      case Command.testAuxiliary:
      case Command.testKeyboard:
        this.#answer(0);
        return;
      case Command.selfTest:
        state.hasSystemFlag = true;
        state.ram[0] |= Configuration.systemMask;
        this.#answer(selfTestPassed);
        return;
      case Command.disableKeyboard:
        state.ram[0] |= Configuration.keyboardDisabledMask;
        return;
      case Command.enableKeyboard:
        state.ram[0] &= ~Configuration.keyboardDisabledMask;
        return;
      case Command.readInputPort:
        this.#answer(inputPortValue);
        return;
      case Command.readOutputPort:
        this.#answer(this.#outputPort());
        return;
      case Command.writeOutputPort:
      case Command.writeKeyboardBuffer:
      case Command.writeAuxiliaryBuffer:
      case Command.writeAuxiliary:
        state.command = command;
        return;
      case Command.disableA20:
      case Command.enableA20:
        this.#setA20(command === Command.enableA20);
        return;
      case Command.readTestInputs:
        this.#answer(0);
        return;
      default: // unknown commands do nothing
    }
  }

  #outputPort(): number {
    const { isOutputFull, output, isA20Open } = this.state;
    return (
      OutputPort.idleMask |
      OutputPort.notResetMask |
      (isA20Open ? OutputPort.a20Mask : 0) |
      (isOutputFull ? (output.isAuxiliary ? OutputPort.auxiliaryFullMask : OutputPort.keyboardFullMask) : 0)
    );
  }

  #setA20(isOpen: boolean): void {
    this.state.isA20Open = isOpen;
    this.#wires.a20.set(isOpen);
  }

  /** A new answer replaces one that was not fetched, so a guest that never reads cannot pile them up. */
  #answer(value: number, isAuxiliary = false): void {
    this.state.answers = [{ value, isAuxiliary }];
  }

  /** Moves the next byte into the free output buffer and drives the interrupt lines. */
  #update(): void {
    const { state } = this;
    const configuration = state.ram[0];
    const canSendKeyboard = !(configuration & Configuration.keyboardDisabledMask);
    const canSendAuxiliary = !(configuration & Configuration.auxiliaryDisabledMask);
    while (!state.isOutputFull) {
      const answer = state.answers.shift();
      if (answer !== undefined) {
        this.#show(answer.value, answer.isAuxiliary);
      } else if (canSendKeyboard && this.#keyboard.hasData()) {
        const byte = this.#fromKeyboard(this.#keyboard.take());
        if (byte !== undefined) this.#show(byte, false);
      } else if (canSendAuxiliary && this.#mouse.hasData()) {
        this.#show(this.#mouse.take(), true);
      } else {
        break;
      }
    }
    this.#driveInterrupts();
  }

  /** The byte as the guest reads it; undefined for a break prefix, which translation merges into the next. */
  #fromKeyboard(byte: number): number | undefined {
    const { state } = this;
    if (!(state.ram[0] & Configuration.translateMask)) return byte;
    if (byte === breakPrefix) {
      state.isBreakPending = true;
      return undefined;
    }
    const translated = translateScancode(byte) | (state.isBreakPending ? 0x80 : 0);
    state.isBreakPending = false;
    return translated;
  }

  #show(value: number, isAuxiliary: boolean): void {
    this.state.output = { value, isAuxiliary };
    this.state.isOutputFull = true;
  }

  #driveInterrupts(): void {
    const { isOutputFull, output, ram } = this.state;
    const { keyboardInterrupt, auxiliaryInterrupt } = this.#wires;
    keyboardInterrupt.set(isOutputFull && !output.isAuxiliary && (ram[0] & Configuration.keyboardInterruptMask) !== 0);
    auxiliaryInterrupt.set(isOutputFull && output.isAuxiliary && (ram[0] & Configuration.auxiliaryInterruptMask) !== 0);
  }
}
