/** Runs one of our own test guests on a machine whose time is the count of its instructions. */
import { guestPhysical } from "../../src/base/address.ts";
import type { Accelerator } from "../../src/accel/contract.ts";
import { softAccelerator } from "../../src/accel/soft/index.ts";
import { loadMultiboot1 } from "../../src/boot/multiboot1.ts";
import { defaultDevices, type MachineConfig, type MachineEnd } from "../../src/machine/config.ts";
import { Machine } from "../../src/machine/machine.ts";
import type { UnitGuestSource } from "../../tools/guests/assemble.ts";

/** What the guest's library writes to isa-debug-exit when every check held. */
const passedStatus = (0x10 << 1) | 1;
const defaultMaximumInstructions = 5_000_000;
/** Of wall-clock time: a guest in a loop of faults retires nothing. */
const timeoutMs = 20_000;
const defaultMemorySizeBytes = 64 << 20;

export interface UnitGuestResult {
  readonly passed: boolean;
  /** What the guest wrote to the debug console. */
  readonly text: string;
  /** Undefined: it was still running when it had used up its instructions, or waited for something that never comes. */
  readonly end: MachineEnd | undefined;
  readonly instructions: number;
}

/** Whether a guest that says `;! end=triple-fault` or the like got it, or any other reported success. */
function isExpectedEnd(end: MachineEnd | undefined, wanted: string): boolean {
  if (end === undefined) return false;
  return end.kind === "debug-exit" ? wanted === "debug-exit" && end.status === passedStatus : end.kind === wanted;
}

export function hasPassed(guest: UnitGuestSource, text: string, end: MachineEnd | undefined): boolean {
  return !text.includes("FAIL") && isExpectedEnd(end, guest.properties.get("end") ?? "debug-exit");
}

/** Sends the start-up IPI of a guest that says `;! start-up=VECTOR` to a processor that waits for one. */
function startUp(guest: UnitGuestSource, machine: Machine): boolean {
  const vector = guest.properties.get("start-up");
  const [processor] = machine.processors;
  if (vector === undefined || processor?.isWaitingForStartUp !== true) return false;
  processor.startUp(Number(vector));
  return true;
}

/** Whether the 32 bits of memory that `;! end-memory=ADDRESS:VALUE` names are what they should be. */
function leftInMemory(guest: UnitGuestSource, machine: Machine): boolean {
  const wanted = guest.properties.get("end-memory")?.split(":").map(Number);
  if (wanted === undefined) return true;
  const [address, value] = wanted;
  const bytes = new Uint8Array(4);
  return machine.guestMemory().read(guestPhysical(address), bytes) && new DataView(bytes.buffer).getUint32(0, true) === value;
}

/** A machine with the guest in it, before its first instruction. */
export interface UnitGuestMachine {
  readonly machine: Machine;
  readonly config: MachineConfig;
  /** What the guest has written to the debug console. */
  text(): string;
}

export function createUnitGuestMachine(
  guest: UnitGuestSource, image: Uint8Array, memorySizeBytes: number = defaultMemorySizeBytes, accelerator: Accelerator = softAccelerator,
): UnitGuestMachine {
  let text = "";
  let seed = 1;
  const config: MachineConfig = {
    memorySizeBytes, cpu: guest.properties.get("cpu") ?? "max", clock: { mode: "deterministic", nsPerInstruction: 10 },
    startEpochMs: Date.UTC(2024, 1, 29, 23, 59, 58), disks: [], devices: defaultDevices,
    fillRandom: (target) => {
      for (let i = 0; i < target.length; i++) target[i] = seed = (Math.imul(seed, 69_069) + 12_345) >>> 24;
    },
    onSerial: () => {},
    onDebugConsole: (byte) => void (text += String.fromCharCode(byte)),
  };
  const machine = new Machine(config, accelerator);
  machine.installAcpiTables();
  machine.load(loadMultiboot1({ kernel: image, commandLine: guest.name, modules: [], memory: machine.memoryMap }));
  return { machine, config, text: () => text };
}

/** `prepare` sees the machine before its first instruction. */
export function runUnitGuest(guest: UnitGuestSource, image: Uint8Array, prepare: (machine: Machine) => void = () => {}): UnitGuestResult {
  const { machine, text } = createUnitGuestMachine(guest, image);
  prepare(machine);
  const maximum = Number(guest.properties.get("instructions") ?? defaultMaximumInstructions);
  let end: MachineEnd | undefined;
  const deadline = performance.now() + timeoutMs;
  while (end === undefined && machine.retiredInstructions < maximum && performance.now() < deadline) {
    const slice = machine.runSlice();
    const isStarted = startUp(guest, machine);
    if (slice.kind === "idle" && !isStarted) break;
    if (slice.kind === "ended") end = slice.end;
  }
  return { passed: hasPassed(guest, text(), end) && leftInMemory(guest, machine), text: text(), end, instructions: machine.retiredInstructions };
}
