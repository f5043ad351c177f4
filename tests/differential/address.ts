/**
 * Random addressing forms that lead to a wanted place (SDM volume 2, "Addressing-Mode Encoding of ModR/M and SIB
 * Bytes"): registers are set so that base + index * scale + displacement is the wanted offset.
 */
import type { CodeBits } from "./layout.ts";
import type { Random } from "./random.ts";

export const Register = { AX: 0, CX: 1, DX: 2, BX: 3, SP: 4, BP: 5, SI: 6, DI: 7 } as const;

export interface AddressRequest {
  readonly bits: CodeBits;
  readonly addressSize: 16 | 32 | 64;
  /** Registers (bit per number) that may not take part. */
  readonly avoid: number;
  /** Offset to reach, when the base register is one of the stack's and when not; cut to the address size. */
  readonly stackOffset: bigint;
  readonly dataOffset: bigint;
}

export interface AddressForm {
  /** ModRM without the reg field. */
  readonly modrm: number;
  /** SIB and displacement. */
  readonly tail: readonly number[];
  /** REX.X and REX.B. */
  readonly rex: number;
  readonly base: number;
  readonly index: number;
  /** The four bytes of displacement are relative to the next instruction. */
  readonly isRipRelative: boolean;
}

const none = -1;
const registerPairs16: readonly (readonly [base: number, index: number])[] = [
  [Register.BX, Register.SI], [Register.BX, Register.DI], [Register.BP, Register.SI], [Register.BP, Register.DI],
  [Register.SI, none], [Register.DI, none], [Register.BP, none], [Register.BX, none],
];

/** The low bytes of a value, lowest first. */
export function littleEndian(value: bigint | number, sizeBytes: number): number[] {
  const bits = BigInt.asUintN(64, BigInt(value));
  return Array.from({ length: sizeBytes }, (_, index) => Number((bits >> BigInt(8 * index)) & 0xffn));
}

/** Replaces what an address of this size uses of a register; outside of 64-bit mode registers have 32 bits. */
function setAddressPart(gpr: BigUint64Array, register: number, value: bigint, addressSize: number): void {
  const kept = (gpr[register] >> BigInt(addressSize)) << BigInt(addressSize);
  gpr[register] = addressSize === 64 ? BigInt.asUintN(64, value) : kept | BigInt.asUintN(addressSize, value);
}

/** Chooses a form and sets its registers. */
export function chooseAddress(random: Random, gpr: BigUint64Array, request: AddressRequest): AddressForm {
  return request.addressSize === 16 ? chooseAddress16(random, gpr, request) : chooseAddress32(random, gpr, request);
}

function chooseAddress16(random: Random, gpr: BigUint64Array, request: AddressRequest): AddressForm {
  const rm = random.below(8);
  const mod = random.below(3);
  const [base, index] = registerPairs16[rm];
  const isAvoided = ((request.avoid >> base) & 1) !== 0 || (index !== none && ((request.avoid >> index) & 1) !== 0);
  if ((mod === 0 && rm === 6) || isAvoided) {
    return { modrm: 6, tail: littleEndian(request.dataOffset, 2), rex: 0, base: none, index: none, isRipRelative: false };
  }
  const offset = base === Register.BP ? request.stackOffset : request.dataOffset;
  const displacement = mod === 0 ? 0 : mod === 1 ? random.between(-128, 127) : random.between(-0x8000, 0x7fff);
  setAddressPart(gpr, base, offset - BigInt(displacement) - (index === none ? 0n : gpr[index]), 16);
  return { modrm: (mod << 6) | rm, tail: littleEndian(displacement, mod), rex: 0, base, index, isRipRelative: false };
}

function anyRegister(random: Random, { bits, avoid }: AddressRequest): number {
  for (let attempt = 0; attempt < 8; attempt++) {
    const register = random.below(bits === 64 ? 16 : 8);
    if (((avoid >> register) & 1) === 0) return register;
  }
  return none;
}

