/** Compiles hot regions, a few in a module, and puts them where the dispatch loop enters them. */
import type { Routine } from "../../ir/index.ts";
import type { StateView } from "../../isa/state-view.ts";
import * as state from "../../isa/state.ts";
import { ModuleBuilder } from "../../wasm/index.ts";
import { neverHot, type Block, type CodeCache, type Dependent } from "../code-cache.ts";
import { FastRoutines } from "../fast-routines.ts";
import { routineNumber } from "../handler-registry.ts";
import { maximumRegions, RegionExit, SpecialHandler, type Interpreter } from "../interpreter.ts";
import { HeaderField } from "../record.ts";
import { wasm } from "../web-assembly.ts";
import { findX87Use, RegionCode } from "./region-code.ts";
import { formRegion, type Region, type RegionLimits, type RegionSource } from "./region.ts";
import type { JitSettings } from "./settings.ts";
import { Support } from "./support.ts";

/** How long a region waits for others to be compiled with: less than a millisecond. */
const patienceInstructions = 100_000;

/** How often a region may find another state than it was generated for. */
const maximumRefusals = 20;

export interface JitHost {
  readonly state: StateView;
  readonly interpreter: Interpreter;
  readonly code: CodeCache;
  /** Brings what `slowAddress` points to into the TLB, if compiled code may access it. */
  readonly reachable: (sizeBytes: number, isWrite: number) => number;
  recordAt(linear: bigint): number;
  /** Instructions retired so far; only differences mean something. */
  retired(): number;
}

/** What compiled code has done, where it is counted; of all processors together. */
export const jitTotals: { entries: number; executed: number } = { entries: 0, executed: 0 };

/** A region that waits to be compiled or has been. */
class CompiledRegion implements Dependent {
  readonly region: Region;
  readonly name: string;
  /** Takes the place of a smaller one. */
  readonly isGrown: boolean;
  readonly #onVoid: (compiled: CompiledRegion) => void;
  isVoid = false;
  refusals = 0;
  /** Place in the table of regions, or -1. */
  slot = -1;
  module: CompiledModule | undefined;

  constructor(region: Region, name: string, isGrown: boolean, onVoid: (compiled: CompiledRegion) => void) {
    this.region = region;
    this.name = name;
    this.isGrown = isGrown;
    this.#onVoid = onVoid;
    for (const block of region.sources) (block.dependents ??= new Set()).add(this);
  }

  blockVoided(): void {
    if (this.isVoid) return;
    this.isVoid = true;
    for (const block of this.region.sources) block.dependents?.delete(this);
    this.#onVoid(this);
  }
}

interface CompiledModule {
  readonly regions: readonly CompiledRegion[];
  readonly sizeBytes: number;
}

function isVoid({ regions }: CompiledModule): boolean {
  return regions.every((compiled) => compiled.isVoid);
}

/** What is the same for all regions. */
type StandingLimits = Omit<RegionLimits, "minimumEntries">;

export class Jit {
  readonly #host: JitHost;
  readonly #settings: JitSettings;
  readonly #source: RegionSource;
  readonly #limits: StandingLimits;
  readonly #grownLimits: StandingLimits;
  readonly #imports: Record<string, Record<string, unknown>>;
  readonly #support: Support;
  readonly #waiting: CompiledRegion[] = [];
  /** Oldest first. */
  readonly #modules = new Set<CompiledModule>();
  readonly #freeSlots: number[] = [];
  /** By the header of their entry. */
  readonly #published = new Map<number, CompiledRegion>();
  /** Entries of regions that refused too often. */
  readonly #refusing = new WeakSet<Block>();
  #waitingSince = 0;
  #nextSlot = 0;
  #codeBytes = 0;
  #random: number;
  #retiredAtEntry = 0;
  /**
   * `executed`: instructions retired by compiled code in so many `entries`; so many were `handedBack` to the interpreter
   * with nothing done. These stay 0 where they are not counted. `sharedLooks`: accesses that rely on another's look into the TLB.
   */
  readonly counters = { regions: 0, modules: 0, blocks: 0, instructions: 0, codeBytes: 0, voided: 0, evicted: 0, entries: 0, executed: 0, handedBack: 0, sharedLooks: 0 };

