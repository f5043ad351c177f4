/** A thread that kicks a processor of another thread when it is told to. */
import { parentPort, workerData } from "node:worker_threads";
import type { KickHandle } from "../../src/accel/contract.ts";
import { kick } from "../../src/host/node/kvm/kick.ts";

const { go, handle } = workerData as { readonly go: Int32Array; readonly handle: KickHandle };
parentPort?.postMessage("ready");
Atomics.wait(go, 0, 0);
kick(handle);
