/** The interpreter: one WebAssembly function that dispatches over records, and out-of-line handlers in a table. */
import type { Routine } from "../ir/index.ts";
import * as state from "../isa/state.ts";
import { ModuleBuilder, type FuncIndex, type FunctionBuilder, type Label } from "../wasm/index.ts";
import { faultDelivery } from "./delivery-code.ts";
import { FastRoutines, fastRoutinesOf } from "./fast-routines.ts";
import { handlerName, type Handler, type HandlerForm } from "./handler.ts";
import { handlerOfNumber, maximumHandlers, registeredHandler, type RegisteredHandler, routineNumber, routineOfNumber } from "./handler-registry.ts";
import { HeaderField, RecordField, recordSizeBytes } from "./record.ts";
import { emitForInterpreter, type Exits, type HostFunctions } from "./wasm-emitter.ts";
import { wasm, type WasmInstance, type WasmMemory, type WasmTable } from "./web-assembly.ts";

/** Why `run` returned. */
export const RunResult = {
  /** The budget is used up; `rip` is exact. */
  Budget: 0,
  /** An exception is recorded; `currentRecord` is the instruction's, or 0 after a failed fetch (`rip` is exact then). */
  Fault: 2,
  /** An instruction asked to leave; `rip` is the next one. */
  Exit: 3,
} as const;
export type RunResult = (typeof RunResult)[keyof typeof RunResult];

/** What generated code calls. */
export interface InterpreterHost {
  readonly slowLoad: (sizeBytes: number, flags: number) => number;
  readonly slowStore: (sizeBytes: number, flags: number) => number;
  slowCheckWrite(sizeBytes: number, flags: number): number;
  segmentCheck(segment: number, sizeBytes: number, intent: number): number;
  runRoutine(routine: Routine): number;
  /** The same for one that only observes. */
  observe(routine: Routine): number;
  /** Record of the block at `rip`, or 0 after recording a fault. */
  findBlock(): number;
  /** The block with this header has been entered often. */
  blockIsHot(header: number): void;
  /** Goes on outside of the guest by the exit that is recorded, and answers 1; 0: not here, between two calls of `run`. */
  readonly leaveGuest: () => number;
}

/** Handler numbers with a meaning of their own. */
export const SpecialHandler = {
  /** The block is void: look up anew from this instruction's address. */
  Invalid: 0,
  /** End of a block without a branch. `count` is one more than the block's instructions. */
  End: 1,
  /** Header of a block: counts entries. */
  Enter: 2,
  /** Header of a block that has compiled code. */
  Region: 3,
  /** Leave before this instruction: something wants attention. */
  Leave: 4,
} as const;

/** How compiled code returns to the dispatch loop; `rip` is exact, and what was executed is charged. */
export const RegionExit = {
  /** On with the block at `rip`. */
  LookUp: 0,
  /** The block at `rip` is to be interpreted, whether there is compiled code for it or not. */
  Interpret: 1,
  Fault: 2,
  Exit: 3,
} as const;

export const maximumRegions = 32_768;

/** Compiled dispatch loops by all that their code depends on; the oldest give way. */
const dispatchLoops = new Map<string, object>();
const keptDispatchLoops = 8;

interface DispatchImports {
  readonly host: HostFunctions;
  fastFunction(routine: Routine): FuncIndex | undefined;
}

export class Interpreter {
  /** Whether the hot handlers of some processor of this process have been inlined, so that it costs little to do it again. */
  static hasInlinedHot = false;
  readonly #memory: WasmMemory;
  /** Fast paths as functions, which the JIT's modules import, too. */
  readonly fastRoutines: FastRoutines;
  /** Compiled code by region number. */
  readonly regions: WasmTable = new wasm.Table({ element: "anyfunc", initial: maximumRegions });
  readonly #table: WasmTable = new wasm.Table({ element: "anyfunc", initial: maximumHandlers });
  readonly #imports: Record<string, Record<string, unknown>>;
  readonly #hot: () => readonly HandlerForm[];
  #run: (cpu: number) => number;
  readonly #base: number;
  /** Those whose functions are in the table, or are about to be. */
  readonly #registered = new Set<RegisteredHandler>();
  readonly #leaveGuest: () => number;
  readonly #countersOffset: number | undefined;
  /** Functions have names, for profilers. */
  readonly #names: boolean;
  #pending: RegisteredHandler[] = [];
  /** Bytes of WebAssembly generated so far. */
  generatedBytes = 0;

