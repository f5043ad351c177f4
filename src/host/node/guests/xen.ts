/**
 * Xen with a Debian dom0 in an initial RAM file system, and a Debian kernel for a guest of Xen's: hypervisor, tools and
 * libraries come from Debian's packages.
 */
import { copyFile, readFile, writeFile } from "node:fs/promises";
import { gunzipSync } from "node:zlib";
import { join } from "node:path";
import type { CpioEntry } from "../../../boot/cpio.ts";
import { readBusybox } from "./busybox.ts";
import { sha256Hex } from "./cache.ts";
import { initScript, sessionScript } from "./init-script.ts";
import { buildInitramfs } from "./initramfs.ts";
import { isWantedKernelFile, moduleGroups, readKernelModules } from "./kernel-modules.ts";
import { findFile, type Built, type Kitchen, type Recipe } from "./recipes.ts";

const xenVersion = "4.17";
const toolDirectory = `usr/lib/xen-${xenVersion}/bin`;
const tools = ["xl", "xenstored", "xenconsoled", "xenconsole", "libxl-save-helper", "xen-init-dom0"];

/** Where each package's share of the tools' libraries is, by the names that the tools load them by. */
const libraries: Readonly<Record<string, readonly string[]>> = {
  libc6: ["lib64/ld-linux-x86-64.so.2", "lib/x86_64-linux-gnu/libc.so.6"],
  // glibc loads it when a thread is cancelled.
  "libgcc-s1": ["lib/x86_64-linux-gnu/libgcc_s.so.1"],
  liblzma5: ["lib/x86_64-linux-gnu/liblzma.so.5"],
  zlib1g: ["lib/x86_64-linux-gnu/libz.so.1"],
  libuuid1: ["usr/lib/x86_64-linux-gnu/libuuid.so.1"],
  libyajl2: ["usr/lib/x86_64-linux-gnu/libyajl.so.2"],
  libzstd1: ["usr/lib/x86_64-linux-gnu/libzstd.so.1"],
  [`libxenmisc${xenVersion}`]: ["libxenctrl", "libxenguest", "libxenlight", "libxlutil"].map((name) => `usr/lib/x86_64-linux-gnu/${name}.so.${xenVersion}`),
  ...Object.fromEntries(["call", "devicemodel", "evtchn", "foreignmemory", "gnttab", "hypfs", "toolcore", "toollog"].map((name) =>
    [`libxen${name}1`, [`usr/lib/x86_64-linux-gnu/libxen${name}.so.1`]])),
  libxenstore4: ["usr/lib/x86_64-linux-gnu/libxenstore.so.4"],
};

const dom0Modules = { xen: ["xen_evtchn", "xen_gntdev", "xen_privcmd", "xenfs"] };

/** What the guest does. It is over before our /init would tell of its end, which whoever waits for dom0's would take for that. */
const guestCommand = "echo a guest of Xen: $(uname -r), $(cat /sys/hypervisor/type) $(cat /sys/hypervisor/guest_type)\npoweroff -f\n";

/** A guest of Xen's: a Debian kernel started by its PVH entry. */
const guestConfiguration = `name = "guest"
type = "pvh"
kernel = "/xen/vmlinuz"
ramdisk = "/xen/initramfs.cpio"
cmdline = "console=hvc0 quiet rm.command=${Buffer.from(guestCommand).toString("base64")}"
memory = 128
vcpus = 1
on_reboot = "destroy"
`;

/** Makes `xl` work: devices, daemons, and dom0's own entry in the store. */
const startScript = `#!/bin/sh
while read -r module; do insmod /lib/modules/$module.ko; done < /lib/modules/xen.order
mount -t xenfs xenfs /proc/xen
mkdir -p /run/lock /var/run/xen /var/run/xenstored /var/lib/xen /var/lib/xenstored /var/log/xen /var/lock
export PATH=$PATH:/${toolDirectory}
xenstored --pid-file /var/run/xenstored.pid || exit 1
xen-init-dom0 || exit 1
xenconsoled --pid-file=/var/run/xenconsoled.pid || exit 1
`;

