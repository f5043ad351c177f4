/** Loops of SSE arithmetic leave the same results and exception flags in compiled code, which checks fewer operands, as interpreted. */
import { expect, test } from "vitest";
import { Random } from "../../../tests/differential/random.ts";
import { Twins, warm } from "../../../tests/jit/twins.ts";
import { Place } from "../testing/engine-machine.ts";

const [rcx, rdx, rdi] = [1, 2, 7];
const rounds = 12;
const registers = 4;

function hex(...bytes: readonly number[]): string {
  return bytes.map((byte) => (byte & 0xff).toString(16).padStart(2, "0")).join("");
}

/** Few are special: one denormal operand sets a flag for the rest of the program. */
function double(random: Random): number {
  const special = random.below(60);
  if (special < 3) return random.pick([5e-324, -1e-310, 1e-308, 2 ** -520, 2 ** 520]);
  if (special < 6) return 0;
  return (random.chance(50) ? -1 : 1) * (1 + random.next() / 2 ** 32) * 2 ** (random.below(5) - 2);
}

const prefixes = [0xf2, 0x66, 0xf3, 0] as const;

function instruction(random: Random): string {
  const a = random.below(registers), b = random.below(registers);
  const between = 0xc0 | (a << 3) | b, memory = [0x47 | (a << 3), random.below(8) * 16];
  // Doubles mostly: what is a number as a single is anything as a double.
  const prefix = prefixes[Math.max(random.below(12) - 8, 0)];
  const prefixed = prefix === 0 ? [0x0f] : [prefix, 0x0f];
  switch (random.below(9)) {
    case 0: return hex(0x66, 0x0f, 0x28, between);
    case 1: return hex(0x66, 0x0f, random.pick([0x14, 0x15]), between);
    case 2: return hex(0xf2, 0x0f, 0x10, ...memory);
    case 3: return hex(0x66, 0x0f, 0x28, ...memory);
    // pxor with itself, movq from a general register, movsd between registers, shufps
    case 4: return random.pick([hex(0x66, 0x0f, 0xef, 0xc0 | (a * 9)), hex(0x66, 0x48, 0x0f, 0x6e, 0xc0 | (a << 3) | random.pick([rcx, rdi])),
      hex(0xf2, 0x0f, 0x10, between), hex(0x0f, 0xc6, between, random.below(256))]);
    case 5: return hex(...prefixed, 0x51, between);
    default: return hex(...prefixed, random.pick([0x58, 0x58, 0x59, 0x5c, 0x5e]), ...(random.chance(60) ? [between] : memory));
  }
}

/** A loop of two blocks, the second of which some rounds skip, on registers from memory. */
function program(random: Random): string {
  const loads = Array.from({ length: registers }, (_, register) => hex(0x66, 0x0f, 0x28, 0x47 | (register << 3), random.below(8) * 16)).join("");
  const first = Array.from({ length: 1 + random.below(5) }, () => instruction(random)).join("");
  const second = Array.from({ length: 1 + random.below(3) }, () => instruction(random)).join("");
  // test cl, 1; jz over the second; dec ecx; jnz
  const loop = `${first}f6c1010f84${hex(second.length / 2, 0, 0, 0)}${second}`;
  const back = -(loop.length / 2 + 8);
  // ldmxcsr [rdi + 0x7c]; L: mov ecx, rounds; loads; loop; add rdi, 16; dec edx; jnz L; hlt
  const inner = `b9${hex(rounds, 0, 0, 0)}${loads}${loop}ffc90f85${hex(back, back >> 8, back >> 16, back >> 24)}4883c710`;
  const again = -(inner.length / 2 + 8);
  return `0fae577c${inner}ffca0f85${hex(again, again >> 8, again >> 16, again >> 24)}f4`;
}

test("loops of SSE arithmetic", () => {
  const random = new Random(23, 2);
  let compiled = 0, executed = 0;
  for (const maximumBlocks of [1, 64]) {
    const twins = new Twins({ ...warm, maximumBlocks });
    for (let count = 0; count < 300; count++) {
      const data = new DataView(new ArrayBuffer(0x200));
      for (let index = 0; index < 64; index++) data.setFloat64(index * 8, double(random), true);
      data.setUint32(0x7c, random.chance(80) ? 0x1fa0 : random.pick([0x1f80, 0x9fe0]), true);
      twins.write(Place.data, new Uint8Array(data.buffer));
      twins.write(Place.code, program(random));
      twins.start();
      twins.each((machine) => {
        machine.setRegister(rcx, 0n);
        machine.setRegister(rdx, 4n);
        machine.setRegister(rdi, BigInt(Place.data));
      });
      twins.runToHalt(random.pick([137, 1000]));
    }
    compiled += twins.counters.executed;
    executed += twins.compiled.processor.retired;
  }
  expect(compiled).toBeGreaterThan(executed / 4);
});
