/** `npm run bench -- <bench> [--peer NAME] …`: measures ourselves against a peer in one interleaved run. */
import { mkdir, writeFile } from "node:fs/promises";
import { availableParallelism, loadavg } from "node:os";
import { dirname, resolve } from "node:path";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import { UserError } from "../src/base/errors.ts";
import { printProgress } from "../src/host/node/guests/print-progress.ts";
import { benches } from "./catalog.ts";
import type { Bench } from "./contract.ts";
import { drawPicture, formatBars, formatResult, ratioBars, resultJson } from "./report/index.ts";
import { targetsOf } from "./targets.ts";

const exitStatus = { failed: 1, badArgument: 2, interrupted: 130 } as const;

function usage(): string {
  return [
    "usage: npm run bench -- BENCH [--peer NAME] [--runs N] [--only NAME,…] [--scale N] [--timeout SECONDS] [--picture FILE.svg] [--json]",
    "",
    ...benches.map(({ name, summary, peers: names }) => `  ${name.padEnd(10)} ${summary}${names.length === 0 ? "" : ` (peers: ${names.join(", ")})`}`),
  ].join("\n");
}

function badArgument(message: string): UserError {
  return new UserError("BAD_ARGUMENT", `${message}\n${usage()}`);
}

function parseCount(text: string | undefined, flag: string): number | undefined {
  if (text === undefined) return undefined;
  if (!/^[1-9]\d{0,5}$/u.test(text)) throw badArgument(`--${flag} takes a whole number from 1, not "${text}"`);
  return Number(text);
}

function choose(name: string | undefined, peerName: string | undefined): { readonly bench: Bench; readonly peer: string | undefined } {
  if (name === undefined) throw badArgument("which bench?");
  const bench = benches.find((candidate) => candidate.name === name);
  if (bench === undefined) throw badArgument(`there is no bench "${name}"`);
  if (peerName !== undefined && !bench.peers.includes(peerName)) throw badArgument(`the bench ${bench.name} has no peer "${peerName}"`);
  return { bench, peer: peerName ?? bench.peers.at(0) };
}

/** @returns whether every row has its figures. */
async function main(signal: AbortSignal): Promise<boolean> {
  const { values, positionals } = parseArgs({
    allowPositionals: true,
    options: {
      peer: { type: "string" }, runs: { type: "string" }, only: { type: "string" }, scale: { type: "string" },
      timeout: { type: "string" }, picture: { type: "string" }, json: { type: "boolean" }, help: { type: "boolean" },
    },
  });
  if (values.help === true) {
    console.log(usage());
    return true;
  }
  if (positionals.length > 1) throw badArgument(`one bench at a time, not ${positionals.join(", ")}`);
  const { bench, peer } = choose(positionals[0], values.peer);
  const runs = parseCount(values.runs, "runs") ?? bench.defaultRuns;
  const scale = parseCount(values.scale, "scale") ?? 1;
  const timeoutSeconds = parseCount(values.timeout, "timeout");
  const onProgress = printProgress(process.stderr);
  const log = (text: string): void => void process.stderr.write(`${text}\n`);
  const [hostLoad] = loadavg(), hostProcessors = availableParallelism();
  if (hostLoad > hostProcessors / 2) log(`the host is busy (load ${hostLoad.toFixed(1)} on ${hostProcessors} processors): the figures will be noisy`);
  const result = await bench.run({
    peer, runs, scale, timeoutSeconds, log, onProgress, signal, only: values.only?.split(",").filter((name) => name !== ""),
  });

  const picture = resolve(values.picture ?? fileURLToPath(new URL(`../dist/bench/${[bench.name, ...(peer === undefined ? [] : [peer])].join("-")}.svg`, import.meta.url)));
  const targets = targetsOf(bench.name, peer);
  const bars = ratioBars(result.rows, targets);
  let text = `${formatResult(result, targets)}\nhost: ${hostProcessors} processors, load ${hostLoad.toFixed(1)} before the run\n`;
  if (bars.length > 0) {
    await mkdir(dirname(picture), { recursive: true });
    await writeFile(picture, drawPicture(result.title, `${result.subtitle}; median of ${runs}; dark marks: targets`, bars));
    text += `\n${formatBars(bars)}\n\npicture: ${picture}\n`;
  }
  if (values.json === true) {
    process.stderr.write(text);
    console.log(resultJson(result, targets, { hostLoad, hostProcessors }));
  } else {
    process.stdout.write(text);
  }
  return result.rows.every(({ failure }) => failure === undefined);
}

const interrupted = new AbortController();
process.once("SIGINT", () => interrupted.abort(new UserError("ABORTED", "interrupted")));
try {
  if (!await main(interrupted.signal)) process.exitCode = exitStatus.failed;
} catch (error) {
  const isUsage = (error as NodeJS.ErrnoException).code?.startsWith("ERR_PARSE_ARGS") === true;
  if (!(error instanceof UserError) && !isUsage) throw error;
  console.error(`bench: ${(error as Error).message}`);
  process.exitCode = interrupted.signal.aborted ? exitStatus.interrupted
    : isUsage || (error as UserError).code === "BAD_ARGUMENT" ? exitStatus.badArgument : exitStatus.failed;
}
