/** The architectural state, taken and set. */
import assert from "node:assert/strict";
import type { ProcessorState } from "../../../src/accel/processor-state.ts";
import type { ConformanceCases } from "./cases.ts";
import { handlerAddress, longMode, protectedMode, realMode, resultAddress, zeros, type Fixture } from "./fixture.ts";

/** As text, for comparisons that show what differs. */
const shown = (state: ProcessorState): unknown => JSON.parse(JSON.stringify(state, (_key, value: unknown) => (typeof value === "bigint" ? `0x${value.toString(16)}` : value)));

/** Runs a program twice, the second time in many machines, one after the other: memory and state must come out the same. */
function moveAround(f: Fixture, program: string): void {
  const registers = zeros.map((_, register) => (register === 0 ? 5 : 0));
  const start = { ...longMode(registers), cr4: 0x620 };
  f.start(start, program);
  f.runToHalt();
  const results = (fixture: Fixture): unknown => [fixture.word(resultAddress), fixture.word(resultAddress + 8), fixture.word(resultAddress + 12), shown(fixture.processor.getState())];
  let here = f.another();
  here.start(start, program);
  for (let move = 0; move < movesOfGuest; move++) {
    here.processor.setDebug({ isSingleStep: true, breakpoints: [] });
    for (let step = 0; step < stepsBetweenMoves; step++) here.runTo("debug");
    const there = f.another();
    there.instance.storage.set(here.instance.storage);
    there.processor.setState(here.processor.getState());
    here = there;
  }
  here.runToHalt();
  assert.deepEqual(results(here), results(f));
}

const movesOfGuest = 12;
const stepsBetweenMoves = 5;

