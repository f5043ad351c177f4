/** What a bench, and what a subject that benches run, look like. A bench or a subject is one file and one line in catalog.ts. */
import type { ProgressEvent } from "../src/host/node/guests/index.ts";

/** A guest: the same for every subject of a run. */
export interface GuestJob {
  /** Path of the bzImage, or of a multiboot kernel. */
  readonly kernel: string;
  /** Path of the initial RAM file system; undefined: none. */
  readonly initramfs?: string;
  readonly commandLine: string;
  readonly memoryMib: number;
}

/** How a process is started whose standard output is the guest's console. */
export interface Launch {
  readonly program: string;
  readonly args: readonly string[];
  readonly environment: Readonly<Record<string, string>>;
  /** The process writes an {@link EngineSample} a line to file descriptor 3. */
  readonly isSampled: boolean;
}

/** What our own side knows of itself after the first `consoleBytes` bytes of the console. */
export interface EngineSample {
  readonly consoleBytes: number;
  readonly instructions: number;
  /** Since power-on, by the host's clock. */
  readonly seconds: number;
}

/** Something that runs guests. */
export interface Subject {
  readonly name: string;
  /** With its version and settings, for people. */
  readonly description: string;
  /** Of the guests that it is compared on: those of x86-64, unless it cannot run them. */
  readonly architecture: "x86-64" | "i386";
  launch(job: GuestJob): Launch;
}

export interface SubjectSource {
  readonly name: string;
  /**
   * With the virtualization extension that guests are to have, if any.
   * @throws UserError TOOL_MISSING when it is not there and cannot be fetched.
   */
  prepare(onProgress: (event: ProgressEvent) => void, extension?: "svm"): Promise<Subject>;
}

export interface BenchOptions {
  /** One of {@link Bench.peers}; undefined where there are none. */
  readonly peer: string | undefined;
  readonly runs: number;
  /** Names of rows to measure; undefined: all. */
  readonly only: readonly string[] | undefined;
  /** Multiplies the work, where a bench can. */
  readonly scale: number;
  /** For one program, or for one boot; undefined: what the bench deems enough. */
  readonly timeoutSeconds: number | undefined;
  readonly log: (text: string) => void;
  readonly onProgress: (event: ProgressEvent) => void;
  /** Ends what is running when it is aborted. */
  readonly signal: AbortSignal;
}

/** One line of a result. */
export interface BenchRow {
  readonly name: string;
  /** Medians; null where nothing was measured. */
  readonly oursSeconds: number | null;
  readonly peerSeconds: number | null;
  /** ours / peer: below 1 we are faster. Null without a peer, and with a failure. */
  readonly ratio: number | null;
  readonly failure?: string;
  /** The row is measured along with the others but is of another kind. */
  readonly isOutsideMean?: boolean;
  /** Further figures of the row, by name. */
  readonly [figure: string]: unknown;
}

export interface BenchResult {
  readonly title: string;
  /** Who was measured, with versions and settings. */
  readonly subtitle: string;
  readonly rows: readonly BenchRow[];
  /** Columns of the table beside the common ones: title, and the figure's text. */
  readonly columns: readonly { readonly title: string; text(row: BenchRow): string }[];
  /** Sentences below the table. */
  readonly notes: readonly string[];
}

export interface Bench {
  readonly name: string;
  readonly summary: string;
  /** What it can be run against, the first by default; empty for a bench of ourselves alone. */
  readonly peers: readonly string[];
  readonly defaultRuns: number;
  run(options: BenchOptions): Promise<BenchResult>;
}
