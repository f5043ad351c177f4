/**
 * What a hypervisor with VMX costs that runs in us, against Bochs: the way from its guest to it and back, on bare metal, and a
 * Debian kernel that boots in KVM.
 */
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { UserError } from "../../src/base/errors.ts";
import type { BuildTool } from "../../src/host/node/guests/build-tools.ts";
import { commandBeginMarker, ensureGuests } from "../../src/host/node/guests/index.ts";
import type { BenchOptions, BenchRow, Launch } from "../contract.ts";
import { GuestProcess } from "../guest-process.ts";
import { interleave, type Side } from "../interleave.ts";
import { CommandGuest } from "../guest-run.ts";
import { median } from "../statistics.ts";
import { bochsModel, findBochs, launchBochs, launchLinuxInBochs, type BochsTools } from "../subjects/bochs.ts";
import { ours } from "../subjects/ours.ts";
import { nestedBootCommand } from "./nested-boot.ts";

/** A tenth of a second would tell how fast V8 compiles. */
const exitsPerKind = 500_000;
/** In the order in which the guest comes to them. */
export const vmxExitKinds = ["VMX: vmcall", "VMX: cpuid", "VMX: port", "VMX: EPT violation"] as const;
export const vmxBootRow = "VMX: boot in KVM";
const mark = "\u0001";
const ourConsolePort = 0x402, bochsConsolePort = 0xe9;
const defaultTimeoutSeconds = 120;
const defaultBootTimeoutSeconds = 900;
const ourModel = "xeon";
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

/** Bochs with a floppy disk that brings the guest where a multiboot loader would. */
async function launchFloppy(tools: BochsTools, directory: string, image: string): Promise<Launch> {
  const disk = `${image}.floppy`, memoryMib = 64;
  await tools.nasm.run(["-f", "bin", `-DGUEST='${image}'`, "-o", disk, join(guestDirectory, "disk-boot.asm")]);
  return launchBochs(tools, directory, memoryMib, [`floppya: type=1_44, 1_44=${disk}, status=inserted`, "boot: floppy", "port_e9_hack: enabled=1"]);
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

async function exitRows(tools: BochsTools, directory: string, options: BenchOptions): Promise<BenchRow[]> {
  const count = exitsPerKind * options.scale;
  const images: Record<Side, string> = { ours: join(directory, "ours"), peer: join(directory, "peer") };
  await assemble(tools.nasm, images.ours, ourConsolePort, count);
  await assemble(tools.nasm, images.peer, bochsConsolePort, count);
  const launches: Record<Side, Launch> = {
    ours: { program: process.execPath, args: [ourScript, images.ours, ourModel], environment: {}, isSampled: false },
    peer: await launchFloppy(tools, directory, images.peer),
  };
  const measured = await interleave(options.runs, async (side, run) => {
    const seconds = (await measure(launches[side], vmxExitKinds.length, options)).map((time) => time / count);
    const figures = seconds.map((each, kind) => `${vmxExitKinds[kind]} ${(each * 1e6).toFixed(2)} µs`);
    options.log(`run ${run + 1}/${options.runs}: ${nameOf(side)} ${figures.join(", ")}`);
    return seconds;
  });
  return vmxExitKinds.map((name, kind) => row(name, measured.ours.map((run) => run[kind]), measured.peer.map((run) => run[kind])));
}

function nameOf(side: Side): string {
  return side === "ours" ? "ours" : "bochs";
}

function row(name: string, ours: readonly number[], peer: readonly number[]): BenchRow {
  const oursSeconds = median(ours), peerSeconds = median(peer);
  return { name, oursSeconds, peerSeconds, ratio: oursSeconds / peerSeconds };
}

/** Once on each side: Bochs takes minutes. A side that is not there in time has no figure, and the row says why. */
async function bootRow(tools: BochsTools, directory: string, options: BenchOptions): Promise<BenchRow> {
  const { "nested-6.1": kernel } = await ensureGuests(["nested-6.1"], { onProgress: options.onProgress });
  await using command = await CommandGuest.create(kernel, nestedBootCommand("kvm_intel"));
  const sides = await ours.prepare(options.onProgress, "vmx");
  const timeoutSeconds = options.timeoutSeconds ?? defaultBootTimeoutSeconds;
  const secondsOf = async (side: Side, launch: Launch): Promise<number> => {
    await using guest = new GuestProcess(launch);
    const begin = await guest.waitFor(new RegExp(RegExp.escape(commandBeginMarker), "u"), timeoutSeconds, options.signal);
    options.log(`${nameOf(side)}: the first kernel's userland after ${begin.seconds.toFixed(1)} s`);
    const end = await guest.waitFor(/booted: \d/u, timeoutSeconds - begin.seconds, options.signal);
    options.log(`${nameOf(side)}: booted a kernel in KVM in ${(end.seconds - begin.seconds).toFixed(1)} s`);
    return end.seconds - begin.seconds;
  };
  const oursSeconds = await secondsOf("ours", sides.launch(command.job));
  try {
    return row(vmxBootRow, [oursSeconds], [await secondsOf("peer", await launchLinuxInBochs(tools, directory, command.job))]);
  } catch (error) {
    if (!(error instanceof UserError) || (error.code !== "TIMEOUT" && error.code !== "GUEST_FAILED")) throw error;
    return { name: vmxBootRow, oursSeconds, peerSeconds: null, ratio: null, failure: `Bochs, within ${timeoutSeconds} s: ${error.message}` };
  }
}

export async function compareWithBochs(options: BenchOptions, isWanted: (name: string) => boolean): Promise<{ readonly rows: BenchRow[]; readonly description: string }> {
  const directory = mkdtempSync(join(tmpdir(), "ringmaster-nested-"));
  try {
    const tools = await findBochs(options);
    const exits = vmxExitKinds.some(isWanted) ? await exitRows(tools, directory, options) : [];
    const boots = isWanted(vmxBootRow) ? [await bootRow(tools, directory, options)] : [];
    const description = `VMX: our ${ourModel} against Debian's Bochs (${bochsModel}), ${exitsPerKind * options.scale} exits of each kind with EPT and a VPID`;
    return { rows: [...exits, ...boots], description };
  } finally {
    rmSync(directory, { recursive: true });
  }
}
