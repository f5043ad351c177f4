/** What a `Vm` is made of: from a caller's options, or from a snapshot. */
import { guestPhysical } from "../base/address.ts";
import { UserError } from "../base/errors.ts";
import type { BootProtocol } from "../boot/contract.ts";
import { loadKernel } from "../boot/kernel.ts";
import type { DiskFailure } from "../devices/disk/contract.ts";
import { HostClock } from "../host/node/host-clock.ts";
import { hostRandom, SeededRandom } from "../host/node/random.ts";
import type { RawDisk } from "../host/node/raw-disk.ts";
import type { Snapshot } from "../host/node/snapshot/reader.ts";
import { type ClockConfig, defaultDevices, type DiskConfig, type MachineConfig } from "../machine/config.ts";
import { ExitAccount } from "../machine/exit-account.ts";
import type { Machine, SavedMachine } from "../machine/machine.ts";
import { chosenCpu } from "./accelerator.ts";
import type { VmOptions } from "./options.ts";
import type { AttachedDisk, Prepared, PreparedKernel } from "./prepare.ts";
import { parseSize } from "./sizes.ts";

/** The ends of a machine's wires that a `Vm` holds. */
export interface Sinks {
  onSerial(port: number, byte: number): void;
  onSerialReady(port: number): void;
  onDebugConsole(byte: number): void;
  onDiskFailure(failure: DiskFailure): void;
}

export interface VmParts {
  readonly config: Omit<MachineConfig, keyof Sinks>;
  readonly clock: HostClock;
  /** Of a machine whose randomness repeats. */
  readonly random: SeededRandom | undefined;
  readonly disks: readonly AttachedDisk[];
  readonly cdrom: RawDisk | undefined;
  /** To be closed at the end, in this order. */
  readonly openFiles: readonly RawDisk[];
  /** What a new machine starts with, when it is not firmware. */
  readonly kernel: PreparedKernel | undefined;
  /** What a restored machine goes on from. */
  readonly saved: SavedParts | undefined;
}

interface SavedParts {
  readonly machine: SavedMachine;
  readonly snapshot: Snapshot;
  readonly bootProtocol: BootProtocol | undefined;
  /** The guest is to learn that it is one. */
  readonly isCopy: boolean;
}

const deterministicEpochMs = Date.UTC(2025, 0, 1);
const deterministicSeed = 0x5249_4e47n;
/** Near what the interpreter takes, so that a guest's timeouts keep their proportions. */
const deterministicNsPerInstruction = 5;
const defaultMemory = "512M";

export function hostExitAccount(): ExitAccount {
  return new ExitAccount(() => performance.now() * 1e6);
}

/** @throws UserError BAD_ARGUMENT. */
export function memoryBytes({ memory = defaultMemory }: VmOptions): number {
  return typeof memory === "number" ? memory : parseSize(memory);
}

export function diskConfig({ file, overlay, serial }: AttachedDisk): DiskConfig {
  return { backend: overlay ?? file, ...(serial === undefined ? {} : { serial }) };
}

/** The clock and the randomness of a machine: the host's, or such as repeat. */
export function timeAndRandom(
  options: { readonly startNs: number; readonly nsPerInstruction: number | undefined; readonly seed: bigint | undefined; readonly rate?: number },
): Pick<VmParts, "clock" | "random"> & { readonly config: Pick<MachineConfig, "clock" | "fillRandom"> } {
  const { startNs, nsPerInstruction, seed, rate = 1 } = options;
  // Power-on is when it first runs.
  const clock = new HostClock(startNs, rate);
  const random = seed === undefined ? undefined : new SeededRandom(seed);
  const config: ClockConfig = nsPerInstruction === undefined
    ? { mode: "real-time", hostNowNs: clock.nowNs, rate }
    : { mode: "deterministic", nsPerInstruction };
  return { clock, random, config: { clock: config, fillRandom: random === undefined ? hostRandom() : (target) => random.fill(target) } };
}

/** @throws UserError BAD_ARGUMENT. */
function timeRate({ timeRate: rate = 1 }: VmOptions): number {
  if (!(rate > 0 && rate <= 1)) throw new UserError("BAD_ARGUMENT", `A time rate of ${rate} cannot be: give one above 0 and at most 1.`);
  return rate;
}

export function newParts(options: VmOptions, prepared: Prepared): VmParts {
  const isDeterministic = options.deterministic === true;
  const { debugExitPort: defaultPort, ...devices } = defaultDevices;
  const debugExitPort = options.debugExitPort === false ? undefined : options.debugExitPort ?? defaultPort;
  const { clock, random, config } = timeAndRandom({
    startNs: 0,
    nsPerInstruction: isDeterministic ? deterministicNsPerInstruction : undefined,
    seed: isDeterministic ? deterministicSeed : undefined,
    rate: timeRate(options),
  });
  return {
    config: {
      ...config,
      memorySizeBytes: memoryBytes(options),
      cpu: chosenCpu(options),
      ...(options.timeStampFrequencyHz === undefined ? {} : { timeStampFrequencyHz: options.timeStampFrequencyHz }),
      ...(options.accountExits === true ? { exits: hostExitAccount() } : {}),
      startEpochMs: isDeterministic ? deterministicEpochMs : Date.now(),
      disks: prepared.disks.map(diskConfig),
      ...(prepared.cdrom === undefined ? {} : { cdrom: prepared.cdrom }),
      ...(prepared.firmware === undefined ? {} : { firmware: prepared.firmware }),
      devices: { ...devices, vga: prepared.hasVga, ...(debugExitPort === undefined ? {} : { debugExitPort }) },
    },
    clock, random, disks: prepared.disks, cdrom: prepared.cdrom, openFiles: prepared.openFiles, kernel: prepared.kernel, saved: undefined,
  };
}

/** Puts a kernel with its tables into a new machine's memory. */
export function load(machine: Machine, kernel: PreparedKernel, hasVgaText: boolean): void {
  const address = machine.installAcpiTables();
  const bytes = new Uint8Array(36);
  machine.guestMemory().read(guestPhysical(address), bytes);
  try {
    machine.load(loadKernel({
      kernel: kernel.kernel, commandLine: kernel.commandLine, modules: kernel.modules, memory: machine.memoryMap,
      rsdp: { address, bytes }, hasVgaText,
      ...(kernel.initrd === undefined ? {} : { initrd: kernel.initrd }),
    }));
  } catch (error) {
    if (error instanceof UserError && error.code === "BAD_IMAGE") throw new UserError("BAD_IMAGE", `${kernel.name}: ${error.message}`, { cause: error });
    throw error;
  }
}

/** What went wrong with disks is returned. */
export function closeParts({ openFiles, saved }: VmParts): DiskFailure[] {
  const failures = openFiles.flatMap((file) => file.close() ?? []);
  saved?.snapshot.close();
  return failures;
}
