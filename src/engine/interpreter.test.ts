/** Blocks of decoded code: links, budgets, precise faults, and code that changes under way. */
import { beforeEach, describe, expect, test } from "vitest";
import * as state from "../isa/state.ts";
import { Activity } from "../isa/system/mode.ts";
import { bytesOf, EngineMachine, PageBit, Place } from "./testing/engine-machine.ts";

const all = PageBit.present | PageBit.writable | PageBit.user;
const [RAX, RCX, RDX, RBX, RDI] = [0, 1, 2, 3, 7];
const hlt = "f4";
/** mov eax, imm8; the immediate is the second byte. */
const loadEax = (value: number): string => `b8 ${value.toString(16).padStart(2, "0")} 00 00 00`;

let m: EngineMachine;

beforeEach(() => {
  m = new EngineMachine();
  m.longMode();
});

/** Writes code as a device does. */
function write(address: number, ...parts: readonly string[]): void {
  expect(m.physical.writeRange(address, bytesOf(parts.join("")))).toBe(true);
}

/** Goes on at an address, after HLT too. */
function start(address: number): void {
  m.processor.state.set32(state.activity, Activity.active);
  m.rip = BigInt(address);
}

/** Runs code at `Place.code` up to its HLT, or a handler's. */
function run(...parts: readonly string[]): string {
  write(Place.code, ...parts);
  start(Place.code);
  return m.run(1000);
}

describe("execution", () => {
  test("a loop runs on linked blocks and counts every instruction", () => {
    // mov ecx, 1000; L: inc eax; dec ecx; jnz L; hlt
    expect(run("b9 e8 03 00 00", "ff c0", "ff c9", "75 fa", hlt)).toBe("budget");
    while (m.run(100_000) !== "halted");
    expect(m.register(RAX)).toBe(1000n);
    expect(m.processor.retired).toBe(1 + 3000 + 1);
    expect(m.processor.code.counters.blocks).toBeLessThan(8);
  });

  test("a budget ends between two blocks, with an exact instruction pointer", () => {
    write(Place.code, "ff c0", "ff c0", "eb fa");
    start(Place.code);
    expect(m.run(300)).toBe("budget");
    expect(m.processor.retired).toBeGreaterThanOrEqual(300);
    expect(m.processor.retired).toBeLessThan(304);
    expect(m.rip).toBe(BigInt(Place.code));
    expect(m.register(RAX)).toBe(BigInt((m.processor.retired / 3) * 2));
  });

  test("a fault in the middle of a block has the right instruction pointer, and what came before it is done", () => {
    // inc eax; inc eax; div ecx; inc eax
    run("ff c0", "ff c0", "f7 f1", "ff c0", hlt);
    expect(m.delivered()).toMatchObject({ vector: 0, rip: BigInt(Place.code + 4) });
    expect(m.register(RAX)).toBe(2n);
    expect(m.processor.retired).toBe(3);
  });

  test("an invalid opcode in the middle of a block", () => {
    run("ff c0", "0f ff", hlt);
    expect(m.delivered()).toMatchObject({ vector: 6, rip: BigInt(Place.code + 2) });
    expect(m.register(RAX)).toBe(1n);
  });

  test("more than fifteen bytes are #GP", () => {
    run("66".repeat(15), "90");
    expect(m.delivered()).toMatchObject({ vector: 13, errorCode: 0n, rip: BigInt(Place.code) });
  });

  test("a block ends with its page and goes on in the next", () => {
    write(0x1_0ffc, "ff c0", "ff c0", "ff c0", hlt);
    start(0x1_0ffc);
    expect(m.run(1000)).toBe("halted");
    expect(m.register(RAX)).toBe(3n);
  });
});

