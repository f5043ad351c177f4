/** The directory outside of the repository that holds fetched packages and built guests: where it is, its lock, and atomic additions to it. */
import { createHash } from "node:crypto";
import { existsSync } from "node:fs";
import { link, mkdir, open, readdir, readFile, rename, rm } from "node:fs/promises";
import { homedir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";

const lockPollMs = 200;

/** `$RINGMASTER_CACHE`, else `ringmaster` in the user's cache directory. */
export function defaultCacheDirectory(): string {
  const { RINGMASTER_CACHE: own, XDG_CACHE_HOME: shared } = process.env;
  if (own !== undefined && own !== "") return own;
  return join(shared !== undefined && shared !== "" ? shared : join(homedir(), ".cache"), "ringmaster");
}

export function sha256Hex(bytes: Uint8Array | string): string {
  return createHash("sha256").update(bytes).digest("hex");
}

function isAlive(processId: number): boolean {
  try {
    process.kill(processId, 0);
    return true;
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === "EPERM";
  }
}

async function lockOwner(path: string): Promise<number | undefined> {
  const owner = Number(await readFile(path, "utf8").catch(() => ""));
  // An empty lock is one that its owner is just writing: it gets the next round.
  return Number.isInteger(owner) && owner > 0 ? owner : undefined;
}

async function removeStaleLock(path: string): Promise<void> {
  const owner = await lockOwner(path);
  if (owner === undefined || isAlive(owner)) return;
  const stale = `${path}.stale-${process.pid}`;
  await rename(path, stale).catch(() => {});
  // Another process may have been faster, so that this is its new lock.
  const taken = await lockOwner(stale);
  if (taken !== undefined && taken !== owner && isAlive(taken)) await link(stale, path).catch(() => {});
  await rm(stale, { force: true });
}

/** Removes directories in the making whose process has died. */
async function removeLeftovers(cacheDirectory: string): Promise<void> {
  for (const room of ["guests", "packages", "tools"]) {
    const directory = join(cacheDirectory, room);
    for (const name of await readdir(directory).catch(() => [])) {
      const owner = /\.(?:draft|old|download)-(?<owner>\d+)(?:\.|$)/u.exec(name)?.groups?.["owner"];
      if (owner !== undefined && !isAlive(Number(owner))) await rm(join(directory, name), { recursive: true, force: true });
    }
  }
}

/** Runs `action` while no other process changes the cache; waits for one that does. */
export async function withCacheLock<Result>(cacheDirectory: string, onWait: () => void, action: () => Promise<Result>): Promise<Result> {
  await mkdir(cacheDirectory, { recursive: true });
  const path = join(cacheDirectory, "lock");
  for (let round = 0; ; round++) {
    try {
      const handle = await open(path, "wx");
      await handle.writeFile(String(process.pid));
      await handle.close();
      break;
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== "EEXIST") throw error;
      if (round === 0) onWait();
      await removeStaleLock(path);
      await sleep(lockPollMs);
    }
  }
  try {
    await removeLeftovers(cacheDirectory);
    return await action();
  } finally {
    await rm(path, { force: true });
  }
}

/** Fills a new directory with `fill` and puts it at `path` in one step, replacing what was there. */
export async function replaceDirectory(path: string, fill: (directory: string) => Promise<void>): Promise<void> {
  const draft = `${path}.draft-${process.pid}`;
  await rm(draft, { recursive: true, force: true });
  await mkdir(draft, { recursive: true });
  try {
    await fill(draft);
    if (existsSync(path)) {
      const old = `${path}.old-${process.pid}`;
      await rename(path, old);
      await rename(draft, path);
      await rm(old, { recursive: true, force: true });
    } else {
      await rename(draft, path).catch((error: NodeJS.ErrnoException) => {
        // Another process made the same at the same time; either will do.
        if (error.code !== "ENOTEMPTY" && error.code !== "EEXIST") throw error;
      });
    }
  } finally {
    await rm(draft, { recursive: true, force: true });
  }
}
