/**
 * What single instructions need besides random state to be worth running: counts that end, selectors that exist,
 * images that load. Keyed by opcode, so that no name of ours is relied upon.
 */
import { OpcodeMap } from "../../src/isa/encoding.ts";
import { widthIndex } from "../../src/isa/operand-template.ts";
import { Register } from "./address.ts";
import { controlWord, mxcsr, statusWord, writeFloatingState } from "./floating-state.ts";
import type { Form } from "./forms.ts";
import { codeBase, Selector } from "./layout.ts";
import type { Scene } from "./scene.ts";
import { poolBytes, pools } from "./values.ts";
import type { ValueKind } from "./values.ts";

/** What is known of a form before any case of it. */
export interface Plan {
  readonly kind: ValueKind;
  readonly isMmx: boolean;
  /** Bytes of the memory operand that ModRM names. */
  readonly operandBytes: number;
  readonly alignmentBytes: number;
  /** The instruction can change CS, DS, SS or TF. */
  readonly exitsByTrap: boolean;
  /** May be put so that it ends with its page, or does not fit in it. */
  readonly mayMeetPageEnd: boolean;
  /** Registers that must not be part of an address. */
  readonly avoid: number;
  readonly repeats: readonly number[];
  /** Immediate of this many bits; undefined for a random one. */
  immediate?(scene: Scene, storedBits: number): bigint;
  /** Runs when the bytes are chosen and registers and memory are random. */
  finish?(scene: Scene): void;
}

/** `map << 8 | opcode`, with the maps of one byte and 0F. */
const O = (opcode: number): number => (OpcodeMap.oneByte << 8) | opcode;
const OF = (opcode: number): number => (OpcodeMap["0F"] << 8) | opcode;

function opcodeOf({ encoding }: Form): number {
  return (encoding.map << 8) | encoding.opcode;
}

function isOneOf(form: Form, ...opcodes: readonly number[]): boolean {
  return opcodes.includes(opcodeOf(form));
}

function digitOf({ encoding }: Form): number {
  return encoding.modrmReg ?? -1;
}

/** Everything that `generate` must know of the form. */
export function planOf(form: Form): Plan {
  const { encoding, operandSize, bits } = form;
  const kind = kindOf(form);
  const isMmx = encoding.operands.some(({ file }) => file === "mmx");
  const width = encoding.rmOperand?.memoryWidths[widthIndex(operandSize, bits === 64)] ?? 0;
  const operandBytes = areaBytes(form) ?? Math.max(width / 8, 1);
  const alignmentBytes = isXsave(form) ? 64 : Math.min(largestPower(operandBytes), 16);
  const special = specialOf(form);
  return {
    kind, isMmx, operandBytes, alignmentBytes, exitsByTrap: mustExitByTrap(form), mayMeetPageEnd: !isControlTransfer(form) && !isUndefined(form) && !loadsDataSegment(form),
    avoid: 0, repeats: [0], ...special,
  };
}

function largestPower(value: number): number {
  return 2 ** Math.floor(Math.log2(value));
}

function kindOf({ encoding }: Form): ValueKind {
  const { map, opcode } = encoding;
  if (map === OpcodeMap.oneByte && opcode >= 0xd8 && opcode <= 0xdf) {
    if (opcode === 0xd8 || opcode === 0xd9) return "float32";
    if (opcode === 0xdc || opcode === 0xdd) return "float64";
    if (opcode === 0xdb && (encoding.modrmReg ?? 0) >= 5) return "float80";
    if (opcode === 0xdf && encoding.modrmReg === 4) return "bcd";
    return "integer";
  }
  if (/[VWUH](ss|ps)\b/.test(encoding.text)) return "float32";
  return /[VWUH](sd|pd)\b/.test(encoding.text) ? "float64" : "integer";
}

function isXsave(form: Form): boolean {
  return (isOneOf(form, OF(0xae)) && [4, 5, 6].includes(digitOf(form)) && form.rm === "memory")
    || (isOneOf(form, OF(0xc7)) && [3, 4, 5].includes(digitOf(form)) && form.rm === "memory");
}

function areaBytes(form: Form): number | undefined {
  if (isXsave(form)) return 576;
  if (isOneOf(form, OF(0xae)) && form.rm === "memory" && digitOf(form) <= 1) return 512;
  return undefined;
}

