/**
 * Puts the sources into one file per entry, dist/bundle/{cli/main,api/index}.js, for `bin/ringmaster` and the package:
 * loading 400 modules takes Node.js a quarter of a second. A checkout whose sources have changed since runs from them.
 */
import { rename, rm, writeFile } from "node:fs/promises";
import { createRequire } from "node:module";
import { basename, join } from "node:path";
import { rolldown } from "rolldown";

const root = join(import.meta.dirname, "..");
const { directory, stampFile, sourceStamp } = createRequire(import.meta.url)("../bin/bundle.cjs") as {
  readonly directory: string;
  readonly stampFile: string;
  sourceStamp(root: string): string;
};

// Of the sources as they are before: what changes meanwhile must not pass for bundled.
const stamp = sourceStamp(root);
const target = join(root, directory), made = `${target}.new`;
await rm(made, { recursive: true, force: true });
const bundle = await rolldown({
  input: { "cli/main": join(root, "src/cli/main.ts"), "api/index": join(root, "src/api/index.ts") },
  cwd: root, platform: "node", external: ["commander", "koffi"],
});
await bundle.write({ dir: made, format: "esm", chunkFileNames: "[name].js" });
await writeFile(join(made, basename(stampFile)), stamp);
// In one step, almost: what runs from the bundle loads some of it later.
await rm(target, { recursive: true, force: true });
await rename(made, target);
