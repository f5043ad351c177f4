/** Builds initial RAM file systems: BusyBox, our /init, and the kernel's virtio drivers. */
import { writeCpio, type CpioEntry } from "../../../boot/cpio.ts";
import { commandPath, initScript, sessionPath, sessionScript } from "./init-script.ts";
import type { KernelModules } from "./kernel-modules.ts";

/** Programs and files to add, by absolute path. */
export interface InitramfsContents {
  readonly busybox: Uint8Array;
  /** The names that BusyBox answers to. */
  readonly applets: readonly string[];
  readonly modules?: KernelModules;
  readonly extraFiles?: readonly CpioEntry[];
}

const directories = ["bin", "dev", "etc", "lib", "lib/modules", "mnt", "proc", "root", "sys", "tmp", "usr", "var", "rm"];
const links: readonly (readonly [path: string, target: string])[] = [
  ["sbin", "bin"], ["usr/bin", "../bin"], ["usr/sbin", "../bin"], ["var/run", "../tmp"], ["etc/mtab", "/proc/mounts"],
];

function text(path: string, content: string, permissions = 0o644): CpioEntry {
  return { kind: "file", path, permissions, bytes: Buffer.from(content) };
}

/** What is the same in every initial RAM file system and on our disk images. */
export function baseEntries(contents: InitramfsContents): CpioEntry[] {
  return [
    ...directories.map((path): CpioEntry => ({ kind: "directory", path, permissions: path === "root" ? 0o700 : 0o755 })),
    ...links.map(([path, target]): CpioEntry => ({ kind: "symlink", path, target })),
    text("etc/passwd", "root:x:0:0:root:/root:/bin/sh\n"),
    text("etc/group", "root:x:0:\n"),
    text("etc/hostname", "ringmaster\n"),
    text(sessionPath, sessionScript, 0o755),
    { kind: "file", path: "bin/busybox", permissions: 0o755, bytes: contents.busybox },
    ...contents.applets.filter((applet) => applet !== "busybox").map((applet): CpioEntry => ({ kind: "symlink", path: `bin/${applet}`, target: "busybox" })),
  ];
}

/** The archive. It stays uncompressed: unpacking costs a guest more time than the host takes to load some more bytes. */
export function buildInitramfs(contents: InitramfsContents): Uint8Array {
  const modules = contents.modules;
  return writeCpio([
    ...baseEntries(contents),
    // Until devtmpfs is mounted the kernel opens these for /init itself.
    { kind: "character-device", path: "dev/console", major: 5, minor: 1 },
    { kind: "character-device", path: "dev/null", permissions: 0o666, major: 1, minor: 3 },
    ...[...modules?.files ?? []].map(([name, bytes]): CpioEntry => ({ kind: "file", path: `lib/modules/${name}.ko`, bytes })),
    ...[...modules?.order ?? []].filter(([, names]) => names.length > 0).map(([group, names]) => text(`lib/modules/${group}.order`, `${names.join("\n")}\n`)),
    text("init", initScript, 0o755),
    ...contents.extraFiles ?? [],
  ]);
}

/**
 * An archive to append to an initial RAM file system of ours: it makes /init run `command` with the shell, report its
 * exit status on the console (see `commandExitPattern`) and power off.
 */
export function commandInitramfs(command: string): Uint8Array {
  return writeCpio([text(commandPath, `${command}\n`, 0o755)]);
}

/** `command` for the kernel's command line, where an initial RAM file system cannot be appended to. */
export function commandKernelArgument(command: string): string {
  return `rm.command=${Buffer.from(command).toString("base64")}`;
}