/** In 64-bit mode the way back by a jump works with any data segments. */
function mustExitByTrap(form: Form): boolean {
  const { encoding, bits } = form;
  const digit = digitOf(form);
  const changesCode = encoding.operands.some(({ source }) => source === "far")
    || isOneOf(form, O(0x9d), O(0xca), O(0xcb), O(0xcf)) || (isOneOf(form, O(0xff)) && (digit === 3 || digit === 5));
  return changesCode || (bits !== 64 && loadsDataSegment(form));
}

/** The kernel's return from a trap clears null selectors' privilege bits: such instructions leave by a jump if they can. */
function loadsDataSegment(form: Form): boolean {
  return form.encoding.operands.some(({ file }) => file === "segment") || isOneOf(form, O(0xc4), O(0xc5), OF(0xb2), OF(0xb4), OF(0xb5));
}

function isControlTransfer(form: Form): boolean {
  const { encoding } = form;
  const digit = digitOf(form);
  return encoding.operands.some(({ source }) => source === "relative" || source === "far")
    || isOneOf(form, O(0xc2), O(0xc3), O(0xca), O(0xcb), O(0xcc), O(0xcd), O(0xce), O(0xcf), O(0xf1))
    || (isOneOf(form, O(0xff)) && digit >= 2 && digit <= 5);
}

/** UD0 and UD1: how much of them is fetched before #UD differs between processors. */
function isUndefined(form: Form): boolean {
  return isOneOf(form, OF(0xb9), OF(0xff));
}

function bit(register: number): number {
  return 1 << register;
}

type Special = Partial<Plan>;

function specialOf(form: Form): Special | undefined {
  const { encoding, operandSize, bits } = form;
  const digit = digitOf(form);
  const operandBytes = operandSize / 8;
  if (encoding.operands.some(({ source }) => source.startsWith("string")) || isStringOpcode(form)) return strings;
  switch (opcodeOf(form)) {
    case O(0xc8):
      return enter;
    case O(0xc9):
      return { finish: (scene) => setStackRegister(scene, Register.BP) };
    case O(0xd7):
      return { finish: translate };
    case O(0xf6):
    case O(0xf7):
      return digit >= 6 ? { avoid: bit(Register.AX) | bit(Register.DX), finish: divide } : undefined;
    case O(0xe0): case O(0xe1): case O(0xe2): case O(0xe3):
      return { finish: (scene) => scene.random.chance(60) && scene.setLow(Register.CX, scene.addressSize, scene.random.below(3)) };
    case O(0xcd):
      // 0x80 is Linux's system call.
      return { immediate: ({ random }) => BigInt(random.pick([0, 1, 3, 3, 4, 4, 13, 0x20, 0x7f, 0x81, 0xff, random.below(128)])) };
    case O(0xc2): case O(0xc3):
      return { immediate: smallImmediate, finish: (scene) => scene.pokeValue(scene.stackTop(), scene.branchTarget(false), 8) };
    case O(0xca): case O(0xcb):
      return { immediate: ({ random }) => BigInt(random.below(64)), finish: (scene) => pokeFar(scene, scene.stackTop(), operandBytes, operandBytes) };
    case O(0xcf):
      return { finish: pokeInterruptFrame };
    case O(0xea): case O(0x9a):
      return {
        immediate: (scene, storedBits) =>
          BigInt.asUintN(storedBits - 16, scene.branchTarget(false)) | (BigInt(codeSelector(scene)) << BigInt(storedBits - 16)),
      };
    case O(0xff):
      if (digit === 2 || digit === 4) return { finish: setNearTarget };
      return digit === 3 || digit === 5
        ? { operandBytes: operandBytes + 2, finish: pokeFarOperand }
        : undefined;
    case O(0x8e): case OF(0x00): case OF(0x02): case OF(0x03): case O(0x63):
      return bits === 64 && opcodeOf(form) === O(0x63) ? undefined : { finish: setSelectorOperand };
    case O(0x07): case O(0x17): case O(0x1f): case OF(0xa1): case OF(0xa9):
      return { finish: (scene) => scene.pokeValue(scene.stackTop(), scene.selector(), 2) };
    case O(0xc4): case O(0xc5): case OF(0xb2): case OF(0xb4): case OF(0xb5):
      return { operandBytes: operandBytes + 2, finish: pokeSelectors };
    case O(0xc0): case O(0xc1): case O(0xd2): case O(0xd3): case OF(0xa4): case OF(0xa5): case OF(0xac): case OF(0xad):
      return { immediate: countImmediate, finish: setCount };
    case OF(0xa3): case OF(0xab): case OF(0xb3): case OF(0xbb):
      return form.rm === "memory" ? { finish: setBitOffset } : undefined;
    case OF(0xb0): case OF(0xb1):
      return { avoid: bit(Register.AX), finish: setComparand };
    case OF(0xc7):
      if (digit === 1) return { avoid: bit(Register.AX) | bit(Register.DX), finish: setWideComparand };
      return isXsave(form) ? xsave(digit === 3) : undefined;
    case OF(0xf7):
      return encoding.operands.some(({ file }) => file === "mmx" || file === "xmm") ? { finish: maskedMove } : undefined;
    case OF(0xae):
      return floatingArea(form, digit);
    case O(0xd9):
      return form.rm === "memory" ? environment(digit) : undefined;
    case O(0xdd):
      return form.rm === "memory" && digit === 4 ? { kind: "float80", finish: (scene) => pokeEnvironment(scene) } : undefined;
    case O(0x62):
      return { finish: setBounds };
    default:
      return stringCompare(form);
  }
}

