/** One machine: accelerator, board, processors and clock, with its lifecycle from power-on to its end. */
import { type Accelerator, type AcceleratorInstance, type BootState, type RunBudget, storageGranuleBytes, type VirtualProcessor } from "../accel/contract.ts";
import { processorStateVersion } from "../accel/processor-state.ts";
import { processorStateShape } from "../accel/processor-state-shape.ts";
import { invariant, UserError } from "../base/errors.ts";
import { count, finite, object, type RegionSink, type Shape, signed } from "../base/shape.ts";
import { createAcpiFiles, layOutAcpiTables } from "../boot/acpi/layout.ts";
import { generalRegisterNames, type BootImage } from "../boot/contract.ts";
import { createMemoryMap, encodeE820, generationIdBase, type MemoryMap } from "../boot/memory-map.ts";
import { DispatchBus, memorySpaceBytes } from "../devices/bus.ts";
import { VirtualClock } from "../devices/clock.ts";
import type { GuestMemory, Timer } from "../devices/contract.ts";
import { FwCfgItem } from "../devices/firmware/fw-cfg/fw-cfg.ts";
import { LocalApic, localApicStateShape, localApicStateVersion } from "../devices/irq/local-apic/index.ts";
import type { Mapping } from "../devices/contract.ts";
import { createCpuModel } from "../isa/models/index.ts";
import type { CpuModel, ProcessorBus } from "../isa/processor.ts";
import type { ExitAccount, ExitReport } from "./exit-account.ts";
import type { TransitionLog } from "./transition-log.ts";
import { Board } from "./board.ts";
import type { MachineConfig, MachineEnd } from "./config.ts";
import { checkTimeStampFrequency, Execution } from "./execution.ts";
import { ExitTap } from "./observed-buses.ts";
import type { SavedComponent, SavedComponents } from "./saved-components.ts";

/** What a slice of running came to. */
export type SliceResult =
  /** Goes on at once. */
  | { readonly kind: "running" }
  /** Every processor waits; nothing happens before `untilNs` of virtual time, unless input comes (undefined: never). */
  | { readonly kind: "idle"; readonly untilNs: number | undefined }
  | { readonly kind: "ended"; readonly end: MachineEnd };

const defaultTimeStampFrequencyHz = 1_000_000_000;
const firmwareEnd = 0x1_0000_0000;
const generationIdSizeBytes = 0x1000;
const lowFirmwareEnd = 0x10_0000;
const lowFirmwareBytes = 0x2_0000;
/** Instructions of one call into a processor in real-time mode, before its speed is known: few at first, of which each is new to us. */
const firstSliceInstructions = 100, secondSliceInstructions = 1000;
const sliceTargetNs = 2_000_000;
/** The same for processors that do not count instructions, which a timer of the host's interrupts: not that often. */
const timedSliceNs = 5_000_000;
/** What a timer that is due at once leaves of a slice. */
const smallestSlice = 0.005;

/** What the machine itself remembers, beside its devices and processors. */
interface TimeState {
  /** Virtual time. */
  readonly nowNs: number;
  /** Part of it that deterministic waiting skipped. */
  readonly skippedNs: number;
  /** What the guest's TSC is ahead of virtual time. */
  readonly tscOffset: bigint;
  readonly retiredInstructions: number;
}

const timeStateVersion = 1;
const timeStateShape: Shape<TimeState> = object<TimeState>({
  nowNs: finite, skippedNs: finite, tscOffset: signed(65), retiredInstructions: count,
});

/** Where virtual time stood. */
export function savedTimeNs(components: SavedComponents): number {
  return components.take("machine", timeStateVersion, timeStateShape).nowNs;
}

/** What a machine continues from. */
export interface SavedMachine {
  readonly components: SavedComponents;
  /** Gives the accelerator the contents of its storage, before devices and processors are made. */
  fillStorage(storage: Pick<AcceleratorInstance, "fillStorage">): void;
}

