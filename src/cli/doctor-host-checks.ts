/** What `doctor` looks at on every host: Node.js, WebAssembly, memory, tools, the cache. */
import { accessSync, constants, existsSync, statfsSync } from "node:fs";
import { availableParallelism, freemem, totalmem } from "node:os";
import { dirname, join } from "node:path";
import { guestNames } from "../api/choices.ts";
import { findProgram } from "../host/node/find-program.ts";
import { defaultCacheDirectory } from "../host/node/guests/cache.ts";
import type { DoctorCheck } from "./doctor.ts";

/** Node's types leave WebAssembly to the DOM's. */
declare const WebAssembly: { validate(bytes: Uint8Array): boolean };

const oldestNode = 24;
const mebibyte = 2 ** 20;

/** Modules with what the engine needs beyond WebAssembly 2.0: a function that calls itself in tail position, and shared memory. */
const tailCallModule = Uint8Array.of(0, 0x61, 0x73, 0x6d, 1, 0, 0, 0, 1, 4, 1, 0x60, 0, 0, 3, 2, 1, 0, 10, 6, 1, 4, 0, 0x12, 0, 0x0b);
const sharedMemoryModule = Uint8Array.of(0, 0x61, 0x73, 0x6d, 1, 0, 0, 0, 5, 4, 1, 3, 1, 1);

export function nodeCheck(): DoctorCheck {
  const { node, v8 } = process.versions;
  const isNewEnough = Number(node.split(".")[0]) >= oldestNode;
  return { name: "Node.js", state: isNewEnough ? "ok" : "failed", detail: `${node}, V8 ${v8}${isNewEnough ? "" : `: install ${oldestNode} or newer`}` };
}

export function webAssemblyCheck(): DoctorCheck {
  const missing = [["tail calls", tailCallModule], ["shared memory", sharedMemoryModule]] as const;
  const names = missing.filter(([, bytes]) => !WebAssembly.validate(bytes)).map(([name]) => name);
  return { name: "WebAssembly", state: names.length === 0 ? "ok" : "failed", detail: names.length === 0 ? "tail calls and shared memory" : `no ${names.join(", ")}: install a newer Node.js` };
}

export function aptCheck(): DoctorCheck {
  const missing = ["apt-get", "apt-cache", "dpkg-deb"].filter((program) => findProgram(program) === undefined);
  return {
    name: "apt",
    state: missing.length === 0 ? "ok" : "missing",
    detail: missing.length === 0 ? "guests can be fetched from Debian" : `no ${missing.join(", ")}: guests cannot be fetched; use --kernel`,
  };
}

export function cacheCheck(): DoctorCheck {
  const directory = defaultCacheDirectory();
  let existing = directory;
  while (!existsSync(existing)) existing = dirname(existing);
  try {
    accessSync(existing, constants.W_OK);
  } catch {
    return { name: "cache", state: "missing", detail: `${directory} cannot be written: set RINGMASTER_CACHE` };
  }
  const { bavail, bsize } = statfsSync(existing);
  const guests = guestNames.filter((name) => existsSync(join(directory, "guests", name)));
  return { name: "cache", state: "ok", detail: `${directory}, ${Math.floor((bavail * bsize) / mebibyte)} MiB free, guests: ${guests.length === 0 ? "none yet" : guests.join(", ")}` };
}

export function resourceChecks(): DoctorCheck[] {
  return [
    { name: "processors", state: "ok", detail: String(availableParallelism()) },
    { name: "memory", state: "ok", detail: `${Math.floor(freemem() / mebibyte)} of ${Math.floor(totalmem() / mebibyte)} MiB free` },
  ];
}
