/** Builds the C oracle into a temporary directory and runs batches of cases through it. */

import { spawnSync } from "node:child_process";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";

/** One instruction to execute; operands are the low 16 bytes of a register or memory, as little-endian integers. */
export interface OracleCase {
  readonly operation: number;
  /** MXCSR, or the x87 control word. */
  readonly control: number;
  readonly operands: readonly bigint[];
}

/** What the processor did. */
export interface OracleOutcome {
  readonly results: readonly [bigint, bigint];
  /** MXCSR, or the x87 status word. */
  readonly status: number;
  readonly faulted: boolean;
}

const caseBytes = 64;
const outcomeBytes = 48;
const lowMask = (1n << 64n) - 1n;

/** Why the oracle cannot run here, or undefined if it can. */
export function oracleUnavailable(): string | undefined {
  if (process.arch !== "x64") return `the host processor is ${process.arch}, not x86-64`;
  if (spawnSync("gcc", ["--version"]).status !== 0) return "gcc is not installed";
  return undefined;
}

/** The native side of a differential test. */
export class FloatOracle {
  readonly #directory: string;
  readonly #program: string;

  constructor() {
    this.#directory = mkdtempSync(join(tmpdir(), "float-oracle-"));
    this.#program = join(this.#directory, "float-oracle");
    const source = fileURLToPath(new URL("float-oracle.c", import.meta.url));
    const build = spawnSync("gcc", ["-O1", "-Wall", "-mno-red-zone", "-o", this.#program, source], {
      encoding: "utf8",
    });
    if (build.status !== 0) throw new Error(`gcc failed:\n${build.stderr}`);
  }

  run(cases: readonly OracleCase[]): OracleOutcome[] {
    const input = Buffer.alloc(cases.length * caseBytes);
    cases.forEach(({ operation, control, operands }, index) => {
      const base = index * caseBytes;
      input.writeUInt32LE(operation, base);
      input.writeUInt32LE(control, base + 4);
      operands.forEach((operand, slot) => {
        input.writeBigUInt64LE(operand & lowMask, base + 8 + 16 * slot);
        input.writeBigUInt64LE(operand >> 64n, base + 16 + 16 * slot);
      });
    });
    const child = spawnSync(this.#program, {
      input,
      maxBuffer: cases.length * outcomeBytes + 4096,
    });
    if (child.status !== 0 || child.stdout.length !== cases.length * outcomeBytes) {
      throw new Error(
        `the oracle ended with ${child.status ?? child.signal} after ${child.stdout.length} bytes`,
      );
    }
    return cases.map((_, index) => {
      const base = index * outcomeBytes;
      const result = (slot: number): bigint =>
        child.stdout.readBigUInt64LE(base + 16 * slot) |
        (child.stdout.readBigUInt64LE(base + 16 * slot + 8) << 64n);
      return {
        results: [result(0), result(1)],
        status: child.stdout.readUInt32LE(base + 32),
        faulted: child.stdout.readUInt32LE(base + 36) !== 0,
      };
    });
  }

  [Symbol.dispose](): void {
    rmSync(this.#directory, { recursive: true });
  }
}