  /**
   * `hot` gives the handlers that `inlineHot` inlines into the dispatch loop. `countersOffset` is where to count
   * executions, a u32 per handler number; without it nothing is counted.
   */
  constructor(
    memory: WasmMemory, base: number, host: InterpreterHost, hot: () => readonly HandlerForm[], countersOffset?: number,
    names: boolean = false,
  ) {
    this.#names = names;
    this.#countersOffset = countersOffset;
    this.#memory = memory;
    this.#base = base;
    this.#leaveGuest = host.leaveGuest;
    this.fastRoutines = new FastRoutines(memory, (bytes) => {
      this.generatedBytes += bytes.length;
    });
    this.#imports = {
      host: {
        memory, table: this.#table, regions: this.regions,
        // As they are: calls of what is WebAssembly, too, do not go through JavaScript.
        slowLoad: host.slowLoad, slowStore: host.slowStore,
        slowCheckWrite: (size: number, flags: number) => host.slowCheckWrite(size, flags),
        segmentCheck: (segment: number, size: number, intent: number) => host.segmentCheck(segment, size, intent),
        routine: (number: number) => host.runRoutine(routineOfNumber(number)),
        observe: (number: number) => host.observe(routineOfNumber(number)),
        findBlock: () => host.findBlock(),
        // Made with the loop that has the hot handlers: guests that end soon do not pay for it.
        deliverFault: () => 0,
        blockIsHot: (header: number) => host.blockIsHot(header),
      },
    };
    this.#hot = hot;
    this.#run = this.#instantiate(this.#dispatchLoopOf([])).exports["run"];
  }

  /** Number of the handler for a form, making it on first use. `flush` must follow before it runs. */
  handler(form: HandlerForm): RegisteredHandler {
    const registered = registeredHandler(form);
    if (!this.#registered.has(registered)) {
      this.#registered.add(registered);
      this.#pending.push(registered);
    }
    return registered;
  }

  /**
   * Goes on with a dispatch loop that has the hot handlers in it, which is faster, and takes some time to make. To be called
   * outside of `run`.
   */
  inlineHot(): void {
    const inline = this.#hot().map(registeredHandler);
    if (inline.length === 0) return;
    Interpreter.hasInlinedHot = true;
    this.#imports["host"]["deliverFault"] = faultDelivery(this.#memory, this.#base, this.#leaveGuest);
    this.#run = this.#instantiate(this.#dispatchLoopOf(inline)).exports["run"];
    // Nobody calls them through the table any more.
    for (const handler of inline) this.#registered.add(handler);
    this.#pending = this.#pending.filter((handler) => !inline.includes(handler));
  }

  /** Compiles the handlers made since the last time, all in one module. */
  flush(): void {
    if (this.#pending.length === 0) return;
    const pending = this.#pending;
    this.#pending = [];
    const builder = new ModuleBuilder({ names: this.#names });
    const host = this.#importHost(builder);
    const fast = this.#importFast(builder, pending);
    const functions = pending.map(({ handler }) => builder.addFunction(
      handlerName(handler.form), { params: ["i32", "i32"], results: ["i32"] }, (f) => this.#outOfLine(f, handler, host, fast)));
    functions.forEach((func, index) => builder.exportFunction(`h${index}`, func));
    const { exports } = this.#instantiate(this.#compile(builder.build()));
    pending.forEach(({ number }, index) => this.#table.set(number, exports[`h${index}`]));
  }

  /** Runs until the budget in the state is used up or something needs attention. */
  run(): RunResult {
    return this.#run(this.#base) as RunResult;
  }

  /** The handler with a number; undefined for the special ones. */
  handlerOf(number: number): Handler | undefined {
    return handlerOfNumber(number);
  }

  /** What modules of generated code may import from "host". */
  get hostImports(): Record<string, unknown> {
    return this.#imports["host"];
  }

  /** Names of all handlers by number, for profiles. */
  handlerNames(): Map<number, string> {
    return new Map([...this.#registered].map(({ number, handler }) => [number, handlerName(handler.form)]));
  }

  #compile(bytes: Uint8Array<ArrayBuffer>): object {
    this.generatedBytes += bytes.length;
    return new wasm.Module(bytes);
  }

  #instantiate(module: object): WasmInstance {
    return new wasm.Instance(module, { ...this.#imports, [FastRoutines.moduleName]: this.fastRoutines.imports() });
  }

  /** The dispatch loop, which machines of the same size that inline the same handlers share. */
  #dispatchLoopOf(inline: readonly RegisteredHandler[]): object {
    const key = [this.#memory.buffer.byteLength, this.#countersOffset, this.#names, ...inline.map(({ number }) => number)].join();
    let module = dispatchLoops.get(key);
    if (module === undefined) {
      module = this.#compile(this.#dispatchModule(inline));
      dispatchLoops.set(key, module);
      for (const oldest of [...dispatchLoops.keys()].slice(0, -keptDispatchLoops)) dispatchLoops.delete(oldest);
    } else {
      // It imports them from this interpreter.
      for (const routine of this.#fastRoutinesOf(inline)) this.fastRoutines.functionFor(routine);
    }
    return module;
  }

  #importFast(builder: ModuleBuilder, handlers: readonly RegisteredHandler[]): (routine: Routine) => FuncIndex | undefined {
    return this.fastRoutines.importInto(builder, this.#fastRoutinesOf(handlers));
  }

  #fastRoutinesOf(handlers: readonly RegisteredHandler[]): Set<Routine> {
    const called = new Set<Routine>();
    for (const { handler } of handlers) fastRoutinesOf(handler.body, called);
    return called;
  }

  #importHost(builder: ModuleBuilder): HostFunctions {
    const pages = this.#memory.buffer.byteLength / 65_536;
    builder.importMemory("host", "memory", { min: pages, max: pages, shared: true });
    const two = { params: ["i32", "i32"], results: ["i32"] } as const;
    return {
      slowLoad: builder.importFunction("host", "slowLoad", two),
      slowStore: builder.importFunction("host", "slowStore", two),
      slowCheckWrite: builder.importFunction("host", "slowCheckWrite", two),
      segmentCheck: builder.importFunction("host", "segmentCheck", { params: ["i32", "i32", "i32"], results: ["i32"] }),
      routine: builder.importFunction("host", "routine", { params: ["i32"], results: ["i32"] }),
      observe: builder.importFunction("host", "observe", { params: ["i32"], results: ["i32"] }),
    };
  }

  #outOfLine(
    f: FunctionBuilder, handler: Handler, host: HostFunctions, fastFunction: (routine: Routine) => FuncIndex | undefined,
  ): void {
    const cpu = f.param<"i32">(0), record = f.param<"i32">(1);
    const leave = (status: number): void => {
      f.i32.const(status);
      f.return();
    };
    const exits: Exits = {
      fault: () => leave(2),
      jump: () => leave(1),
      jumpTarget: () => {
        f.local.get(cpu);
        pushBranchTarget(f, cpu, record);
        f.i64.store(state.rip.offset);
        leave(1);
      },
      exit: () => leave(3),
    };
    emitForInterpreter({ f, cpu, record, host, exits, routineNumber, fastFunction }, handler);
    f.i32.const(0);
  }

  #dispatchModule(inline: readonly RegisteredHandler[]): Uint8Array<ArrayBuffer> {
    const builder = new ModuleBuilder({ names: this.#names });
    const host = this.#importHost(builder);
    const findBlock = builder.importFunction("host", "findBlock", { params: [], results: ["i32"] });
    const deliverFault = builder.importFunction("host", "deliverFault", { params: [], results: ["i32"] });
    const fast = this.#importFast(builder, inline);
    const blockIsHot = builder.importFunction("host", "blockIsHot", { params: ["i32"], results: [] });
    const table = builder.importTable("host", "table", { element: "funcref", min: maximumHandlers });
    const regions = builder.importTable("host", "regions", { element: "funcref", min: maximumRegions });
    const run = builder.addFunction("run", { params: ["i32"], results: ["i32"] }, (f) =>
      this.#dispatchLoop(f, inline, { host, fastFunction: fast }, {
        findBlock: (func) => func.call(findBlock),
        deliverFault: (func) => func.call(deliverFault),
        blockIsHot: (func) => func.call(blockIsHot),
        handler: (func) => func.callIndirect({ params: ["i32", "i32"], results: ["i32"] }, table),
        region: (func) => func.callIndirect({ params: [], results: ["i32"] }, regions),
      }));
    builder.exportFunction("run", run);
    return builder.build();
  }

  #dispatchLoop(
    f: FunctionBuilder, inline: readonly RegisteredHandler[], { host, fastFunction }: DispatchImports, calls: DispatchCalls,
  ): void {
    const cpu = f.param<"i32">(0);
    const record = f.addLocal("i32"), status = f.addLocal("i32"), target = f.addLocal("i64"), passesHeader = f.addLocal("i32");
    // Of the delivery before: a fault whose handler faults again retires nothing, for ever, and is left to the host, which counts.
    const deliveredAt = f.addLocal("i32");
    const exit = f.block();
    const lookUp = f.loop();
    const leave = (result: RunResult): void => {
      f.i32.const(result);
      f.local.set(status);
      f.br(exit);
    };
    /** On in the handler of the fault that is recorded, or out for the host to deliver it. */
    const deliverOrLeave = (): void => {
      f.local.get(deliveredAt);
      f.local.get(cpu);
      f.i32.load(state.budget.offset);
      f.local.tee(deliveredAt);
      f.i32.ne();
      f.if("void", "likely");
      calls.deliverFault(f);
      f.brIf(lookUp, "likely");
      f.end();
      leave(RunResult.Fault);
    };
    // The budget is looked at before the block that it would pay for.
    const checkBudget = (): void => {
      f.local.get(cpu);
      f.i32.load(state.budget.offset);
      f.i32.const(0);
      f.i32.le_s();
      f.if("void", "unlikely");
      leave(RunResult.Budget);
      f.end();
    };
    /** Leaves unless the budget pays for the whole block whose header `record` is. */
    const checkBlockBudget = (): void => {
      f.local.get(cpu);
      f.i32.load(state.budget.offset);
      f.local.get(record);
      f.i32.load16_u(HeaderField.instructions);
      f.i32.lt_s();
      f.if("void", "unlikely");
      emitLeaveBefore(f, cpu, record);
      leave(RunResult.Budget);
      f.end();
    };
    const find = (): void => {
      f.local.get(cpu);
      f.i32.const(0);
      f.i32.store(state.currentRecord.offset);
      calls.findBlock(f);
      f.local.tee(record);
      f.i32.eqz();
      f.if("void", "unlikely");
      deliverOrLeave();
      f.end();
    };
    const toNextRecord = (): void => {
      f.local.get(record);
      f.i32.const(recordSizeBytes);
      f.i32.add();
      f.local.set(record);
    };
    const countEntry = (again: Label): void => {
      f.local.get(record);
      f.local.get(record);
      f.i32.load(HeaderField.heat);
      f.i32.const(1);
      f.i32.sub();
      f.local.tee(status);
      f.i32.store(HeaderField.heat);
      f.local.get(status);
      f.i32.eqz();
      f.if("void", "unlikely");
      f.local.get(record);
      calls.blockIsHot(f);
      f.br(again);
      f.end();
    };
    checkBudget();
    emitLookUp(f, cpu, record, find);
    f.local.get(passesHeader);
    f.if("void", "unlikely");
    f.i32.const(0);
    f.local.set(passesHeader);
    checkBlockBudget();
    toNextRecord();
    f.end();
    const atBlock = f.loop();
    // Most blocks begin with a header that only counts: without a turn of its own for it.
    f.local.get(record);
    f.i32.load16_u(RecordField.handler);
    f.i32.const(SpecialHandler.Enter);
    f.i32.eq();
    f.if("void", "likely");
    checkBlockBudget();
    countEntry(atBlock);
    toNextRecord();
    f.end();
    const next = f.loop();
    const [faultLabel, exitLabel, jumpLabel, targetLabel] = [f.block(), f.block(), f.block(), f.block()];
    const advance = (): void => {
      toNextRecord();
      f.br(next);
    };
    const outOfLine = f.block();
    const inlineLabels: Label[] = inline.map(() => f.block()).reverse();
    const leaveLabel = f.block(), region = f.block(), enter = f.block(), end = f.block(), invalid = f.block();
    if (this.#countersOffset !== undefined) emitCount(f, record, this.#countersOffset);
    f.local.get(record);
    f.i32.load16_u(RecordField.handler);
    const labels: Label[] = [invalid, end, enter, region, leaveLabel];
    inline.forEach(({ number }, index) => {
      while (labels.length < number) labels.push(outOfLine);
      labels[number] = inlineLabels[index];
    });
    f.brTable(labels, outOfLine);
    f.end(invalid);
    // Charge what was executed of the block, then find this instruction anew: the jump cache still names the void block.
    emitLeaveBefore(f, cpu, record);
    checkBudget();
    find();
    emitBlockStart(f, cpu);
    f.br(atBlock);
    f.end(end);
    emitEnd(f, cpu, record, atBlock, lookUp);
    f.end(enter);
    // No header comes here; the table has a place for its number.
    f.br(atBlock);
    f.end(region);
    countEntry(atBlock);
    f.local.get(record);
    f.i32.load(HeaderField.region);
    calls.region(f);
    f.local.tee(status);
    f.i32.eqz();
    f.brIf(lookUp, "likely");
    f.local.get(status);
    f.i32.const(RegionExit.Interpret);
    f.i32.eq();
    f.if();
    f.i32.const(1);
    f.local.set(passesHeader);
    f.br(lookUp);
    f.end();
    f.local.get(status);
    f.i32.const(RegionExit.Fault);
    f.i32.eq();
    f.if();
    deliverOrLeave();
    f.end();
    f.br(exit);
    f.end(leaveLabel);
    emitLeaveBefore(f, cpu, record);
    leave(RunResult.Exit);
    const exits: Exits = {
      fault: () => f.br(faultLabel),
      jump: () => f.br(jumpLabel),
      jumpTarget: () => f.br(targetLabel),
      exit: () => f.br(exitLabel),
    };
    inline.forEach(({ handler }, index) => {
      f.end(inlineLabels[index]);
      emitForInterpreter({ f, cpu, record, host, exits, routineNumber, fastFunction }, handler);
      advance();
    });
    f.end(outOfLine);
    f.local.get(cpu);
    f.local.get(record);
    f.local.get(record);
    f.i32.load16_u(RecordField.handler);
    calls.handler(f);
    f.local.tee(status);
    f.i32.eqz();
    f.if("void", "likely");
    advance();
    f.end();
    f.local.get(status);
    f.i32.const(1);
    f.i32.eq();
    f.brIf(jumpLabel);
    f.local.get(status);
    f.i32.const(2);
    f.i32.eq();
    f.brIf(faultLabel);
    f.br(exitLabel);
    f.end(targetLabel);
    pushBranchTarget(f, cpu, record);
    f.local.set(target);
    // A linked target in the same page needs no look-up.
    f.local.get(record);
    f.i32.load(RecordField.link);
    f.if();
    emitCharge(f, cpu, record, 0);
    f.local.get(cpu);
    f.local.get(target);
    f.i64.store(state.ripBase.offset);
    f.local.get(record);
    f.i32.load(RecordField.link);
    f.local.set(record);
    f.br(atBlock);
    f.end();
    f.local.get(cpu);
    f.local.get(target);
    f.i64.store(state.rip.offset);
    f.end(jumpLabel);
    emitCharge(f, cpu, record, 0);
    f.br(lookUp);
    f.end(exitLabel);
    emitCharge(f, cpu, record, 0);
    leave(RunResult.Exit);
    f.end(faultLabel);
    emitCharge(f, cpu, record, -1);
    deliverOrLeave();
    f.end(next);
    f.end(atBlock);
    f.end(lookUp);
    f.end(exit);
    f.local.get(status);
  }
}

/** Calls out of the dispatch loop; arguments are on the stack. */
interface DispatchCalls {
  findBlock(f: FunctionBuilder): void;
  deliverFault(f: FunctionBuilder): void;
  blockIsHot(f: FunctionBuilder): void;
  handler(f: FunctionBuilder): void;
  region(f: FunctionBuilder): void;
}

type CpuLocal = ReturnType<FunctionBuilder["param"]>;

function pushBranchTarget(f: FunctionBuilder, cpu: CpuLocal, record: CpuLocal): void {
  f.local.get(cpu);
  f.i64.load(state.ripBase.offset);
  f.local.get(record);
  f.i64.load32_s(RecordField.immediate);
  f.i64.add();
}

/** counters[handler]++ */
function emitCount(f: FunctionBuilder, record: CpuLocal, offset: number): void {
  const counter = f.addLocal("i32");
  f.local.get(record);
  f.i32.load16_u(RecordField.handler);
  f.i32.const(2);
  f.i32.shl();
  f.local.tee(counter);
  f.local.get(counter);
  f.i32.load(offset);
  f.i32.const(1);
  f.i32.add();
  f.i32.store(offset);
  f.freeLocal(counter);
}

/** budget -= count + extra. */
function emitCharge(f: FunctionBuilder, cpu: CpuLocal, record: CpuLocal, extra: number): void {
  f.local.get(cpu);
  f.local.get(cpu);
  f.i32.load(state.budget.offset);
  f.local.get(record);
  f.i32.load8_u(RecordField.count);
  f.i32.sub();
  if (extra !== 0) {
    f.i32.const(-extra);
    f.i32.add();
  }
  f.i32.store(state.budget.offset);
}

/** rip = this record's address, with all before it charged. */
function emitLeaveBefore(f: FunctionBuilder, cpu: CpuLocal, record: CpuLocal): void {
  emitCharge(f, cpu, record, -1);
  f.local.get(cpu);
  f.local.get(cpu);
  f.i64.load(state.ripBase.offset);
  f.local.get(record);
  f.i64.load16_u(RecordField.start);
  f.i64.add();
  f.i64.store(state.rip.offset);
}

/** End of a block: on to the linked one, or a look-up. */
function emitEnd(f: FunctionBuilder, cpu: CpuLocal, record: CpuLocal, atBlock: Label, lookUp: Label): void {
  emitLeaveBefore(f, cpu, record);
  f.local.get(record);
  f.i32.load(RecordField.link);
  f.i32.eqz();
  f.brIf(lookUp);
  f.local.get(cpu);
  f.local.get(cpu);
  f.i64.load(state.rip.offset);
  f.i64.store(state.ripBase.offset);
  f.local.get(record);
  f.i32.load(RecordField.link);
  f.local.set(record as never);
  f.br(atBlock);
}

/** record = the block at rip, from the jump cache or by `miss`; ripBase = rip. */
function emitLookUp(f: FunctionBuilder, cpu: CpuLocal, record: CpuLocal, miss: () => void): void {
  const linear = f.addLocal("i64"), entry = f.addLocal("i32");
  f.local.get(cpu);
  f.i64.load(state.rip.offset);
  f.local.get(cpu);
  f.i64.load(state.fetchBase.offset);
  f.i64.add();
  f.local.tee(linear);
  f.i32.wrap_i64();
  f.local.get(linear);
  f.i64.const(12);
  f.i64.shr_u();
  f.i32.wrap_i64();
  f.i32.xor();
  f.i32.const(state.jumpCacheEntries - 1);
  f.i32.and();
  f.i32.const(4);
  f.i32.shl();
  f.local.get(cpu);
  f.i32.add();
  f.local.tee(entry);
  f.i64.load(state.jumpCacheOffset);
  f.local.get(linear);
  f.i64.eq();
  f.if("i32", "likely");
  f.local.get(entry);
  f.i32.load(state.jumpCacheOffset + 8);
  f.local.get(cpu);
  f.i32.load(state.codeKey.offset);
  f.i32.eq();
  f.else();
  f.i32.const(0);
  f.end();
  f.if("void", "likely");
  f.local.get(entry);
  f.i32.load(state.jumpCacheOffset + 12);
  f.local.set(record as never);
  f.else();
  miss();
  f.end();
  emitBlockStart(f, cpu);
  f.freeLocal(linear);
  f.freeLocal(entry);
}

/** ripBase = rip. */
function emitBlockStart(f: FunctionBuilder, cpu: CpuLocal): void {
  f.local.get(cpu);
  f.local.get(cpu);
  f.i64.load(state.rip.offset);
  f.i64.store(state.ripBase.offset);
}
