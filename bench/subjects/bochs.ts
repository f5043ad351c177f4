/** Debian's Bochs, the only other processor with VMX that needs none below it. */
import { existsSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { UserError } from "../../src/base/errors.ts";
import { PackageSource } from "../../src/host/node/guests/apt.ts";
import { BuildTools, type BuildTool } from "../../src/host/node/guests/build-tools.ts";
import { defaultCacheDirectory, withCacheLock } from "../../src/host/node/guests/cache.ts";
import { Progress } from "../../src/host/node/guests/progress.ts";
import type { BenchOptions, GuestJob, Launch } from "../contract.ts";
import { diskHeads, diskSectorsPerTrack, writeLinuxDisk } from "./linux-disk.ts";

export const bochsModel = "corei7_skylake_x";
const bootSource: string = new URL("../guests/linux-boot.asm", import.meta.url).pathname;

export interface BochsTools {
  readonly nasm: BuildTool;
  readonly bochs: BuildTool;
}

/** @throws UserError TOOL_MISSING when it is not there and cannot be fetched. */
export async function findBochs({ onProgress }: Pick<BenchOptions, "onProgress">): Promise<BochsTools> {
  const progress = new Progress(onProgress);
  const cacheDirectory = defaultCacheDirectory();
  const tools = new BuildTools(cacheDirectory, new PackageSource(cacheDirectory, "release", progress));
  const found = await withCacheLock(cacheDirectory, () => progress.step("another process is working on the cache; waiting for it"), async () =>
    ({ nasm: await tools.find("nasm"), bochs: await tools.find("bochs") }));
  const firmware = firmwareOf(found.bochs);
  for (const file of [firmware.bios, firmware.vgaBios]) {
    if (!existsSync(file)) throw new UserError("TOOL_MISSING", `${found.bochs.path} has no firmware, ${file} is missing: install Debian's packages bochsbios and vgabios, or remove the machine's own Bochs, so that the bench fetches one.`);
  }
  return found;
}

function firmwareOf({ path }: BuildTool): { readonly bios: string; readonly vgaBios: string } {
  const share = path.replace(/\/bin\/bochs$/u, "/share/bochs");
  return { bios: `${share}/BIOS-bochs-latest`, vgaBios: `${share}/VGABIOS-lgpl-latest` };
}

/** Bochs with this memory and these further lines of configuration, in files of `directory`. */
export function launchBochs({ bochs }: BochsTools, directory: string, memoryMib: number, lines: readonly string[]): Launch {
  const configuration = join(directory, "bochsrc"), script = join(directory, "bochs-script");
  const { bios, vgaBios } = firmwareOf(bochs);
  writeFileSync(configuration, [
    "config_interface: textconfig", "display_library: rfb, options=\"timeout=0\"", `romimage: file=${bios}`, `vgaromimage: file=${vgaBios}`, `megs: ${memoryMib}`, `cpu: model=${bochsModel}, count=1, ips=50000000`, "clock: sync=none",
    ...lines, `log: ${join(directory, "bochs.log")}`, "sound: waveoutdrv=dummy", "panic: action=fatal", "error: action=ignore", "info: action=ignore", "",
  ].join("\n"));
  // Debian's asks what to do before it begins.
  writeFileSync(script, "c\n");
  return { program: bochs.path, args: ["-q", "-f", configuration, "-rc", script], environment: bochs.environment, isSampled: false };
}

/** Bochs with a Linux kernel, whose console is the first serial line. */
export async function launchLinuxInBochs(tools: BochsTools, directory: string, job: GuestJob): Promise<Launch> {
  const bootSector = join(directory, "boot-sector"), disk = join(directory, "disk"), line = join(directory, "serial-line");
  await tools.nasm.run(["-f", "bin", "-o", bootSector, bootSource]);
  const cylinders = writeLinuxDisk(disk, readFileSync(bootSector), job);
  const launch = launchBochs(tools, directory, job.memoryMib, [
    "ata0: enabled=1, ioaddr1=0x1f0, ioaddr2=0x3f0, irq=14",
    `ata0-master: type=disk, path=${disk}, mode=flat, cylinders=${cylinders}, heads=${diskHeads}, spt=${diskSectorsPerTrack}`, "boot: disk",
    `com1: enabled=1, mode=file, dev=${line}`,
  ]);
  // Bochs opens a file for its serial line, and our standard output, a socket, is none that can be opened; its own goes elsewhere.
  return { ...launch, program: "/bin/sh", args: ["-c", "mkfifo \"$0\" && { cat \"$0\" & exec \"$@\" > \"$0.output\"; }", line, launch.program, ...launch.args] };
}
