/** What Node makes of sources is kept from one process to the next, as `bin/ringmaster` keeps it: subjects start as they do for users. */
import { join } from "node:path";
import { defaultCacheDirectory } from "../../src/host/node/guests/cache.ts";

/** For a subject that runs on Node. It calls `flushCompileCache` of `node:module` once it has started, for it is killed in the end. */
export function compileCacheEnvironment(): Readonly<Record<string, string>> {
  return { NODE_COMPILE_CACHE: join(defaultCacheDirectory(), "compiled") };
}
