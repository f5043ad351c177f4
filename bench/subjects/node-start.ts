/** How subjects that run on Node are started: as `bin/ringmaster` starts for users. */
import { createRequire } from "node:module";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { defaultCacheDirectory } from "../../src/host/node/guests/cache.ts";

const launcherDirectory = fileURLToPath(new URL("../../bin/", import.meta.url));

/** Options of our own processes. */
export function ownArguments(): readonly string[] {
  const threadArguments = createRequire(launcherDirectory)("./thread-arguments.cjs") as () => readonly string[];
  return threadArguments();
}

/**
 * What Node makes of sources is kept from one process to the next. A subject calls `flushCompileCache` of `node:module` once it
 * has started, for it is killed in the end.
 */
export function compileCacheEnvironment(): Readonly<Record<string, string>> {
  return { NODE_COMPILE_CACHE: join(defaultCacheDirectory(), "compiled") };
}
