/** The only list of benches. */
import { boot } from "./benches/boot.ts";
import { exits } from "./benches/exits.ts";
import { guest } from "./benches/guest.ts";
import { nested } from "./benches/nested.ts";
import { snapshot } from "./benches/snapshot.ts";
import type { Bench } from "./contract.ts";

export const benches: readonly Bench[] = [boot, guest, exits, nested, snapshot];
