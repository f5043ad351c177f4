import { expect, test } from "vitest";
import { record } from "../../ir/index.ts";
import { Decoder } from "../decode.ts";
import { Cpu, Operand, type Context, type OperandForm, type OperandWidth, type Variant } from "../definition.ts";
import { disassemble } from "../disassemble.ts";
import { instructions } from "../instructions.ts";
import { system } from "./system.ts";

const all = [...new Set([...instructions, ...system])];
const decoder = new Decoder(all, { hasFeature: () => true });

function decodeText(mode: 16 | 32 | 64, text: string): string {
  const bytes = Uint8Array.from(text.split(" "), (byte) => Number.parseInt(byte, 16));
  const result = decoder.decode(bytes, 0, mode);
  return result.kind === "instruction" ? disassemble(result, 0x1000n) : result.kind;
}

test.each([
  [64, "0F 01 F8", "swapgs"], [32, "0F 01 F8", "invalid"], [64, "48 CF", "iretq"], [64, "0F 05", "syscall"],
  [64, "48 0F 07", "sysret"], [16, "EA 34 12 00 F0", "jmp 0xf000:0x1234"], [64, "0F 22 D8", "mov cr3,rax"],
  [64, "0F 20 E0", "mov rax,cr4"], [64, "8E D8", "mov ds"], [64, "0F 01 10", "lgdt"], [64, "0F 00 D8", "ltr"],
  [32, "0F 23 F8", "mov dr7,eax"], [64, "F3 48 0F AE D8", "wrgsbase"], [64, "F3 90", "pause"], [64, "0F AE E8", "lfence"],
  [64, "0F AE 38", "clflush"], [64, "66 0F AE 38", "clflushopt"], [64, "48 0F AE 00", "fxsave64"], [64, "0F C7 20", "xsavec"],
  [64, "48 0F C7 F0", "rdrand rax"], [64, "0F 01 CA", "clac"], [64, "F3 0F 1E FA", "nop"], [64, "0F 0B", "ud2"],
  [16, "6C", "insb"], [64, "F3 6F", "outsd"], [32, "0F 01 E0", "smsw"],
] as const)("%i-bit %s is %s", (mode, bytes, expected) => {
  const text = decodeText(mode, bytes).replaceAll(/\s+/g, " ").replaceAll(", ", ",");
  if (!text.includes(expected)) expect(text).toBe(expected);
});

const noRepeat = { repeat: "none", lock: false } as const;
const variants: readonly Variant[] = [
  { long: true, operandSize: 64, addressSize: 64, stackSize: 64, ...noRepeat },
  { long: true, operandSize: 32, addressSize: 64, stackSize: 64, ...noRepeat },
  { long: false, operandSize: 32, addressSize: 32, stackSize: 32, ...noRepeat },
  { long: false, operandSize: 16, addressSize: 16, stackSize: 16, ...noRepeat },
];

/** Operand forms of one decoded example, as the engine makes them. */
function formOf(operand: { kind: string; widthBits?: number; file?: string; number?: number }): OperandForm {
  const width = (operand.widthBits ?? 0) as OperandWidth;
  switch (operand.kind) {
    case "register":
      return operand.file === "gpr"
        ? { kind: "register", file: "gpr", width }
        : { kind: "numbered", file: operand.file as "segment", number: operand.number!, width };
    case "memory":
      return { kind: "memory", width };
    case "far":
      return { kind: "far" };
    default:
      return { kind: "immediate", width };
  }
}

/** Every two-byte opcode with a few ModRM bytes, and all one-byte opcodes, in each mode. */
function* candidates(): Generator<Uint8Array> {
  const tail = [0x10, 0x20, 0x30, 0x40, 0x50, 0x60, 0x70, 0x80];
  for (const prefix of [[], [0x66], [0xf3], [0x48]]) {
    for (let opcode = 0; opcode < 256; opcode++) {
      yield Uint8Array.from([...prefix, opcode, 0x05, ...tail]);
      for (let modrm = 0; modrm < 256; modrm++) {
        yield Uint8Array.from([...prefix, 0x0f, opcode, modrm, ...tail]);
      }
    }
  }
}

test("every definition records in every variant it decodes in", () => {
  const mine = new Set(system);
  const seen = new Set<string>();
  for (const bytes of candidates()) {
    for (const variant of variants) {
      const mode = variant.long ? 64 : variant.operandSize;
      const result = decoder.decode(bytes, 0, mode as 16 | 32 | 64);
      if (result.kind !== "instruction" || !mine.has(result.instruction)) continue;
      const forms = result.operands.map(formOf);
      const actual: Variant = { ...variant, operandSize: result.operandSize, addressSize: result.addressSize, repeat: result.repeat };
      const key = `${result.encoding.text} ${JSON.stringify([forms, actual])}`;
      if (seen.has(key)) continue;
      seen.add(key);
      const operands = forms.map((form, slot) => new Operand(form, slot));
      const context = {
        cpu: new Cpu(actual), width: actual.operandSize, operands, variant: actual,
        dst: operands[0], src: operands[1], src2: operands[2], src3: operands[3],
      } as unknown as Context<8>;
      expect(() => record(() => result.instruction.execute(context)), key).not.toThrow();
    }
  }
  const names = new Set(system.map((definition) => definition.name));
  expect(seen.size).toBeGreaterThan(names.size);
});
