import { describe, expect, test } from "vitest";
import { decodeTable, type EncodedInstruction } from "./decode-table.ts";
import { parseEncoding } from "./encoding.ts";
import { instructions } from "./instructions.ts";
import { cpuModelNames, createCpuModel } from "./models/index.ts";

describe("parseEncoding", () => {
  test("takes an opcode with ModRM, immediate and operands apart", () => {
    expect(parseEncoding("81 /2 iz Ev,Iz")).toMatchObject({
      map: 0, opcode: 0x81, modrmReg: 2, prefix: "any", allowsRegister: true, allowsMemory: true, followsOperandSize: true,
    });
  });

  test("finds the map, the mandatory prefix and the width bit", () => {
    expect(parseEncoding("REX.W 66 0F 3A 16 /r ib Eq,Vdq,Ib")).toMatchObject({
      map: 3, opcode: 0x16, prefix: "66", conditionMask: 2, conditionValue: 2,
    });
    expect(parseEncoding("VEX.LZ.F3.0F38.W0 F5 /r Gy,By,Ey")).toMatchObject({
      map: 5, opcode: 0xf5, isVex: true, usesVvvv: true, conditionMask: 6, conditionValue: 0,
    });
  });

  test("knows memory-only and register-only forms", () => {
    expect(parseEncoding("8D /r Gv,M")).toMatchObject({ allowsRegister: false, allowsMemory: true });
    expect(parseEncoding("0F 01 F8")).toMatchObject({ modrmByte: 0xf8, allowsRegister: true, allowsMemory: false });
    expect(parseEncoding("66 0F 3A 20 /r ib Vdq,Ry/Mb,Ib")).toMatchObject({ allowsRegister: true, allowsMemory: true });
  });

  test.each([
    ["81 /2 Ev,Iz", "the operands take [iz] but it says []"],
    ["50 Zv", "needs +r"],
    ["88 Eb,Gb", "needs /r"],
    ["88 /r Eb,Kb", "operand code \"Kb\" is unknown"],
    ["0F 01 41", "a fixed ModRM byte has mod 3"],
    ["88 /9 Eb", "is not part of the notation"],
    ["0F F2 /r By,Ey", "needs VEX"],
    ["0F 58 01 02", "wants one opcode byte"],
  ])("refuses %s", (text, message) => {
    expect(() => parseEncoding(text)).toThrow(message);
  });
});

describe("a table with two meanings for the same bytes is refused", () => {
  const build = (...list: EncodedInstruction[]): void => decodeTable(list, () => true).checkAll();
  const named = (name: string, ...encodings: string[]): EncodedInstruction => ({ name, encodings });

  test.each([
    ["the same opcode", named("one", "A4"), named("two", "A4")],
    ["a group member twice", named("one", "FF /2 Ev"), named("two", "FF /2 Eb")],
    ["different operands", named("one", "0F 58 /r Gv,Ev"), named("two", "0F 58 /r Gb,Eb")],
    ["modes that overlap", named("one", "i64 63 /r Ew,Gw"), named("two", "a32 63 /r Gv,Ed")],
  ])("%s", (_, one, two) => {
    expect(() => build(one, two)).toThrow("claim the same bytes");
  });

  test.each(cpuModelNames)("and the instructions of %s have none such", (name) => {
    const model = createCpuModel(name, { tscFrequencyHz: 1e9, apicId: 0, processors: 1 });
    expect(() => decodeTable(instructions, (feature) => model.hasFeature(feature)).checkAll()).not.toThrow();
  });

  test("while the more specific of two wins", () => {
    expect(() => build(named("nop", "90"), named("pause", "F3 90"), named("xchg", "90+r Zv,rAX"))).not.toThrow();
    expect(() => build(named("arpl", "i64 63 /r Ew,Gw"), named("movsxd", "o64 63 /r Gv,Ez"))).not.toThrow();
    expect(() => build(named("nop", "0F 1E /r Ev"), named("endbr64", "F3 0F 1E FA"))).not.toThrow();
  });

  test("and so is disagreement on whether a ModRM byte follows", () => {
    expect(() => build(named("one", "D7"), named("two", "i64 D7 /r Ev"))).toThrow("disagree on a ModRM byte");
  });
});
