import fc from "fast-check";
import { expect, test } from "vitest";
import { testContext } from "../../testing/context.ts";
import { hammer } from "../../testing/wires.ts";
import { fwCfg } from "./index.ts";

const ramBytes = 0x2000;
const edge = fc.oneof(fc.nat(ramBytes + 64), fc.constantFrom(0, 0xffff_fff0, 0xffff_ffff), fc.nat(0xffff_ffff));

test("any DMA request ends, answers done or error, and touches nothing but RAM and its file", () => {
  const request = fc.record({
    at: edge,
    atHigh: fc.constantFrom(0, 0, 0, 1, 0xffff_ffff),
    control: fc.oneof(fc.nat(31), fc.nat(0xffff_ffff)),
    selector: fc.constantFrom(0, 1, 0x19, 0x20, 0x21, 0x22, 0x4021, 0x8003),
    length: edge,
    target: edge,
    targetHigh: fc.constantFrom(0, 0, 0, 1, 0xffff_ffff),
  });
  fc.assert(
    fc.property(fc.array(request, { maxLength: 20 }), (requests) => {
      const context = testContext(ramBytes);
      const device = fwCfg.create({}, context);
      const fixed = Uint8Array.from({ length: 300 }, (_, index) => index & 0xff);
      device.addFile("fixed", fixed);
      device.addFile("open", new Uint8Array(100), { isWritable: true, onWrite: (bytes) => expect(bytes.length).toBe(100) });
      const view = new DataView(context.ram.buffer);
      const swapped = new DataView(new ArrayBuffer(4));
      const writeBigEndian = (port: number, value: number): void => {
        swapped.setUint32(0, value);
        context.ports.write(port, 4, swapped.getUint32(0, true));
      };
      for (const { at, atHigh, control, selector, length, target, targetHigh } of requests) {
        const isWithin = atHigh === 0 && at + 16 <= ramBytes;
        if (isWithin) {
          view.setUint32(at, ((selector << 16) | (control & 0xffff)) >>> 0);
          view.setUint32(at + 4, length);
          view.setUint32(at + 8, targetHigh);
          view.setUint32(at + 12, target);
        }
        const before = isWithin ? undefined : context.ram.slice();
        writeBigEndian(0x514, atHigh);
        writeBigEndian(0x518, at);
        if (isWithin) expect(view.getUint32(at)).toBeLessThanOrEqual(1);
        else expect(context.ram).toEqual(before);
        expect(device.state.offset).toBeLessThanOrEqual(4096);
      }
      expect([...fixed]).toEqual(Array.from({ length: 300 }, (_, index) => index & 0xff));
    }),
    { numRuns: 500 },
  );
});

test("random accesses to selector, data and DMA address", () => {
  hammer(() => {
    const context = testContext(ramBytes);
    fwCfg.create({}, context).addFile("file", new Uint8Array(10), { isWritable: true });
    const registers = {
      read: (offset: number, size: 1 | 2 | 4) => context.ports.read(0x50e + offset, size),
      write: (offset: number, size: 1 | 2 | 4, value: number) => context.ports.write(0x50e + offset, size, value),
    };
    return { registers, clock: context.clock, sizeBytes: 16 };
  });
});
