/** Runs the command line as a user would: as a process of its own. */
import { spawn, type ChildProcess } from "node:child_process";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";

export const launcher: string = new URL("../../bin/ringmaster", import.meta.url).pathname;

export interface RingmasterResult {
  readonly status: number | null;
  readonly stdout: string;
  readonly stderr: string;
}

export interface RingmasterOptions {
  readonly input?: string;
  /** User to run as. */
  readonly userId?: number;
  /** Called with every piece of standard output or error, to act on the process. */
  readonly onOutput?: (text: string, child: ChildProcess) => void;
  /** Another program to start, with the launcher's path among its arguments. */
  readonly program?: string;
}

/** Starts `ringmaster` with `words`, and waits for its end. */
export function ringmaster(words: readonly string[], options: RingmasterOptions = {}): Promise<RingmasterResult> {
  const child = options.program === undefined
    ? spawn(process.execPath, [launcher, ...words], { stdio: "pipe", ...(options.userId === undefined ? {} : { uid: options.userId, gid: options.userId }) })
    : spawn(options.program, words, { stdio: "pipe" });
  let stdout = "", stderr = "";
  child.stdout.on("data", (bytes: Buffer) => {
    stdout += bytes.toString("utf8");
    options.onOutput?.(bytes.toString("utf8"), child);
  });
  child.stderr.on("data", (bytes: Buffer) => {
    stderr += bytes.toString("utf8");
    options.onOutput?.(bytes.toString("utf8"), child);
  });
  if (options.input !== undefined) child.stdin.end(options.input);
  return new Promise((resolve, reject) => {
    child.on("error", reject);
    child.on("close", (status) => {
      child.stdin.destroy();
      resolve({ status, stdout, stderr });
    });
  });
}

/** A directory that goes away with the test. */
export class TemporaryDirectory implements Disposable {
  readonly path: string = mkdtempSync(join(tmpdir(), "ringmaster-"));

  file(name: string): string {
    return join(this.path, name);
  }

  [Symbol.dispose](): void {
    rmSync(this.path, { recursive: true, force: true });
  }
}
