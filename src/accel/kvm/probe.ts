/**
 * Whether KVM runs guests on the host's hardware. That /dev/kvm opens proves nothing: PVM, a KVM in software for hosts
 * without VT-x and AMD-V, emulates the guest's kernel mode instruction by instruction, and fails at 32-bit paging.
 */
import { createCpuModel, defaultCpuModelName } from "../../isa/models/index.ts";
import type { ProcessorBus } from "../../isa/processor.ts";
import type { Accelerator, AcceleratorInstance, BootState, VirtualProcessor } from "../contract.ts";

export interface KvmProbe {
  /** Instructions of the loop, all at privilege level 0. */
  readonly loopInstructions: number;
  /** The host's time for it, entering and leaving the guest excluded; hardware takes a small part of a millisecond. */
  readonly loopMs: number;
  /** Paging was switched on and off in protected mode. */
  readonly pages: boolean;
}

const loopInstructions = 20_000;
/** Between the 10 to 25 ms of PVM and the 0.1 ms of hardware; a busy host is given the benefit of several tries. */
const slowestHardwareMs = 5;
const tries = 3;
const patienceNs = 300_000_000;
const storageBytes = 0x10_0000;
const codeAddress = 0x1000, tableAddress = 0x4000, resultAddress = 0x7000;

/** L: dec ecx; jnz L; hlt. With the jump at its second byte. */
const loopCode = Uint8Array.of(0x49, 0x75, 0xfd, 0xf4);
/** mov eax, cr0; or eax, 0x80000000; mov cr0, eax; mov dword [0x7000], 0x55; and eax, 0x7fffffff; mov cr0, eax; hlt */
const pagingCode = Uint8Array.of(
  0x0f, 0x20, 0xc0, 0x0d, 0, 0, 0, 0x80, 0x0f, 0x22, 0xc0, 0xc7, 0x05, 0, 0x70, 0, 0, 0x55, 0, 0, 0, 0x25, 0xff, 0xff, 0xff, 0x7f,
  0x0f, 0x22, 0xc0, 0xf4,
);

const breakpointAt = 1;

/** mov ecx, 0x6e0 (IA32_TSC_DEADLINE); xor eax, eax; xor edx, edx; wrmsr; hlt */
const deadlineCode = Uint8Array.of(0xb9, 0xe0, 0x06, 0, 0, 0x31, 0xc0, 0x31, 0xd2, 0x0f, 0x30, 0xf4);

const idleBus: ProcessorBus = {
  portRead: () => 0, portWrite: () => {}, timeStampCounter: () => 0n, setTimeStampCounter: () => {}, readMsr: () => undefined,
  writeMsr: () => false, taskPriority: () => 0, setTaskPriority: () => {}, random64: () => 0n,
};

function flatState(counter: number, cr4: number): BootState {
  const data = { selector: 16, base: 0, limit: 0xffff_ffff, attributes: 0xc093 };
  const code = { selector: 8, base: 0, limit: 0xffff_ffff, attributes: 0xc09b };
  const unusable = { selector: 0, base: 0, limit: 0, attributes: 0x1_0000 };
  return {
    rip: codeAddress, rflags: 2, general: Array.from({ length: 16 }, (_, register) => (register === 1 ? counter : 0)),
    segments: [data, code, data, data, data, data, unusable, { selector: 24, base: 0x3000, limit: 0x67, attributes: 0x8b }],
    gdtr: { base: 0, limit: 0 }, idtr: { base: 0, limit: 0 }, cr0: 0x11, cr3: tableAddress, cr4, efer: 0,
  };
}

/** Runs `code` until it halts; its time in milliseconds, or undefined when it does not come to that. */
function runProgram(instance: AcceleratorInstance, processor: VirtualProcessor, code: Uint8Array, state: BootState, nowNs: () => number): number | undefined {
  instance.writeMemory(codeAddress, code);
  processor.setState({ ...processor.getState(), activity: "active" });
  processor.setBootState(state);
  const startNs = nowNs();
  for (let stop = processor.run({ instructions: Infinity, nanoseconds: patienceNs }); stop !== "halted";) {
    if (stop === "failed" || stop === "shutdown" || stop === "debug" || nowNs() - startNs > patienceNs) return undefined;
    stop = processor.run({ instructions: Infinity, nanoseconds: patienceNs });
  }
  return (nowNs() - startNs) / 1e6;
}

