/** Tells of errors: a user's in one message, ours with what a bug report needs. */
import { CommanderError } from "commander";
import { UserError } from "../base/errors.ts";
import { exitStatusOfError, internalErrorStatus } from "./exit-status.ts";
import type { OutputStream } from "./streams.ts";

/** Prints `error` and returns the exit status for it. */
export function reportError(error: unknown, stderr: OutputStream): number {
  if (error instanceof CommanderError) {
    // Help and version come as errors, too.
    if (error.exitCode === 0) return 0;
    if (error.code !== "commander.help") stderr.write(`ringmaster: ${error.message.replace(/^error: /u, "")}\nringmaster --help shows what there is.\n`);
    return exitStatusOfError.BAD_ARGUMENT;
  }
  if (error instanceof UserError) {
    stderr.write(`ringmaster: ${error.message}\n`);
    return exitStatusOfError[error.code];
  }
  const text = error instanceof Error ? error.stack ?? error.message : String(error);
  stderr.write(`ringmaster: this is a bug in Ringmaster, please report it with the lines that follow\n${text}\n`);
  return internalErrorStatus;
}
