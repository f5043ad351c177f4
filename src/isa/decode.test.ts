import { describe, expect, test } from "vitest";
import { Decoder } from "./decode.ts";
import type { DecoderOptions } from "./decode.ts";
import type { EncodedInstruction } from "./decode-table.ts";
import { disassemble } from "./disassemble.ts";
import type { DecodedInstruction, DecodeResult, Size } from "./operand.ts";

const instructions: readonly EncodedInstruction[] = [
  { name: "adc", lockable: true, encodings: ["10 /r Eb,Gb", "11 /r Ev,Gv", "12 /r Gb,Eb", "15 iz rAX,Iz", "81 /2 iz Ev,Iz", "83 /2 ib Ev,Ibs"] },
  { name: "cmp", encodings: ["38 /r Eb,Gb"] },
  { name: "mov", encodings: ["B0+r ib Zb,Ib", "B8+r iv Zv,Iv", "A0 AL,Ob", "8B /r Gv,Ev", "8C /r Rv/Mw,Sw", "0F 20 /r Ry,Cy", "0F 21 /r Ry,Dy"] },
  { name: "nop", encodings: ["90"] },
  { name: "pause", encodings: ["F3 90"] },
  { name: "xchg", lockable: true, encodings: ["90+r Zv,rAX"] },
  { name: "cbw", names: { 16: "cbw", 32: "cwde", 64: "cdqe" }, encodings: ["98"] },
  { name: "push", encodings: ["d64 50+r Zv", "d64 6A ib Ibs"] },
  { name: "call", encodings: ["i64 9A cp Ap", "f64 E8 cz Jz", "FF /3 Mp"] },
  { name: "je", encodings: ["f64 74 cb Jb"] },
  { name: "jcxz", encodings: ["a16 f64 E3 cb Jb"] },
  { name: "jecxz", encodings: ["a32 f64 E3 cb Jb"] },
  { name: "jrcxz", encodings: ["a64 f64 E3 cb Jb"] },
  { name: "les", encodings: ["i64 C4 /r Gz,Mp"] },
  { name: "enter", encodings: ["d64 C8 iw ib Iw,Ib"] },
  { name: "movsb", encodings: ["A4 Yb,Xb"] },
  { name: "swapgs", encodings: ["o64 0F 01 F8"] },
  { name: "invlpg", encodings: ["0F 01 /7 M"] },
  { name: "lgdt", encodings: ["0F 01 /2 Ms"] },
  { name: "bsf", encodings: ["0F BC /r Gv,Ev"] },
  { name: "tzcnt", feature: "bmi1", encodings: ["F3 0F BC /r Gv,Ev"] },
  { name: "addps", encodings: ["NP 0F 58 /r Vps,Wps"] },
  { name: "addpd", encodings: ["66 0F 58 /r Vpd,Wpd"] },
  { name: "paddd", encodings: ["NP 0F FE /r Pq,Qq"] },
  { name: "crc32", encodings: ["F2 0F 38 F0 /r Gy,Eb", "F2 0F 38 F1 /r Gy,Ev"] },
  { name: "movbe", encodings: ["NFx 0F 38 F0 /r Gv,Mv"] },
  { name: "pinsrb", encodings: ["66 0F 3A 20 /r ib Vdq,Ry/Mb,Ib"] },
  { name: "fadd", encodings: ["D8 /0 Md", "D8 C0+i ST(0),ST(i)"] },
  { name: "andn", encodings: ["VEX.LZ.NP.0F38 F2 /r Gy,By,Ey"] },
  { name: "blsr", encodings: ["VEX.LZ.NP.0F38 F3 /1 By,Ey"] },
  { name: "vpaddd", encodings: ["VEX.128.66.0F FE /r Vx,Hx,Wx", "VEX.256.66.0F FE /r Vx,Hx,Wx"] },
  { name: "vmovaps", encodings: ["VEX.128.NP.0F 28 /r Vx,Wx"] },
];

