/** Which pages of storage were written, for snapshots that save what has changed. */
import assert from "node:assert/strict";
import type { ConformanceCases } from "./cases.ts";
import { bytesOf, protectedMode, type Fixture } from "./fixture.ts";

/** Hosts may name a few pages more than were written, but neither all nor any twice. */
function assertWritten(f: Fixture, expected: readonly number[]): void {
  const pages = writtenPages(f);
  assert.deepEqual(expected.filter((page) => !pages.includes(page)), []);
  assert.ok(pages.length <= expected.length + 4, `${pages.join(" ")} instead of ${expected.join(" ")}`);
}

function writtenPages(f: Fixture): number[] {
  const bits = f.instance.takeWrittenPages();
  return Array.from({ length: bits.length * 8 }, (_, page) => page).filter((page) => (bits[page >> 3] & (1 << (page & 7))) !== 0);
}

export const writtenPagesCases: ConformanceCases = {
  "the guest's, since the last look": (f) => {
    // L: mov [0x40000], eax; mov [0x41ffe], eax (two pages); mov ebx, [0x50000]; hlt; jmp L
    f.start(protectedMode(), "a300000400 a3fe1f0400 8b1d00000500 f4 ebed");
    f.instance.noteWrites(true);
    assert.deepEqual(writtenPages(f), []);
    f.runToHalt();
    assertWritten(f, [0x40, 0x41, 0x42]);
    assert.deepEqual(writtenPages(f), []);
    f.processor.setState({ ...f.processor.getState(), activity: "active" });
    f.runToHalt();
    assertWritten(f, [0x40, 0x41, 0x42]);
  },

  "a read before the write": (f) => {
    // mov eax, [0x60000]; hlt; mov [0x60004], eax; hlt
    f.start(protectedMode(), "a100000600 f4 a304000600 f4");
    f.instance.noteWrites(true);
    f.runToHalt();
    writtenPages(f);
    f.processor.setState({ ...f.processor.getState(), activity: "active" });
    f.runToHalt();
    assertWritten(f, [0x60]);
  },

  "those from outside, and through a range that is mapped elsewhere": (f) => {
    f.map({ address: 0xf_0000, sizeBytes: 0x1_0000, readOffset: undefined, writeOffset: 0x1f_0000 });
    // mov [0xf3000], eax; hlt
    f.start(protectedMode(), "a300300f00 f4");
    f.instance.noteWrites(true);
    f.instance.writeMemory(0x7_0fff, bytesOf("0102"));
    assert.equal(f.instance.writeMemory(0xfe00_0000, bytesOf("01")), false);
    f.runToHalt();
    assertWritten(f, [0x70, 0x71, 0x1f3]);
  },

  "nothing is noted when nobody asks, and noting begins anew": (f) => {
    f.start(protectedMode(), "a300000400 f4");
    f.instance.noteWrites(true);
    f.runToHalt();
    f.instance.noteWrites(false);
    f.instance.noteWrites(true);
    assert.deepEqual(writtenPages(f), []);
  },
};
