/** Brings Debian's kernels, firmware and tools into the cache and builds guests from them, without root. */
import { join } from "node:path";
import { UserError } from "../../../base/errors.ts";
import { PackageSource } from "./apt.ts";
import { BuildTools } from "./build-tools.ts";
import { defaultCacheDirectory, replaceDirectory, withCacheLock } from "./cache.ts";
import type { GuestName, GuestPaths } from "./catalog.ts";
import { manifestPaths, readManifest, writeManifest } from "./manifest.ts";
import { Progress, type ProgressEvent } from "./progress.ts";
import { recipes, type Kitchen } from "./recipes.ts";

export { guestNames, type GuestName, type GuestPaths, type LinuxGuest, type XenGuest } from "./catalog.ts";
export { commandBeginMarker, commandExitPattern } from "./init-script.ts";
export { commandInitramfs, commandKernelArgument } from "./initramfs.ts";
export type { ProgressEvent } from "./progress.ts";

export interface EnsureGuestsOptions {
  readonly onProgress?: (event: ProgressEvent) => void;
  /** Default: `$RINGMASTER_CACHE`, else `ringmaster` in the user's cache directory. */
  readonly cacheDirectory?: string;
  /** Build anew from Debian's present versions, even where the cache holds a complete guest. */
  readonly refresh?: boolean;
  /** Compare the hashes of files that are there. */
  readonly verify?: boolean;
}

function guestDirectory(cacheDirectory: string, name: GuestName): string {
  return join(cacheDirectory, "guests", name);
}

async function findGuests(cacheDirectory: string, names: readonly GuestName[], verify: boolean): Promise<Partial<Record<GuestName, Record<string, string>>>> {
  const found: Partial<Record<GuestName, Record<string, string>>> = {};
  for (const name of names) {
    const directory = guestDirectory(cacheDirectory, name);
    const manifest = await readManifest(directory, await recipes[name].version(), verify);
    if (manifest !== undefined) found[name] = manifestPaths(directory, manifest);
  }
  return found;
}

/** Those of `names` that the cache holds already; nothing is fetched. */
export async function findCachedGuests<Name extends GuestName>(names: readonly Name[], cacheDirectory: string = defaultCacheDirectory()): Promise<Partial<Pick<GuestPaths, Name>>> {
  return (await findGuests(cacheDirectory, names, false)) as unknown as Partial<Pick<GuestPaths, Name>>;
}

/**
 * The files of the guests `names`, fetched and built when they are not in the cache. A guest is complete or not there
 * at all, also when we are interrupted.
 * @throws UserError TOOL_MISSING without apt, GUEST_MISSING when a package cannot be had; the message names --kernel.
 */
export async function ensureGuests<Name extends GuestName>(names: readonly Name[], options: EnsureGuestsOptions = {}): Promise<Pick<GuestPaths, Name>> {
  const cacheDirectory = options.cacheDirectory ?? defaultCacheDirectory();
  const progress = new Progress(options.onProgress ?? ((): void => {}));
  const verify = options.verify === true;
  let found = options.refresh === true ? {} : await findGuests(cacheDirectory, names, verify);
  if (names.some((name) => found[name] === undefined)) {
    if (process.platform !== "linux") {
      throw new UserError("TOOL_MISSING", "Guests are fetched with Debian's apt, which this machine does not have. Pass a kernel of your own with --kernel <bzImage> (and --initrd <file>) instead.");
    }
    await withCacheLock(cacheDirectory, () => progress.step("another process is working on the cache; waiting for it"), async () => {
      if (options.refresh !== true) found = await findGuests(cacheDirectory, names, verify);
      const release = new PackageSource(cacheDirectory, "release", progress);
      const kitchen: Kitchen = {
        packages: {
          release,
          backports: new PackageSource(cacheDirectory, "backports", progress),
          "release-i386": new PackageSource(cacheDirectory, "release-i386", progress),
        },
        tools: new BuildTools(cacheDirectory, release),
        progress,
      };
      for (const name of names) {
        if (found[name] === undefined) await buildGuest(cacheDirectory, name, kitchen);
      }
    });
    found = await findGuests(cacheDirectory, names, false);
  }
  progress.done(`guests are in ${join(cacheDirectory, "guests")}`);
  return found as unknown as Pick<GuestPaths, Name>;
}

async function buildGuest(cacheDirectory: string, name: GuestName, kitchen: Kitchen): Promise<void> {
  const recipe = recipes[name];
  await replaceDirectory(guestDirectory(cacheDirectory, name), async (directory) => {
    const { files, packages } = await recipe.build(kitchen, directory);
    const sources = packages.map(({ name: packageName, version, sha256 }) => ({ name: packageName, version, sha256 }));
    await writeManifest(directory, { recipe: await recipe.version(), packages: sources }, files);
  });
}
