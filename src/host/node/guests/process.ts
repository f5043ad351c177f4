/** Runs a helper program of the host to its end, turning its absence or failure into a user error. */
import { spawn } from "node:child_process";
import { UserError } from "../../../base/errors.ts";

export interface ProcessOptions {
  readonly cwd?: string;
  /** Added to our own environment. */
  readonly environment?: Readonly<Record<string, string>>;
  readonly onLine?: (line: string) => void;
  /** Lines written to file descriptor 3, which some programs use for machine-readable status. */
  readonly onStatusLine?: (line: string) => void;
  readonly signal?: AbortSignal;
}

const keptErrorLines = 6;

function splitLines(onLine: (line: string) => void): (chunk: Buffer) => void {
  let rest = "";
  return (chunk) => {
    const lines = (rest + chunk.toString("utf8")).split(/\r?\n|\r/u);
    rest = lines.pop() ?? "";
    for (const line of lines) onLine(line);
  };
}

/**
 * The standard output of `program`.
 * @throws UserError TOOL_MISSING when there is no such program, GUEST_MISSING when it fails.
 */
export async function runProcess(program: string, args: readonly string[], options: ProcessOptions = {}): Promise<Buffer> {
  const stdout: Buffer[] = [];
  const stderr: string[] = [];
  const child = spawn(program, args, {
    stdio: ["ignore", "pipe", "pipe", "pipe"],
    env: { ...process.env, LC_ALL: "C", ...options.environment },
    ...(options.cwd === undefined ? {} : { cwd: options.cwd }),
    ...(options.signal === undefined ? {} : { signal: options.signal }),
  });
  const [, out, error, status] = child.stdio;
  const onLine = splitLines(options.onLine ?? ((): void => {}));
  out?.on("data", (chunk: Buffer) => {
    stdout.push(chunk);
    onLine(chunk);
  });
  error?.on("data", splitLines((line) => {
    if (line.trim() !== "") stderr.push(line);
    if (stderr.length > keptErrorLines) stderr.shift();
  }));
  if (status !== null && status !== undefined && "on" in status) status.on("data", splitLines(options.onStatusLine ?? ((): void => {})));
  const code = await new Promise<number | null>((resolve, reject) => {
    child.on("error", reject);
    child.on("close", resolve);
  }).catch((cause: NodeJS.ErrnoException) => {
    if (cause.code === "ENOENT") throw new UserError("TOOL_MISSING", `the program ${program} is not installed on this machine`, { cause });
    if (cause.name === "AbortError") throw new UserError("ABORTED", `${program} was interrupted`, { cause });
    throw cause;
  });
  if (code !== 0) {
    throw new UserError("GUEST_MISSING", `${program} ${args.slice(0, 3).join(" ")} … failed${code === null ? "" : ` with status ${code}`}:\n${stderr.join("\n")}`);
  }
  return Buffer.concat(stdout);
}
