/**
 * String instructions: SDM volume 1, "String Instructions". One execution is one iteration; a repeated instruction
 * continues at itself, so that faults and interrupts between iterations find the registers as the manual has them.
 * Between two iterations of MOVS and STOS the processor may do many more at once.
 */
import { Bits, Status, when, type Routine, type Width } from "../../ir/index.ts";
import {
  constant, instruction, load, Register, Segment, store, type Context, type Cpu, type InstructionDefinition,
  type Variant,
} from "../definition.ts";
import { routine } from "../processor.ts";
import * as state from "../state.ts";

type IntegerWidth = 8 | 16 | 32 | 64;

const directionBit = 10;
/** Fewer iterations than this are not worth a call: the call takes as long as 45 of them in compiled code, 16 interpreted. */
const runMinimum = 24;

const moveRun = routine("repeat movs", (p) => {
  p.repeatMove?.(p.state.argument32(0) as 1 | 2 | 4 | 8, p.state.argument32(1) as 16 | 32 | 64);
  return Status.Next;
});
const storeRun = routine("repeat stos", (p) => {
  p.repeatStore?.(p.state.argument32(0) as 1 | 2 | 4 | 8, p.state.argument32(1) as 16 | 32 | 64);
  return Status.Next;
});

interface Iteration<W extends IntegerWidth> {
  readonly cpu: Cpu;
  readonly width: W;
  /** Offset in rSI or rDI, wrapped to the address size. */
  pointer(register: number): Bits<64>;
  /** Moves rSI or rDI by one element in the direction of DF. */
  advance(register: number): void;
}

/**
 * Runs `iterate` once, or under REP while the count lasts. `iterate` returns the condition under which a repetition
 * goes on besides the count (REPE, REPNE), or nothing. `run` does iterations at once: its arguments are an element's size
 * in bytes and the address size in bits.
 */
export function repeated<W extends IntegerWidth>(
  cpu: Cpu, width: W, variant: Variant, iterate: (iteration: Iteration<W>) => Bits<1> | undefined, run?: Routine,
): void {
  const size = variant.addressSize;
  const iteration: Iteration<W> = {
    cpu, width,
    pointer: (register) => (cpu.gpr(register, size).read() as Bits).zext(64),
    advance(register) {
      const backwards = cpu.field<32>(state.systemFlags).read().bit(directionBit);
      const step = backwards.select(constant(size as Width, -(width / 8)), width / 8);
      const place = cpu.gpr(register, size);
      place.write((place.read() as Bits).add(step) as never);
    },
  };
  if (variant.repeat === "none") {
    iterate(iteration);
    return;
  }
  const count = cpu.gpr(Register.RCX, size);
  const remaining = count.read() as Bits;
  when(remaining.ne(0), () => {
    const goesOn = iterate(iteration);
    const left = remaining.sub(1);
    count.write(left as never);
    const more = goesOn === undefined ? left.ne(0) : left.ne(0).and(goesOn);
    when(more, () => {
      if (run !== undefined) callRun(cpu, run, width, size, left);
      cpu.jump(cpu.thisRip());
    });
  });
}

function callRun(cpu: Cpu, run: Routine, width: IntegerWidth, addressBits: number, left: Bits): void {
  const isUpwards = cpu.field<32>(state.systemFlags).read().bit(directionBit).xor(1);
  when(isUpwards.and(left.ltU(runMinimum).xor(1)), () => {
    cpu.call(run, [constant(32, width / 8), constant(32, addressBits)]);
  });
}

function compareFlags<W extends Width>(cpu: Cpu, a: Bits<W>, b: Bits<W>): Bits<1> {
  const difference = a.sub(b);
  cpu.differenceFlags(a, b, difference);
  return difference.isZero();
}

/** REPE goes on while equal, REPNE while not. */
function whileMatching(equal: Bits<1>, variant: Variant): Bits<1> {
  return variant.repeat === "repne" ? equal.xor(1) : equal;
}

const suffixes = { 8: "b", 16: "w", 32: "d", 64: "q" } as const;

function stringInstruction(
  name: string, encodings: readonly [byte: string, wide: string],
  iterate: <W extends IntegerWidth>(iteration: Iteration<W>, variant: Variant) => Bits<1> | undefined, run?: Routine,
): InstructionDefinition[] {
  const define = (encoding: string, names: Partial<Record<16 | 32 | 64, string>>, mnemonic: string): InstructionDefinition =>
    instruction({
      name: mnemonic, names, encodings: [encoding], repeatable: true,
      execute<W extends IntegerWidth>({ cpu, width, variant }: Context<W>) {
        repeated(cpu, width, variant, (iteration) => iterate(iteration, variant), run);
      },
    });
  return [
    define(encodings[0], {}, `${name}b`),
    define(encodings[1], { 16: `${name}${suffixes[16]}`, 32: `${name}${suffixes[32]}`, 64: `${name}${suffixes[64]}` }, `${name}v`),
  ];
}

const movs = stringInstruction("movs", ["A4 Yb,Xb", "A5 Yv,Xv"], (iteration) => {
  const value = load(iteration.width, "operand", iteration.pointer(Register.RSI));
  store(Segment.ES, iteration.pointer(Register.RDI), value);
  iteration.advance(Register.RSI);
  iteration.advance(Register.RDI);
  return undefined;
}, moveRun);

const cmps = stringInstruction("cmps", ["A6 Xb,Yb", "A7 Xv,Yv"], (iteration, variant) => {
  // In this order: it shows when both operands fault.
  const b = load(iteration.width, Segment.ES, iteration.pointer(Register.RDI));
  const a = load(iteration.width, "operand", iteration.pointer(Register.RSI));
  iteration.advance(Register.RSI);
  iteration.advance(Register.RDI);
  return whileMatching(compareFlags(iteration.cpu, a, b), variant);
});

const stos = stringInstruction("stos", ["AA Yb,AL", "AB Yv,rAX"], (iteration) => {
  store(Segment.ES, iteration.pointer(Register.RDI), iteration.cpu.gpr(Register.RAX, iteration.width).read());
  iteration.advance(Register.RDI);
  return undefined;
}, storeRun);

const lods = stringInstruction("lods", ["AC AL,Xb", "AD rAX,Xv"], (iteration) => {
  const value = load(iteration.width, "operand", iteration.pointer(Register.RSI));
  iteration.cpu.gpr(Register.RAX, iteration.width).write(value);
  iteration.advance(Register.RSI);
  return undefined;
});

const scas = stringInstruction("scas", ["AE AL,Yb", "AF rAX,Yv"], (iteration, variant) => {
  const a = iteration.cpu.gpr(Register.RAX, iteration.width).read();
  const b = load(iteration.width, Segment.ES, iteration.pointer(Register.RDI));
  iteration.advance(Register.RDI);
  return whileMatching(compareFlags(iteration.cpu, a, b), variant);
});

const direction = [
  instruction({
    name: "cld", encodings: ["FC"],
    execute({ cpu }) {
      const flags = cpu.field<32>(state.systemFlags);
      flags.write(flags.read().and(~(1 << directionBit) >>> 0));
    },
  }),
  instruction({
    name: "std", encodings: ["FD"],
    execute({ cpu }) {
      const flags = cpu.field<32>(state.systemFlags);
      flags.write(flags.read().or(1 << directionBit));
    },
  }),
];

export const strings: readonly InstructionDefinition[] = [...movs, ...cmps, ...stos, ...lods, ...scas, ...direction];
