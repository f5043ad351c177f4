/** Where this package is: its sources, what was compiled of them, and their bundle lie at different depths. */
import { existsSync } from "node:fs";
import { dirname, join } from "node:path";

let found: string | undefined;

/** The directory of package.json. */
export function packageRoot(): string {
  if (found === undefined) {
    found = import.meta.dirname;
    while (!existsSync(join(found, "package.json"))) found = dirname(found);
  }
  return found;
}
