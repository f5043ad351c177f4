/** Reads what we need of Debian's busybox-static: the program and the names it answers to. */
import { readFile } from "node:fs/promises";
import { join } from "node:path";

export interface Busybox {
  readonly program: Uint8Array;
  readonly applets: readonly string[];
}

/** The longest run of names that look like applets is the applet table: NUL-separated, sorted, from "[" to "zcat". */
export function findApplets(program: Uint8Array): string[] {
  const text = Buffer.from(program.buffer, program.byteOffset, program.byteLength).toString("latin1");
  const start = text.indexOf("\0[\0[[\0");
  if (start < 0) return [];
  const applets: string[] = [];
  for (const name of text.slice(start + 1, start + 16_384).split("\0")) {
    if (!/^[a-z[][\w[.-]*$/u.test(name) || (applets.length > 0 && name < applets[applets.length - 1])) break;
    applets.push(name);
  }
  return applets;
}

/** Reads from `directory`, the unpacked package. */
export async function readBusybox(directory: string): Promise<Busybox> {
  const program = await readFile(join(directory, "bin", "busybox"));
  return { program, applets: findApplets(program) };
}