const layout = 1;
const version = sha256Hex(JSON.stringify([initScript, sessionScript, moduleGroups, dom0Modules, tools, libraries, guestConfiguration, startScript, layout]));

function isWantedByDom0(path: string): boolean {
  return isWantedKernelFile(path) || /\/kernel\/drivers\/xen\/(?:xenfs\/)?[^/]+\.ko(?:\.xz)?$/u.test(path);
}

function file(path: string, bytes: Uint8Array, permissions = 0o644): CpioEntry {
  return { kind: "file", path, permissions, bytes };
}

/** Directories of `paths`, outermost first; those in `known` are there already. */
function directoriesOf(paths: readonly string[], known: ReadonlySet<string>): CpioEntry[] {
  const found = new Set<string>();
  for (const path of paths) {
    const parts = path.split("/");
    for (let length = 1; length < parts.length; length++) found.add(parts.slice(0, length).join("/"));
  }
  return [...found].filter((path) => !known.has(path)).toSorted((a, b) => a.length - b.length).map((path) => ({ kind: "directory", path }));
}

const initramfsDirectories: ReadonlySet<string> = new Set(["bin", "dev", "etc", "lib", "usr", "var"]);

/** The kernel whose initial RAM file system runs the tools as dom0, and the small one that a guest of Xen's boots. */
async function build(kitchen: Kitchen, directory: string): Promise<Built> {
  const { release } = kitchen.packages;
  const hypervisor = await release.unpack(`xen-hypervisor-${xenVersion}-amd64`);
  const utilities = await release.unpack(`xen-utils-${xenVersion}`);
  const dom0 = await release.unpack("linux-image-amd64", { keep: isWantedByDom0, variant: "xen" });
  const guest = await release.unpack("linux-image-cloud-amd64", { keep: isWantedKernelFile });
  const busybox = await release.unpack("busybox-static");
  const packages = [hypervisor, utilities, dom0, guest, busybox];
  const entries: CpioEntry[] = [];
  for (const tool of tools) entries.push(file(`${toolDirectory}/${tool}`, await readFile(join(utilities.directory, toolDirectory, tool)), 0o755));
  for (const [name, paths] of Object.entries(libraries)) {
    const unpacked = await release.unpack(name);
    packages.push(unpacked);
    for (const path of paths) entries.push(file(path, await readFile(join(unpacked.directory, path)), 0o755));
  }
  kitchen.progress.step("initial RAM file systems for Xen's dom0 and its guest");
  const { program, applets } = await readBusybox(busybox.directory);
  const guestInitramfs = buildInitramfs({ busybox: program, applets });
  entries.push(
    file("xen/vmlinuz", await readFile(await findFile(join(guest.directory, "boot"), /^vmlinuz-/u))), file("xen/initramfs.cpio", guestInitramfs),
    file("xen/guest.cfg", Buffer.from(guestConfiguration)), file("xen/start", Buffer.from(startScript), 0o755),
    file("etc/xen/xl.conf", Buffer.from('autoballoon="off"\n')),
  );
  const modules = await readKernelModules(dom0.directory, kitchen.tools, dom0Modules);
  await writeFile(join(directory, "initramfs.cpio"), buildInitramfs({
    busybox: program, applets, modules, extraFiles: [...directoriesOf(entries.map(({ path }) => path), initramfsDirectories), ...entries],
  }));
  await copyFile(await findFile(join(dom0.directory, "boot"), /^vmlinuz-/u), join(directory, "vmlinuz"));
  const compressed = await readFile(await findFile(join(hypervisor.directory, "boot"), /^xen-[\d.]+-amd64\.gz$/u));
  await writeFile(join(directory, "xen"), gunzipSync(compressed));
  return { files: { hypervisor: "xen", kernel: "vmlinuz", initramfs: "initramfs.cpio" }, packages };
}

export const xenRecipe: Recipe = { version: () => version, build };
