/** Compiled code is void when the code it was made from changes, whoever changes it, and what is void is given back. */
import { describe, expect, test } from "vitest";
import { Twins, warm } from "../../../tests/jit/twins.ts";
import { PageBit, Place } from "../testing/engine-machine.ts";
import type { JitSettings } from "./settings.ts";

const all = PageBit.present | PageBit.writable | PageBit.user;
const [rax, rcx, rdx, rdi] = [0, 1, 2, 7];
/** The code's page once more. */
const alias = 0x10_0000;
const rounds = 1600;
const settings: Readonly<Record<string, JitSettings>> = {
  "regions of one block": { ...warm, threshold: 1, maximumBlocks: 1 }, "regions of several": warm,
};

function word(value: number): string {
  return [0, 8, 16, 24].map((shift) => ((value >> shift) & 0xff).toString(16).padStart(2, "0")).join("");
}

interface Writer {
  /** Of the loop: what is changed, or not. */
  readonly before?: string;
  /** Executed in every sixteenth round, so that what is changed becomes hot again. */
  readonly write: string;
  readonly after?: string;
  /** What the other page holds. */
  readonly other?: string;
  /** Place of the immediate that changes: RDI is its address. */
  readonly target: { readonly in: "before" | "after" | "other"; readonly offset: number; readonly isAlias?: boolean };
}

/** mov edx, imm32; add eax, edx: the immediate is what changes. */
const patched = "ba01000000 01d0";
/** nop; call the other page: mov edx, imm32; ret */
const callOther = `90 e8@other 01d0`;
const other = "ba01000000 c3";
const inNext = { in: "after", offset: 2 } as const;

const writers: Readonly<Record<string, Writer>> = {
  "the block that runs, behind what has run": { before: patched, write: "ff07", target: { in: "before", offset: 1 } },
  "the next instruction": { write: "ff07", after: patched, target: { in: "after", offset: 1 } },
  "the next block": { write: "ff07 eb00", after: patched, target: { in: "after", offset: 1 } },
  "another page": { write: "ff07", after: callOther, other, target: { in: "other", offset: 1 } },
  "its own block through an alias": { write: "ff07", after: `90 ${patched}`, target: { ...inNext, isAlias: true } },
  "another page through an alias": { write: "ff07", after: callOther, other, target: { in: "other", offset: 1, isAlias: true } },
  // or dword [rdi-4], 0; add byte [rdi], 1
  "one byte, and what is beside it with what it has": { write: "834ffc00 800701", after: `90 ${patched}`, target: inNext },
  // push rcx; push rdi; xchg eax, ebx; lea eax, [rdx+1]; mov ecx, 1; rep stosd; and back
  "a repeated store": { write: "51 57 93 8d4201 b901000000 f3ab 93 5f 59", after: `90 ${patched}`, target: inNext },
  "an exchange with LOCK": { write: "8d5a01 871f", after: `90 ${patched}`, target: inNext },
  // lea rsp, [rdi+2]; push r9w
  "a push": { write: "4889e3 488d6702 448d4a01 664151 4889dc", after: `90 ${patched}`, target: inNext },
};

function sizeOf(hex: string): number {
  return hex.replaceAll(" ", "").replace("@other", "00000000").length / 2;
}

describe.each(Object.entries(settings))("%s", (_name, jit) => {
  test.each(Object.entries(writers))("a program that writes to %s", (_writer, { before = "", write, after = "", other: otherPage, target }) => {
    const twins = new Twins(jit);
    // test cl, 15; jnz over
    const guard = `f6c10f75${sizeOf(write).toString(16).padStart(2, "0")}`;
    const afterAt = Place.code + sizeOf(before) + sizeOf(guard) + sizeOf(write), otherAt = Place.code + 0x1000;
    const loop = before + guard + write + after.replace("@other", word(otherAt - (afterAt + 6)));
    twins.write(Place.code, `${loop} ffc9 0f85${word(-(sizeOf(loop) + 8))} f4`);
    if (otherPage !== undefined) twins.write(otherAt, otherPage);
    twins.each((machine) => {
      for (const page of [0, 0x1000]) machine.setPage(alias + page, BigInt(Place.code + page) | all);
    });
    const at = { before: Place.code, after: afterAt, other: otherAt }[target.in] + target.offset + (target.isAlias === true ? alias - Place.code : 0);
    twins.start();
    twins.each((machine) => {
      machine.setRegister(rcx, BigInt(rounds));
      machine.setRegister(rdi, BigInt(at));
    });
    twins.runToHalt(500);
    expect(Number(twins.compiled.register(rdx))).toBeGreaterThanOrEqual(rounds / 16);
    expect(twins.counters.voided).toBeGreaterThanOrEqual(rounds / 16 - 5);
    twins.expectCompiled(rounds);
  });

  test("a device that writes while an instruction of the region accesses it", () => {
    const twins = new Twins(jit);
    // L: test cl, 15; jnz over; out 0x80, al; over: mov edx, imm32; add eax, edx; dec ecx; jnz L; hlt
    twins.write(Place.code, "f6c10f 7502 e680 ba01000000 01d0 ffc9 75ee f4");
    twins.start();
    twins.each((machine) => {
      machine.setRegister(rcx, BigInt(rounds));
      let value = 1;
      machine.onAccess = () => void machine.physical.writeRange(Place.code + 8, Uint8Array.of(++value));
    });
    twins.runToHalt(150);
    expect(twins.compiled.register(rdx)).toBe(BigInt(rounds / 16 + 1));
    expect(twins.counters.voided).toBeGreaterThanOrEqual(rounds / 16 - 5);
  });

  test("memory that is mapped in the code's stead", () => {
    const twins = new Twins(jit);
    twins.write(Place.code, "83c001 ffc9 75f9 f4"); // add eax, 1; dec ecx; jnz
    twins.write(0x3_0000, "83c010 ffc9 75f9 f4");
    twins.start();
    twins.each((machine) => machine.setRegister(rcx, 1000n));
    twins.run(300);
    twins.each((machine) => machine.physical.map(Place.code, 0x1000, machine.ramOffset + 0x3_0000));
    twins.runToHalt();
    expect(twins.compiled.register(rax)).toBe(BigInt(100 + 900 * 16));
    expect(twins.counters.voided).toBeGreaterThan(0);
  });
});
