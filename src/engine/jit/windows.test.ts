/** What compiled code remembers of pages never shows: not at their ends, and not when they are mapped elsewhere. */
import { describe, expect, test } from "vitest";
import { Twins } from "../../../tests/jit/twins.ts";
import { PageBit, Place } from "../testing/engine-machine.ts";

const all = PageBit.present | PageBit.writable | PageBit.user;
const [rcx, rdx, rbx, rsi, rdi] = [1, 2, 3, 6, 7];
const alias = 0x10_0000;

describe("windows", () => {
  test("accesses that walk over pages in any order, and over their ends", () => {
    const twins = new Twins();
    // add rax, [rbx]; add [rbx+1], eax; add rbx, 5; dec ecx; jnz; hlt
    twins.write(Place.code, "480303 014301 4883c305 ffc9 75f2 f4");
    twins.write(Place.data, Uint8Array.from({ length: 0x8000 }, (_byte, index) => (index * 167) >> 3));
    const order = [3, 0, 7, 1, 6, 2, 5, 4];
    twins.each((machine) => order.forEach((page, index) => machine.setPage(alias + index * 0x1000, BigInt(Place.data + page * 0x1000) | all)));
    twins.start();
    twins.each((machine) => {
      machine.setRegister(rcx, 6000n);
      machine.setRegister(rbx, BigInt(alias));
    });
    twins.runToHalt();
    twins.expectCompiled(20_000);
  });

  test("a page that is mapped elsewhere within the loop that reads it", () => {
    const twins = new Twins();
    // mov eax, [rbx]; add edx, eax; mov eax, [rbx+4]; add edx, eax; xor [rdi], rsi; invlpg [rbx]; dec ecx; jnz; hlt
    twins.write(Place.code, "8b03 01c2 8b4304 01c2 483137 0f013b ffc9 75ed f4");
    const other = Place.data + 0x1000;
    twins.write(Place.data, "01000000 02000000");
    twins.write(other, "10000000 20000000");
    twins.each((machine) => machine.setPage(alias, BigInt(Place.data) | all));
    twins.start();
    twins.each((machine) => {
      machine.setRegister(rcx, 1000n);
      machine.setRegister(rbx, BigInt(alias));
      machine.setRegister(rsi, BigInt(Place.data ^ other));
      machine.setRegister(rdi, BigInt(Place.level1 + (alias >>> 12) * 8));
    });
    twins.runToHalt();
    expect(twins.compiled.register(rdx)).toBe(BigInt(500 * 0x33));
    twins.expectCompiled(4000);
  });

  test("an address that no page can have", () => {
    const twins = new Twins();
    // mov eax, [rbx]; mov eax, [rbx+8]; dec ecx; cmovz rbx, rsi; jmp: the last round's address is not canonical
    twins.write(Place.code, "8b03 8b4308 ffc9 480f44de ebf3");
    twins.start();
    twins.each((machine) => {
      machine.setRegister(rcx, 500n);
      machine.setRegister(rbx, BigInt(Place.data));
      machine.setRegister(rsi, 1n << 63n);
    });
    twins.runToHalt();
    expect(twins.compiled.delivered()?.vector).toBe(13);
    twins.expectCompiled(1000);
  });
});