/** A model that this KVM can give. */
function plainModel(accelerator: Accelerator, timeStampFrequencyHz: number): ReturnType<typeof createCpuModel> {
  const facts = { tscFrequencyHz: timeStampFrequencyHz, apicId: 0, processors: 1 };
  const missing = accelerator.missingFeatures(createCpuModel(defaultCpuModelName, facts));
  return createCpuModel([defaultCpuModelName, ...missing.map((name) => `-${name}`)].join(","), facts);
}

/** Gives `use` a processor in a machine of its own. */
function withProcessor<Result>(accelerator: Accelerator, use: (instance: AcceleratorInstance, processor: VirtualProcessor) => Result): Result {
  const timeStampFrequencyHz = accelerator.timeStampFrequencyHz(1e9);
  const instance = accelerator.create({
    storageBytes, processorCount: 1, model: plainModel(accelerator, timeStampFrequencyHz), timeStampFrequencyHz,
    memoryBus: { read: () => 0, write: () => {} },
  });
  try {
    instance.map({ address: 0, sizeBytes: storageBytes, readOffset: 0, writeOffset: 0 });
    return use(instance, instance.createProcessor(0, idleBus, { hasInterrupt: () => false, acknowledge: () => -1 }));
  } finally {
    instance.close();
  }
}

/** Takes some 50 ms at most; a few on hardware. */
export function probeKvm(accelerator: Accelerator, nowNs: () => number): KvmProbe {
  return withProcessor(accelerator, (instance, processor) => {
    const timeLoop = (rounds: number): number => runProgram(instance, processor, loopCode, flatState(rounds, 0), nowNs) ?? Infinity;
    let loopMs = Infinity;
    for (let attempt = 0; attempt < tries && loopMs > slowestHardwareMs; attempt++) {
      const enteringMs = timeLoop(1);
      loopMs = Math.min(loopMs, Math.max(timeLoop(loopInstructions / 2) - enteringMs, 0));
    }
    // One page of 4 MiB, present and writable.
    instance.writeMemory(tableAddress, Uint8Array.of(0x83, 0, 0, 0));
    const hasEnded = runProgram(instance, processor, pagingCode, flatState(0, 0x10), nowNs) !== undefined;
    const result = new Uint8Array(1);
    instance.readMemory(resultAddress, result);
    return { loopInstructions, loopMs, pages: hasEnded && result[0] === 0x55 };
  });
}

/** Whether the figures are those of hardware. */
export function isHardware({ loopMs, pages }: KvmProbe): boolean {
  return loopMs <= slowestHardwareMs && pages;
}

/**
 * Whether KVM passes writes of IA32_TSC_DEADLINE on. Where it has Intel's preemption timer, it takes them for its own local
 * APIC's before it looks at the filter, even where it has no local APIC, and they are lost.
 */
export function probeDeadline(accelerator: Accelerator, nowNs: () => number): boolean {
  // The idle bus refuses the write, for which there is no handler: only where it was not asked, the guest comes to its end.
  return withProcessor(accelerator, (instance, processor) => runProgram(instance, processor, deadlineCode, flatState(0, 0), nowNs) === undefined);
}

/** Whether KVM stops a guest at breakpoints: QEMU's translator, as a host, forgets them when it enters a guest. */
export function probeBreakpoints(accelerator: Accelerator, nowNs: () => number): boolean {
  return withProcessor(accelerator, (instance, processor) => {
    processor.setDebug({ isSingleStep: false, breakpoints: [BigInt(codeAddress + breakpointAt)] });
    // Comes to an end only where the breakpoint has no effect.
    return runProgram(instance, processor, loopCode, flatState(1, 0), nowNs) === undefined;
  });
}
