/** Compiles what runs beside KVM in a guest, guests/virt/*.c of a checkout, to static programs. */
import { existsSync } from "node:fs";
import { readdir, readFile } from "node:fs/promises";
import { join } from "node:path";
import { UserError } from "../../../base/errors.ts";
import type { CpioEntry } from "../../../boot/cpio.ts";
import type { BuildTools } from "./build-tools.ts";
import { packageRoot } from "../package-root.ts";
import { sha256Hex } from "./cache.ts";

const options = ["-O2", "-static", "-s", "-std=gnu11"];

/** Where the programs go in the guest. */
export const nestedDirectory = "virt";

/** KVM's modules, beside the drivers of every guest. */
export const kvmModuleGroups: Readonly<Record<string, readonly string[]>> = { kvm_amd: ["kvm_amd"], kvm_intel: ["kvm_intel"] };

function sourceDirectory(): string {
  const directory = join(packageRoot(), "guests", "virt");
  if (!existsSync(directory)) throw new UserError("GUEST_MISSING", "clients of KVM are built from a checkout of the repository only");
  return directory;
}

async function listSources(): Promise<string[]> {
  return (await readdir(sourceDirectory())).filter((file) => file.endsWith(".c")).toSorted();
}

/** Changes with the sources. */
export async function nestedVersion(): Promise<string> {
  const directory = sourceDirectory();
  const hashes = await Promise.all((await listSources()).map(async (file) => [file, sha256Hex(await readFile(join(directory, file)))]));
  return sha256Hex(JSON.stringify([options, kvmModuleGroups, hashes]));
}

/** `scratch` takes the compiler's output. */
export async function buildNestedPrograms(tools: BuildTools, scratch: string): Promise<CpioEntry[]> {
  const gcc = await tools.find("gcc");
  const entries: CpioEntry[] = [{ kind: "directory", path: nestedDirectory }];
  for (const source of await listSources()) {
    const program = source.slice(0, -".c".length);
    const output = join(scratch, program);
    await gcc.run([...options, "-o", output, join(sourceDirectory(), source)]);
    entries.push({ kind: "file", path: `${nestedDirectory}/${program}`, permissions: 0o755, bytes: await readFile(output) });
  }
  return entries;
}
