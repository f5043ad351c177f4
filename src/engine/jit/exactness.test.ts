/** Compiled code ends budgets at the instruction, gives routines the exact state, and does repeated string instructions whole. */
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { Twins, warm } from "../../../tests/jit/twins.ts";
import * as state from "../../isa/state.ts";
import { PageBit, Place, Select } from "../testing/engine-machine.ts";
import type { JitSettings } from "./settings.ts";

const all = PageBit.present | PageBit.writable | PageBit.user;
const [rax, rcx, rdx, rbx, rbp, rsi, rdi] = [0, 1, 2, 3, 5, 6, 7];
const settings: Readonly<Record<string, JitSettings>> = {
  "regions of one block": { ...warm, threshold: 1, maximumBlocks: 1 }, "regions of several": warm, "regions thrown away at random": { ...warm, evictionSeed: 3 },
};

/** Branches, calls, memory, a division and a repeated store: about 40 instructions a round. */
const mixture =
  "89cb 69dbb179379e 48891ccf 480304cf e828000000 a803 7410 48c1c007 50 5a 4831da 89948f00100000 0fb6144f 11d0 ffc9 75cd 57 b925000000 f3aa 5f f4" +
  "488d545801 83ca01 50 52 31d2 89d8 5e 83ce01 f7f6 0117 58 39c2 410f92c0 480f42c2 c3";

describe.each(Object.entries(settings))("%s", (_name, jit) => {
  test("a budget of any size ends at its instruction", () => {
    const twins = new Twins(jit);
    twins.write(Place.code, mixture);
    fc.assert(fc.property(fc.array(fc.integer({ min: 1, max: 200 }), { minLength: 1, maxLength: 30 }), (budgets) => {
      twins.start();
      twins.each((machine) => {
        machine.setRegister(rcx, 30n);
        machine.setRegister(rdi, BigInt(Place.data));
      });
      for (const budget of budgets) {
        const before = twins.compiled.processor.retired;
        if (twins.run(budget) === "halted") break;
        expect(twins.compiled.processor.retired - before).toBe(budget);
      }
    }), { numRuns: 40 });
    twins.expectCompiled(1000);
  });

  test("routines in the middle of a region see every register, flag and the count, and may change them", () => {
    const twins = new Twins(jit);
    // L: inc rax; cmp eax, 7; push rax; xor ecx, ecx; xor eax, eax; cpuid; pop rax; add rbx, rax; pushf; pop rdx; out 0x80, al;
    //    fld1; fistp word [rdi]; movq xmm1, [rdi]; paddq xmm1, xmm1; movq [rdi+8], xmm1; dec r14d; jnz L; hlt
    const body = "48ffc0 83f807 50 31c9 31c0 0fa2 58 4801c3 9c 5a e680 d9e8 df3f f30f7e0f 660fd4c9 660fd64f08 41ffce";
    const size = body.replaceAll(" ", "").length / 2;
    const back = [0, 8, 16, 24].map((shift) => ((-(size + 6) >> shift) & 0xff).toString(16).padStart(2, "0")).join("");
    twins.write(Place.code - 2, `dbe3${body}0f85${back}f4`);
    twins.start(Place.code - 2);
    twins.each((machine) => {
      machine.setRegister(14, 100n);
      machine.setRegister(rdi, BigInt(Place.data));
    });
    twins.runToHalt(77);
    expect(twins.compiled.portWrites).toEqual(twins.interpreted.portWrites);
    expect(twins.compiled.portWrites).toHaveLength(100);
    twins.expectCompiled(500);
  });

  test("segments that are flat while code is generated may be others when it runs", () => {
    const twins = new Twins(jit);
    const based = 0x58;
    // Writable data from 0x1000 on.
    twins.write(Place.gdt + based, "ffff00100093cf00");
    twins.each((machine) => {
      machine.processor.state.set64(state.efer, 0n);
      machine.protectedMode();
      machine.processor.state.set32(state.gdtrLimit, based + 7);
    });
    // L: test cl, 15; jnz over; xor edx, ebp; mov ds, dx; over: mov eax, [esi]; add ebx, eax; mov [edi], ebx; dec ecx; jnz L; hlt
    twins.write(Place.code, "f6c10f 7504 31ea 8eda 8b06 01c3 891f 49 75ee f4");
    twins.write(Place.data, "01000000");
    twins.write(Place.data + 0x1000, "00010000");
    const values = { [rcx]: 1000, [rdx]: Select.data0, [rbp]: Select.data0 ^ based, [rsi]: Place.data, [rdi]: Place.data + 8 };
    twins.each((machine) => {
      for (const [register, value] of Object.entries(values)) machine.setRegister(Number(register), BigInt(value));
    });
    twins.runToHalt(333);
    // Flat for the first eight rounds and every other sixteen.
    expect(twins.compiled.register(rbx)).toBe(504n + 496n * 0x100n);
    twins.expectCompiled(1000);
  });

  test("what a device raises during an access of the region comes before the next instruction", () => {
    const twins = new Twins(jit);
    // L: inc eax; in al, 0x60; mov edx, [rsi]; inc ebx; dec ecx; jnz L; hlt; the handler: inc r8d; iretq
    twins.write(Place.code, "ffc0 e460 8b16 ffc3 ffc9 75f4 f4");
    twins.write(Place.handlers + 0x1000, "41ffc0 48cf");
    twins.each((machine) => machine.setHandler(0x40, Place.handlers + 0x1000));
    twins.start();
    let calls = 0;
    twins.each((machine) => {
      machine.setFlags(0x200);
      machine.setRegister(rcx, 100n);
      machine.setRegister(rsi, BigInt(Place.device));
      let accesses = 0;
      machine.onAccess = () => {
        calls++;
        if (++accesses % 3 === 0) machine.interrupt(0x40);
      };
    });
    twins.runToHalt(131);
    expect(calls).toBe(400);
    expect(twins.compiled.register(8)).toBe(66n);
    expect(twins.compiled.deviceAccesses).toEqual(twins.interpreted.deviceAccesses);
  });

  test("a fault in the middle of a region has the state before its instruction", () => {
    const twins = new Twins(jit);
    // L: inc eax; cmp eax, ecx; lea rdx, [rdx+rax]; mov [rdi], edx; add rdi, 64; jmp L
    twins.write(Place.code, "ffc0 39c8 488d1402 8917 4883c740 ebf0");
    twins.each((machine) => machine.setPage(Place.data + 0x3000, 0n));
    twins.start();
    twins.each((machine) => machine.setRegister(rdi, BigInt(Place.data)));
    twins.runToHalt();
    expect(twins.compiled.delivered()).toMatchObject({ vector: 14, errorCode: 2n, rip: BigInt(Place.code + 8), cr2: BigInt(Place.data + 0x3000) });
    expect(twins.compiled.register(rax)).toBe(0x3000n / 64n + 1n);
    twins.expectCompiled(500);
  });
});

