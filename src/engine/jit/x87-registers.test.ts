/** Loops of x87 instructions leave the same registers, flags and pointers whether the unit is in locals or not. */
import { expect, test } from "vitest";
import { Random } from "../../../tests/differential/random.ts";
import { Twins, warm } from "../../../tests/jit/twins.ts";
import { Place } from "../testing/engine-machine.ts";

const [rcx, rdi] = [1, 7];
const values = 8;
const rounds = 40;

function hex(...bytes: readonly number[]): string {
  return bytes.map((byte) => (byte & 0xff).toString(16).padStart(2, "0")).join("");
}

function little32(value: number): number[] {
  return [0, 8, 16, 24].map((shift) => (value >> shift) & 0xff);
}

/** Mostly ordinary doubles, some of which take each other away, and a few that are not ordinary at all. */
function double(random: Random): number {
  if (random.chance(4)) return random.pick([0, -0, Infinity, NaN, 5e-324, 1e-310, 1.7e308]);
  const magnitude = (1 + random.next() / 2 ** 32) * 2 ** (random.below(9) - 4);
  return random.chance(50) ? -magnitude : magnitude;
}

/** A body that begins and ends with `depth` registers in use. */
function body(random: Random, depth: number): string {
  const code: string[] = [];
  let used = depth;
  const memory = (): number => random.below(values) * 8;
  const other = (): number => random.below(used);
  const push = (): void => {
    used++;
    code.push(random.pick([
      hex(0xdd, 0x47, memory()), hex(0xdd, 0x47, memory()), hex(0xd9, 0xc0 + random.below(used - 1)), hex(0xdb, 0x47, memory()), hex(0xdf, 0x6f, memory()),
      hex(0xd9, random.pick([0xe8, 0xeb, 0xee])), hex(0xdb, 0x6f, 0x40),
    ]));
  };
  const pop = (): void => {
    used--;
    code.push(random.pick([
      hex(0xdd, 0x5f, memory()), hex(0xde, random.pick([0xc1, 0xc9, 0xe1, 0xe9, 0xf1, 0xf9])), hex(0xdd, 0xd8), hex(0xdd, 0xd9), hex(0xdb, 0x5f, 0x58),
      hex(0xdb, 0x7f, 0x40), hex(0xdf, 0xe9),
    ]));
  };
  for (let count = 4 + random.below(20); count > 0; count--) {
    const choice = random.below(12);
    if (choice < 3 && used < 7) push();
    else if (choice < 5 && used > 2) pop();
    else if (choice < 8) code.push(hex(random.pick([0xd8, 0xdc]), random.pick([0xc0, 0xc8, 0xe0, 0xe8, 0xf0, 0xf8]) + other()));
    else if (choice === 8) code.push(hex(0xd9, 0xc8 + other()));
    else if (choice === 9) code.push(hex(0xd9, random.pick([0xe0, 0xe1, 0xfa, 0xfc, 0xe4, 0xe5])));
    else if (choice === 10) code.push(hex(0xdc, random.pick([0x47, 0x4f, 0x67, 0x6f, 0x77, 0x7f]), memory()));
    // fcomi and a jump over fchs; fnstsw ax; fst m64; fistp's control word changed and back; fincstp and fdecstp; fcmovb
    else code.push(random.pick([
      hex(0xdb, 0xf0 + other(), 0x76, 2, 0xd9, 0xe0), hex(0xdf, 0xe0), hex(0xdd, 0x57, memory()), hex(0xd9, 0x6f, 0x52, 0xdb, 0x57, 0x58, 0xd9, 0x6f, 0x50),
      hex(0xd9, 0xf7, 0xd9, 0xf6), hex(0xda, 0xc0 + other()),
    ]));
  }
  while (used < depth) push();
  while (used > depth) pop();
  return code.join("");
}

test("loops with the unit in locals", () => {
  const random = new Random(19, 87);
  let compiled = 0, executed = 0;
  for (let program = 0; program < 40; program++) {
    const twins = new Twins({ ...warm, maximumBlocks: random.pick([1, 4, 64]) });
    const depth = 2 + random.below(3);
    const start = "dbe3" + "d9f7".repeat(random.below(8)) + hex(0xd9, 0x6f, 0x50) + Array.from({ length: depth }, () => hex(0xdd, 0x47, random.below(values) * 8)).join("");
    const loop = body(random, depth);
    // dec ecx; jnz loop; hlt
    const whole = `${start}${loop}ffc90f85${hex(...little32(-(loop.length / 2 + 8)))}f4`;
    const data = new DataView(new ArrayBuffer(0x60));
    for (let index = 0; index < values; index++) data.setFloat64(index * 8, double(random), true);
    data.setBigUint64(0x40, 0xc90f_daa2_2168_c235n, true);
    data.setUint16(0x48, 0x4000, true);
    data.setUint16(0x50, random.pick([0x37f, 0x37f, 0x37f, 0x27f, 0x77f, 0xf7f]), true);
    data.setUint16(0x52, 0xf7f, true);
    twins.write(Place.data, new Uint8Array(data.buffer));
    twins.write(Place.code, whole);
    twins.start();
    twins.each((machine) => {
      machine.setRegister(rcx, BigInt(rounds));
      machine.setRegister(rdi, BigInt(Place.data));
    });
    twins.runToHalt(random.pick([33, 1000]));
    compiled += twins.counters.executed;
    executed += twins.compiled.processor.retired;
  }
  expect(compiled).toBeGreaterThan(executed / 3);
});
