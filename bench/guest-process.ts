/** A running guest of a subject: its console as text with the time at which each part came, its memory, its end. */
import { spawn, type ChildProcess } from "node:child_process";
import { once } from "node:events";
import { readFile } from "node:fs/promises";
import type { Readable } from "node:stream";
import { UserError } from "../src/base/errors.ts";
import type { EngineSample, Launch } from "./contract.ts";

/** Something that the console showed. */
export interface Sighting {
  readonly match: RegExpExecArray;
  /** Since the process was started. */
  readonly seconds: number;
  /** Of the console, up to the end of what matched. */
  readonly consoleBytes: number;
}

/** What a whole process occupies of the host's memory; undefined where the host does not tell. */
export interface MemorySize {
  /** Resident, shared pages counted in full (VmRSS). */
  readonly residentBytes: number | undefined;
  /** Shared pages counted in part (PSS). */
  readonly proportionalBytes: number | undefined;
}

const keptErrorCharacters = 2000;
const tailCharacters = 600;

export class GuestProcess implements AsyncDisposable {
  readonly #child: ChildProcess;
  readonly #startMs: number = performance.now();
  readonly #chunks: { readonly end: number; readonly seconds: number }[] = [];
  readonly #samples: EngineSample[] = [];
  readonly #closed: Promise<unknown>;
  #console = "";
  #searchFrom = 0;
  #errors = "";
  #end: string | undefined;
  #wake: () => void = () => {};

  constructor(launch: Launch) {
    this.#child = spawn(launch.program, launch.args, {
      stdio: ["ignore", "pipe", "pipe", ...(launch.isSampled ? ["pipe" as const] : [])],
      env: { ...process.env, ...launch.environment },
    });
    const [, output, errors, samples] = this.#child.stdio;
    // One character a byte, so that positions are the same on both sides.
    (output as Readable).setEncoding("latin1").on("data", (text: string) => this.#receive(text));
    (errors as Readable).setEncoding("utf8").on("data", (text: string) => {
      this.#errors = (this.#errors + text).slice(-keptErrorCharacters);
    });
    if (launch.isSampled) this.#readSamples(samples as Readable);
    this.#child.on("error", (error) => this.#finish(error.message));
    this.#closed = once(this.#child, "close").catch(() => {});
    this.#child.on("close", (status, signal) => this.#finish(signal === null ? `it ended with status ${status}` : `it was ended by ${signal}`));
  }

  #receive(text: string): void {
    this.#console += text;
    this.#chunks.push({ end: this.#console.length, seconds: (performance.now() - this.#startMs) / 1000 });
    this.#wake();
  }

  #readSamples(stream: Readable): void {
    let rest = "";
    stream.setEncoding("utf8").on("data", (text: string) => {
      const lines = (rest + text).split("\n");
      rest = lines.pop() ?? "";
      for (const line of lines) this.#samples.push(JSON.parse(line) as EngineSample);
    });
  }

  #finish(end: string): void {
    this.#end ??= end;
    this.#wake();
  }

  /**
   * The next place on the console that matches, after the last one found.
   * @throws UserError TIMEOUT, GUEST_FAILED when the process ends first, ABORTED.
   */
  async waitFor(pattern: RegExp, timeoutSeconds: number, signal: AbortSignal): Promise<Sighting> {
    const deadlineMs = performance.now() + timeoutSeconds * 1000;
    for (;;) {
      signal.throwIfAborted();
      const match = pattern.exec(this.#console.slice(this.#searchFrom));
      if (match !== null) {
        const consoleBytes = this.#searchFrom + match.index + match[0].length;
        this.#searchFrom = consoleBytes;
        return { match, consoleBytes, seconds: this.#chunks.find(({ end }) => end >= consoleBytes)?.seconds ?? 0 };
      }
      if (this.#end !== undefined) throw new UserError("GUEST_FAILED", `${this.#end}${this.#tail()}`);
      const leftMs = deadlineMs - performance.now();
      if (leftMs <= 0) throw new UserError("TIMEOUT", `nothing came within ${timeoutSeconds} s${this.#tail()}`);
      await this.#somethingNew(leftMs, signal);
    }
  }

  async #somethingNew(timeoutMs: number, signal: AbortSignal): Promise<void> {
    const { promise, resolve } = Promise.withResolvers<void>();
    this.#wake = resolve;
    const timer = setTimeout(resolve, Math.min(timeoutMs, 2 ** 31 - 1));
    signal.addEventListener("abort", () => resolve(), { once: true });
    await promise;
    clearTimeout(timer);
  }

  /** The last words, for error messages. */
  #tail(): string {
    const text = [this.#errors.trim(), this.#console.slice(-tailCharacters).trim()].filter((part) => part !== "").join("\n");
    return text === "" ? "" : `; its last words:\n${text}`;
  }

  /** What our side measured when the console had come to `consoleBytes`; undefined for others. Call it after `stop`. */
  sampleAt(consoleBytes: number): EngineSample | undefined {
    return this.#samples.find((sample) => sample.consoleBytes >= consoleBytes);
  }

  async memory(): Promise<MemorySize> {
    const read = async (file: string, name: string): Promise<number | undefined> => {
      const text = await readFile(`/proc/${this.#child.pid}/${file}`, "utf8").catch(() => "");
      const kibibytes = new RegExp(`^${name}:\\s+(?<size>\\d+) kB$`, "mu").exec(text)?.groups?.["size"];
      return kibibytes === undefined ? undefined : Number(kibibytes) * 1024;
    };
    return { residentBytes: await read("status", "VmRSS"), proportionalBytes: await read("smaps_rollup", "Pss") };
  }

  async stop(): Promise<void> {
    if (this.#end === undefined) this.#child.kill("SIGKILL");
    await this.#closed;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.stop();
  }
}
