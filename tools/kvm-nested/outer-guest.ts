/** The Linux guest in which this checkout runs on KVM of that guest's own: kernel and initial RAM file system. */
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { spawnSync } from "node:child_process";
import { writeCpio, type CpioEntry } from "../../src/boot/cpio.ts";
import { PackageSource } from "../../src/host/node/guests/apt.ts";
import { defaultCacheDirectory, withCacheLock } from "../../src/host/node/guests/cache.ts";
import { commandInitramfs, ensureGuests, type ProgressEvent } from "../../src/host/node/guests/index.ts";
import { Progress } from "../../src/host/node/guests/progress.ts";
import { checkoutEntries, guestRoot } from "./archive.ts";

const root = join(import.meta.dirname, "../..");
const testFolders = ["tests/conformance/accelerator", "tests/kvm/nested", "tests/cli"];

export interface OuterGuest {
  /** Path of the bzImage. */
  readonly kernel: string;
  readonly initramfs: Buffer;
  readonly commandLine: string;
}

/** What the outer guest's /init runs. */
function commandOf(modules: "kvm_amd" | "kvm_intel", parts: readonly string[]): string {
  return [
    `for module in $(cat /lib/modules/${modules}.order); do insmod /lib/modules/$module.ko || exit 1; done`,
    `exec node /${guestRoot}/tests/kvm/nested/inside.js ${parts.join(" ")} 2>&1`,
  ].join("\n");
}

/** Compiles the checkout; false when it has errors, which are printed. */
export function compileCheckout(): boolean {
  return spawnSync(join(root, "node_modules/.bin/tsc"), ["-b"], { cwd: root, stdio: "inherit" }).status === 0;
}

/** `parts` are those of tests/kvm/nested/inside.ts; none: all. */
export async function prepareOuterGuest(modules: "kvm_amd" | "kvm_intel", parts: readonly string[], onProgress: (event: ProgressEvent) => void): Promise<OuterGuest> {
  const progress = new Progress(onProgress);
  const { "nested-6.1": outer, "cloud-6.1": inner } = await ensureGuests(["nested-6.1", "cloud-6.1"], { onProgress });
  const cacheDirectory = defaultCacheDirectory();
  const packages = new PackageSource(cacheDirectory, "release", progress);
  const guestFiles: CpioEntry[] = [
    { kind: "file", path: "guest/vmlinuz", bytes: readFileSync(inner.kernel) },
    { kind: "file", path: "guest/initramfs.cpio", bytes: readFileSync(inner.initramfs) },
  ];
  const waiting = (): void => progress.step("another process is working on the cache; waiting for it");
  const entries = await withCacheLock(cacheDirectory, waiting, () => checkoutEntries(packages, testFolders, guestFiles));
  progress.done("the outer guest is ready");
  return {
    kernel: outer.kernel, commandLine: "console=ttyS0 quiet panic=-1",
    initramfs: Buffer.concat([readFileSync(outer.initramfs), writeCpio(entries), commandInitramfs(commandOf(modules, parts))]),
  };
}
