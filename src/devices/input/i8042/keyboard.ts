/** PS/2 keyboard (IBM PS/2 Hardware Interface Technical Reference, "Keyboard"), speaking scan code set 2 or 1. */
import { boolean, integer, list, object, optional, type Shape, uint8 } from "../../../base/shape.ts";
import { translateScancodes } from "./translation.ts";

const Response = { acknowledge: 0xfa, resend: 0xfe, selfTestPassed: 0xaa, echo: 0xee } as const;
const identification = [0xab, 0x83];

const Command = {
  setIndicators: 0xed,
  echo: 0xee,
  scancodeSet: 0xf0,
  identify: 0xf2,
  setTypematic: 0xf3,
  enable: 0xf4,
  disable: 0xf5,
  setDefaults: 0xf6,
  firstKeyTypes: 0xf7,
  lastKeyTypes: 0xfd,
  resend: 0xfe,
  reset: 0xff,
} as const;

/** A real keyboard's buffer holds 16 codes; what does not fit is lost to the guest and left to the caller. */
const scancodeCapacity = 16;

export interface KeyboardState {
  isScanning: boolean;
  scancodeSet: number;
  /** Scroll, num and caps lock lights in bits 0 to 2. */
  indicators: number;
  /** The command whose parameter comes next; undefined when none does. */
  command: number | undefined;
  lastSent: number;
  /** Bytes on their way to the controller: replies, then scan codes. */
  replies: number[];
  scancodes: number[];
}

export const keyboardStateShape: Shape<KeyboardState> = object({
  isScanning: boolean, scancodeSet: integer(1, 2), indicators: integer(0, 7), command: optional(uint8), lastSent: uint8,
  replies: list(uint8, { maximum: 8 }), scancodes: list(uint8, { maximum: scancodeCapacity }),
});

export function resetKeyboardState(): KeyboardState {
  return {
    isScanning: true,
    scancodeSet: 2,
    indicators: 0,
    command: undefined,
    lastSent: 0,
    replies: [],
    scancodes: [],
  };
}

export class Keyboard {
  readonly state: KeyboardState;

  constructor(state: KeyboardState) {
    this.state = state;
  }

  /** Whole scan codes of set 2 from the host; returns how many bytes were taken. */
  feed(scancodes: Uint8Array): number {
    const { state } = this;
    if (!state.isScanning) return scancodes.length;
    let end = Math.min(scancodes.length, Math.max(0, scancodeCapacity - state.scancodes.length));
    // Never half a code: a break or extended prefix waits for what follows it.
    while (end > 0 && isPrefix(scancodes[end - 1])) end--;
    const accepted = scancodes.subarray(0, end);
    state.scancodes.push(...(state.scancodeSet === 1 ? translateScancodes(accepted) : accepted));
    return end;
  }

  hasData(): boolean {
    return this.state.replies.length > 0 || this.state.scancodes.length > 0;
  }

  take(): number {
    const { state } = this;
    state.lastSent = state.replies.shift() ?? state.scancodes.shift() ?? 0;
    return state.lastSent;
  }

  /** A byte from the host, by way of the controller. */
  receive(byte: number): void {
    const { state } = this;
    const { command } = state;
    state.command = undefined;
    if (command !== undefined && byte < Command.setIndicators) this.#receiveParameter(command, byte);
    else this.#receiveCommand(byte);
  }

  #receiveParameter(command: number, byte: number): void {
    const { state } = this;
    switch (command) {
      case Command.setIndicators:
        state.indicators = byte & 7;
        break;
      case Command.scancodeSet:
        if (byte === 0) {
          this.#reply(Response.acknowledge, state.scancodeSet);
          return;
        }
        if (byte > 2) {
          this.#reply(Response.resend);
          return;
        }
        state.scancodeSet = byte;
        break;
      default: // typematic rate: the host's keyboard repeats
    }
    this.#reply(Response.acknowledge);
  }

  #receiveCommand(byte: number): void {
    const { state } = this;
    switch (byte) {
      case Command.setIndicators:
      case Command.scancodeSet:
      case Command.setTypematic:
        state.command = byte;
        this.#reply(Response.acknowledge);
        return;
      case Command.echo:
        this.#reply(Response.echo);
        return;
      case Command.identify:
        this.#reply(Response.acknowledge, ...identification);
        return;
      case Command.enable:
        state.isScanning = true;
        state.scancodes.length = 0;
        this.#reply(Response.acknowledge);
        return;
      case Command.disable:
      case Command.setDefaults:
        Object.assign(state, resetKeyboardState(), { isScanning: byte === Command.setDefaults });
        this.#reply(Response.acknowledge);
        return;
      case Command.resend:
        this.#reply(state.lastSent);
        return;
      case Command.reset:
        Object.assign(state, resetKeyboardState());
        this.#reply(Response.acknowledge, Response.selfTestPassed);
        return;
      default:
        this.#reply(byte >= Command.firstKeyTypes && byte <= Command.lastKeyTypes ? Response.acknowledge : Response.resend);
    }
  }

  /** An answer replaces those that were not fetched: the guest has moved on. */
  #reply(...bytes: number[]): void {
    this.state.replies = bytes;
  }
}

function isPrefix(byte: number): boolean {
  return byte === 0xe0 || byte === 0xe1 || byte === 0xf0;
}
