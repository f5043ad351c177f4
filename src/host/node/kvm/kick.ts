/** Stops a processor from any thread. */
import type { KickHandle } from "../../../accel/contract.ts";
import { nativeCalls } from "./native-calls.ts";

/** Makes the processor's `run` return "stopped" soon. */
export function kick({ flag, thread }: KickHandle): void {
  Atomics.store(flag, 0, 1);
  if (thread === undefined) return;
  const native = nativeCalls();
  if (!("problem" in native)) native.kick(thread);
}