export class Machine {
  readonly clock: VirtualClock;
  readonly board: Board;
  readonly memoryMap: MemoryMap;
  readonly model: CpuModel;
  /** Nanoseconds of the machine's time per nanosecond of the host's. */
  readonly timeRate: number;
  /** In the machine's time. */
  readonly timeStampFrequencyHz: number;
  readonly #config: MachineConfig;
  readonly #execution: Execution;
  readonly #apics: LocalApic[] = [];
  readonly #firmwareOffset: number;
  #end: MachineEnd | undefined;
  #pendingReset: "platform" | "processor" | undefined;
  /** Virtual time that deterministic waiting skipped, beyond what instructions account for. */
  #skippedNs = 0;
  #sliceInstructions = firstSliceInstructions;
  /** When the running slice will be over; before and after it, nothing needs to be cut short. */
  #sliceEndNs = -Infinity;
  readonly #exitTap: ExitTap;
  #tscOffset = 0n;
  #transitions: TransitionLog | undefined;
  #bootImage: BootImage | undefined;

  /**
   * A machine as after power-on, or one that goes on from a saved state; `config` is then what the saved one had.
   * @throws UserError BAD_MEMORY_SIZE, BAD_CONFIG; BAD_SNAPSHOT, SNAPSHOT_NEWER.
   */
  constructor(config: MachineConfig, accelerator: Accelerator, saved?: SavedMachine) {
    if (config.clock.mode === "deterministic" && !accelerator.countsInstructions) throw notCounted(accelerator);
    this.#config = config;
    this.#exitTap = new ExitTap(config.exits);
    const time = saved?.components.take("machine", timeStateVersion, timeStateShape);
    this.#skippedNs = time?.skippedNs ?? 0;
    this.#tscOffset = time?.tscOffset ?? 0n;
    this.memoryMap = createMemoryMap(config.memorySizeBytes);
    const firmwareBytes = config.firmware?.image.length ?? 0;
    if (firmwareBytes % storageGranuleBytes !== 0) {
      throw new UserError("BAD_IMAGE", `the firmware image has ${firmwareBytes} bytes; it must be a multiple of 64 KiB`);
    }
    const { clock } = config;
    this.clock = new VirtualClock({
      startNs: time?.nowNs ?? 0,
      source: clock.mode === "real-time" ? () => clock.hostNowNs() : () => this.#instructionTimeNs(clock.nsPerInstruction),
      armed: (deadlineNs) => this.#deadlineArmed(deadlineNs),
    });
    this.timeRate = clock.mode === "real-time" ? clock.rate ?? 1 : 1;
    const wantedHz = (config.timeStampFrequencyHz ?? defaultTimeStampFrequencyHz) * this.timeRate;
    if (config.timeStampFrequencyHz !== undefined) checkTimeStampFrequency(accelerator, wantedHz);
    const hostFrequencyHz = accelerator.timeStampFrequencyHz(wantedHz);
    this.timeStampFrequencyHz = Math.round(hostFrequencyHz / this.timeRate);
    this.model = createCpuModel(config.cpu, { tscFrequencyHz: this.timeStampFrequencyHz, apicId: 0, processors: 1 });
    const memoryBus = new DispatchBus(memorySpaceBytes);
    // RAM, firmware, and a granule for the generation ID.
    this.#execution = new Execution(accelerator, {
      storageBytes: config.memorySizeBytes + firmwareBytes + storageGranuleBytes, processorCount: 1, memoryBus, model: this.model,
      timeStampFrequencyHz: hostFrequencyHz,
    }, { memorySizeBytes: config.memorySizeBytes, retiredInstructions: time?.retiredInstructions ?? 0, exits: this.#exitTap });
    this.#firmwareOffset = config.memorySizeBytes;
    for (const { address, sizeBytes, ramOffset } of this.memoryMap.ram) {
      this.#execution.map({ address, sizeBytes, readOffset: ramOffset, writeOffset: ramOffset });
    }
    this.#execution.map({ address: 0xa_0000, sizeBytes: 0x2_0000, readOffset: undefined, writeOffset: undefined });
    this.#placeFirmware();
    const generationIdOffset = config.memorySizeBytes + firmwareBytes;
    if (config.devices.generationId) {
      this.#execution.map({ address: generationIdBase, sizeBytes: generationIdSizeBytes, readOffset: generationIdOffset, writeOffset: undefined });
    }
    saved?.fillStorage(this.#execution);
    this.board = new Board(config, {
      map: (mapping) => this.#execution.map(mapping), memory: this.guestMemory(), clock: this.clock, memoryMap: this.memoryMap,
      firmwareOffset: (address) => this.#lowFirmwareOffset(address),
      placeGenerationId: (id) => this.#execution.writeStorage(generationIdOffset, id),
      interruptOutput: { set: (level) => this.#apics[0]?.setLint(0, level) },
      onEnd: (end) => this.#finish(end),
      onReset: (kind) => this.#requestReset(kind),
    }, memoryBus, saved?.components);
    this.#createProcessor(0, memoryBus, saved?.components);
    this.#describeToFirmware();
    saved?.components.checkAllTaken();
  }

  /** Guest RAM as devices and debuggers reach it. */
  guestMemory(): GuestMemory {
    return {
      sizeBytes: this.#config.memorySizeBytes,
      read: (address, target) => this.#execution.readMemory(address, target),
      write: (address, source) => this.#execution.writeMemory(address, source),
    };
  }

  #instructionTimeNs(nsPerInstruction: number): number {
    return this.retiredInstructions * nsPerInstruction + this.#skippedNs;
  }

  #createProcessor(index: number, memoryBus: DispatchBus, saved: SavedComponents | undefined): void {
    let mapping: Mapping | undefined;
    // Not always the same one: the machine can move to another accelerator.
    const processor = (): VirtualProcessor | undefined => this.processors[index];
    const apic: LocalApic = new LocalApic({ id: index, isBootProcessor: index === 0 }, {
      clock: this.clock,
      bus: this.board.apicBus,
      tscDeadlineToNs: (tsc) => this.#timeOfTimeStamp(tsc, processor()),
      mappingChanged: (base) => mapping?.relocate(base),
      processor: {
        interruptPendingChanged: (isPending) => {
          if (isPending) processor()?.attend();
        },
        nmi: () => processor()?.signalNmi(),
        smi: () => {},
        init: () => processor()?.reset("init"),
        startUp: (vector) => {
          if (processor()?.isWaitingForStartUp === true) processor()?.startUp(vector);
        },
        acknowledgeExternal: () => this.board.pic.acknowledge(),
      },
    }, saved?.take(`local-apic@${index}`, localApicStateVersion, localApicStateShape));
    mapping = memoryBus.map(apic.mappedBase(), 0x1000, apic, `local-apic@${index}`);
    this.#apics.push(apic);
    this.board.apicBus.attach(apic);
    const created = this.#execution.addProcessor(this.#processorBus(apic), apic);
    if (saved !== undefined) created.setState(saved.take(`processor@${index}`, processorStateVersion, processorStateShape));
  }

