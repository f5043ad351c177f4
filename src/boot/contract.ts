/** What every loader produces: bytes to put into memory, and the processor's state at the guest's first instruction. */

/** Bytes at a guest-physical address; `sizeBytes - bytes.length` zeros follow them. */
export interface MemoryWrite {
  /** What it is, for messages and the debugger. */
  readonly name: string;
  readonly address: number;
  readonly bytes: Uint8Array;
  readonly sizeBytes: number;
}

/** A segment register with its hidden part. */
export interface SegmentState {
  readonly selector: number;
  readonly base: number;
  /** In bytes, whatever the granularity bit says. */
  readonly limit: number;
  /** VMX access-rights format: descriptor bits 55:40 with bits 51:48 cleared; bit 16 = unusable. */
  readonly attributes: number;
}

/** GDTR or IDTR. */
export interface DescriptorTableState {
  readonly base: number;
  readonly limit: number;
}

export const generalRegisterNames = [
  "rax", "rcx", "rdx", "rbx", "rsp", "rbp", "rsi", "rdi", "r8", "r9", "r10", "r11", "r12", "r13", "r14", "r15",
] as const;
export type GeneralRegisterName = (typeof generalRegisterNames)[number];

/** Registers that a boot protocol defines. Every other one has its value after reset. */
export interface BootRegisters {
  readonly rip: number;
  readonly rflags: number;
  readonly general: Readonly<Record<GeneralRegisterName, number>>;
  readonly es: SegmentState;
  readonly cs: SegmentState;
  readonly ss: SegmentState;
  readonly ds: SegmentState;
  readonly fs: SegmentState;
  readonly gs: SegmentState;
  readonly ldtr: SegmentState;
  readonly tr: SegmentState;
  readonly gdtr: DescriptorTableState;
  readonly idtr: DescriptorTableState;
  readonly cr0: number;
  readonly cr3: number;
  readonly cr4: number;
  readonly efer: number;
}

export type BootMode = "real" | "protected32" | "long64";

export const bootProtocols = ["linux64", "linux32", "pvh", "multiboot1", "multiboot2"] as const;
export type BootProtocol = (typeof bootProtocols)[number];

/** A guest ready to start. Writes are within RAM and do not overlap. */
export interface BootImage {
  readonly protocol: BootProtocol;
  readonly mode: BootMode;
  readonly writes: readonly MemoryWrite[];
  readonly registers: BootRegisters;
}

/** A file that the guest gets along with its kernel. */
export interface BootModule {
  readonly bytes: Uint8Array;
  readonly commandLine: string;
}
