/** Single-stepping and breakpoints for a debugger outside of the guest. */
import assert from "node:assert/strict";
import type { ConformanceCases } from "./cases.ts";
import { codeAddress, handlerAddress, longMode, protectedMode, realMode, type Fixture } from "./fixture.ts";

const nothing = { isSingleStep: false, breakpoints: [] };

function instructionPointers(f: Fixture, count: number): number[] {
  return Array.from({ length: count }, () => {
    f.runTo("debug");
    return Number(f.processor.getState().rip) - codeAddress;
  });
}

export const debugCases: ConformanceCases = {
  "single steps": (f) => {
    // nop; mov eax, 1; out 0x80, al; L: jmp L
    f.start(protectedMode(), "90 b801000000 e680 ebfe");
    f.processor.setDebug({ isSingleStep: true, breakpoints: [] });
    assert.deepEqual(instructionPointers(f, 4), [1, 6, 8, 8]);
    assert.deepEqual(f.portWrites, [[0x80, 1, 1]]);
    f.processor.setDebug(nothing);
    assert.equal(f.run(), "budget");
  },

  "the guest gets no exception for single steps": (f) => {
    // L: nop; inc eax; jmp L
    f.start(realMode(), "90 40 ebfc");
    f.processor.setDebug({ isSingleStep: true, breakpoints: [] });
    assert.deepEqual(instructionPointers(f, 4), [1, 2, 0, 1]);
    const { rflags, dr6, pendingEvent } = f.processor.getState();
    assert.deepEqual([rflags & 0x100, dr6, pendingEvent], [0, 0xffff_0ff0n, undefined]);
  },

  "breakpoints, and on from them": (f) => {
    // L: inc eax; out 0x80, al; jmp L
    f.start(longMode(), "ffc0 e680 ebfa");
    f.processor.setDebug({ isSingleStep: false, breakpoints: [BigInt(codeAddress + 2), BigInt(codeAddress + 4)] });
    assert.deepEqual(instructionPointers(f, 5), [2, 4, 2, 4, 2]);
    assert.deepEqual(f.portWrites, [[0x80, 1, 1], [0x80, 1, 2]]);
    f.processor.setDebug(nothing);
    assert.equal(f.run(), "budget");
  },

  "breakpoints are linear addresses": (f) => {
    const based = { selector: 0x200, base: 0x2000, limit: 0xffff, attributes: 0x9b };
    f.write(handlerAddress + codeAddress, "90 90 f4");
    const state = realMode();
    f.start({ ...state, segments: state.segments.map((segment, index) => (index === 1 ? based : segment)) }, "f4");
    f.processor.setDebug({ isSingleStep: false, breakpoints: [BigInt(0x2000 + codeAddress + 1)] });
    assert.deepEqual(instructionPointers(f, 1), [1]);
    f.runToHalt();
  },
};
