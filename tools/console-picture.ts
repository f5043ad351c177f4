/**
 * Draws the end of a guest's console as an SVG for the README: boots it, runs a few commands, keeps the last lines.
 * Usage: node tools/console-picture.ts docs/pictures/boot.svg
 */
import { writeFileSync } from "node:fs";
import { setTimeout as sleep } from "node:timers/promises";
import { Vm } from "../src/api/index.ts";

const [path] = process.argv.slice(2);
if (path === undefined) {
  console.error("usage: node tools/console-picture.ts FILE.svg");
  process.exit(2);
}

const lineCount = 26, columnCount = 100, lineHeight = 18, characterWidth = 8.4, padding = 16;
const commands = ["uname -sr", "grep 'model name' /proc/cpuinfo", "echo RM-$((6*7))"];

await using vm = await Vm.create({ guest: "cloud-6.1", consoleSize: { rows: lineCount, columns: columnCount } });
let text = `$ npm start\nringmaster: accelerator: ${vm.accelerator.name}\n`;
vm.on("serial", ({ bytes }) => void (text += Buffer.from(bytes).toString("utf8")));
await vm.boot({ until: "/ # " });
for (const command of [...commands, "poweroff"]) {
  vm.serial.write(`${command}\n`);
  await sleep(1500);
}
await vm.wait();

const escape = (line: string): string => line.replaceAll("&", "&amp;").replaceAll("<", "&lt;").replaceAll(">", "&gt;");
const lines = text
  // oxlint-disable-next-line no-control-regex
  .replaceAll(/\u001B\[[0-9;?]*[A-Za-z]|\u001B\][^\u0007]*\u0007/gu, "")
  .split(/\r*\n/u).filter((line) => line.trim() !== "").map((line) => line.slice(0, columnCount));
const shown = [...lines.slice(0, 5), "…", ...lines.slice(-(lineCount - 6))];
const width = columnCount * characterWidth + 2 * padding, height = shown.length * lineHeight + 2 * padding;
const rows = shown.map((line, index) => {
  const isPrompt = line.startsWith("/ #") || line.startsWith("$ ");
  return `<text x="${padding}" y="${padding + (index + 0.75) * lineHeight}" fill="${isPrompt ? "#f5d76e" : "#d7dde5"}">${escape(line)}</text>`;
});
writeFileSync(path, `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${width} ${height}" width="${width}" height="${height}">
<rect width="100%" height="100%" rx="8" fill="#14191f"/>
<g font-family="ui-monospace, Menlo, Consolas, monospace" font-size="14" xml:space="preserve">
${rows.join("\n")}
</g>
</svg>
`);