function isStringOpcode(form: Form): boolean {
  const { map, opcode } = form.encoding;
  return map === OpcodeMap.oneByte && [0xa4, 0xa5, 0xa6, 0xa7, 0xaa, 0xab, 0xac, 0xad, 0xae, 0xaf].includes(opcode);
}

const strings: Special = {
  repeats: [0, 0, 0xf3, 0xf3, 0xf2],
  finish(scene) {
    const { random, addressSize, form, window } = scene;
    if (form.bits === 32 && addressSize === 16 && random.chance(70)) {
      // 16-bit offsets reach nothing in flat segments.
      scene.loadsSegments = true;
      scene.selectors.es = Selector.data16;
      scene.selectors.ds = Selector.data16;
      scene.segmentBases[0] = scene.segmentBases[3] = scene.segmentBases[4];
    }
    if (random.chance(40)) window.fill(random.next() & 0xff, random.below(512), 512 + random.below(512));
    const source = BigInt(scene.chooseTarget(8, 8));
    const destination = BigInt(scene.chooseTarget(8, 8));
    scene.setLow(Register.SI, addressSize, source - scene.baseOf(3, true));
    scene.setLow(Register.DI, addressSize, destination - scene.baseOf(0, false));
    const count = random.pick([0, 1, 2, random.below(8), random.below(40), random.below(120)]);
    if (scene.repeat !== 0) scene.setLow(Register.CX, addressSize, count);
  },
};

const enter: Special = {
  immediate: ({ random }, storedBits) =>
    BigInt(storedBits === 16 ? random.below(random.chance(90) ? 200 : 0x10000) : random.below(random.chance(80) ? 5 : 256)),
  finish: (scene) => setStackRegister(scene, Register.BP),
};

/** Points a frame pointer into the window. */
function setStackRegister(scene: Scene, register: number): void {
  if (scene.random.chance(90)) {
    const linear = BigInt(scene.chooseTarget(8, 8));
    scene.setLow(register, scene.form.bits, linear - scene.segmentBases[2]);
  }
}

function translate(scene: Scene): void {
  const offset = BigInt(scene.chooseTarget(1, 1)) - scene.baseOf(3, true);
  scene.setLow(Register.BX, scene.addressSize, offset - (scene.gpr[Register.AX] & 0xffn));
}

function maskedMove(scene: Scene): void {
  const offset = BigInt(scene.chooseTarget(16, 16)) - scene.baseOf(3, true);
  scene.setLow(Register.DI, scene.addressSize, offset);
}

/** Quotients that fit, most of the time. */
function divide(scene: Scene): void {
  const { random, gpr, form } = scene;
  if (random.chance(35)) return;
  if (form.encoding.opcode === 0xf6) {
    scene.setLow(Register.AX, 16, random.chance(50) ? gpr[0] & 0xffn : BigInt(random.between(-128, 127)));
    return;
  }
  const isNegative = digitOf(form) === 7 && ((gpr[0] >> BigInt(form.operandSize - 1)) & 1n) === 1n;
  scene.setLow(Register.DX, form.operandSize, isNegative ? -1n : random.chance(70) ? 0n : BigInt(random.below(100)));
}