const everything: DecoderOptions = { hasFeature: () => true };
const decoder = new Decoder(instructions, everything);

function bytesOf(text: string): Uint8Array {
  return Uint8Array.from(text.split(" "), (byte) => Number.parseInt(byte, 16));
}

function decode(mode: Size, text: string, by: Decoder<EncodedInstruction> = decoder): DecodeResult<EncodedInstruction> {
  return by.decode(bytesOf(text), 0, mode);
}

function textOf(result: DecodeResult<EncodedInstruction>): string {
  return result.kind === "instruction" ? disassemble(result, 0x1000n) : result.kind;
}

function instructionOf(result: DecodeResult<EncodedInstruction>): DecodedInstruction<EncodedInstruction> {
  if (result.kind !== "instruction") throw new Error(`expected an instruction, got ${result.kind}`);
  return result;
}

describe("decode and disassemble", () => {
  test.each<[Size, string, string]>([
    [64, "f0 10 84 48 78 56 34 12", "lock adc byte ptr [rax+rcx*2+0x12345678], al"],
    [64, "10 f4", "adc ah, dh"],
    [64, "40 10 f4", "adc spl, sil"],
    [64, "48 15 00 00 00 80", "adc rax, 0xffffffff80000000"],
    [64, "48 83 d0 ff", "adc rax, 0xffffffffffffffff"],
    [32, "66 83 d0 ff", "adc ax, 0xffff"],
    [64, "48 b8 01 02 03 04 05 06 07 08", "mov rax, 0x807060504030201"],
    [64, "66 48 b8 01 02 03 04 05 06 07 08", "mov rax, 0x807060504030201"],
    [64, "48 66 b8 01 02", "mov ax, 0x201"],
    [64, "b0 ff", "mov al, 0xff"],
    [64, "a0 01 02 03 04 05 06 07 88", "mov al, byte ptr [0x8807060504030201]"],
    [64, "67 a0 01 02 03 84", "mov al, byte ptr [0x84030201]"],
    [16, "a0 01 82", "mov al, byte ptr [0x8201]"],
    [64, "41 8b 45 00", "mov eax, dword ptr [r13]"],
    [64, "8b 05 fc ff ff ff", "mov eax, dword ptr [rip-0x4]"],
    [64, "67 8b 05 00 00 00 00", "mov eax, dword ptr [eip]"],
    [64, "8b 04 25 f0 ff ff ff", "mov eax, dword ptr [0xfffffffffffffff0]"],
    [64, "42 8b 04 24", "mov eax, dword ptr [rsp+r12]"],
    [32, "8b 05 f0 ff ff ff", "mov eax, dword ptr [0xfffffff0]"],
    [16, "8b 42 80", "mov ax, word ptr [bp+si-0x80]"],
    [16, "8b 06 34 92", "mov ax, word ptr [0x9234]"],
    [16, "67 66 8b 45 08", "mov eax, dword ptr [ebp+0x8]"],
    [32, "3e 8b 45 08", "mov eax, dword ptr ds:[ebp+0x8]"],
    [64, "64 3e 8b 45 08", "mov eax, dword ptr fs:[rbp+0x8]"],
    [32, "64 3e 8b 00", "mov eax, dword ptr [eax]"],
    [64, "8c d8", "mov eax, ds"],
    [64, "66 8c 18", "mov word ptr [rax], ds"],
    [64, "90", "nop"],
    [64, "66 90", "nop"],
    [64, "f3 90", "pause"],
    [64, "41 90", "xchg r8d, eax"],
    [64, "66 98", "cbw"],
    [64, "98", "cwde"],
    [64, "48 98", "cdqe"],
    [64, "41 50", "push r8"],
    [64, "66 50", "push ax"],
    [64, "6a 80", "push 0xffffffffffffff80"],
    [32, "9a 01 02 03 04 05 06", "call 0x605:0x4030201"],
    [64, "48 ff 18", "call tbyte ptr [rax]"],
    [64, "e8 fb ff ff ff", "call 0x1000"],
    [64, "66 e8 fb ff ff ff", "call 0x1001"],
    [16, "74 fe", "je 0x1000"],
    [64, "67 e3 00", "jecxz 0x1003"],
    [64, "e3 00", "jrcxz 0x1002"],
    [16, "e3 00", "jcxz 0x1002"],
    [32, "c8 34 12 05", "enter 0x1234, 0x5"],
    [64, "f3 a4", "rep movsb byte ptr es:[rdi], byte ptr [rsi]"],
    [32, "f3 f2 65 a4", "repne movsb byte ptr es:[edi], byte ptr gs:[esi]"],
    [64, "0f 01 f8", "swapgs"],
    [64, "0f 01 38", "invlpg [rax]"],
    [64, "0f 20 04", "mov rsp, cr0"],
    [32, "66 0f 20 c0", "mov eax, cr0"],
    [64, "44 0f 20 c0", "mov rax, cr8"],
    [64, "f3 0f bc c1", "tzcnt eax, ecx"],
    [64, "66 f3 0f bc c1", "tzcnt ax, cx"],
    [64, "66 0f 58 c1", "addpd xmm0, xmm1"],
    [64, "45 0f 58 c1", "addps xmm8, xmm9"],
    [64, "45 0f fe c1", "paddd mm0, mm1"],
    [64, "66 f2 48 0f 38 f1 c1", "crc32 rax, rcx"],
    [64, "f2 66 0f 38 f1 c1", "crc32 eax, cx"],
    [64, "66 0f 38 f0 00", "movbe ax, word ptr [rax]"],
    [64, "f2 0f 38 f0 00", "crc32 eax, byte ptr [rax]"],
    [64, "66 0f 3a 20 c1 05", "pinsrb xmm0, ecx, 0x5"],
    [64, "66 0f 3a 20 01 05", "pinsrb xmm0, byte ptr [rcx], 0x5"],
    [64, "d8 c3", "fadd st(0), st(3)"],
    [64, "d8 03", "fadd dword ptr [rbx]"],
    [64, "c4 e2 70 f2 c2", "andn eax, ecx, edx"],
    [64, "c4 42 b0 f2 c2", "andn r8, r9, r10"],
    [32, "c4 e2 f0 f2 c2", "andn eax, ecx, edx"],
    [64, "c4 e2 70 f3 ca", "blsr ecx, edx"],
    [64, "c5 f1 fe c2", "vpaddd xmm0, xmm1, xmm2"],
    [64, "c5 35 fe 00", "vpaddd ymm8, ymm9, ymmword ptr [rax]"],
    [32, "c5 f8 28 c1", "vmovaps xmm0, xmm1"],
    [32, "c4 00", "les eax, fword ptr [eax]"],
  ])("%i-bit %s is %s", (mode, text, expected) => {
    const result = decode(mode, text);
    expect(textOf(result)).toBe(expected);
    expect(instructionOf(result).length).toBe(bytesOf(text).length);
  });
});

