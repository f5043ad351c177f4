/** The version of this program. */
import { readFileSync } from "node:fs";

let version: string | undefined;

export function programVersion(): string {
  // The same three levels up from src/host/node and from dist/host/node.
  version ??= (JSON.parse(readFileSync(new URL("../../../package.json", import.meta.url), "utf8")) as { version: string }).version;
  return version;
}
