/** Looks for programs of the host. */
import { accessSync, constants } from "node:fs";
import { join } from "node:path";

/** The path of the program `name` that would be run; undefined when PATH has none. */
export function findProgram(name: string): string | undefined {
  return (process.env["PATH"] ?? "").split(":").filter((directory) => directory !== "").map((directory) => join(directory, name)).find((path) => {
    try {
      accessSync(path, constants.X_OK);
      return true;
    } catch {
      return false;
    }
  });
}