describe("what is undefined", () => {
  test.each<[string, Size, string]>([
    ["an opcode nobody defines", 64, "0f 0a"],
    ["an opcode absent in 64-bit mode", 64, "9a 01 02 03 04 05 06"],
    ["an opcode absent outside of it", 32, "0f 01 f8"],
    ["LOCK on a register", 64, "f0 10 c0"],
    ["LOCK on a memory source", 64, "f0 12 00"],
    ["LOCK on an instruction without it", 64, "f0 38 00"],
    ["a segment register beyond GS", 32, "8c f0"],
    ["a control register that does not exist", 64, "0f 20 c8"],
    ["a debug register beyond DR7", 64, "44 0f 21 c0"],
    ["F3 before an instruction that has no such form", 64, "f3 0f 58 c1"],
    ["F2 before movbe in register form", 64, "0f 38 f0 c0"],
    ["a register where memory is wanted", 64, "ff d8"],
    ["VEX after REX", 64, "48 c5 f8 28 c1"],
    ["VEX after 66", 64, "66 c5 f8 28 c1"],
    ["VEX after LOCK", 64, "f0 c5 f8 28 c1"],
    ["VEX with a vvvv that nobody uses", 64, "c5 f0 28 c1"],
    ["VEX with the wrong length", 64, "c5 fc 28 c1"],
    ["VEX with an unknown map", 64, "c4 ea 70 f2 c2"],
  ])("%s", (_, mode, text) => {
    expect(decode(mode, text).kind).toBe("invalid");
  });

  test("VEX in real mode, where C5 is LDS", () => {
    expect(decoder.decode(bytesOf("c5 f8 28 c1"), 0, 16, true).kind).toBe("invalid");
    expect(decoder.decode(bytesOf("c5 f8 28 c1"), 0, 16, false).kind).toBe("instruction");
  });
});

