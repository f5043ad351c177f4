/** The only list of what guests are run on, ourselves first. */
import { invariant } from "../../src/base/errors.ts";
import type { BenchOptions, Subject, SubjectSource } from "../contract.ts";
import type { Side } from "../interleave.ts";
import { ours } from "./ours.ts";
import { qemu } from "./qemu.ts";
import { v86 } from "./v86.ts";

const peers: readonly SubjectSource[] = [qemu, v86];

/** For `Bench.peers` of benches that compare guests. */
export const guestPeerNames: readonly string[] = peers.map(({ name }) => name);

/**
 * Ourselves and the peer, ready to run guests, whose processors have the virtualization extension that is asked for.
 * @throws UserError TOOL_MISSING when the peer is not there and cannot be fetched.
 */
export async function prepareSides({ peer: name, onProgress, log }: BenchOptions, extension?: "svm"): Promise<Readonly<Record<Side, Subject>>> {
  const source = peers.find((candidate) => candidate.name === name);
  invariant(source !== undefined, "main lets no other peer through");
  const sides = { ours: await ours.prepare(onProgress, extension), peer: await source.prepare(onProgress, extension) };
  log(`ours: ${sides.ours.description}\npeer: ${sides.peer.description}`);
  return sides;
}
