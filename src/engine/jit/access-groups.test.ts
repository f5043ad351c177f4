/** That accesses share a look into the TLB never shows: not where a page ends between them, not where only some may be made. */
import { describe, expect, test } from "vitest";
import { Twins } from "../../../tests/jit/twins.ts";
import { PageBit, Place } from "../testing/engine-machine.ts";

const all = PageBit.present | PageBit.writable | PageBit.user;
const [rcx, rdx, rbx, rsp, rsi, rdi] = [1, 2, 3, 4, 6, 7];
const pageFault = 14;

/** Calls what follows ECX times and halts. A loop with calls has no windows, which would take the place of groups. */
const loop = "e805000000 ffc9 75f7 f4";

/** Code that is called `rounds` times from each of these values of a register. */
function walk(twins: Twins, code: string, register: number, starts: readonly number[], rounds = 40): void {
  twins.write(Place.code, `${loop} ${code} c3`);
  for (const start of starts) {
    twins.start();
    twins.each((machine) => {
      machine.setRegister(rcx, BigInt(rounds));
      machine.setRegister(register, BigInt(start));
    });
    twins.runToHalt();
  }
}

function expectShared(twins: Twins): void {
  expect(twins.counters.sharedLooks).toBeGreaterThan(0);
  twins.expectCompiled(1000);
}

const aroundAnEnd = Array.from({ length: 80 }, (_, index) => Place.data + 0x1000 - 40 + index);

describe("accesses that share a look", () => {
  test("pushes and pops over the end of a page", () => {
    const twins = new Twins();
    // push rcx; push rbx; push rdx; call of the next; pop rax; add rdx, rax; pop rsi; add rbx, rsi; pop rsi; pop rcx
    walk(twins, "51 53 52 e800000000 58 4801c2 5e 4801f3 5e 59", rsp, aroundAnEnd);
    expectShared(twins);
  });

  test("a structure over the end of a page, by moved pointers", () => {
    const twins = new Twins();
    twins.write(Place.data, Uint8Array.from({ length: 0x2000 }, (_byte, index) => (index * 167) >> 3));
    // mov rsi, [rbx]; lea rdi, [rbx+16]; add [rdi-8], rsi; add rdi, 4; mov eax, [rdi]; add [rbx+3], eax; mov rdx, rdi; inc byte [rdx+1]
    walk(twins, "488b33 488d7b10 480177f8 4883c704 8b07 014303 4889fa fe4201", rbx, aroundAnEnd);
    expectShared(twins);
  });

  test("with an index, and through a register of which a part changes", () => {
    const twins = new Twins();
    // mov eax, [rbx+rdx*4]; add eax, [rbx+rdx*4+8]; inc rdx; mov [rbx+rdx*4+4], eax; mov bl, [rbx+8]; mov esi, [rbx]; add [rbx+4], esi; mov ebx, ebx; inc byte [rbx+7]
    walk(twins, "8b0493 03449308 48ffc2 89449304 8a5b08 8b33 017304 89db fe4307", rbx, aroundAnEnd, 12);
    expectShared(twins);
  });

  test("reads before a write to a page that only reads may reach", () => {
    const twins = new Twins();
    const page = Place.data + 0x3000;
    // mov rsi, [rbx]; mov rdi, [rbx+8]; mov [rbx+16], rdi
    twins.each((machine) => machine.setPage(page, BigInt(page) | PageBit.present | PageBit.user));
    walk(twins, "488b33 488b7b08 48897b10", rbx, [Place.data, page + 24], 300);
    expect(twins.compiled.delivered()).toMatchObject({ vector: pageFault, cr2: BigInt(page + 40) });
    expectShared(twins);
  });

  test("a write on one of two ways", () => {
    const twins = new Twins();
    const page = Place.data + 0x3000;
    twins.each((machine) => machine.setPage(page, BigInt(page) | PageBit.present | PageBit.user));
    // mov rsi, [rbx]; test rdx, rdx; jz +4; mov [rbx+8], rsi; mov rdi, [rbx+16]
    const code = "488b33 4885d2 7404 48897308 488b7b10";
    twins.each((machine) => machine.setRegister(rdx, 0n));
    walk(twins, code, rbx, [page + 8], 500);
    twins.each((machine) => machine.setRegister(rdx, 1n));
    walk(twins, code, rbx, [Place.data, page + 8], 500);
    expect(twins.compiled.delivered()?.vector).toBe(pageFault);
    twins.expectCompiled(1000);
  });

  test("a page that is mapped elsewhere between two of them", () => {
    const twins = new Twins();
    const alias = 0x10_0000, other = Place.data + 0x1000;
    // mov eax, [rbx]; add edx, [rbx+4]; xor [rdi], rsi; invlpg [rbx]; add edx, [rbx+8]; add eax, [rbx+12]
    twins.write(Place.code, `${loop} 8b03 035304 483137 0f013b 035308 03430c c3`);
    twins.write(Place.data, "01000000 02000000 03000000 04000000");
    twins.write(other, "10000000 20000000 30000000 40000000");
    twins.each((machine) => machine.setPage(alias, BigInt(Place.data) | all));
    twins.start();
    twins.each((machine) => {
      machine.setRegister(rcx, 1000n);
      machine.setRegister(rdx, 0n);
      machine.setRegister(rbx, BigInt(alias));
      machine.setRegister(rsi, BigInt(Place.data ^ other));
      machine.setRegister(rdi, BigInt(Place.level1 + (alias >>> 12) * 8));
    });
    twins.runToHalt();
    expect(twins.compiled.register(rdx)).toBe(BigInt(500 * (0x2 + 0x30 + 0x20 + 0x3)));
    expectShared(twins);
  });

  test("32-bit code whose addresses wrap", () => {
    const twins = new Twins();
    twins.each((machine) => machine.protectedMode());
    // mov eax, [ebx]; add eax, [ebx+8]; mov [ebx+4], eax; push eax; push ebx; pop edx; pop edx
    walk(twins, "8b03 034308 894304 50 53 5a 5a", rbx, [Place.data, Place.data + 0xffc, 0xffff_fffc], 100);
    expectShared(twins);
  });
});