function smallImmediate({ random }: Scene): bigint {
  return BigInt(random.chance(90) ? random.below(64) : random.below(0x10000));
}

/** A far pointer whose selector follows the offset. */
function pokeFar(scene: Scene, linear: number, offsetBytes: number, selectorBytes: number): void {
  const selector = codeSelector(scene);
  const isPageBased = selector === Selector.code16 || selector === Selector.executeOnly || selector === Selector.absentConforming;
  const pageOffset = scene.branchTarget(true) - BigInt(codePageOffset(scene));
  const offset = isPageBased ? pageOffset : pageOffset + 0x1000_0000n;
  scene.pokeValue(linear, scene.random.chance(90) ? offset : scene.branchTarget(false), offsetBytes);
  scene.pokeValue(linear + offsetBytes, selector, selectorBytes);
}

/** AMD reads m16:32 even with REX.W: the selector stands in both places then. */
function pokeFarOperand(scene: Scene): void {
  const operandBytes = scene.form.operandSize / 8;
  pokeFar(scene, scene.target, operandBytes, 2);
  if (operandBytes === 8) scene.pokeValue(scene.target + 4, codeSelector(scene), 2);
}

function pokeSelectors(scene: Scene): void {
  const operandBytes = scene.form.operandSize / 8;
  const selector = scene.selector();
  scene.pokeValue(scene.target + operandBytes, selector, 2);
  if (operandBytes === 8) scene.pokeValue(scene.target + 4, selector, 2);
}

function codePageOffset({ form }: Scene): number {
  return 0x1000_0000 - codeBase(form.bits);
}

function codeSelector(scene: Scene): number {
  const { random, selectors } = scene;
  return random.chance(55) ? selectors.cs : random.chance(50) ? random.pick([Selector.code32, Selector.flatCode, Selector.executeOnly, Selector.code16]) : scene.selector();
}

function pokeInterruptFrame(scene: Scene): void {
  const { random, form, gpr } = scene;
  const slotBytes = form.operandSize / 8;
  const top = scene.stackTop();
  scene.rflags &= ~0x4000;
  pokeFar(scene, top, slotBytes, slotBytes);
  scene.pokeValue(top + 2 * slotBytes, random.next() & 0x3f_7fd5, slotBytes);
  if (form.bits !== 64) return;
  scene.pokeValue(top + 3 * slotBytes, gpr[4] + 64n, slotBytes);
  scene.pokeValue(top + 4 * slotBytes, random.chance(80) ? Selector.data : scene.selector(), slotBytes);
}

function setNearTarget(scene: Scene): void {
  const { random, form, encoded } = scene;
  const isNonCanonical = form.bits === 64 && random.chance(4);
  const target = isNonCanonical ? 0x0000_8000_0000_0000n + random.next64() % 0xfff0_0000_0000_0000n : scene.branchTarget(false);
  if (form.rm === "memory") scene.pokeValue(scene.target, target, form.operandSize / 8);
  else scene.setLow(encoded.rm, form.operandSize, target);
}

function setSelectorOperand(scene: Scene): void {
  const { form, encoded } = scene;
  if (form.rm === "memory") scene.pokeValue(scene.target, scene.selector(), 2);
  else if (encoded.rm >= 0) scene.setLow(encoded.rm, 16, scene.selector());
}

function countImmediate({ random }: Scene, storedBits: number): bigint {
  return storedBits === 8 && random.chance(70) ? BigInt(random.below(66)) : BigInt(random.below(256));
}

function setCount(scene: Scene): void {
  if (scene.random.chance(60) && !scene.isAddressRegister(Register.CX)) {
    scene.setLow(Register.CX, 8, scene.random.below(66));
  }
}

function setBitOffset(scene: Scene): void {
  const { random, encoded, form } = scene;
  if (scene.isAddressRegister(encoded.reg)) return;
  scene.setLow(encoded.reg, form.operandSize, random.between(-1600, 1600));
}

function setComparand(scene: Scene): void {
  const { random, gpr, form, encoded } = scene;
  if (random.chance(50)) return;
  if (form.rm === "memory") scene.pokeValue(scene.target, gpr[Register.AX], form.encoding.opcode & 1 ? form.operandSize / 8 : 1);
  else if (encoded.rm >= 0) gpr[encoded.rm] = gpr[Register.AX];
}

