/** The seam between the AHCI controller and the drives on its ports (Serial ATA 3.x transport, ATA8-ACS task files). */
import type { Eventually } from "../disk/contract.ts";

/** A command as the host's register FIS carries it. */
export interface Task {
  readonly command: number;
  readonly features: number;
  /** 48 bits. */
  readonly lba: number;
  readonly count: number;
  readonly device: number;
  /** The 16 bytes of a PACKET command. */
  readonly packet: Uint8Array;
}

/** Registers after a command. */
export interface TaskResult {
  readonly status: number;
  readonly error: number;
  readonly lba: number;
  readonly count: number;
  /** A PIO data-in command, which ends with a PIO setup FIS. */
  readonly isPioIn: boolean;
}

/** The memory that a command transfers from or to. */
export interface TaskData {
  readonly sizeBytes: number;
  /** Copies from guest memory; false when the range is longer than the buffer or not RAM. */
  read(offset: number, target: Uint8Array): boolean;
  /** Copies to guest memory; false when the range is longer than the buffer or not RAM. */
  write(offset: number, source: Uint8Array): boolean;
}

export interface SataDrive {
  /** What the drive's first FIS says after a reset: which kind of drive it is. */
  readonly signature: number;
  readonly isPacketDrive: boolean;
  /** The status register after a reset. */
  readonly resetStatus: number;
  /** Carries out a command. Whatever it is, there is a result. */
  execute(task: Task, data: TaskData): Eventually<TaskResult>;
  reset(): void;
}

export const diskSignature = 0x0000_0101;
export const packetSignature = 0xeb14_0101;

export const readyStatus = 0x50;
const errorStatus = 0x51;
export const abortError = 0x04;
export const uncorrectableError = 0x40;
export const idNotFoundError = 0x10;

export function succeed(task: Task, result: Partial<TaskResult> = {}): TaskResult {
  return { status: readyStatus, error: 0, lba: task.lba, count: task.count, isPioIn: false, ...result };
}

export function failTask(task: Task, error: number): TaskResult {
  return { status: errorStatus, error, lba: task.lba, count: task.count, isPioIn: false };
}

/** An ATA string: padded with blanks, the two characters of each word swapped. */
export function putAtaString(bytes: Uint8Array, word: number, words: number, text: string): void {
  const padded = text.padEnd(2 * words).slice(0, 2 * words);
  for (let i = 0; i < padded.length; i++) bytes[2 * word + (i ^ 1)] = padded.charCodeAt(i) & 0x7f;
}
