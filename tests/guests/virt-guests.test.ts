/** Every guest of guests/virt, small hypervisors with guests of a few instructions, on our processor. */
import { describeGuests } from "./describe-guests.ts";

await describeGuests("virt");
