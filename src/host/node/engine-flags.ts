/**
 * What Node's engine is told before it compiles our code. Compiled regions are hot when they are made: V8 shall not wait
 * for a long time, as it does with whole programs, before it optimizes them.
 */
import { setFlagsFromString } from "node:v8";

/** About as many bytes of code are executed by V8's first compiler; it waits for 13,000,000 otherwise. */
const tieringBudget = 1_000_000;

setFlagsFromString(`--wasm-tiering-budget=${tieringBudget}`);
