/** Where a program of the host lies, for tests that are skipped without it. */
import { accessSync, constants } from "node:fs";
import { join } from "node:path";

export function findProgram(name: string): string | undefined {
  return (process.env["PATH"] ?? "").split(":").map((directory) => join(directory, name)).find((path) => {
    try {
      accessSync(path, constants.X_OK);
      return true;
    } catch {
      return false;
    }
  });
}
