/** v86, the emulator with a JIT to WebAssembly from npm, on the same Node.js as ourselves. It runs 32-bit guests only. */
import { createRequire } from "node:module";
import { readFile } from "node:fs/promises";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { UserError } from "../../src/base/errors.ts";
import { ensureGuests } from "../../src/host/node/guests/index.ts";
import type { GuestJob, SubjectSource } from "../contract.ts";
import { compileCacheEnvironment } from "./node-start.ts";

/** What v86-process.ts gets: a guest, and the files that v86 itself needs. */
export interface V86Job extends GuestJob {
  readonly wasm: string;
  readonly firmware: string;
  readonly vgaBios: string;
}

/** Directory of the package. */
function findPackage(): string {
  try {
    return dirname(dirname(createRequire(import.meta.url).resolve("v86")));
  } catch (cause) {
    throw new UserError("TOOL_MISSING", "the package v86 is not installed; run npm ci", { cause });
  }
}

export const v86: SubjectSource = {
  name: "v86",
  async prepare(onProgress) {
    const directory = findPackage();
    const { version } = JSON.parse(await readFile(join(directory, "package.json"), "utf8")) as { readonly version: string };
    const { seabios } = await ensureGuests(["seabios"], { onProgress });
    return {
      name: "v86",
      architecture: "i386",
      description: `v86 ${version} on Node ${process.version}`,
      launch: (guest: GuestJob) => {
        const job: V86Job = { ...guest, wasm: join(directory, "build", "v86.wasm"), firmware: seabios.smallFirmware, vgaBios: seabios.vgaBios };
        return {
          program: process.execPath,
          args: [fileURLToPath(new URL("v86-process.ts", import.meta.url)), JSON.stringify(job)],
          environment: compileCacheEnvironment(),
          isSampled: false,
        };
      },
    };
  },
};
