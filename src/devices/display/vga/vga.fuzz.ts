/** Any register and memory accesses leave a screen that can be read, and never throw. */
import fc from "fast-check";
import { expect, it } from "vitest";
import { TestBoard } from "../../testing/board.ts";
import { vga } from "./index.ts";

const access = fc.oneof(
  { weight: 4, arbitrary: fc.record({ kind: fc.constant("port" as const), port: fc.integer({ min: 0x3b0, max: 0x3df }), size: fc.constantFrom<1 | 2 | 4>(1, 2, 4), value: fc.nat(0xffffffff) }) },
  { weight: 2, arbitrary: fc.record({ kind: fc.constant("vbe" as const), index: fc.nat(12), value: fc.oneof(fc.nat(0xffff), fc.constantFrom(4, 8, 16, 32, 0x41, 0xc1, 640, 480)) }) },
  { weight: 2, arbitrary: fc.record({ kind: fc.constant("memory" as const), at: fc.integer({ min: 0xa0000, max: 0xbfffc }), size: fc.constantFrom<1 | 2 | 4>(1, 2, 4), value: fc.nat(0xffffffff) }) },
);

const board = new TestBoard();
const device = vga.create({}, board.context);

it("survives any guest", () => {
  fc.assert(
    fc.property(fc.array(access, { maxLength: 60 }), fc.boolean(), (accesses, startsInText) => {
      device.reset();
      if (startsInText) device.vga.programTextMode();
      for (const action of accesses) {
        if (action.kind === "port") {
          board.ports.write(action.port, action.size, action.value);
          board.ports.read(action.port, action.size);
        } else if (action.kind === "vbe") {
          board.ports.write(0x1ce, 2, action.index);
          board.ports.write(0x1cf, 2, action.value);
        } else {
          board.memoryBus.write(action.at, action.size, action.value);
          const read = board.memoryBus.read(action.at, action.size);
          expect(read >= 0 && read < 2 ** (8 * action.size)).toBe(true);
        }
      }
      const screen = device.textScreen();
      if (screen !== undefined) expect(screen.cells).toHaveLength(screen.columns * screen.rows);
      const dispi = device.state.vga.dispi;
      if (dispi[1] * dispi[2] < 1_000_000) {
        const { width, height, data } = device.readPixels();
        expect(data).toHaveLength(4 * width * height);
      }
    }),
    { numRuns: 150 },
  );
});
