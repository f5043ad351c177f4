import { expect, test } from "vitest";
import { allFlagsMask, FlagMask, readFlags, statusFlagsMask, writeFlags } from "./flags.ts";
import { StateView } from "./state-view.ts";
import * as layout from "./state.ts";

const state = new StateView(new ArrayBuffer(layout.processorAreaSizeBytes), 0);

test("every combination of status flags survives a round trip", () => {
  for (let bits = 0; bits < 1 << 12; bits++) {
    const flags = bits & statusFlagsMask;
    writeFlags(state, flags, allFlagsMask);
    expect(readFlags(state)).toBe(flags | FlagMask.fixed);
  }
});

test("only masked flags change", () => {
  writeFlags(state, allFlagsMask, allFlagsMask);
  writeFlags(state, 0, FlagMask.ZF | FlagMask.IF);
  expect(readFlags(state)).toBe((allFlagsMask | FlagMask.fixed) & ~(FlagMask.ZF | FlagMask.IF));
});

test("lazy results are understood", () => {
  writeFlags(state, 0, allFlagsMask);
  state.set64(layout.flagsResult, 0xffff_ffff_ffff_ff03n);
  state.set32(layout.flagsAux, (1 << 30) >>> 0);
  expect(readFlags(state)).toBe(FlagMask.SF | FlagMask.PF | FlagMask.OF | FlagMask.fixed);
});
