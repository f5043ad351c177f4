/** `ringmaster version`. */
import { readFileSync } from "node:fs";

export interface VersionReport {
  readonly version: string;
  readonly node: string;
  readonly v8: string;
}

export function versionReport(): VersionReport {
  // The same two levels up from src/cli and from dist/cli.
  const { version } = JSON.parse(readFileSync(new URL("../../package.json", import.meta.url), "utf8")) as { version: string };
  return { version, node: process.versions.node, v8: process.versions.v8 };
}
