/** Which blocks become a region, and what keeps a region of several pages from running another page's code. */
import { describe, expect, test } from "vitest";
import { Twins, warm } from "../../../tests/jit/twins.ts";
import { PageBit, Place } from "../testing/engine-machine.ts";

const all = PageBit.present | PageBit.writable | PageBit.user;
const secondPage: number = Place.code + 0x1000, otherPage = 0x3_0000;
const [rax, rcx] = [0, 1];

function jump(from: number, to: number, opcode = "e9"): string {
  const distance = to - from - opcode.length / 2 - 4;
  return opcode + [0, 8, 16, 24].map((shift) => ((distance >> shift) & 0xff).toString(16).padStart(2, "0")).join("");
}

describe("regions", () => {
  test("hold loops, both ways of a branch, and calls with their returns", () => {
    const twins = new Twins(warm);
    // mov ecx, 50; L: test cl, 1; jz E; inc eax; jmp C; E: dec eax; C: call F; dec ecx; jnz L; hlt; F: add edx, ecx; ret
    twins.write(Place.code, "b932000000 f6c101 7404 ffc0 eb02 ffc8 e805000000 ffc9 75ec f4 01ca c3");
    twins.start();
    twins.runToHalt();
    expect(twins.compiled.register(2)).toBe(BigInt((50 * 51) / 2));
    const { blocks, regions, entries, executed } = twins.counters;
    expect(blocks / regions).toBeGreaterThanOrEqual(4);
    // Once inside, nothing leaves the region but the budget.
    expect(executed / entries).toBeGreaterThan(30);
  });

  test("are bounded by blocks and instructions", () => {
    const code = `${"ffc0 eb00".repeat(60)}ffc9`;
    const loop = code + jump(Place.code + code.replaceAll(" ", "").length / 2, Place.code, "0f85");
    const sizes = [[1, 1000], [5, 1000], [64, 20]].map(([maximumBlocks, maximumInstructions]) => {
      const twins = new Twins({ ...warm, maximumBlocks, maximumInstructions });
      twins.write(Place.code, `${loop}f4`);
      twins.start();
      twins.each((machine) => machine.setRegister(rcx, 20n));
      twins.runToHalt();
      expect(twins.compiled.register(rax)).toBe(1200n);
      twins.expectCompiled(1000);
      return twins.counters.instructions / twins.counters.regions;
    });
    expect(sizes[0]).toBeLessThanOrEqual(3);
    expect(sizes[1]).toBeLessThanOrEqual(15);
    expect(sizes[2]).toBeLessThanOrEqual(20);
    expect(sizes[2]).toBeGreaterThan(sizes[1]);
  });

  test("do not take in code in two pages", () => {
    const twins = new Twins(warm);
    twins.write(secondPage - 4, "ffc0 b878563412 ffc9 75f5 f4"); // inc eax; mov eax, imm32 over the end of the page; dec ecx; jnz
    twins.start(secondPage - 4);
    twins.each((machine) => machine.setRegister(rcx, 40n));
    twins.runToHalt();
    expect(twins.compiled.register(rax)).toBe(0x1234_5678n);
    twins.expectCompiled(80);
  });
});

describe("blocks become hot", () => {
  /** Instructions that compiled code executes of a loop of three, executed so many times. */
  function executedOf(rounds: number, withinInstructions: number): number {
    const twins = new Twins({ ...warm, threshold: 3000, burst: { entries: 500, withinInstructions } });
    twins.write(Place.code, "ffc0 ffc9 75fa f4"); // L: inc eax; dec ecx; jnz L; hlt
    twins.start();
    twins.each((machine) => machine.setRegister(rcx, BigInt(rounds)));
    twins.runToHalt();
    expect(twins.compiled.register(rax)).toBe(BigInt(rounds));
    return twins.counters.executed;
  }

  test("at the second burst of entries", () => {
    expect(executedOf(900, 3000)).toBe(0);
    expect(executedOf(2000, 3000)).toBeGreaterThan(2000);
  });

  test("where entries come more slowly, when there were enough of them", () => {
    expect(executedOf(2000, 1000)).toBe(0);
    expect(executedOf(4000, 1000)).toBeGreaterThan(2000);
  });
});

