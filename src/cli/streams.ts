/** Our standard streams, so that tests can bring their own. */
import type { TerminalInput } from "../host/node/terminal.ts";

export interface OutputStream {
  readonly isTTY?: boolean;
  readonly rows?: number;
  readonly columns?: number;
  write(data: Uint8Array | string, done?: (error?: Error | null) => void): boolean;
  once(event: "drain", listener: () => void): unknown;
  on(event: "error", listener: (error: Error) => void): unknown;
}

export interface Streams {
  readonly stdin: TerminalInput;
  readonly stdout: OutputStream;
  readonly stderr: OutputStream;
}

/** Resolves when what has been written is with the system, or cannot get there. */
export function drained(stream: OutputStream): Promise<void> {
  return new Promise((resolve) => {
    stream.write("", () => resolve());
  });
}
