// What Node.js is told about its threads. V8 compiles and collects garbage in four; with fewer processors than that and one for
// ourselves they take ours, and a boot takes a tenth longer (docs/decisions/029-a-processor-for-ourselves.md).
"use strict";
var os = require("os");

module.exports = function threadArguments() {
  var processors = os.availableParallelism ? os.availableParallelism() : os.cpus().length;
  var isChosen = /--v8-pool-size/.test(process.execArgv.join(" ") + (process.env.NODE_OPTIONS || ""));
  return isChosen || processors > 4 ? [] : ["--v8-pool-size=" + Math.max(1, processors - 1)];
};
