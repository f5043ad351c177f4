/** The same guests with a dispatch loop that has hot handlers in it from the start, as machines have that have run for a while: exits go on within a slice. */
import { Interpreter } from "../../src/engine/interpreter.ts";
import { describeGuests } from "./describe-guests.ts";

Interpreter.hasInlinedHot = true;
await describeGuests("virt");
