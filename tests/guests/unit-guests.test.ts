/** Every guest of guests/unit, one per mode and mechanism, on our processor. */
import { describeGuests } from "./describe-guests.ts";

await describeGuests("unit");
