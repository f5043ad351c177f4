/** The keys that the terminal keeps for itself: Ctrl-A and a letter. Everything else belongs to the guest. */

export type EscapeEvent =
  | { readonly kind: "input"; readonly bytes: Uint8Array }
  | { readonly kind: "quit" }
  | { readonly kind: "help" }
  | { readonly kind: "snapshot" }
  | { readonly kind: "control block" };

const controlA = 0x01;

export const escapeHelp = `
Ctrl-A X       end the machine and leave
Ctrl-A S       save a snapshot
Ctrl-A V       show the VMCB or VMCS of a hypervisor in the guest
Ctrl-A Ctrl-A  send Ctrl-A to the guest (also Ctrl-A A)
Ctrl-A H       this help
`;

export class EscapeKeys {
  #hasPrefix = false;

  /** Sorts what was typed; a prefix at the end waits for the next call. */
  parse(typed: Uint8Array): EscapeEvent[] {
    const events: EscapeEvent[] = [];
    let input: number[] = [];
    const flush = (): void => {
      if (input.length > 0) events.push({ kind: "input", bytes: Uint8Array.from(input) });
      input = [];
    };
    for (const byte of typed) {
      if (!this.#hasPrefix) {
        if (byte === controlA) this.#hasPrefix = true;
        else input.push(byte);
        continue;
      }
      this.#hasPrefix = false;
      switch (String.fromCharCode(byte).toLowerCase()) {
        case "x":
          flush();
          events.push({ kind: "quit" });
          break;
        case "s":
          flush();
          events.push({ kind: "snapshot" });
          break;
        case "v":
          flush();
          events.push({ kind: "control block" });
          break;
        case "h":
        case "?":
          flush();
          events.push({ kind: "help" });
          break;
        case "a":
        case "\u0001":
          input.push(controlA);
          break;
        default:
          input.push(controlA, byte);
      }
    }
    flush();
    return events;
  }
}
