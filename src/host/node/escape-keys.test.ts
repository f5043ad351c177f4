import { describe, expect, it } from "vitest";
import { EscapeKeys, type EscapeEvent } from "./escape-keys.ts";

function parse(...pieces: string[]): string[] {
  const keys = new EscapeKeys();
  const show = (event: EscapeEvent): string => event.kind === "input" ? Buffer.from(event.bytes).toString("latin1") : `<${event.kind}>`;
  return pieces.flatMap((piece) => keys.parse(Buffer.from(piece, "latin1")).map(show));
}

describe("keys of the terminal", () => {
  it.each<[string, string[], string[]]>([
    ["lets everything else through", ["ls\r\u0003\u00ff"], ["ls\r\u0003\u00ff"]],
    ["leaves with Ctrl-A X", ["ab\u0001xcd"], ["ab", "<quit>", "cd"]],
    ["takes the prefix and the letter apart", ["\u0001", "X"], ["<quit>"]],
    ["sends Ctrl-A for Ctrl-A Ctrl-A and Ctrl-A A", ["\u0001\u0001", "\u0001a\u0001A"], ["\u0001", "\u0001\u0001"]],
    ["shows help", ["\u0001h\u0001?"], ["<help>", "<help>"]],
    ["saves", ["ab\u0001Sc"], ["ab", "<snapshot>", "c"]],
    ["shows the control block", ["ab\u0001vc\u0001V"], ["ab", "<control block>", "c", "<control block>"]],
    ["passes unknown combinations on", ["\u0001z"], ["\u0001z"]],
  ])("%s", (_, pieces, expected) => {
    expect(parse(...pieces)).toEqual(expected);
  });
});
