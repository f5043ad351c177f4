/** Shows progress on a terminal as one line that is rewritten, elsewhere as one line a step. */
import type { ProgressEvent } from "./progress.ts";

/** What we need of a stream such as `process.stderr`. */
export interface ProgressTerminal {
  readonly isTTY?: boolean;
  readonly columns?: number;
  write(text: string): unknown;
}

/** A listener for `ensureGuests`. Nothing is printed when nothing had to be done. */
export function printProgress(terminal: ProgressTerminal): (event: ProgressEvent) => void {
  let isPrinting = false;
  return ({ kind, text }) => {
    if (terminal.isTTY === true) {
      if (kind === "done") {
        if (isPrinting) terminal.write("\r\u001B[K");
      } else {
        terminal.write(`\r\u001B[K${`fetching: ${text}`.slice(0, (terminal.columns ?? 80) - 1)}`);
      }
    } else if (kind === "step" || (kind === "done" && isPrinting)) {
      terminal.write(`${text}\n`);
    }
    isPrinting = kind !== "done";
  };
}
