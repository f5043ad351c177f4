/** Separates a command's output from what else is on the console, by the marks that our guests put around it. */
import { commandBeginMarker, commandExitPattern } from "../host/node/guests/index.ts";

const escape = "\u001B";
const longestExitMark = "\u001B]ringmaster;exit=255\u0007".length;

function toBytes(text: string): Uint8Array {
  return Uint8Array.from(text, (character) => character.charCodeAt(0));
}

export class CommandOutput {
  #hasBegun = false;
  #status: number | undefined;
  /** One character a byte: the output need not be text. */
  #pending = "";

  get hasBegun(): boolean {
    return this.#hasBegun;
  }

  /** The command's exit status, once it has ended. */
  get status(): number | undefined {
    return this.#status;
  }

  /** Takes what came from the console, and returns what of it is the command's. */
  push(bytes: Uint8Array): Uint8Array {
    if (this.#status !== undefined) return new Uint8Array(0);
    this.#pending += Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength).toString("latin1");
    if (!this.#hasBegun) {
      const begin = this.#pending.indexOf(commandBeginMarker);
      if (begin < 0) {
        this.#pending = this.#pending.slice(-commandBeginMarker.length);
        return new Uint8Array(0);
      }
      this.#hasBegun = true;
      this.#pending = this.#pending.slice(begin + commandBeginMarker.length);
    }
    return toBytes(this.#takeOutput());
  }

  #takeOutput(): string {
    const match = commandExitPattern.exec(this.#pending);
    if (match !== null) {
      this.#status = Number(match.groups?.["status"]);
      const output = this.#pending.slice(0, match.index);
      this.#pending = "";
      return output;
    }
    const lastEscape = this.#pending.lastIndexOf(escape);
    const isMarkPossible = lastEscape >= 0 && this.#pending.length - lastEscape < longestExitMark;
    const end = isMarkPossible ? lastEscape : this.#pending.length;
    const output = this.#pending.slice(0, end);
    this.#pending = this.#pending.slice(end);
    return output;
  }
}
