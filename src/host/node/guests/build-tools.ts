/** Programs that building guests needs: the machine's own, else Debian's, unpacked into the cache and run from there. */
import { accessSync, constants, existsSync } from "node:fs";
import { join } from "node:path";
import type { PackageSource } from "./apt.ts";
import { replaceDirectory } from "./cache.ts";
import { runProcess, type ProcessOptions } from "./process.ts";

// All parts by name: gcc looks for its others beside itself, also where the machine has some of them.
const gccPackages: readonly string[] = ["gcc", "gcc-12", "cpp-12", "libgcc-12-dev", "libc6-dev", "linux-libc-dev", "binutils", "binutils-x86-64-linux-gnu"];

export type BuildToolName = "xz" | "mke2fs" | "grub-mkimage" | "iasl" | "nasm" | "qemu-system-x86_64" | "bochs" | "gcc" | "gcc-multilib";

const packagesOf: Readonly<Record<BuildToolName, readonly string[]>> = {
  xz: ["xz-utils"],
  mke2fs: ["e2fsprogs"],
  "grub-mkimage": ["grub-common"],
  iasl: ["acpica-tools"],
  nasm: ["nasm"],
  "qemu-system-x86_64": ["qemu-system-x86"],
  bochs: ["bochs", "bochs-term", "bochsbios", "vgabios"],
  gcc: gccPackages,
  /** gcc that can also build 32-bit programs. */
  "gcc-multilib": [...gccPackages, "gcc-multilib", "lib32gcc-12-dev", "libc6-dev-i386"],
};

function programOf(name: BuildToolName): string {
  return name === "gcc-multilib" ? "gcc" : name;
}

/** A program that can be run. */
export interface BuildTool {
  readonly path: string;
  /** What it needs in its environment, when it is run in another way than by `run`. */
  readonly environment: Readonly<Record<string, string>>;
  /** Resolves to the standard output. */
  run(args: readonly string[], options?: ProcessOptions): Promise<Buffer>;
}

const systemDirectories = ["/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin"];
const libraryDirectories = ["usr/lib/x86_64-linux-gnu", "lib/x86_64-linux-gnu"];
const programDirectories = ["usr/bin", "usr/sbin", "bin", "sbin"];

function isExecutable(path: string): boolean {
  try {
    accessSync(path, constants.X_OK);
    return true;
  } catch {
    return false;
  }
}

function findOnSystem(name: string): string | undefined {
  const directories = [...(process.env["PATH"] ?? "").split(":").filter((directory) => directory.startsWith("/")), ...systemDirectories];
  return directories.map((directory) => join(directory, name)).find(isExecutable);
}

/** Whether a gcc has what 32-bit programs are linked with: it prints the path of a library that it has, and just the name of one that it lacks. */
async function canBuild32(gcc: string): Promise<boolean> {
  for (const library of ["libc.a", "libgcc.a"]) {
    const path = await runProcess(gcc, ["-m32", `-print-file-name=${library}`]).catch(() => Buffer.from(library));
    if (!path.toString().startsWith("/")) return false;
  }
  return true;
}

/** Finds tools; remembers what it found. */
export class BuildTools {
  readonly #cacheDirectory: string;
  readonly #source: PackageSource;
  readonly #useSystem: boolean;
  readonly #found = new Map<BuildToolName, Promise<BuildTool>>();

  /** With `useSystem` false the machine's own programs are passed over. */
  constructor(cacheDirectory: string, source: PackageSource, options: { readonly useSystem?: boolean } = {}) {
    this.#cacheDirectory = cacheDirectory;
    this.#source = source;
    this.#useSystem = options.useSystem ?? true;
  }

  /** @throws UserError TOOL_MISSING or GUEST_MISSING when the tool is not there and cannot be fetched. */
  find(name: BuildToolName): Promise<BuildTool> {
    let tool = this.#found.get(name);
    if (tool === undefined) {
      tool = this.#locate(name);
      this.#found.set(name, tool);
    }
    return tool;
  }

  async #locate(name: BuildToolName): Promise<BuildTool> {
    const path = this.#useSystem ? findOnSystem(programOf(name)) : undefined;
    if (path !== undefined && (name !== "gcc-multilib" || await canBuild32(path))) return { path, environment: {}, run: (args, options) => runProcess(path, args, options) };
    return this.#fetch(name);
  }

  async #fetch(name: BuildToolName): Promise<BuildTool> {
    const root = join(this.#cacheDirectory, "tools", name);
    if (!existsSync(root)) {
      await replaceDirectory(root, (draft) => this.#source.unpackWithDependencies(packagesOf[name], draft));
    }
    const path = programDirectories.map((directory) => join(root, directory, programOf(name))).find(isExecutable) ?? join(root, "usr/bin", programOf(name));
    const environment = {
      LD_LIBRARY_PATH: libraryDirectories.map((directory) => join(root, directory)).join(":"),
      PATH: [...programDirectories.map((directory) => join(root, directory)), process.env["PATH"] ?? ""].join(":"),
    };
    const leading = programOf(name) === "gcc" ? [`--sysroot=${root}`] : [];
    return {
      path, environment,
      run: (args, options) => runProcess(path, [...leading, ...args], { ...options, environment: { ...environment, ...options?.environment } }),
    };
  }
}