describe("length", () => {
  test("fifteen bytes are the most", () => {
    const fifteen = `${"66 ".repeat(14)}90`;
    expect(instructionOf(decode(64, fifteen)).length).toBe(15);
    expect(decode(64, `66 ${fifteen}`).kind).toBe("tooLong");
    expect(decode(64, `${"2e ".repeat(8)}81 94 48 78 56 34 12 01 02 03 04`).kind).toBe("tooLong");
  });

  test("bytes that end early are told apart from bytes that are too many", () => {
    const text = "64 48 81 94 48 78 56 34 12 01 02 03 04".split(" ");
    expect(decode(64, text.join(" ")).kind).toBe("instruction");
    for (let length = 1; length < text.length; length++) {
      expect(decode(64, text.slice(0, length).join(" ")).kind).toBe("truncated");
    }
    expect(decoder.decode(new Uint8Array(0), 0, 64).kind).toBe("truncated");
    expect(decoder.decode(new Uint8Array(4), 9, 64).kind).toBe("truncated");
  });

  test("decoding starts at the offset", () => {
    expect(textOf(decoder.decode(bytesOf("0f 0a 90 98"), 3, 64))).toBe("cwde");
  });
});

describe("processors differ", () => {
  test("AMD honours 66 on near branches in 64-bit mode", () => {
    const amd = new Decoder(instructions, { ...everything, vendor: "amd" });
    const call = instructionOf(decode(64, "66 e8 fc 0f", amd));
    expect(call).toMatchObject({ operandSize: 16, length: 4 });
    expect(disassemble(call, 0x1000n)).toBe("call 0x2000");
    expect(instructionOf(decode(64, "66 e8 fc 0f 00 00")).operandSize).toBe(64);
  });

  test("AMD has no far pointers with 64-bit offsets", () => {
    const amd = new Decoder(instructions, { ...everything, vendor: "amd" });
    expect(textOf(decode(64, "48 ff 18", amd))).toBe("call fword ptr [rax]");
  });

  test("without a feature its encodings do not exist", () => {
    const older = new Decoder(instructions, { hasFeature: (name) => name !== "bmi1" && name !== "altmovcr8" });
    expect(textOf(decode(64, "f3 0f bc c1", older))).toBe("rep bsf eax, ecx");
    expect(decode(32, "f0 0f 20 c0", older).kind).toBe("invalid");
    expect(textOf(decode(32, "f0 0f 20 c0"))).toBe("mov eax, cr8");
  });
});

test("widths and values of operands follow the operand size", () => {
  const { operands } = instructionOf(decode(64, "48 81 10 00 00 00 80"));
  expect(operands).toEqual([
    { kind: "memory", widthBits: 64, segment: 3, base: 0, index: undefined, scaleLog2: 0, displacement: 0 },
    { kind: "immediate", value: 0xffff_ffff_8000_0000n, widthBits: 64 },
  ]);
  expect(instructionOf(decode(64, "0f 01 10")).operands[0]).toMatchObject({ widthBits: 80 });
  expect(instructionOf(decode(32, "0f 01 10")).operands[0]).toMatchObject({ widthBits: 48 });
});
