// The sources in one file per entry (tools/bundle.ts): Node.js takes a quarter of a second to load them one by one.
"use strict";
var fs = require("fs");
var path = require("path");

// Every source with what changes when somebody writes it.
function sourceStamp(root) {
  var lines = [];
  (function visit(directory) {
    fs.readdirSync(path.join(root, directory), { withFileTypes: true }).forEach(function (entry) {
      var place = directory + "/" + entry.name;
      if (entry.isDirectory()) return visit(place);
      if (!place.endsWith(".ts") || place.endsWith(".test.ts")) return;
      var facts = fs.statSync(path.join(root, place));
      lines.push(place + " " + facts.size + " " + facts.mtimeMs);
    });
  })("src");
  return lines.join("\n");
}

module.exports = {
  directory: path.join("dist", "bundle"),
  stampFile: path.join("dist", "bundle", "sources"),
  sourceStamp: sourceStamp,
  // The file to load for an entry, "cli/main" or "api/index": of a package its bundle, of a checkout the source, unless it was bundled as it is.
  entry: function (root, name) {
    var source = path.join(root, "src", name + ".ts");
    var bundled = path.join(root, "dist", "bundle", name + ".js");
    if (!fs.existsSync(source)) return bundled;
    try {
      return fs.readFileSync(path.join(root, module.exports.stampFile), "utf8") === sourceStamp(root) ? bundled : source;
    } catch {
      return source;
    }
  },
};
