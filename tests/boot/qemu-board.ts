/** Runs a BootImage under QEMU without its firmware: a ROM of ours sets the registers and jumps, which checks loaders independently of our processor. */
import { spawn } from "node:child_process";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { BootImage, GeneralRegisterName, MemoryWrite } from "../../src/boot/contract.ts";
import { findProgram } from "./find-program.ts";

const romStart = 0xe_0000;
const romSizeBytes = 0x2_0000;
const codeOffset = 0x1_f000;
const resetOffset = 0x1_fff0;
const encodableRegisters: readonly GeneralRegisterName[] = ["rax", "rcx", "rdx", "rbx", "rsp", "rbp", "rsi", "rdi"];

const little = (value: number, sizeBytes = 4): number[] => Array.from({ length: sizeBytes }, (_, i) => Math.floor(value / 2 ** (8 * i)) & 0xff);
const moveEax = (value: number): number[] => [0x66, 0xb8, ...little(value)];
const writePciConfig = (address: number, value: number): number[] => [
  ...moveEax(0x8000_0000 + address), 0xba, 0xf8, 0x0c, 0x66, 0xef, ...moveEax(value), 0xba, 0xfc, 0x0c, 0x66, 0xef,
];

/** Real-mode code that does what firmware would have done to the q35 board, and then enters the image's mode. */
function createRom(image: BootImage, romWrites: readonly MemoryWrite[]): Uint8Array {
  const { registers } = image;
  const rom = new Uint8Array(romSizeBytes);
  for (const { address, bytes } of romWrites) rom.set(bytes, address - romStart);
  rom.set([0xea, 0x00, 0xf0, 0x00, 0xf0], resetOffset);
  const isLong = image.mode === "long64";
  const real = [
    0xfa, 0xfc,
    // PM base 0x600 and ACPI enable of the LPC bridge; ECAM base of the host bridge.
    ...writePciConfig(0xf840, 0x601), ...writePciConfig(0xf844, 0x80), ...writePciConfig(0x60, 0xb000_0001),
    ...moveEax(registers.cr4), 0x0f, 0x22, 0xe0,
    ...moveEax(registers.cr3), 0x0f, 0x22, 0xd8,
    ...(isLong ? [0x66, 0xb9, ...little(0xc000_0080), ...moveEax(registers.efer & ~0x400), 0x66, 0x31, 0xd2, 0x0f, 0x30] : []),
  ];
  const lgdtLength = 7;
  const farJump = 8;
  const tableOffset = 0xf000 + real.length + lgdtLength + 6 + 3 + farJump;
  const entry = 0xf_0000 + tableOffset + 6;
  real.push(
    0x2e, 0x66, 0x0f, 0x01, 0x16, ...little(tableOffset, 2),
    ...moveEax(registers.cr0), 0x0f, 0x22, 0xc0,
    0x66, 0xea, ...little(entry), ...little(registers.cs.selector, 2),
  );
  const table = [...little(registers.gdtr.limit, 2), ...little(registers.gdtr.base)];
  const flat = [
    0xb8, ...little(registers.ds.selector), 0x8e, 0xd8, 0x8e, 0xc0, 0x8e, 0xd0, 0x8e, 0xe0, 0x8e, 0xe8,
    ...encodableRegisters.flatMap((name, i) => [0xb8 + i, ...little(registers.general[name])]),
  ];
  const pointer = entry + flat.length + 6;
  flat.push(0xff, 0x25, ...little(isLong ? 0 : pointer), ...little(registers.rip, 8));
  rom.set(real, codeOffset);
  rom.set([...table, ...flat], tableOffset - 0xf000 + codeOffset);
  return rom;
}

export interface QemuRun {
  readonly output: string;
  /** Undefined when the time was up. */
  readonly status: number | null;
}

/** Whether the program is there. */
export function hasQemu(): boolean {
  return findProgram("qemu-system-x86_64") !== undefined;
}

export interface QemuBoardOptions {
  readonly memoryMib: number;
  readonly timeoutSeconds: number;
  /** Ends the run when the output matches. */
  readonly until?: RegExp;
  /** Bytes for 0xE0000 and up. */
  readonly romWrites?: readonly MemoryWrite[];
  readonly extraArguments?: readonly string[];
}

/** Boots the image; resolves with what it wrote to COM1. */
export function runInQemu(image: BootImage, options: QemuBoardOptions): Promise<QemuRun> {
  const directory = mkdtempSync(join(tmpdir(), "qemu-board-"));
  const rom = join(directory, "rom.bin");
  writeFileSync(rom, createRom(image, options.romWrites ?? []));
  const loaders = image.writes.flatMap(({ address, bytes }, i) => {
    if (bytes.length === 0) return [];
    const file = join(directory, `part-${i}`);
    writeFileSync(file, bytes);
    return ["-device", `loader,file=${file},addr=0x${address.toString(16)},force-raw=on`];
  });
  return runQemu(["-bios", rom, ...loaders, ...options.extraArguments ?? []], options).finally(() => rmSync(directory, { recursive: true }));
}

/** QEMU with a q35 board and its serial port; resolves when it ends. */
export async function runQemu(args: readonly string[], options: Omit<QemuBoardOptions, "romWrites" | "extraArguments">): Promise<QemuRun> {
  const child = spawn("qemu-system-x86_64", [
    "-accel", "tcg", "-M", "q35", "-m", String(options.memoryMib), "-nodefaults", "-display", "none", "-serial", "stdio", "-no-reboot", ...args,
  ], { stdio: ["ignore", "pipe", "pipe"] });
  const timer = setTimeout(() => child.kill("SIGKILL"), options.timeoutSeconds * 1000);
  let output = "";
  const collect = (chunk: Buffer): void => {
    output += chunk.toString("latin1");
    if (options.until?.test(output) === true) child.kill("SIGKILL");
  };
  child.stdout.on("data", collect);
  child.stderr.on("data", collect);
  const status = await new Promise<number | null>((resolve, reject) => {
    child.on("close", resolve);
    child.on("error", reject);
  });
  clearTimeout(timer);
  return { output, status };
}
