/** Assembles our own test guests, guests/unit/*.asm and guests/virt/*.asm, with nasm: `node tools/guests/assemble.ts <directory> [name …]`. */
import { mkdir, mkdtemp, readdir, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { fileURLToPath } from "node:url";
import { PackageSource } from "../../src/host/node/guests/apt.ts";
import { BuildTools, type BuildTool } from "../../src/host/node/guests/build-tools.ts";
import { defaultCacheDirectory } from "../../src/host/node/guests/cache.ts";
import { Progress } from "../../src/host/node/guests/progress.ts";

/** "unit" for the processor and its devices, "virt" for hypervisors. */
export type GuestFamily = "unit" | "virt";

const families: readonly GuestFamily[] = ["unit", "virt"];

function sourceDirectory(family: GuestFamily): string {
  return fileURLToPath(new URL(`../../guests/${family}`, import.meta.url));
}

/** A test guest, with what its `;! key=value` lines say about it. */
export interface UnitGuestSource {
  readonly name: string;
  readonly path: string;
  readonly properties: ReadonlyMap<string, string>;
}

/** All test guests of a family, by name. */
export async function listUnitGuests(family: GuestFamily = "unit"): Promise<UnitGuestSource[]> {
  const directory = sourceDirectory(family);
  const files = (await readdir(directory)).filter((file) => file.endsWith(".asm")).toSorted();
  return Promise.all(files.map(async (file) => {
    const path = join(directory, file);
    const properties = new Map<string, string>();
    for (const [, key, value] of (await readFile(path, "utf8")).matchAll(/^;! ([a-z-]+)=(.*)$/gmu)) properties.set(key, value);
    return { name: file.slice(0, -".asm".length), path, properties };
  }));
}

/**
 * The assembler: the machine's own, else Debian's from the cache.
 * @throws UserError TOOL_MISSING or GUEST_MISSING when it is not there and cannot be fetched.
 */
export function findAssembler(): Promise<BuildTool> {
  const cacheDirectory = defaultCacheDirectory();
  return new BuildTools(cacheDirectory, new PackageSource(cacheDirectory, "release", new Progress(() => {}))).find("nasm");
}

/** Assembles one guest into `output`, with names defined that its source asks for. */
export async function assembleUnitGuest(assembler: BuildTool, guest: UnitGuestSource, output: string, defines: readonly string[] = []): Promise<void> {
  const includes = families.flatMap((family) => ["-I", `${join(sourceDirectory(family), "lib")}/`]);
  await assembler.run(["-f", "bin", "-w+error", ...includes, ...defines.map((name) => `-D${name}`), "-o", output, guest.path]);
}

/** A multiboot image of the guest. */
export async function readUnitGuest(assembler: BuildTool, guest: UnitGuestSource, defines: readonly string[] = []): Promise<Uint8Array> {
  const directory = await mkdtemp(join(tmpdir(), "unit-guest-"));
  try {
    const output = join(directory, guest.name);
    await assembleUnitGuest(assembler, guest, output, defines);
    return await readFile(output);
  } finally {
    await rm(directory, { recursive: true });
  }
}

async function main([directory, ...names]: readonly string[]): Promise<void> {
  if (directory === undefined) {
    console.error("usage: node tools/guests/assemble.ts <directory> [name …]");
    process.exitCode = 2;
    return;
  }
  await mkdir(directory, { recursive: true });
  const assembler = await findAssembler();
  for (const guest of (await Promise.all(families.map((family) => listUnitGuests(family)))).flat()) {
    if (names.length > 0 && !names.includes(guest.name)) continue;
    const output = join(directory, `${guest.name}.bin`);
    await assembleUnitGuest(assembler, guest, output);
    console.log(output);
  }
}

if (process.argv[1] !== undefined && resolve(process.argv[1]) === fileURLToPath(import.meta.url)) await main(process.argv.slice(2));
