/** What a caller can say about a virtual machine. */
import type { GuestName } from "../host/node/guests/index.ts";
import type { ProgressEvent } from "../host/node/guests/index.ts";

/** A file by its path, or its contents. */
export type FileSource = string | Uint8Array;

export interface DiskOptions {
  /** A raw disk image. */
  readonly path: string;
  /** The guest cannot write to it. Default false. */
  readonly readOnly?: boolean;
  /** The guest's writes are kept in memory and forgotten at the end; the file stays as it is. Default false. */
  readonly overlay?: boolean;
  /** What the guest sees as the disk's serial number: at most 20 ASCII characters. */
  readonly serial?: string;
}

export interface ModuleOptions {
  readonly file: FileSource;
  /** Given to the kernel along with the module. */
  readonly commandLine?: string;
}

export type AcceleratorChoice = "auto" | "soft" | "kvm";

/** Whether the soft processor compiles what runs often; "forced", "tiny" and "huge" compile everything, for tests. */
export type JitChoice = "on" | "off" | "named" | "forced" | "tiny" | "huge";

export interface VmOptions {
  /** A guest that is fetched from Debian and kept in a cache; gives kernel and initrd, or a disk with its firmware. */
  readonly guest?: Exclude<GuestName, "seabios" | "ovmf">;
  /** Linux bzImage, or ELF with a PVH entry or a multiboot header; what it is, is seen from the file. */
  readonly kernel?: FileSource;
  /** Linux's initial RAM file system; the first module of other kernels. */
  readonly initrd?: FileSource;
  /** Further modules of a PVH or multiboot kernel. */
  readonly modules?: readonly ModuleOptions[];
  /** The kernel's command line. Default for Linux: `console=ttyS0`. */
  readonly append?: string;
  /** A shell command that a guest of ours runs instead of an interactive shell; it powers off afterwards. */
  readonly command?: string;
  /** Size that the guest's programs believe the serial console to have. */
  readonly consoleSize?: { readonly rows: number; readonly columns: number };
  /** "seabios" and "ovmf" are fetched from Debian; else the path of a flash image, or its bytes. */
  readonly firmware?: FileSource;
  readonly disks?: readonly DiskOptions[];
  /** Path of an ISO image. */
  readonly cdrom?: string;
  /** Bytes, or text such as "512M". Default 512 MiB. */
  readonly memory?: number | string;
  /**
   * A model of `cpuModelNames`, with features added or removed: "intel-v2,-vme". Default "intel-v2"; where KVM runs the
   * machine, without what the host's KVM cannot give.
   */
  readonly cpu?: string;
  /** Default "auto". */
  readonly accel?: AcceleratorChoice;
  /** Of the soft accelerator. Default "on". */
  readonly jit?: JitChoice;
  /** A VGA display in text mode. Default: with firmware only. */
  readonly vga?: boolean;
  /** The machine is stopped after this many milliseconds of the host's time. */
  readonly timeoutMs?: number;
  /** Time, randomness and wall clock depend on nothing but the instructions executed and the input. Default false. */
  readonly deterministic?: boolean;
  /** Port of the debug-exit device; `false` for none. Default 0xf4. */
  readonly debugExitPort?: number | false;
  /**
   * The guest's time passes at this part of the host's, above 0 and at most 1: for hosts that are too slow for a guest's
   * timers. Default 1.
   */
  readonly timeRate?: number;
  /** Of the guest's time stamp counter. Default: 1 GHz, or what the host's processor counts at under `kvm` where it cannot scale. */
  readonly timeStampFrequencyHz?: number;
  /** Count what the guest is left for, see `Vm.exits`. It costs some speed. Default false. */
  readonly accountExits?: boolean;
  /** Progress while guests or firmware are fetched. */
  readonly onProgress?: (event: ProgressEvent) => void;
}
