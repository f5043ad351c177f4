/** The user's terminal as the guest's console: raw mode while the guest has it, and as it was before on every way out. */
import { EscapeKeys } from "./escape-keys.ts";

/** What we need of `process.stdin`. */
export interface TerminalInput {
  readonly isTTY?: boolean;
  setRawMode?(isRaw: boolean): unknown;
  on(event: "data", listener: (bytes: Uint8Array) => void): unknown;
  on(event: "end", listener: () => void): unknown;
  off(event: "data", listener: (bytes: Uint8Array) => void): unknown;
  off(event: "end", listener: () => void): unknown;
  pause(): unknown;
  resume(): unknown;
}

export interface TerminalEvents {
  /** Bytes for the guest. */
  onInput(bytes: Uint8Array): void;
  /** There will be no more input. Only where the input is no terminal. */
  onEnd(): void;
  /** Ctrl-A X. */
  onQuit(): void;
  /** Ctrl-A H. */
  onHelp(): void;
  /** Ctrl-A S. */
  onSnapshot(): void;
  /** Ctrl-A V. */
  onControlBlock(): void;
}

export class ConsoleTerminal implements Disposable {
  readonly #input: TerminalInput;
  readonly #events: TerminalEvents;
  readonly #keys: EscapeKeys = new EscapeKeys();
  #isOpen = false;

  constructor(input: TerminalInput, events: TerminalEvents) {
    this.#input = input;
    this.#events = events;
  }

  /** True when keys go to the guest one by one, Ctrl-C among them. */
  get isRaw(): boolean {
    return this.#isOpen && this.#input.isTTY === true;
  }

  open(): void {
    if (this.#isOpen) return;
    this.#isOpen = true;
    if (this.#input.isTTY === true) {
      this.#input.setRawMode?.(true);
      // A shell that stopped us and lets us go on has put its own mode in place.
      process.on("SIGCONT", this.#enterRawMode);
    }
    process.on("exit", this.#close);
    this.#input.on("data", this.#onData);
    this.#input.on("end", this.#onEnd);
    this.#input.resume();
  }

  close(): void {
    this.#close();
  }

  [Symbol.dispose](): void {
    this.#close();
  }

  readonly #enterRawMode = (): void => {
    this.#input.setRawMode?.(true);
  };

  readonly #onData = (bytes: Uint8Array): void => {
    if (this.#input.isTTY !== true) {
      this.#events.onInput(bytes);
      return;
    }
    for (const event of this.#keys.parse(bytes)) {
      if (event.kind === "quit") this.#events.onQuit();
      else if (event.kind === "help") this.#events.onHelp();
      else if (event.kind === "snapshot") this.#events.onSnapshot();
      else if (event.kind === "control block") this.#events.onControlBlock();
      else this.#events.onInput(event.bytes);
    }
  };

  readonly #onEnd = (): void => {
    this.#events.onEnd();
  };

  readonly #close = (): void => {
    if (!this.#isOpen) return;
    this.#isOpen = false;
    process.off("SIGCONT", this.#enterRawMode);
    process.off("exit", this.#close);
    this.#input.off("data", this.#onData);
    this.#input.off("end", this.#onEnd);
    this.#input.pause();
    if (this.#input.isTTY === true) this.#input.setRawMode?.(false);
  };
}