/** Repeated instructions with everything that can end them early: pages, faults, code under the destination, budgets. */
test("repeated string instructions", () => {
  const codes = ["f3a4", "f366a5", "f3a5", "f348a5", "f3aa", "f3ab", "f348ab", "f3a6", "f2a6", "f348a7", "f3ae", "f2ae", "f2af", "f3ac", "fdf3a4fc", "67f3ab", "a5", "48ab"];
  const place = fc.oneof(fc.integer({ min: 0, max: 0x5fff }), fc.integer({ min: 0xfc0, max: 0x1040 }), fc.integer({ min: 0x2fe0, max: 0x3010 }));
  const twins = new Twins({ ...warm, threshold: 2 });
  twins.each((machine) => machine.setPage(Place.data + 0x3000, 0n));
  fc.assert(fc.property(
    fc.array(fc.constantFrom(...codes), { minLength: 1, maxLength: 3 }), fc.tuple(place, place, fc.integer({ min: 0, max: 300 })),
    fc.array(fc.integer({ min: 1, max: 150 }), { minLength: 1, maxLength: 4 }), (list, [source, target, count], budgets) => {
      // L: mov ecx, r8d; (rep …; lea rsi, [rsi+5])…; dec r14d; jnz L; hlt
      const body = `4489c1${list.map((code) => `${code}488d76054889ca`).join("")}41ffce`;
      const size = body.length / 2;
      const back = [0, 8, 16, 24].map((shift) => ((-(size + 6) >> shift) & 0xff).toString(16).padStart(2, "0")).join("");
      twins.write(Place.data, Uint8Array.from({ length: 0x3000 }, (_, index) => (index * 7 + (index >> 5)) & 0x13));
      twins.write(Place.code, `${body}0f85${back}f4`);
      twins.start();
      twins.each((machine) => {
        machine.setPage(Place.data + 0x5000, BigInt(Place.data + 0x1000) | all);
        machine.setRegister(rax, 0x1211_1013n);
        machine.setRegister(8, BigInt(count));
        machine.setRegister(14, 6n);
        machine.setRegister(rsi, BigInt(Place.data + source));
        machine.setRegister(rdi, BigInt(Place.data + target));
      });
      for (let turn = 0; twins.run(budgets[turn % budgets.length]) !== "halted"; turn++) expect(turn).toBeLessThan(20_000);
    }), { numRuns: 60 });
  twins.expectCompiled(500);
});
