/** What a machine consists of, as data; hosts fill in the ends of its wires. */
import type { DiskBackend, DiskFailure } from "../devices/disk/contract.ts";
import type { ExitAccount } from "./exit-account.ts";

/** Where virtual time comes from. */
export type ClockConfig =
  /** The host's monotonic clock, in nanoseconds. */
  | {
    readonly mode: "real-time";
    /** Virtual time, which pauses and may be slower. */
    hostNowNs(): number;
    /** Nanoseconds of virtual time per nanosecond of the host's; default 1. */
    readonly rate?: number;
  }
  /** Instructions retired: the same inputs give the same run. Waiting costs no host time. */
  | { readonly mode: "deterministic"; readonly nsPerInstruction: number };

export interface DiskConfig {
  readonly backend: DiskBackend;
  /** At most 20 ASCII characters. */
  readonly serial?: string;
}

/** The firmware that runs first, with its VGA BIOS; without it the machine is booted by a kernel loader. */
export interface FirmwareConfig {
  /** Image of a flash that ends at 4 GiB; a multiple of 64 KiB. */
  readonly image: Uint8Array;
  readonly vgaBios?: Uint8Array;
}

export interface MachineConfig {
  readonly memorySizeBytes: number;
  /** CPU model with features added or removed: `intel-v2`, `amd-v2,+la57`. */
  readonly cpu: string;
  readonly clock: ClockConfig;
  /** Where exits are counted, if they are to be. */
  readonly exits?: ExitAccount;
  /** Of the time stamp counter, when it must be this one and no other (a snapshot's); otherwise 1 GHz, or what the host can do. */
  readonly timeStampFrequencyHz?: number;
  /** Wall clock at power-on, milliseconds since 1970. */
  readonly startEpochMs: number;
  /** Fills with random bytes. */
  fillRandom(target: Uint8Array): void;
  readonly disks: readonly DiskConfig[];
  readonly cdrom?: DiskBackend;
  readonly firmware?: FirmwareConfig;
  readonly devices: DeviceSelection;
  /** A byte the guest sent on serial port `port` (0 = COM1). */
  onSerial(port: number, byte: number): void;
  /** There is room again for `feedSerial`. */
  onSerialReady?(port: number): void;
  onDebugConsole?(byte: number): void;
  onDiskFailure?(failure: DiskFailure): void;
}

/** Optional devices; what a PC cannot do without is always there. */
export interface DeviceSelection {
  readonly serialPorts: number;
  readonly hpet: boolean;
  readonly rtc: boolean;
  readonly keyboard: boolean;
  readonly vga: boolean;
  readonly random: boolean;
  /** By which the guest sees that it was copied. */
  readonly generationId: boolean;
  /** Port of isa-debug-exit, if any. */
  readonly debugExitPort?: number;
  /** Port of the debug console, if any. */
  readonly debugConsolePort?: number;
}

export const defaultDevices: DeviceSelection = {
  serialPorts: 2, hpet: true, rtc: true, keyboard: true, vga: false, random: true, generationId: true, debugExitPort: 0xf4, debugConsolePort: 0x402,
};

/** How a machine came to its end. */
export type MachineEnd =
  | { readonly kind: "poweroff" }
  | { readonly kind: "reset" }
  /** `cause`: the exceptions that led to it and where, for people. */
  | { readonly kind: "triple-fault"; readonly cause: string }
  /** The accelerator cannot execute what the guest wants. */
  | { readonly kind: "accelerator-failure"; readonly reason: string }
  /** isa-debug-exit: the status is (value << 1) | 1. */
  | { readonly kind: "debug-exit"; readonly status: number };
