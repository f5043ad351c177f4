/** Picks modules of a Debian kernel package, with what they depend on, in the order in which they must be loaded. */
import { readdir, readFile } from "node:fs/promises";
import { basename, join } from "node:path";
import type { BuildTools } from "./build-tools.ts";

/** What our /init loads as one: named as in its `load`. */
export const moduleGroups: Readonly<Record<string, readonly string[]>> = {
  virtio_blk: ["virtio_pci", "virtio_blk"],
  virtio_net: ["virtio_pci", "virtio_net"],
  virtio_console: ["virtio_pci", "virtio_console"],
  virtio_rng: ["virtio_pci", "virtio_rng"],
  // ext4 asks for its checksum by name, which no dependency tells.
  ext4: ["crc32c_generic", "ext4"],
};

export interface KernelModules {
  /** Contents by module name. */
  readonly files: ReadonlyMap<string, Uint8Array>;
  /** Names by group, dependencies first; a group is empty when the kernel has all of it built in. */
  readonly order: ReadonlyMap<string, readonly string[]>;
}

/** The paths in a kernel package that {@link readKernelModules} may need. */
export function isWantedKernelFile(path: string): boolean {
  return /^boot\/(?:vmlinuz|config)-/u.test(path)
    || /\/kernel\/(?:drivers\/virtio|drivers\/block|drivers\/net|drivers\/char|drivers\/char\/hw_random|net\/core|fs\/ext4|fs\/jbd2|fs|lib|crypto|arch\/x86\/crypto)\/[^/]+\.ko(?:\.xz)?$/u.test(path)
    || /\/kernel\/(?:arch\/x86\/kvm\/kvm(?:-intel|-amd)?|virt\/lib\/irqbypass|drivers\/crypto\/ccp\/ccp)\.ko(?:\.xz)?$/u.test(path);
}

function moduleName(file: string): string {
  return basename(file).replace(/\.ko(?:\.xz)?$/u, "").replaceAll("-", "_");
}

/** The modules that `module` names in its `depends=` line of the section .modinfo. */
export function moduleDependencies(module: Uint8Array): string[] {
  const text = Buffer.from(module.buffer, module.byteOffset, module.byteLength).toString("latin1");
  const start = text.indexOf("\0depends=");
  if (start < 0) return [];
  const end = text.indexOf("\0", start + 1);
  return text.slice(start + "\0depends=".length, end).split(",").filter((name) => name !== "").map((name) => name.replaceAll("-", "_"));
}

/** Reads the groups' modules below `directory`, an unpacked kernel package. */
export async function readKernelModules(directory: string, tools: BuildTools, groups: Readonly<Record<string, readonly string[]>> = moduleGroups): Promise<KernelModules> {
  const paths = new Map<string, string>();
  for (const file of await readdir(join(directory, "lib", "modules"), { recursive: true })) {
    if (/\.ko(?:\.xz)?$/u.test(file)) paths.set(moduleName(file), join(directory, "lib", "modules", file));
  }
  const files = new Map<string, Uint8Array>();
  const read = async (name: string): Promise<Uint8Array | undefined> => {
    const path = paths.get(name);
    if (path === undefined) return undefined;
    let bytes = files.get(name);
    if (bytes === undefined) {
      bytes = path.endsWith(".xz") ? await (await tools.find("xz")).run(["-dc", path]) : await readFile(path);
      files.set(name, bytes);
    }
    return bytes;
  };
  const order = new Map<string, readonly string[]>();
  for (const [group, wanted] of Object.entries(groups)) {
    const loaded = new Set<string>();
    const visit = async (name: string): Promise<void> => {
      const bytes = await read(name);
      if (bytes === undefined || loaded.has(name)) return;
      for (const dependency of moduleDependencies(bytes)) await visit(dependency);
      loaded.add(name);
    };
    for (const name of wanted) await visit(name);
    order.set(group, [...loaded]);
  }
  return { files, order };
}