  #processorBus(apic: LocalApic): ProcessorBus {
    const { ports } = this.board;
    const random = new BigUint64Array(1);
    let alarm: Timer | undefined;
    return {
      portRead: (port, sizeBytes) => ports.read(port, sizeBytes),
      portWrite: (port, sizeBytes, value) => ports.write(port, sizeBytes, value),
      timeStampCounter: () => BigInt(this.#ticksSincePowerOn()) + this.#tscOffset,
      timeStampTicks: () => this.#tscOffset === 0n ? this.#ticksSincePowerOn() : -1,
      setTimeStampCounter: (value) => {
        this.#tscOffset = value - BigInt(this.#ticksSincePowerOn());
        apic.tscChanged();
      },
      readMsr: (index) => LocalApic.ownsMsr(index) ? apic.readMsr(index) : undefined,
      writeMsr: (index, value) => LocalApic.ownsMsr(index) ? apic.writeMsr(index, value) : "unknown",
      taskPriority: () => apic.getCr8(),
      setTaskPriority: (value) => apic.setCr8(value),
      random64: () => {
        this.#config.fillRandom(new Uint8Array(random.buffer));
        return random[0];
      },
      endOfInterrupt: () => apic.endOfInterrupt(),
      initialized: () => apic.initialize(),
      setAlarm: (counter, ring) => {
        alarm?.cancel();
        // A nanosecond later than computed, so that the counter has surely come to it.
        alarm = counter === undefined ? undefined : this.clock.at(this.#timeOfTimeStamp(counter, undefined) + 1, ring);
      },
    };
  }

  #ticksSincePowerOn(): number {
    return Math.floor(this.clock.nowNs() * (this.timeStampFrequencyHz / 1e9));
  }

