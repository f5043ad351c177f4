/** The only list of benches, and of what they can be run against. */
import { boot } from "./benches/boot.ts";
import { guest } from "./benches/guest.ts";
import type { Bench, SubjectSource } from "./contract.ts";
import { ours } from "./subjects/ours.ts";
import { qemu } from "./subjects/qemu.ts";
import { v86 } from "./subjects/v86.ts";

export const benches: readonly Bench[] = [boot, guest];
export const peers: readonly SubjectSource[] = [qemu, v86];
export { ours };
