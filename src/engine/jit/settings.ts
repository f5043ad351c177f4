/** When and how much the JIT compiles. */
import { UserError } from "../../base/errors.ts";

export interface JitSettings {
  /** Entries of a block until it is compiled; 0: never. */
  readonly threshold: number;
  /** A block is compiled earlier when so many entries, not its first ones, come within so many instructions. */
  readonly burst: { readonly entries: number; readonly withinInstructions: number };
  readonly maximumBlocks: number;
  readonly maximumInstructions: number;
  /** Follows jumps to where they went last already in regions that have not grown. */
  readonly followsComputed: boolean;
  /** Regions of at most so many instructions become part of those that lead to them; larger ones are entered. */
  readonly joinedInstructions: number;
  /** What is entered this often from outside is compiled once more, as a larger region. */
  readonly growth: { readonly entries: number; readonly maximumBlocks: number; readonly maximumInstructions: number };
  /** Regions that are compiled together. */
  readonly batch: number;
  /** Bounds of what is kept: beyond them the oldest modules go. */
  readonly maximumModules: number;
  readonly maximumCodeBytes: number;
  /** Gives functions names, regions that of their first instruction's linear address, for profilers. */
  readonly names?: boolean;
  /** Throws away a module at random now and then, for tests: the seed. */
  readonly evictionSeed?: number;
  /** Counts what compiled code executes, at the price of two calls an entry, for tests. */
  readonly counts?: boolean;
  /** Compiles what is executed one instruction at a time, too, for tests. */
  readonly compilesSteps?: boolean;
}

export const standardJit: JitSettings = {
  threshold: 4000, burst: { entries: 1300, withinInstructions: 2_000_000 }, maximumBlocks: 16, maximumInstructions: 300,
  followsComputed: false, joinedInstructions: 100, growth: { entries: 1_000_000, maximumBlocks: 32, maximumInstructions: 600 },
  batch: 8, maximumModules: 2000, maximumCodeBytes: 48 << 20,
};

/** Compiles at the first entry; keeps more, so that what a kernel executes once in a while is not compiled each time. */
const forced: JitSettings = {
  ...standardJit, threshold: 1, growth: { ...standardJit.growth, entries: 100 }, batch: 1, maximumModules: 8000, counts: true,
};

const named: Readonly<Record<string, JitSettings>> = {
  on: standardJit,
  off: { ...standardJit, threshold: 0 },
  /** As on; functions have names for profilers. */
  named: { ...standardJit, names: true },
  forced,
  /** Regions of one block. */
  tiny: { ...forced, maximumBlocks: 1, growth: { entries: 100, maximumBlocks: 1, maximumInstructions: 300 } },
  /** Regions as large as they get, some thrown away at random. */
  huge: { ...forced, followsComputed: true, joinedInstructions: Infinity, maximumBlocks: 256, maximumInstructions: 4000, evictionSeed: 1 },
};

export const jitNames: readonly string[] = Object.keys(named);

/** Settings by name: on, off, named, forced, tiny, huge. */
export function jitSettingsNamed(name: string): JitSettings {
  const settings = named[name];
  if (settings === undefined) throw new UserError("BAD_ARGUMENT", `There is no JIT setting "${name}": use one of ${jitNames.join(", ")}.`);
  return settings;
}

let defaults: JitSettings = standardJit;

/** What processors are made with that are not told otherwise. */
export function defaultJitSettings(): JitSettings {
  return defaults;
}

/** For whole test suites under a forced or disabled JIT. */
export function setDefaultJitSettings(settings: JitSettings): void {
  defaults = settings;
}