  constructor(host: JitHost, settings: JitSettings) {
    this.#host = host;
    this.#settings = settings;
    this.#random = settings.evictionSeed ?? 0;
    const threshold = settings.threshold === 0 ? neverHot : settings.threshold;
    const stepEntries = settings.threshold === 0 ? neverHot : Math.min(threshold, settings.burst.entries);
    host.code.startingHeat = stepEntries;
    if (settings.compilesSteps === true) host.code.startingHeatOfSteps = stepEntries;
    this.#limits = {
      maximumBlocks: settings.maximumBlocks, maximumInstructions: settings.maximumInstructions,
      stepEntries, followsComputed: settings.followsComputed, joinedInstructions: settings.joinedInstructions,
    };
    this.#grownLimits = { ...this.#limits, ...settings.growth, followsComputed: true, joinedInstructions: Infinity };
    this.#source = { ...host, compiledInstructions: (header) => this.#published.get(header)?.region.instructionCount ?? 0 };
    const hostImports = host.interpreter.hostImports;
    this.#support = new Support(host.state.base);
    this.#imports = {
      host: {
        ...hostImports, reachable: host.reachable,
        refused: (header: number) => this.#refused(header),
        regionEntered: () => void (this.#retiredAtEntry = host.retired()),
        regionLeft: (status: number) => this.#count(host.retired() - this.#retiredAtEntry, status),
      },
    };
  }

  get #memoryPages(): number {
    return this.#host.state.u8.buffer.byteLength / 65_536;
  }

  /** What is there now; `places` of the table of regions have been in use at once. */
  get kept(): { readonly modules: number; readonly codeBytes: number; readonly places: number } {
    return { modules: this.#modules.size, codeBytes: this.#codeBytes, places: this.#nextSlot };
  }

  #count(executed: number, status: number): void {
    if (status === RegionExit.Interpret && executed === 0) this.counters.handedBack++;
    for (const counters of [this.counters, jitTotals]) {
      counters.entries++;
      counters.executed += executed;
    }
  }

  /** A block has been entered often, and is about to be: it is compiled, or once more with more around it. */
  blockIsHot(header: number): void {
    const { state: view, code } = this.#host;
    view.u32[(header + HeaderField.heat) >>> 2] = neverHot;
    const block = code.blockOf(header);
    if (block === undefined) return;
    if (this.#waiting.some(({ region }) => region.sources.includes(block))) {
      // It will be compiled in a moment, as a part of that: what is entered from elsewhere afterwards gets hot again.
      view.u32[(header + HeaderField.heat) >>> 2] = this.#limits.stepEntries;
      return;
    }
    const isGrown = this.#published.has(header);
    const entries = isGrown ? this.#settings.threshold : this.#entriesOfHot(header);
    if (entries === undefined) return;
    const linear = view.get64(state.ripBase) + view.get64(state.fetchBase);
    const limits = { ...(isGrown ? this.#grownLimits : this.#limits), minimumEntries: Math.floor(entries / 16) };
    const region = formRegion(this.#source, limits, block, linear);
    if (region === undefined) return;
    if (this.#waiting.length === 0) this.#waitingSince = this.#host.retired();
    this.#waiting.push(new CompiledRegion(region, `region ${BigInt.asUintN(64, linear).toString(16)}`, isGrown, (compiled) => this.#release(compiled)));
    if (this.#waiting.length >= this.#settings.batch) this.#compileWaiting();
  }

  /**
   * Entries of a block that has used up another step, if that makes it hot: there were enough of them, or they come one after
   * the other. What a whole boot executes now and then is not worth compiling; what a program has begun to repeat is.
   */
  #entriesOfHot(header: number): number | undefined {
    const { u32 } = this.#host.state;
    const { stepEntries } = this.#limits, { threshold, burst } = this.#settings;
    const lastAt = (header + HeaderField.lastStep) >>> 2;
    const entries = ++u32[(header + HeaderField.steps) >>> 2] * stepEntries;
    const now = Math.floor(this.#host.retired() / 1024) >>> 0, elapsed = (now - u32[lastAt]) >>> 0;
    u32[lastAt] = now;
    if (entries >= threshold || (entries > stepEntries && elapsed * 1024 <= burst.withinInstructions)) return entries;
    u32[(header + HeaderField.heat) >>> 2] = stepEntries;
    return undefined;
  }

  /** Compiles what has waited long enough for company: between two slices. */
  compileDue(): void {
    if (this.#waiting.length > 0 && this.#host.retired() - this.#waitingSince >= patienceInstructions) this.#compileWaiting();
  }

  #compileWaiting(): void {
    const regions = this.#waiting.splice(0).filter(({ isVoid }) => !isVoid);
    if (regions.length === 0) return;
    const bytes = this.#generate(regions);
    const imports = { ...this.#imports, [FastRoutines.moduleName]: this.#host.interpreter.fastRoutines.imports() };
    const { exports } = new wasm.Instance(new wasm.Module(bytes), imports);
    const module: CompiledModule = { regions, sizeBytes: bytes.length };
    regions.forEach((compiled, index) => this.#publish(compiled, module, exports[`r${index}`]));
    this.#modules.add(module);
    this.#codeBytes += bytes.length;
    this.counters.modules++;
    this.counters.codeBytes += bytes.length;
    for (const oldest of this.#modules) {
      if (this.#modules.size <= this.#settings.maximumModules && this.#codeBytes <= this.#settings.maximumCodeBytes) break;
      this.#evict(oldest);
    }
    if (this.#settings.evictionSeed !== undefined) this.#evictAtRandom();
  }

  #generate(regions: readonly CompiledRegion[]): Uint8Array<ArrayBuffer> {
    const builder = new ModuleBuilder({ names: this.#settings.names === true });
    const { interpreter, state: view } = this.#host;
    const regionType = builder.type({ params: [], results: ["i32"] });
    const table = builder.importTable("host", "regions", { element: "funcref", min: maximumRegions });
    builder.importMemory("host", "memory", { min: this.#memoryPages, max: this.#memoryPages, shared: true });
    const routine = builder.importFunction("host", "routine", { params: ["i32"], results: ["i32"] });
    const observe = builder.importFunction("host", "observe", { params: ["i32"], results: ["i32"] });
    const refused = builder.importFunction("host", "refused", { params: ["i32"], results: [] });
    const reachable = builder.importFunction("host", "reachable", { params: ["i32", "i32"], results: ["i32"] });
    const counts = this.#settings.counts === true ? {
      entered: builder.importFunction("host", "regionEntered", { params: [], results: [] }),
      left: builder.importFunction("host", "regionLeft", { params: ["i32"], results: [] }),
    } : undefined;
    const routines = new Set<Routine>();
    for (const { region } of regions) {
      for (const { instructions } of region.blocks) {
        for (const { summary } of instructions) for (const routine of summary.fastRoutines) routines.add(routine);
      }
    }
    const fastFunction = interpreter.fastRoutines.importInto(builder, routines);
    const calls = { routine, observe, refused, ...this.#support.addTo(builder, { reachable, regions: table, regionType }) };
    regions.forEach(({ region, name }, index) => {
      // What counts regions goes on to the next one itself, so that each is counted.
      const environment = { view, calls, fastFunction, routineNumber, chains: counts === undefined };
      const isPlain = this.#refusing.has(region.entry);
      const assumptions = { isPlain, x87: isPlain ? undefined : findX87Use(environment, region) };
      const func = builder.addFunction(name, { params: [], results: ["i32"] }, (f) => {
        this.counters.sharedLooks += new RegionCode(environment, f, region, assumptions).groups.shared;
      });
      builder.exportFunction(`r${index}`, counts === undefined ? func : builder.addFunction(`counted${index}`, { params: [], results: ["i32"] }, (f) => {
        f.call(counts.entered);
        const status = f.addLocal("i32");
        f.call(func);
        f.local.tee(status);
        f.call(counts.left);
        f.local.get(status);
        f.i32.eqz();
        f.if();
        f.returnCall(calls.chain);
        f.end();
        f.local.get(status);
      }));
      this.counters.regions++;
      this.counters.blocks += region.blocks.length;
      this.counters.instructions += region.instructionCount;
    });
    return builder.build();
  }

  #publish(compiled: CompiledRegion, module: CompiledModule, run: unknown): void {
    compiled.module = module;
    const header = compiled.region.entry.record;
    this.#published.get(header)?.blockVoided();
    const slot = this.#freeSlots.pop() ?? this.#nextSlot++;
    if (slot >= maximumRegions) return;
    compiled.slot = slot;
    const { interpreter, state: view } = this.#host;
    this.#published.set(header, compiled);
    interpreter.regions.set(slot, run);
    view.u32[(header + HeaderField.heat) >>> 2] = compiled.isGrown ? neverHot : this.#settings.growth.entries;
    view.u32[(header + HeaderField.region) >>> 2] = slot;
    view.u16[header >>> 1] = SpecialHandler.Region;
  }

  /** A region that finds another state than it was generated for again and again is generated anew, for any. */
  #refused(header: number): void {
    const compiled = this.#published.get(header);
    if (compiled === undefined || ++compiled.refusals < maximumRefusals) return;
    this.#refusing.add(compiled.region.entry);
    compiled.blockVoided();
  }

  /** Takes a void region out of reach. */
  #release(compiled: CompiledRegion): void {
    this.counters.voided++;
    const { module } = compiled;
    if (module !== undefined && isVoid(module)) this.#forget(module);
    if (compiled.slot < 0) return;
    const { interpreter, state: view } = this.#host;
    const header = compiled.region.entry.record;
    if (view.u16[header >>> 1] === SpecialHandler.Region) {
      view.u16[header >>> 1] = SpecialHandler.Enter;
      view.u32[(header + HeaderField.heat) >>> 2] = this.#limits.stepEntries;
      view.u32[(header + HeaderField.steps) >>> 2] = 0;
    }
    if (this.#published.get(header) === compiled) this.#published.delete(header);
    interpreter.regions.set(compiled.slot, null);
    this.#freeSlots.push(compiled.slot);
    compiled.slot = -1;
  }

  #forget(module: CompiledModule): void {
    if (this.#modules.delete(module)) this.#codeBytes -= module.sizeBytes;
  }

  #evict(module: CompiledModule): void {
    this.counters.evicted++;
    for (const compiled of module.regions) compiled.blockVoided();
  }

  #evictAtRandom(): void {
    this.#random = (Math.imul(this.#random, 1_103_515_245) + 12_345) >>> 0;
    const modules = [...this.#modules];
    if ((this.#random >>> 16) % 4 === 0 && modules.length > 0) this.#evict(modules[(this.#random >>> 18) % modules.length]);
  }
}
