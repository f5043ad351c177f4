// What V8 is told about compiled guest code: to optimize it after a thirteenth of what V8 takes for enough. Programs that run for a
// tenth of a second are through before its optimizer begins otherwise (docs/decisions/031-less-code-a-guest-instruction.md).
"use strict";
var isChosen = /--wasm-tiering-budget/.test(process.execArgv.join(" ") + (process.env.NODE_OPTIONS || ""));
// A flag rather than an option of node: a V8 that has none like it goes on without.
if (!isChosen) require("v8").setFlagsFromString("--wasm-tiering-budget=1000000");
