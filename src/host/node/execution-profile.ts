/**
 * Where a machine's time goes: V8's sampling profiler over our own code and the code that we generate. The file is a
 * CPU profile in the format of the Chrome DevTools protocol, which speedscope and Chrome's Performance panel open.
 */
import { readFileSync, writeFileSync } from "node:fs";
import { Session, type Profiler } from "node:inspector";
import { UserError } from "../../base/errors.ts";

const samplingIntervalUs = 500;

/** A part of the whole and its share of the samples' time. */
export interface ProfileShare {
  readonly name: string;
  readonly milliseconds: number;
}

export interface ProfileSummary {
  /** The whole, idle time included. */
  readonly milliseconds: number;
  readonly categories: readonly ProfileShare[];
  /** The guest's regions that took most time, by address or symbol. */
  readonly regions: readonly ProfileShare[];
}

/** A guest's function names by address, ascending. */
export interface SymbolTable {
  readonly addresses: readonly bigint[];
  readonly names: readonly string[];
}

const regionPrefix = "region ";
const hottestRegions = 12;

/** By the place of the function's source, first match first. */
const categoriesByPlace: readonly (readonly [RegExp, string])[] = [
  [/\/engine\/jit\/|\/engine\/emit\/|\/engine\/wasm-emitter|\/wasm\//u, "compiling"],
  [/\/engine\/code-cache|\/isa\/decode|\/isa\/encoding|\/isa\/byte-cursor|\/engine\/handler/u, "decoding"],
  [/\/engine\/(?:mmu|page-walk|entry-set)/u, "TLB misses and slow accesses"],
  [/\/engine\/physical-memory|\/engine\/string-runs/u, "physical memory"],
  [/\/isa\/(?:system|semantics)\/|\/virt\//u, "routines: system instructions, exceptions"],
  [/\/softfloat\//u, "routines: exact floating point"],
  [/\/engine\//u, "processor, between slices"],
  [/\/devices\/|\/machine\//u, "devices"],
];

/** What a sampled function belongs to. */
export function categoryOf(functionName: string, url: string): string {
  if (functionName.startsWith(regionPrefix)) return "compiled code";
  if (functionName === "(idle)") return "idle";
  if (functionName === "(garbage collector)") return "garbage collector";
  if (url.startsWith("wasm:")) return "interpreter";
  if (functionName === "Module" || functionName === "Instance") return "compiling";
  return categoriesByPlace.find(([place]) => place.test(url))?.[1] ?? "everything else";
}

/** Lines of `nm` or a kernel's System.map: address, type, name. */
export function parseSymbols(text: string): SymbolTable {
  const found = [...text.matchAll(/^(?<address>[0-9a-f]{8,16}) [tTwW] (?<name>\S+)$/gmu)]
    .map(({ groups }) => ({ address: BigInt(`0x${groups?.["address"]}`), name: groups?.["name"] ?? "" }))
    .toSorted((a, b) => (a.address < b.address ? -1 : a.address > b.address ? 1 : 0));
  return { addresses: found.map(({ address }) => address), names: found.map(({ name }) => name) };
}

/** `name+0x12`, or the address itself where no symbol is near. */
export function symbolAt({ addresses, names }: SymbolTable, address: bigint): string {
  let low = 0, high = addresses.length;
  while (low < high) {
    const middle = (low + high) >>> 1;
    if (addresses[middle] <= address) low = middle + 1;
    else high = middle;
  }
  const distance = low === 0 ? undefined : address - addresses[low - 1];
  if (distance === undefined || distance > 0xf_ffffn) return `0x${address.toString(16)}`;
  return distance === 0n ? names[low - 1] : `${names[low - 1]}+0x${distance.toString(16)}`;
}

/** Adds up a profile's samples and gives regions the guest's names. */
export function summarizeProfile(profile: Profiler.Profile, symbols: SymbolTable | undefined): ProfileSummary {
  const times = new Map<number, number>();
  profile.samples?.forEach((node, index) => times.set(node, (times.get(node) ?? 0) + (profile.timeDeltas?.[index] ?? 0)));
  const categories = new Map<string, number>(), regions = new Map<string, number>();
  const add = (to: Map<string, number>, name: string, microseconds: number): void => void to.set(name, (to.get(name) ?? 0) + microseconds);
  let whole = 0;
  for (const { id, callFrame } of profile.nodes) {
    const microseconds = times.get(id) ?? 0;
    whole += microseconds;
    add(categories, categoryOf(callFrame.functionName, callFrame.url), microseconds);
    if (!callFrame.functionName.startsWith(regionPrefix)) continue;
    const address = BigInt(`0x${callFrame.functionName.slice(regionPrefix.length)}`);
    const name = symbols === undefined ? `0x${address.toString(16)}` : symbolAt(symbols, address);
    callFrame.functionName = `guest ${name}`;
    add(regions, name, microseconds);
  }
  const sorted = (from: Map<string, number>): ProfileShare[] => [...from]
    .map(([name, microseconds]) => ({ name, milliseconds: microseconds / 1000 }))
    .filter(({ milliseconds }) => milliseconds > 0)
    .toSorted((a, b) => b.milliseconds - a.milliseconds);
  return { milliseconds: whole / 1000, categories: sorted(categories), regions: sorted(regions).slice(0, hottestRegions) };
}

function share({ name, milliseconds }: ProfileShare, whole: number): string {
  return `${milliseconds.toFixed(0).padStart(9)} ms ${((milliseconds / whole) * 100).toFixed(1).padStart(5)} %  ${name}`;
}

/** A short table for the terminal. */
export function formatProfileSummary({ milliseconds, categories, regions }: ProfileSummary): string {
  const lines = ["where the time went:", ...categories.map((category) => share(category, milliseconds))];
  if (regions.length > 0) lines.push("", "the guest's hottest code:", ...regions.map((region) => share(region, milliseconds)));
  return `${lines.join("\n")}\n`;
}

/** Profiles this thread from `start` to `finish`. */
export class ExecutionProfile {
  readonly #session = new Session();
  readonly #path: string;
  readonly #symbols: SymbolTable | undefined;

  private constructor(path: string, symbols: SymbolTable | undefined) {
    this.#path = path;
    this.#symbols = symbols;
    this.#session.connect();
    this.#session.post("Profiler.enable");
    this.#session.post("Profiler.setSamplingInterval", { interval: samplingIntervalUs });
    this.#session.post("Profiler.start");
  }

  /**
   * `path` is where the profile goes, and is created at once, so that nobody waits for one that cannot be written.
   * @throws UserError FILE_NOT_WRITABLE, FILE_NOT_READABLE.
   */
  static start(path: string, symbolFile: string | undefined): ExecutionProfile {
    let symbols: SymbolTable | undefined;
    if (symbolFile !== undefined) {
      try {
        symbols = parseSymbols(readFileSync(symbolFile, "utf8"));
      } catch (cause) {
        throw new UserError("FILE_NOT_READABLE", `The symbols in ${symbolFile} cannot be read: give a System.map or the output of nm.`, { cause });
      }
    }
    writeProfile(path, "{}");
    return new ExecutionProfile(path, symbols);
  }

  /** Writes the file. @throws UserError FILE_NOT_WRITABLE. */
  async finish(): Promise<ProfileSummary> {
    const stopped = Promise.withResolvers<Profiler.Profile>();
    this.#session.post("Profiler.stop", (error, result) => error === null ? stopped.resolve(result.profile) : stopped.reject(error));
    const profile = await stopped.promise;
    this.#session.disconnect();
    const summary = summarizeProfile(profile, this.#symbols);
    writeProfile(this.#path, JSON.stringify(profile));
    return summary;
  }
}

function writeProfile(path: string, text: string): void {
  try {
    writeFileSync(path, text);
  } catch (cause) {
    throw new UserError("FILE_NOT_WRITABLE", `The profile ${path} cannot be written: choose another place.`, { cause });
  }
}
