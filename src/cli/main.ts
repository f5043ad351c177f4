/** Entry of the command line. */
import { createProgram } from "./program.ts";
import { reportError } from "./report-error.ts";
import { drained, type Streams } from "./streams.ts";

async function main(words: readonly string[], streams: Streams): Promise<number> {
  let status = 0;
  try {
    await createProgram(streams, (value) => {
      status = value;
    }).parseAsync(words, { from: "user" });
  } catch (error) {
    status = reportError(error, streams.stderr);
  }
  await Promise.all([drained(streams.stdout), drained(streams.stderr)]);
  return status;
}

// A reader that has gone is no reason to say more than that; `run` ends the machine when it sees it.
process.stdout.on("error", () => {});
process.stderr.on("error", () => {});
// An open standard input, or a download that was given up, must not keep us.
process.exit(await main(process.argv.slice(2), process));
