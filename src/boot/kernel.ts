/** Boots a kernel file of any kind that we know, by looking at what it is. */
import { UserError } from "../base/errors.ts";
import { isBzImage, describeForeignFile } from "./bzimage.ts";
import type { BootImage, BootModule, BootProtocol } from "./contract.ts";
import { isElf, parseElf } from "./elf.ts";
import { loadLinux } from "./linux.ts";
import type { MemoryMap } from "./memory-map.ts";
import { findMultiboot1Header, loadMultiboot1 } from "./multiboot1.ts";
import { findMultiboot2Header, loadMultiboot2 } from "./multiboot2.ts";
import { findPvhEntry, loadPvh } from "./pvh.ts";

/** What a user may ask for; "auto" looks at the file. */
export type ProtocolChoice = "auto" | "linux" | "pvh" | "multiboot1" | "multiboot2";

export interface KernelBootOptions {
  readonly kernel: Uint8Array;
  readonly commandLine: string;
  /** Linux's initial RAM file system; multiboot kernels get it as their first module. */
  readonly initrd?: Uint8Array;
  /** Further modules; a Linux kernel takes none. */
  readonly modules?: readonly BootModule[];
  readonly memory: MemoryMap;
  readonly protocol?: ProtocolChoice;
  /** Where ACPI's root pointer lies, and its bytes. */
  readonly rsdp?: { readonly address: number; readonly bytes: Uint8Array };
  readonly hasVgaText?: boolean;
}

function detect(kernel: Uint8Array): Exclude<ProtocolChoice, "auto"> {
  if (isBzImage(kernel)) return "linux";
  if (isElf(kernel) && findPvhEntry(parseElf(kernel)) !== undefined) return "pvh";
  if (findMultiboot1Header(kernel) !== undefined) return "multiboot1";
  if (findMultiboot2Header(kernel) !== undefined) return "multiboot2";
  const found = isElf(kernel) ? "it is an ELF file with neither a PVH entry nor a multiboot header" : describeForeignFile(kernel);
  throw new UserError("BAD_IMAGE", `this is no kernel that can be booted${found === undefined ? "" : `: ${found}`}; give a Linux bzImage, or an ELF file with a PVH entry or a multiboot header`);
}

/**
 * Lays out the kernel, its modules and its command line in guest memory.
 * @throws UserError BAD_IMAGE (the file), BAD_MEMORY_SIZE (too little), BAD_ARGUMENT (command line, modules).
 */
export function loadKernel(options: KernelBootOptions): BootImage {
  const { kernel, commandLine, memory, rsdp } = options;
  const protocol = options.protocol === undefined || options.protocol === "auto" ? detect(kernel) : options.protocol;
  const initrdModule: BootModule[] = options.initrd === undefined ? [] : [{ bytes: options.initrd, commandLine: "" }];
  const modules = [...initrdModule, ...options.modules ?? []];
  switch (protocol) {
    case "linux":
      if ((options.modules ?? []).length > 0) throw new UserError("BAD_ARGUMENT", "a Linux kernel takes an initrd but no modules");
      return loadLinux({
        kernel, commandLine, memory,
        ...(options.initrd === undefined ? {} : { initrd: options.initrd }),
        ...(rsdp === undefined ? {} : { rsdpAddress: rsdp.address }),
        ...(options.hasVgaText === undefined ? {} : { hasVgaText: options.hasVgaText }),
      });
    case "pvh":
      return loadPvh({ kernel, commandLine, memory, modules, ...(rsdp === undefined ? {} : { rsdpAddress: rsdp.address }) });
    case "multiboot1":
      return loadMultiboot1({ kernel, commandLine, memory, modules });
    case "multiboot2":
      return loadMultiboot2({ kernel, commandLine, memory, modules, ...(rsdp === undefined ? {} : { rsdp: rsdp.bytes }) });
  }
}

/** How to name a protocol to a person. */
export const protocolTitles: Readonly<Record<BootProtocol, string>> = {
  linux64: "Linux 64-bit boot protocol",
  linux32: "Linux 32-bit boot protocol",
  pvh: "PVH",
  multiboot1: "multiboot 1",
  multiboot2: "multiboot 2",
};