  /** When the processor's counter, which need not run exactly like the machine's clock, will have come to `tsc`. */
  #timeOfTimeStamp(tsc: bigint, processor: VirtualProcessor | undefined): number {
    const remaining = tsc - (processor?.timeStampCounter() ?? BigInt(this.#ticksSincePowerOn()));
    return Math.floor(this.clock.nowNs()) + Number(remaining) * (1e9 / this.timeStampFrequencyHz);
  }

  // --- firmware ----------------------------------------------------------------------------------------------------

  /** The last 128 KiB of the flash also appear below 1 MiB. */
  #lowFirmwareOffset(address: number): number | undefined {
    const size = this.#config.firmware?.image.length;
    if (size === undefined || address < lowFirmwareEnd - Math.min(size, lowFirmwareBytes)) return undefined;
    return this.#firmwareOffset + size - (lowFirmwareEnd - address);
  }

  #placeFirmware(): void {
    const { firmware } = this.#config;
    if (firmware === undefined) return;
    const { image } = firmware;
    this.#execution.writeStorage(this.#firmwareOffset, image);
    this.#execution.map({ address: firmwareEnd - image.length, sizeBytes: image.length, readOffset: this.#firmwareOffset, writeOffset: undefined });
  }

  /** What firmware reads of the machine through fw_cfg. */
  #describeToFirmware(): void {
    if (this.#config.firmware === undefined) return;
    const { fwCfg } = this.board;
    const word = (value: number): Uint8Array => {
      const bytes = new Uint8Array(8);
      new DataView(bytes.buffer).setBigUint64(0, BigInt(value), true);
      return bytes;
    };
    fwCfg.addItem(FwCfgItem.ramSize, word(this.#config.memorySizeBytes));
    fwCfg.addItem(FwCfgItem.processorCount, word(this.processors.length).subarray(0, 2));
    fwCfg.addItem(FwCfgItem.maximumProcessors, word(this.processors.length).subarray(0, 2));
    fwCfg.addItem(FwCfgItem.noGraphic, word(this.#config.devices.vga ? 0 : 1).subarray(0, 2));
    fwCfg.addItem(FwCfgItem.bootMenu, word(0).subarray(0, 2));
    const ram = this.memoryMap.ram.map(({ address, sizeBytes }) => ({ address, sizeBytes, kind: "ram" as const }));
    fwCfg.addFile("etc/e820", encodeE820(ram));
    fwCfg.addFile("etc/boot-fail-wait", word(0).subarray(0, 4));
    for (const [name, bytes] of createAcpiFiles(this.board.describe(this.processors.length))) fwCfg.addFile(name, bytes);
  }

  /** ACPI tables for a boot without firmware: the address of the root pointer, tables written to memory. */
  installAcpiTables(): number {
    const { rsdpAddress, writes } = layOutAcpiTables(this.board.describe(this.processors.length));
    for (const { address, bytes } of writes) this.#execution.writeMemory(address, bytes);
    return rsdpAddress;
  }

  // --- boot --------------------------------------------------------------------------------------------------------

  /** Puts a guest into memory and the boot processor at its first instruction. */
  load(image: BootImage): void {
    this.#bootImage = image;
    for (const { address, bytes, sizeBytes } of image.writes) {
      this.#execution.writeMemory(address, bytes);
      if (sizeBytes > bytes.length) this.#execution.writeMemory(address + bytes.length, new Uint8Array(sizeBytes - bytes.length));
    }
    this.processors[0].setBootState(bootStateOf(image));
  }

  get bootImage(): BootImage | undefined {
    return this.#bootImage;
  }

  // --- saving ------------------------------------------------------------------------------------------------------

  /** A granule of RAM, valid until the machine runs again; undefined: only what the machine was restored from has it. */
  memoryGranule(granule: number): Uint8Array | undefined {
    return this.#execution.granule(granule);
  }

  /** Starts to take notes for `writtenPages`. */
  noteWrites(): void {
    this.#execution.noteWrites();
  }

  /** Pages of RAM written since `noteWrites`: bit n % 8 of byte n / 8 for page n. Undefined: nobody took notes. */
  writtenPages(): Uint8Array | undefined {
    return this.#execution.writtenPages();
  }

  /** Requests that back ends have not answered; a machine is saved when there are none. */
  get requestsUnderWay(): number {
    return this.board.devices.reduce((sum, { device }) => sum + (device.requestsUnderWay ?? 0), 0);
  }

  /**
   * The state of everything but guest memory, between two slices. Byte arrays too large for JSON go to `regions`
   * uncopied: they are valid until the machine runs again.
   * @throws UserError BAD_ARGUMENT for a machine that has ended; SNAPSHOT_IMPOSSIBLE.
   */
  save(regions: RegionSink): SavedComponent[] {
    if (this.#end !== undefined) throw new UserError("BAD_ARGUMENT", "The machine has ended: there is nothing to go on from.");
    this.#execution.checkState();
    invariant(this.requestsUnderWay === 0, "a machine is saved when no request is under way");
    const save = <State>(name: string, version: number, shape: Shape<State>, state: State): SavedComponent => ({
      name, version, state: shape.encode(state, "", { put: (path, bytes) => regions.put(`${name}/${path}`, bytes) }),
    });
    const time = { nowNs: this.clock.nowNs(), skippedNs: this.#skippedNs, tscOffset: this.#tscOffset, retiredInstructions: this.retiredInstructions };
    return [
      save("machine", timeStateVersion, timeStateShape, time),
      ...this.processors.map((processor, index) => save(`processor@${index}`, processorStateVersion, processorStateShape, processor.getState())),
      ...this.#apics.map((apic, index) => save(`local-apic@${index}`, localApicStateVersion, localApicStateShape, apic.state)),
      ...this.board.devices.map(({ name, stateVersion, stateShape, device }) => save(name, stateVersion, stateShape, device.state)),
    ];
  }

  // --- running -----------------------------------------------------------------------------------------------------

  get end(): MachineEnd | undefined {
    return this.#end;
  }

  get processors(): readonly VirtualProcessor[] {
    return this.#execution.processors;
  }

  get retiredInstructions(): number {
    return this.#execution.retiredInstructions;
  }

  /**
   * Goes on with another accelerator, between two slices; when that cannot be, with the one it had.
   * @throws UserError SNAPSHOT_IMPOSSIBLE; BAD_MEMORY_SIZE; BAD_CONFIG for what the other one cannot give, or when instructions have to be counted.
   */
  switchAccelerator(accelerator: Accelerator): void {
    if (this.#config.clock.mode === "deterministic" && !accelerator.countsInstructions) throw notCounted(accelerator);
    this.#execution.moveTo(accelerator);
    this.timeChanged();
    this.#transitions?.interrupt();
    this.#observeTransitions();
  }

  /** Tells `log` of what the guest's own hypervisor does from now on; undefined: nobody any more. */
  recordTransitions(log: TransitionLog | undefined): void {
    this.#transitions = log;
    this.#observeTransitions();
  }

  #observeTransitions(): void {
    const log = this.#transitions;
    for (const [index, processor] of this.processors.entries()) {
      const { virtualization } = processor;
      if (virtualization === undefined) continue;
      virtualization.observer = log === undefined ? undefined : (transition) => log.record(index, processor.retiredInstructions, transition);
    }
  }

  /** From now on, exits are counted there; undefined: nowhere. To be called between two slices. */
  accountExits(account: ExitAccount | undefined): void {
    this.#exitTap.account = account;
  }

  /** What the guest was left for so far; undefined when nobody counts. */
  exits(): ExitReport | undefined {
    const { ports, memoryBus } = this.board;
    return this.#exitTap.account?.report((reason, place) => {
      if (reason.startsWith("port")) return ports.nameAt(place);
      return reason.startsWith("memory") ? memoryBus.nameAt(place) : undefined;
    });
  }

  /** Virtual time stood still, or is another: processors that count by themselves have to hear of it. */
  timeChanged(): void {
    for (const processor of this.processors) processor.timeChanged();
  }

  /** Gives back what the host lent; nothing runs afterwards. */
  close(): void {
    this.#execution.close();
  }

  #finish(end: MachineEnd): void {
    this.#end ??= end;
    for (const processor of this.processors) processor.stop();
  }

  #requestReset(kind: "platform" | "processor"): void {
    if (this.#pendingReset !== "platform") this.#pendingReset = kind;
    for (const processor of this.processors) processor.stop();
  }

  /** Runs for about `sliceTargetNs`, or until there is nothing to do. */
  runSlice(): SliceResult {
    if (this.#end !== undefined) return { kind: "ended", end: this.#end };
    this.clock.advanceTo(this.clock.nowNs());
    const [processor] = this.processors;
    const startNs = this.clock.nowNs();
    const before = processor.retiredInstructions;
    const budget = this.#budget(startNs);
    this.#sliceEndNs = startNs + budget.nanoseconds * this.timeRate;
    const exits = this.#exitTap.account;
    const runStartNs = exits?.nowNs() ?? 0;
    const stop = processor.run(budget);
    if (exits !== undefined) exits.addRun(exits.nowNs() - runStartNs);
    this.#sliceEndNs = -Infinity;
    if (this.#config.clock.mode === "real-time") this.#learnSpeed(processor.retiredInstructions - before, (this.clock.nowNs() - startNs) / this.timeRate);
    if (this.#end === undefined && stop === "shutdown") this.#finish({ kind: "triple-fault", cause: processor.shutdownCause ?? "unknown" });
    if (this.#end === undefined && stop === "failed") this.#finish({ kind: "accelerator-failure", reason: processor.failure ?? "" });
    if (this.#end !== undefined) return { kind: "ended", end: this.#end };
    if (this.#pendingReset !== undefined) this.#reset();
    if (stop !== "halted") return { kind: "running" };
    return this.#idle();
  }

  #idle(): SliceResult {
    const untilNs = this.clock.nextDeadlineNs();
    const nowNs = this.clock.nowNs();
    if (untilNs !== undefined && untilNs <= nowNs) return { kind: "running" };
    if (this.#config.clock.mode === "deterministic" && untilNs !== undefined) {
      this.#skippedNs += untilNs - nowNs;
      return { kind: "running" };
    }
    return { kind: "idle", untilNs };
  }

  /** A timer that is due before the running slice ends cuts it short. */
  #deadlineArmed(deadlineNs: number): void {
    if (deadlineNs >= this.#sliceEndNs) return;
    this.#sliceEndNs = deadlineNs;
    for (const processor of this.processors) processor.stop();
  }

  /** Until the next timer, within a slice. */
  #budget(nowNs: number): RunBudget {
    const deadlineNs = this.clock.nextDeadlineNs();
    const { clock } = this.#config;
    if (clock.mode === "deterministic") {
      const untilDeadline = deadlineNs === undefined ? Infinity : Math.ceil((deadlineNs - nowNs) / clock.nsPerInstruction);
      const instructions = Math.max(1, Math.min(untilDeadline, 1_000_000));
      return { instructions, nanoseconds: instructions * clock.nsPerInstruction };
    }
    if (deadlineNs === undefined) return { instructions: this.#sliceInstructions, isApproximate: true, nanoseconds: timedSliceNs };
    const untilDeadlineNs = (deadlineNs - nowNs) / this.timeRate;
    const share = Math.min(Math.max(untilDeadlineNs / sliceTargetNs, smallestSlice), 1);
    return {
      instructions: Math.max(Math.min(this.#sliceInstructions, 500), Math.round(this.#sliceInstructions * share)), isApproximate: true,
      nanoseconds: Math.min(Math.max(untilDeadlineNs, smallestSlice * sliceTargetNs), timedSliceNs),
    };
  }

  /** A slice should take about its target time, whatever the host's speed. */
  #learnSpeed(instructions: number, elapsedNs: number): void {
    this.#sliceInstructions = Math.max(this.#sliceInstructions, secondSliceInstructions);
    if (instructions < secondSliceInstructions || elapsedNs < 10_000) return;
    const wanted = instructions * (sliceTargetNs / elapsedNs);
    this.#sliceInstructions = Math.round(Math.min(Math.max(0.8 * this.#sliceInstructions + 0.2 * wanted, 10_000), 4_000_000));
  }

  #reset(): void {
    const kind = this.#pendingReset;
    this.#pendingReset = undefined;
    if (this.#config.firmware === undefined) return this.#finish({ kind: "reset" });
    if (kind === "platform") {
      this.board.reset();
      for (const apic of this.#apics) apic.reset();
    }
    for (const processor of this.processors) processor.reset(kind === "platform" ? "reset" : "init");
  }
}

function notCounted({ name }: Accelerator): UserError {
  return new UserError("BAD_CONFIG", `A deterministic machine counts its instructions, and the ${name} accelerator does not: use --accel soft.`);
}

function bootStateOf({ registers }: BootImage): BootState {
  return {
    rip: registers.rip, rflags: registers.rflags,
    general: generalRegisterNames.map((name) => registers.general[name]),
    segments: [
      registers.es, registers.cs, registers.ss, registers.ds, registers.fs, registers.gs, registers.ldtr, registers.tr,
    ],
    gdtr: registers.gdtr, idtr: registers.idtr,
    cr0: registers.cr0, cr3: registers.cr3, cr4: registers.cr4, efer: registers.efer,
  };
}