export const stateCases: ConformanceCases = {
  "after reset": (f) => {
    f.processor.reset("reset");
    const { rip, rflags, segments, cr0, activity, dr6, dr7, mxcsr, pendingEvent } = f.processor.getState();
    assert.deepEqual([rip, rflags, cr0, activity, dr6, dr7, mxcsr, pendingEvent], [0xfff0n, 2, 0x6000_0010n, "active", 0xffff_0ff0n, 0x400n, 0x1f80, undefined]);
    assert.deepEqual(segments[1], { selector: 0xf000, base: 0xffff_0000n, limit: 0xffff, attributes: 0x9b });
  },

  "what is set is what is got": (f) => {
    f.start(longMode(), "f4");
    const before = f.processor.getState();
    const changed: ProcessorState = {
      ...before,
      general: before.general.map((_, number) => 0x1122_3344_5566_7780n + BigInt(number)),
      rip: 0x1234n, rflags: 0xad7, cr2: 0xdead_beef_0000n,
      segments: before.segments.map((segment, index) => (index === 4 || index === 5 ? { ...segment, base: 0xffff_8000_0000_0000n + BigInt(index) } : segment)),
      breakpointAddresses: [1n, 2n, 3n, 4n], dr6: 0xffff_4ff0n,
      floatingPoint: {
        ...before.floatingPoint, controlWord: 0x37f, statusWord: 0x3800, abridgedTagWord: 0x80, lastOpcode: 0x123,
        stack: before.floatingPoint.stack.map((_, index) => ({ significand: 0x8000_0000_0000_0000n + BigInt(index), signAndExponent: 0x3fff + index })),
      },
      mxcsr: 0x1fa0,
      xmm: before.xmm.map((_, index) => ({ low: BigInt(index), high: 0xffff_0000_0000_0000n + BigInt(index) })),
      msrs: {
        ...before.msrs, star: 0x23_0010_0000_0000n, lstar: 0xffff_8000_0000_1000n, fmask: 0x4_7700n, kernelGsBase: 0x1000n,
        sysenterCs: 0x10n, sysenterEsp: 0x2000n, sysenterEip: 0x3000n, tscAux: 7n, pat: 0x0007_0406_0007_0400n,
      },
      isNmiBlocked: true,
    };
    f.processor.setState(changed);
    assert.deepEqual(shown(f.processor.getState()), shown(changed));
  },

  "moves a guest to another machine between any two instructions": (f) => {
    // mov ecx, 40; L: imul eax, eax, 3; add eax, ecx; xor [0x7000], eax; dec ecx; jnz L; hlt
    moveAround(f, "b928000000 6bc003 01c8 310425 00700000 ffc9 75f0 f4");
  },

  "moves a guest that uses x87 and SSE": (f) => {
    // fninit (RESET leaves a full register stack, and VT-x has every exception reported); fld1; mov ecx, 40; L: imul eax, eax, 3; add eax, ecx; movd xmm0, eax; paddd xmm1, xmm0; fadd st0, st0; dec ecx; jnz L;
    // movd [0x7000], xmm1; fistp qword [0x7008]; hlt
    moveAround(f, "dbe3 d9e8 b928000000 6bc003 01c8 660f6ec0 660ffec8 d8c0 ffc9 75ed 660f7e0c2500700000 df3c2508700000 f4");
  },

  "a shadow, a blocked and a pending NMI go along": (f) => {
    f.setVector(2, handlerAddress);
    f.setVector(0x21, handlerAddress + 0x10);
    f.write(handlerAddress, "e682 f4");
    f.write(handlerAddress + 0x10, "e681 f4");
    f.start(realMode(), "e680 e690 f4"); // out 0x80, al; out 0x90, al; hlt
    f.processor.setState({ ...f.processor.getState(), shadow: "sti", rflags: 0x202 });
    f.interrupt(0x21);
    f.runToHalt();
    assert.deepEqual(f.portWrites.map(([port]) => port), [0x80, 0x81]);

    f.start(realMode(), "e680 e690 f4");
    f.processor.setState({ ...f.processor.getState(), activity: "active", isNmiBlocked: true, isNmiPending: true, rflags: 2 });
    f.runToHalt();
    assert.deepEqual(f.portWrites.map(([port]) => port), [0x80, 0x81, 0x80, 0x90]);
    f.start(realMode(), "e680 e690 f4");
    f.processor.setState({ ...f.processor.getState(), activity: "halted", isNmiBlocked: false, isNmiPending: true });
    f.runToHalt();
    assert.deepEqual(f.portWrites.map(([port]) => port), [0x80, 0x81, 0x80, 0x90, 0x82]);
  },

  "a pending event comes before the next instruction": (f) => {
    f.setVector(0x21, handlerAddress);
    f.write(handlerAddress, "e681 f4");
    f.start({ ...realMode(), rflags: 0x202 }, "e680 f4");
    f.processor.setState({ ...f.processor.getState(), pendingEvent: { kind: "external", vector: 0x21 } });
    assert.deepEqual(f.processor.getState().pendingEvent, { kind: "external", vector: 0x21 });
    f.runToHalt();
    assert.deepEqual(f.portWrites.map(([port]) => port), [0x81]);
    assert.equal(f.processor.getState().pendingEvent, undefined);
  },

  "a halted and a shut-down processor stay so": (f) => {
    f.start(realMode(), "f4");
    f.runToHalt();
    assert.equal(f.processor.getState().activity, "halted");
    const other = f.another();
    other.processor.setState(f.processor.getState());
    other.runTo("halted");
    f.start({ ...protectedMode(), idtr: { base: 0, limit: 0 } }, "0f0b");
    f.processor.setState({ ...f.processor.getState(), activity: "active" });
    f.runTo("shutdown");
    other.processor.setState(f.processor.getState());
    other.runTo("shutdown");
  },

  "PAE paging goes along": (f) => {
    // Pointer table at 0x6000, directories of 2 MiB pages from 0xb000 on. mov dword [0x7000], 0x55; hlt
    f.write(0x6000, "01b0000000000000 01c0000000000000 01d0000000000000 01e0000000000000");
    f.start({ ...protectedMode(), cr0: 0x8000_0011, cr3: 0x6000, cr4: 0x20 }, "c7050070000055000000 f4");
    const there = f.another();
    there.instance.storage.set(f.instance.storage);
    there.processor.setState(f.processor.getState());
    there.runToHalt();
    assert.equal(there.word(resultAddress), 0x55);
  },
};