test("regions that lead to each other end with the budget", () => {
  const twins = new Twins({ ...warm, maximumBlocks: 1, growth: { entries: 1_000_000, maximumBlocks: 1, maximumInstructions: 300 }, counts: false });
  // L: inc eax; jmp A; A: inc edx; jmp B; B: dec ecx; jnz L; hlt
  twins.write(Place.code, "ffc0 eb00 ffc2 eb00 ffc9 75f4 f4");
  twins.start();
  twins.each((machine) => machine.setRegister(rcx, 20_000n));
  twins.runToHalt(777);
  expect(twins.compiled.register(rax)).toBe(20_000n);
  expect(twins.counters.regions).toBeGreaterThanOrEqual(3);
});

/** A loop over two pages: in the first `add eax, 1`, in the second `add eax, 16` and DEC ECX; JNZ to the first. */
function loopOverTwoPages(rounds: number): Twins {
  const twins = new Twins(warm);
  twins.write(Place.code, `83c001${jump(Place.code + 3, secondPage)}`);
  const second = (addend: string): string => `83c0${addend}ffc9${jump(secondPage + 5, Place.code, "0f85")}f4`;
  twins.write(secondPage, second("10"));
  twins.write(otherPage, second("20"));
  twins.start();
  twins.each((machine) => machine.setRegister(rcx, BigInt(rounds)));
  return twins;
}

describe("a region of two pages", () => {
  test("runs as one", () => {
    const twins = loopOverTwoPages(100);
    twins.runToHalt();
    expect(twins.compiled.register(rax)).toBe(1700n);
    expect(twins.counters.executed / twins.counters.entries).toBeGreaterThan(100);
  });

  test("does not run the second page's code when another one is there", () => {
    const twins = loopOverTwoPages(1000);
    expect(twins.run(200)).toBe("budget");
    const { entries } = twins.counters;
    twins.each((machine) => {
      machine.setPage(secondPage, BigInt(otherPage) | all);
      machine.processor.memory.flush({ keepGlobal: false });
    });
    expect(twins.run(200)).toBe("budget");
    twins.each((machine) => {
      machine.setPage(secondPage, BigInt(secondPage) | all);
      machine.processor.memory.flush({ keepGlobal: false });
    });
    twins.runToHalt();
    expect(Number(twins.compiled.register(rax))).toBeGreaterThan(17_000);
    expect(twins.counters.entries).toBeGreaterThan(entries);
  });

  test("nor when the page may not be executed any more", () => {
    const twins = loopOverTwoPages(1000);
    twins.run(200);
    twins.each((machine) => {
      machine.setPage(secondPage, BigInt(secondPage) | all | PageBit.noExecute);
      machine.processor.memory.flush({ keepGlobal: false });
    });
    twins.runToHalt();
    expect(twins.compiled.delivered()).toMatchObject({ vector: 14, errorCode: 0x11n, rip: BigInt(secondPage) });
  });

  test.each([["the second page", secondPage, 8], ["the first page", Place.code, 16]])("nor when the program itself moves %s by INVLPG", (_name, page, addend) => {
    const twins = new Twins(warm);
    // The first: add eax, 1; jmp second. The second: add eax, 16; cmp ecx, 500; jne over; mov [entry], rbx; invlpg [page]; over: dec ecx; jnz first; hlt
    const second = `83c010 81f9f4010000 750a 48891e 0f013f 90909090 ffc9`.replaceAll(" ", "");
    const whole = second + jump(secondPage + second.length / 2, Place.code, "0f85");
    twins.write(Place.code, `83c001${jump(Place.code + 3, secondPage)}`);
    twins.write(secondPage, `${whole}f4`);
    const isSecond = page === secondPage;
    twins.write(otherPage, isSecond ? `${whole.replace("83c010", `83c0${(16 + addend).toString(16)}`)}f4` : `83c0${addend.toString(16)}${jump(Place.code + 3, secondPage)}`);
    twins.start();
    twins.each((machine) => {
      machine.setRegister(rcx, 1000n);
      machine.setRegister(3, BigInt(otherPage) | all);
      machine.setRegister(6, BigInt(Place.level1 + (page >>> 12) * 8));
      machine.setRegister(7, BigInt(page));
    });
    twins.runToHalt(3_000);
    // Five hundred and one rounds before, and the rest with the other page.
    expect(twins.compiled.register(rax)).toBe(BigInt(isSecond ? 17 * 501 + 25 * 499 : 17 * 501 + 32 * 499));
    twins.expectCompiled(3000);
  });
});
