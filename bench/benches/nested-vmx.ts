/**
 * What exits cost a hypervisor with VMX that runs in us: the way from its guest to it and back, on bare metal, against Bochs,
 * the only other one that has VMX without the host's.
 */
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { PackageSource } from "../../src/host/node/guests/apt.ts";
import { BuildTools, type BuildTool } from "../../src/host/node/guests/build-tools.ts";
import { defaultCacheDirectory, withCacheLock } from "../../src/host/node/guests/cache.ts";
import { Progress } from "../../src/host/node/guests/progress.ts";
import type { BenchOptions, BenchRow, Launch } from "../contract.ts";
import { GuestProcess } from "../guest-process.ts";
import { interleave, type Side } from "../interleave.ts";
import { median } from "../statistics.ts";

const exitsPerKind = 50_000;
/** In the order in which the guest comes to them. */
export const vmxExitKinds = ["VMX: vmcall", "VMX: cpuid", "VMX: port", "VMX: EPT violation"] as const;
const mark = "\u0001";
const ourConsolePort = 0x402, bochsConsolePort = 0xe9;
const defaultTimeoutSeconds = 120;
const bochsModel = "corei7_skylake_x";
const ourScript: string = new URL("../subjects/bare-metal-process.ts", import.meta.url).pathname;
const guestDirectory: string = new URL("../guests/", import.meta.url).pathname;
const libraries: readonly string[] = ["unit", "virt"].map((family) => new URL(`../../guests/${family}/lib/`, import.meta.url).pathname);

/** The guest as a multiboot image. */
async function assemble(nasm: BuildTool, image: string, consolePort: number, count: number): Promise<void> {
  await nasm.run([
    "-f", "bin", "-w+error", ...libraries.flatMap((library) => ["-I", library]), `-DDEBUG_CONSOLE=${consolePort}`, `-DCOUNT=${count}`, "-o", image,
    join(guestDirectory, "exits-vmx.asm"),
  ]);
}

/** How Bochs is started with a floppy disk that brings the guest where a multiboot loader would. */
async function launchBochs(bochs: BuildTool, nasm: BuildTool, directory: string, image: string): Promise<Launch> {
  const disk = `${image}.floppy`, configuration = join(directory, "bochsrc"), script = join(directory, "bochs-script");
  await nasm.run(["-f", "bin", `-DGUEST='${image}'`, "-o", disk, join(guestDirectory, "disk-boot.asm")]);
  const share = bochs.path.replace(/\/bin\/bochs$/u, "/share/bochs");
  writeFileSync(configuration, [
    "config_interface: textconfig", "display_library: rfb, options=\"timeout=0\"", `romimage: file=${share}/BIOS-bochs-latest`,
    `vgaromimage: file=${share}/VGABIOS-lgpl-latest`, "megs: 64", `cpu: model=${bochsModel}, count=1, ips=50000000`, "clock: sync=none",
    `floppya: type=1_44, 1_44=${disk}, status=inserted`, "boot: floppy", "port_e9_hack: enabled=1", `log: ${join(directory, "bochs.log")}`,
    "sound: waveoutdrv=dummy", "panic: action=fatal", "error: action=ignore", "info: action=ignore", "",
  ].join("\n"));
  // Debian's asks what to do before it begins.
  writeFileSync(script, "c\n");
  return { program: bochs.path, args: ["-q", "-f", configuration, "-rc", script], environment: bochs.environment, isSampled: false };
}

/** Seconds between the marks around each kind. */
async function measure(launch: Launch, kinds: number, options: BenchOptions): Promise<number[]> {
  await using guest = new GuestProcess(launch);
  const seconds: number[] = [];
  const next = async (): Promise<number> => (await guest.waitFor(new RegExp(mark, "u"), options.timeoutSeconds ?? defaultTimeoutSeconds, options.signal)).seconds;
  for (let kind = 0; kind < kinds; kind++) {
    const before = await next();
    seconds.push(await next() - before);
  }
  return seconds;
}

async function findTools({ onProgress }: BenchOptions): Promise<readonly [nasm: BuildTool, bochs: BuildTool]> {
  const progress = new Progress(onProgress);
  const cacheDirectory = defaultCacheDirectory();
  const tools = new BuildTools(cacheDirectory, new PackageSource(cacheDirectory, "release", progress));
  return withCacheLock(cacheDirectory, () => progress.step("another process is working on the cache; waiting for it"), async () =>
    [await tools.find("nasm"), await tools.find("bochs")] as const);
}

export async function compareWithBochs(options: BenchOptions): Promise<{ readonly rows: BenchRow[]; readonly description: string }> {
  const directory = mkdtempSync(join(tmpdir(), "ringmaster-nested-"));
  try {
    const [nasm, bochs] = await findTools(options);
    const count = exitsPerKind * options.scale;
    const images: Record<Side, string> = { ours: join(directory, "ours"), peer: join(directory, "peer") };
    await assemble(nasm, images.ours, ourConsolePort, count);
    await assemble(nasm, images.peer, bochsConsolePort, count);
    const launches: Record<Side, Launch> = {
      ours: { program: process.execPath, args: [ourScript, images.ours, "xeon"], environment: {}, isSampled: false },
      peer: await launchBochs(bochs, nasm, directory, images.peer),
    };
    const measured = await interleave(options.runs, async (side, run) => {
      const seconds = (await measure(launches[side], vmxExitKinds.length, options)).map((time) => time / count);
      const figures = seconds.map((each, kind) => `${vmxExitKinds[kind]} ${(each * 1e6).toFixed(2)} µs`);
      options.log(`run ${run + 1}/${options.runs}: ${side === "ours" ? "ours" : "bochs"} ${figures.join(", ")}`);
      return seconds;
    });
    const rows = vmxExitKinds.map((name, kind): BenchRow => {
      const oursSeconds = median(measured.ours.map((run) => run[kind])), peerSeconds = median(measured.peer.map((run) => run[kind]));
      return { name, oursSeconds, peerSeconds, ratio: oursSeconds / peerSeconds };
    });
    return { rows, description: `VMX: our xeon against Debian's Bochs (${bochsModel}), ${count} exits of each kind with EPT and a VPID` };
  } finally {
    rmSync(directory, { recursive: true });
  }
}