function setWideComparand(scene: Scene): void {
  const { random, gpr, form } = scene;
  if (random.chance(50)) return;
  const halfBytes = form.operandSize === 64 ? 8 : 4;
  scene.pokeValue(scene.target, gpr[Register.AX], halfBytes);
  scene.pokeValue(scene.target + halfBytes, gpr[Register.DX], halfBytes);
}

function setBounds(scene: Scene): void {
  const { random, form, gpr, encoded } = scene;
  const index = BigInt.asIntN(form.operandSize, gpr[Math.max(encoded.reg, 0)]);
  const bytes = form.operandSize / 8;
  scene.pokeValue(scene.target, index - BigInt(random.between(-3, 200)), bytes);
  scene.pokeValue(scene.target + bytes, index + BigInt(random.between(-3, 200)), bytes);
}

function floatingArea(form: Form, digit: number): Special | undefined {
  if (form.rm !== "memory") return digit <= 3 ? { finish: setCanonicalBase } : undefined;
  switch (digit) {
    case 1:
      return { finish: (scene) => pokeFloatingImage(scene) };
    case 2:
      return { finish: (scene) => scene.pokeValue(scene.target, mxcsrImage(scene), 4) };
    case 4: case 5: case 6:
      return xsave(digit === 5);
    default:
      return undefined;
  }
}

function setCanonicalBase(scene: Scene): void {
  if (scene.random.chance(80)) scene.setLow(scene.encoded.rm, 64, scene.gpr[scene.encoded.rm] >> 18n);
}

/** Bit 17 exists on some processors; the other reserved bits fault everywhere. */
function mxcsrImage({ random }: Scene): number {
  return (mxcsr(random) | (random.chance(6) ? random.next() & 0xfffd_0000 : 0)) >>> 0;
}

function pokeFloatingImage(scene: Scene): void {
  const image = new Uint8Array(512);
  writeFloatingState(scene.random, image, "float32", false);
  new DataView(image.buffer).setUint32(24, mxcsrImage(scene), true);
  scene.poke(scene.target, image);
}

/** Only the x87 and SSE components: what else the host enables is no part of the state compared. */
function xsave(isRestore: boolean): Special {
  return {
    avoid: bit(Register.AX) | bit(Register.DX),
    finish(scene) {
      const { random, gpr, target } = scene;
      gpr[Register.AX] = BigInt(random.below(4));
      gpr[Register.DX] = 0n;
      if (isRestore) pokeFloatingImage(scene);
      const header = new Uint8Array(64);
      header[0] = random.below(4);
      if (random.chance(8)) header[random.between(8, 23)] = random.next() & 0xff;
      if (random.chance(85)) scene.poke(target + 512, header);
    },
  };
}

function environment(digit: number): Special | undefined {
  if (digit === 4) return { finish: (scene) => pokeEnvironment(scene) };
  return digit === 5 ? { finish: (scene) => scene.pokeValue(scene.target, controlWord(scene.random), 2) } : undefined;
}

/** The environment of FLDENV and FRSTOR: control, status and tag words in slots of two or four bytes. */
function pokeEnvironment(scene: Scene): void {
  const { random, form, target } = scene;
  const slotBytes = form.operandSize === 16 ? 2 : 4;
  const control = controlWord(random);
  scene.pokeValue(target, control, 2);
  scene.pokeValue(target + slotBytes, statusWord(random, control), 2);
  scene.pokeValue(target + 2 * slotBytes, random.chance(40) ? 0 : random.next() & 0xffff, 2);
  for (let register = 0; register < 8; register++) {
    const at = random.below(poolBytes / 16) * 16;
    scene.poke(target + 7 * slotBytes + 10 * register, pools.float80.subarray(at, at + 10));
  }
}

/** PCMPESTRI and PCMPESTRM take lengths from EAX and EDX. */
function stringCompare(form: Form): Special | undefined {
  const { map, opcode } = form.encoding;
  const isExplicit = map === OpcodeMap["0F3A"] && (opcode === 0x60 || opcode === 0x61);
  if (isExplicit) {
    return {
      avoid: bit(Register.AX) | bit(Register.DX),
      finish(scene) {
        for (const register of [Register.AX, Register.DX]) {
          if (scene.random.chance(75)) scene.gpr[register] = BigInt.asUintN(64, BigInt(scene.random.between(-18, 18)));
        }
      },
    };
  }
  return undefined;
}