function anyIndex(random: Random, request: AddressRequest): number {
  const register = anyRegister(random, request);
  return register === Register.SP ? none : register;
}

function chooseAddress32(random: Random, gpr: BigUint64Array, request: AddressRequest): AddressForm {
  const kind = random.below(10);
  const base = kind <= 1 ? none : anyRegister(random, request);
  const index = kind === 0 || (kind > 1 && random.chance(50)) ? none : anyIndex(random, request);
  if (base === none) return chooseBaseless(random, gpr, request, index);
  return base === index ? chooseDoubled(random, gpr, request, base) : chooseBased(random, gpr, request, base, index);
}

/** [disp32], [rip+disp32], [index*scale+disp32]. */
function chooseBaseless(random: Random, gpr: BigUint64Array, request: AddressRequest, index: number): AddressForm {
  const { bits, addressSize, dataOffset } = request;
  const base = none;
  if (index === none && (bits !== 64 || random.chance(60))) {
    return { modrm: 5, tail: littleEndian(dataOffset, 4), rex: 0, base, index, isRipRelative: bits === 64 };
  }
  const scaleLog2 = random.below(4);
  let displacement = dataOffset;
  if (index !== none) {
    const value = BigInt(random.below(0x10000));
    setAddressPart(gpr, index, value, addressSize);
    displacement -= value << BigInt(scaleLog2);
  }
  const sib = (scaleLog2 << 6) | ((index === none ? 4 : index & 7) << 3) | 5;
  const rex = index === none ? 0 : (index >> 3) << 1;
  return { modrm: 4, tail: [sib, ...littleEndian(displacement, 4)], rex, base, index, isRipRelative: false };
}

/** [register+register*scale+disp32]: the register gets a small value, the displacement the rest. */
function chooseDoubled(random: Random, gpr: BigUint64Array, request: AddressRequest, register: number): AddressForm {
  const scaleLog2 = random.below(4);
  const value = BigInt(random.below(0x1000));
  setAddressPart(gpr, register, value, request.addressSize);
  const offset = register === Register.BP ? request.stackOffset : request.dataOffset;
  const sib = (scaleLog2 << 6) | ((register & 7) << 3) | (register & 7);
  const tail = [sib, ...littleEndian(offset - value - (value << BigInt(scaleLog2)), 4)];
  return { modrm: 0x84, tail, rex: (register >> 3) * 3, base: register, index: register, isRipRelative: false };
}

function chooseBased(
  random: Random, gpr: BigUint64Array, request: AddressRequest, base: number, index: number,
): AddressForm {
  const mod = (base & 7) === 5 ? random.between(1, 2) : random.below(3);
  // A stack pointer far from its stack makes every push fault.
  const isNear = mod === 1 || random.chance(base === Register.SP ? 80 : 50);
  const displacement = mod === 0 ? 0 : isNear ? random.between(-128, 127) : random.next() | 0;
  const scaleLog2 = random.below(4);
  const offset = base === Register.SP || base === Register.BP ? request.stackOffset : request.dataOffset;
  const scaled = index === none ? 0n : gpr[index] << BigInt(scaleLog2);
  setAddressPart(gpr, base, offset - BigInt(displacement) - scaled, request.addressSize);
  const displacementBytes = littleEndian(displacement, mod === 2 ? 4 : mod);
  const rex = base >> 3;
  if (index === none && (base & 7) !== 4 && !random.chance(10)) {
    return { modrm: (mod << 6) | (base & 7), tail: displacementBytes, rex, base, index, isRipRelative: false };
  }
  const sib = (scaleLog2 << 6) | ((index === none ? 4 : index & 7) << 3) | (base & 7);
  const indexRex = index === none ? 0 : (index >> 3) << 1;
  return { modrm: (mod << 6) | 4, tail: [sib, ...displacementBytes], rex: rex | indexRex, base, index, isRipRelative: false };
}