describe("code that changes", () => {
  test("the next instruction of the same block", () => {
    // mov byte [rip+1], 0x2a; mov eax, 1
    expect(run("c6 05 01 00 00 00 2a", loadEax(1), hlt)).toBe("halted");
    expect(m.register(RAX)).toBe(0x2an);
  });

  test("a block that has been executed before", () => {
    write(Place.code + 0x100, loadEax(1), "c3");
    // call f; mov ebx, eax; mov byte [f+1], 7; call f
    expect(run("e8 fb 00 00 00", "89 c3", "c6 05 f3 00 00 00 07", "e8 ed 00 00 00", hlt)).toBe("halted");
    expect([m.register(RBX), m.register(RAX)]).toEqual([1n, 7n]);
  });

  test("the target of a link", () => {
    // L: mov eax, 1; add ebx, eax; cmp ebx, 1; ja end; mov byte [L+1], 5; jmp L; end: hlt
    run(loadEax(1), "01 c3", "83 fb 01", "77 09", "c6 05 ee ff ff ff 05", "eb eb", hlt);
    expect(m.rip).toBe(BigInt(Place.code + 22));
    expect(m.register(RBX)).toBe(6n);
  });

  test("through another mapping of the same page", () => {
    m.setPage(0x3_0000, BigInt(Place.code) | all);
    m.setRegister(RDX, 0x3_0101n);
    write(Place.code + 0x100, loadEax(1), "c3");
    // call f; mov ebx, eax; mov byte [rdx], 9; call f
    expect(run("e8 fb 00 00 00", "89 c3", "c6 02 09", "e8 f1 00 00 00", hlt)).toBe("halted");
    expect([m.register(RBX), m.register(RAX)]).toEqual([1n, 9n]);
  });

  test("in a page that is already writable in the TLB", () => {
    // mov byte [f], b8: the page is data so far; call f; mov byte [f+1], 3; call f
    m.setRegister(RDX, 0x2_0000n);
    write(0x2_0000, loadEax(1), "c3");
    expect(run("c6 02 b8", "ff d2", "89 c3", "c6 42 01 03", "ff d2", hlt)).toBe("halted");
    expect([m.register(RBX), m.register(RAX)]).toEqual([1n, 3n]);
  });

  test("by a device", () => {
    run(loadEax(1), hlt);
    run(loadEax(2), hlt);
    expect(m.register(RAX)).toBe(2n);
  });

  test("by a repeated string instruction right in front of it", () => {
    m.setRegister(RCX, 2n);
    m.setRegister(RDI, BigInt(Place.code + 4));
    // mov al, 0x90; rep stosb; inc ebx
    expect(run("b0 90", "f3 aa", "ff c3", hlt)).toBe("halted");
    expect(m.register(RBX)).toBe(0n);
  });

  test("a store that reaches from data into code", () => {
    write(0x2_1000, loadEax(1), "c3");
    m.setRegister(RDX, 0x2_1000n);
    m.setRegister(6, 0x2_0ffen);
    m.setRegister(RDI, 0x0004_b8_0000n);
    // call rdx; mov ebx, eax; mov [rsi], edi: bytes 00 00 b8 04; call rdx
    expect(run("ff d2", "89 c3", "89 3e", "ff d2", hlt)).toBe("halted");
    expect([m.register(RBX), m.register(RAX)]).toEqual([1n, 4n]);
  });
});

describe("an instruction on two pages", () => {
  const first = 0x1_0ffe;

  function runAcross(): void {
    write(Place.code, "e9 f9 0f 00 00");
    write(first, loadEax(1), hlt);
    start(Place.code);
    expect(m.run(1000)).toBe("halted");
    expect(m.register(RAX)).toBe(1n);
  }

  test("the second page is written to", () => {
    runAcross();
    m.setRegister(RDX, BigInt(first + 2));
    write(0x3_0000, "c6 02 05", "b8 fe 0f 01 00", "ff e0");
    start(0x3_0000);
    expect(m.run(1000)).toBe("halted");
    expect(m.register(RAX)).toBe(0x500n + 1n);
  });

  test("the second page is mapped elsewhere", () => {
    runAcross();
    write(0x5_0000, "06 00 00", hlt);
    m.setPage(0x1_1000, 0x5_0000n | all);
    m.setRegister(RDX, 0x1_1000n);
    // invlpg [rdx]; jmp to the instruction
    write(0x3_0000, "0f 01 3a", "b8 fe 0f 01 00", "ff e0");
    start(0x3_0000);
    expect(m.run(1000)).toBe("halted");
    expect(m.register(RAX)).toBe(0x601n);
  });

  test("the second page is absent", () => {
    m.setPage(0x1_1000, 0n);
    write(first, "b8 01");
    start(first);
    m.run(1000);
    expect(m.delivered()).toMatchObject({ vector: 14, errorCode: 0x10n, rip: BigInt(first) });
    expect(m.processor.state.get64(state.cr2)).toBe(0x1_1000n);
  });
});

describe("segment limits of code", () => {
  test("the instruction after the limit is #GP, what ends with it runs", () => {
    m = new EngineMachine();
    m.protectedMode();
    m.processor.state.set32(state.segments[1].limit, Place.code + 3);
    run("ff c0", "90", "90", "90");
    expect(m.delivered()).toMatchObject({ vector: 13, errorCode: 0n, rip: BigInt(Place.code + 4) });
  });

  test("an instruction that reaches over the limit is #GP", () => {
    m = new EngineMachine();
    m.protectedMode();
    m.processor.state.set32(state.segments[1].limit, Place.code + 4);
    run("ff c0", loadEax(1));
    expect(m.delivered()).toMatchObject({ vector: 13, errorCode: 0n, rip: BigInt(Place.code + 2) });
    expect(m.register(RAX)).toBe(1n);
  });
});
