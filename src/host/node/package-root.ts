/** Where this package is: its sources, what was compiled of them, and their bundle lie at different depths. */
import { existsSync } from "node:fs";
import { dirname, join } from "node:path";
import { invariant } from "../../base/errors.ts";

function enclosing(directory: string): string {
  if (existsSync(join(directory, "package.json"))) return directory;
  const parent = dirname(directory);
  invariant(parent !== directory, "the package has its package.json above its code");
  return enclosing(parent);
}

let found: string | undefined;

/** The directory of package.json. */
export function packageRoot(): string {
  found ??= enclosing(import.meta.dirname);
  return found;
}
