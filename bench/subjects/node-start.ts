/** How subjects that run on Node are started: as `bin/ringmaster` starts for users. */
import { execFile } from "node:child_process";
import { createRequire } from "node:module";
import { join } from "node:path";
import { fileURLToPath, pathToFileURL } from "node:url";
import { promisify } from "node:util";
import { defaultCacheDirectory } from "../../src/host/node/guests/cache.ts";

const root = fileURLToPath(new URL("../..", import.meta.url));
const launcherDirectory = join(root, "bin/");

/** Options of our own processes. */
export function ownArguments(): readonly string[] {
  const threadArguments = createRequire(launcherDirectory)("./thread-arguments.cjs") as () => readonly string[];
  return [...threadArguments(), "--require", join(launcherDirectory, "v8-flags.cjs")];
}

/** URL of the API as the package has it, of the sources as they are. */
export async function bundledApi(): Promise<string> {
  await promisify(execFile)(process.execPath, [join(root, "tools/bundle.ts")]);
  const { entry } = createRequire(launcherDirectory)("./bundle.cjs") as { entry(root: string, name: string): string };
  return pathToFileURL(entry(root, "api/index")).href;
}

/**
 * What Node makes of sources is kept from one process to the next. A subject calls `flushCompileCache` of `node:module` once it
 * has started, for it is killed in the end.
 */
export function compileCacheEnvironment(): Readonly<Record<string, string>> {
  return { NODE_COMPILE_CACHE: join(defaultCacheDirectory(), "compiled") };
}
