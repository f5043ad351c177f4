/** `npm run guests [-- names…] [--refresh] [--verify] [--json]`: fetches and builds guests into the cache. */
import { parseArgs } from "node:util";
import { UserError } from "../../src/base/errors.ts";
import { ensureGuests, guestNames, type GuestName } from "../../src/host/node/guests/index.ts";
import { printProgress } from "../../src/host/node/guests/print-progress.ts";

function chooseNames(words: readonly string[]): readonly GuestName[] {
  const unknown = words.filter((word) => !(guestNames as readonly string[]).includes(word));
  if (unknown.length > 0) throw new UserError("BAD_ARGUMENT", `unknown guest ${unknown.join(", ")}; there are: ${guestNames.join(", ")}`);
  return words.length === 0 ? guestNames : (words as GuestName[]);
}

try {
  const { values, positionals } = parseArgs({
    allowPositionals: true,
    options: { refresh: { type: "boolean" }, verify: { type: "boolean" }, json: { type: "boolean" } },
  });
  const paths = await ensureGuests(chooseNames(positionals), {
    refresh: values.refresh ?? false,
    verify: values.verify ?? false,
    onProgress: printProgress(process.stderr),
  });
  if (values.json === true) console.log(JSON.stringify(paths, null, 2));
  else for (const [name, files] of Object.entries(paths)) for (const [key, path] of Object.entries(files)) console.log(`${name.padEnd(12)} ${key.padEnd(10)} ${path}`);
} catch (error) {
  if (!(error instanceof UserError || (error as NodeJS.ErrnoException).code?.startsWith("ERR_PARSE_ARGS") === true)) throw error;
  console.error(`guests: ${(error as Error).message}`);
  process.exitCode = 1;
}
