/** Waits for text on the console. */
import { commandBeginMarker } from "../host/node/guests/index.ts";

/** Text or pattern; "userspace" is the moment when a Linux kernel starts its first program. */
export type Until = string | RegExp;

/** The kernel's message, our guests' mark before a command, a root prompt at the start of a line. */
export const userspacePattern: RegExp = new RegExp(`Run \\S+ as init process|${RegExp.escape(commandBeginMarker)}|(?:^|\\n)[^\\n]{0,64}[#$] $`, "u");

const windowCharacters = 65_536;

export class ConsoleWatch {
  readonly #pattern: RegExp;
  readonly #decoder: TextDecoder = new TextDecoder();
  #text = "";

  constructor(until: Until) {
    if (until instanceof RegExp) this.#pattern = new RegExp(until.source, until.flags.replaceAll(/[gy]/gu, ""));
    else this.#pattern = until === "userspace" ? userspacePattern : new RegExp(RegExp.escape(until), "u");
  }

  /** Takes output; returns what matched, once something does. */
  push(bytes: Uint8Array): string | undefined {
    this.#text = (this.#text + this.#decoder.decode(bytes, { stream: true })).slice(-windowCharacters);
    return this.#pattern.exec(this.#text)?.[0];
  }
}
