/** What the differential test cannot show of x87 instructions: their pointers, all image layouts, pending exceptions under each CR0. */
import { describe, expect, test } from "vitest";
import { PhysicalMemory } from "../../src/engine/physical-memory.ts";
import { SoftProcessor } from "../../src/engine/processor.ts";
import { wasm } from "../../src/engine/web-assembly.ts";
import { instructions } from "../../src/isa/instructions.ts";
import type { CpuModel, ProcessorBus } from "../../src/isa/processor.ts";
import * as state from "../../src/isa/state.ts";
import { Cr0Mask } from "../../src/isa/system/mode.ts";
import { loadSegmentCache } from "../../src/isa/system/segments.ts";

const stateOffset = 0x1_0000;
const ramOffset = 0x40_0000;
const ramBytes = 0x10_0000;
const codeBase = 0x1_0000;
const dataBase = 0x2_0000;
const handlerBase = 0x3_0000;
const invalidOperation = 0x81;

interface Setting {
  readonly mode: "real" | 16 | 32;
  readonly vendor?: CpuModel["vendor"];
  readonly cr0?: number;
  readonly floatingPointError?: () => boolean;
}

/** A processor at CPL 0 with code at `codeBase`, data at `dataBase`, and an interrupt table whose handlers halt. */
class Bench {
  readonly processor: SoftProcessor;
  readonly ram: DataView;

  constructor({ mode, vendor = "intel", cr0 = Cr0Mask.NE, floatingPointError }: Setting) {
    const pages = (ramOffset + ramBytes) / 0x1_0000;
    const memory = new wasm.Memory({ initial: pages, maximum: pages, shared: true });
    const physical = new PhysicalMemory(memory.buffer, { read: () => 0, write: () => undefined });
    physical.map(0, ramBytes, ramOffset);
    this.ram = new DataView(memory.buffer, ramOffset, ramBytes);
    const bus: ProcessorBus = {
      portRead: () => 0, portWrite: () => undefined, timeStampCounter: () => 0n, setTimeStampCounter: () => undefined,
      readMsr: () => undefined, writeMsr: () => "unknown", taskPriority: () => 0, setTaskPriority: () => undefined, random64: () => 0n,
      ...(floatingPointError === undefined ? {} : { floatingPointError }),
    };
    this.processor = new SoftProcessor({
      memory, physical, stateOffset, codeStart: stateOffset + state.processorAreaSizeBytes, codeEnd: ramOffset, instructions, bus,
      model: {
        name: "bench", vendor, physicalAddressBits: 36, linearAddressBits: 48, hasFeature: () => true,
        cpuid: () => ({ eax: 0, ebx: 0, ecx: 0, edx: 0 }), msr: () => undefined,
      },
      interrupts: { hasInterrupt: () => false, acknowledge: () => -1 },
    });
    const s = this.processor.state;
    s.set64(state.cr0, BigInt(cr0 | Cr0Mask.ET | (mode === "real" ? 0 : Cr0Mask.PE)));
    const attributes = mode === 32 ? 0x4093 : 0x93;
    const limit = mode === 32 ? 0xffff_ffff : 0xffff;
    loadSegmentCache(s, 1, codeBase >> 4, { base: BigInt(codeBase), limit, attributes: attributes | 8 });
    for (const index of [0, 2, 3, 4, 5]) loadSegmentCache(s, index, dataBase >> 4, { base: BigInt(dataBase), limit, attributes });
    for (let vector = 0; vector < 32; vector++) {
      this.ram.setUint32(vector * 4, ((handlerBase >> 4) << 16) | vector, true);
      this.ram.setUint8(handlerBase + vector, 0xf4);
    }
    s.set64(state.gpr[4], 0x8000n);
    s.set64(state.rip, 0n);
    this.processor.modeChanged();
    this.processor.physical.writeRange(codeBase, Uint8Array.of(0xdb, 0xe3, 0xf4));
    this.run();
  }

  get status(): number {
    return this.processor.state.get16(state.x87Status);
  }

  /** Runs code that starts with FNINIT until it halts or `limit` instructions are done; the vector of its exception, if any. */
  execute(code: readonly number[], limit: number = 100): number | undefined {
    this.processor.state.set64(state.rip, 0x100n);
    this.processor.physical.writeRange(codeBase + 0x100, Uint8Array.from([...code, 0xf4]));
    return this.run(limit);
  }

  private run(limit: number = 100): number | undefined {
    const s = this.processor.state;
    s.set32(state.activity, 0);
    this.processor.run(limit);
    const linear = Number(s.get64(state.segments[1].base) + s.get64(state.rip));
    return linear > handlerBase && linear <= handlerBase + 32 ? linear - 1 - handlerBase : undefined;
  }

  words(at: number, count: number, sizeBytes: 2 | 4): string[] {
    return Array.from({ length: count }, (_, index) => {
      const place = dataBase + at + index * sizeBytes;
      return (sizeBytes === 2 ? this.ram.getUint16(place, true) : this.ram.getUint32(place, true)).toString(16);
    });
  }
}

/** FLD qword [0x40] at offset 0x100, FADD ST(0), ST(0), then FNSTENV [0x80]. */
const loadAddStore16 = [0xdd, 0x06, 0x40, 0x00, 0xd8, 0xc0, 0xd9, 0x36, 0x80, 0x00];
const loadAddStore32 = [0xdd, 0x05, 0x40, 0, 0, 0, 0xd8, 0xc0, 0xd9, 0x35, 0x80, 0, 0, 0];

describe("environment", () => {
  test("protected mode, 32 bits, AMD: opcode and selectors of every instruction", () => {
    const bench = new Bench({ mode: 32, vendor: "amd" });
    bench.execute(loadAddStore32);
    expect(bench.words(0x80, 7, 4)).toEqual(["ffff037f", "ffff3800", "ffff7fff", "106", "c01000", "40", "ffff2000"]);
  });

  test("protected mode, 32 bits, Intel: no selectors, the opcode of unmasked exceptions only", () => {
    const bench = new Bench({ mode: 32 });
    bench.execute(loadAddStore32);
    expect(bench.words(0x80, 7, 4)).toEqual(["ffff037f", "ffff3800", "ffff7fff", "106", "0", "40", "ffff0000"]);
    bench.ram.setUint16(dataBase, 0x37e, true);
    // FLDCW [0], FADDP on an empty stack.
    bench.execute([0xdb, 0xe3, 0xd9, 0x2d, 0, 0, 0, 0, 0xde, 0xc1, 0xd9, 0x35, 0x80, 0, 0, 0]);
    expect(bench.words(0x80, 7, 4)).toEqual(["ffff037e", "ffff80c1", "ffffffff", "108", "6c10000", "0", "ffff0000"]);
  });

  test("protected mode, 16 bits", () => {
    const bench = new Bench({ mode: 16, vendor: "amd" });
    bench.execute(loadAddStore16);
    expect(bench.words(0x80, 7, 2)).toEqual(["37f", "3800", "7fff", "104", "1000", "40", "2000"]);
  });

  test("real mode, 16 bits: linear addresses of 20 bits", () => {
    const bench = new Bench({ mode: "real", vendor: "amd" });
    bench.execute(loadAddStore16);
    expect(bench.words(0x80, 7, 2)).toEqual(["37f", "3800", "7fff", "104", "10c0", "40", "2000"]);
  });

  test("real mode, 32 bits: linear addresses of 32 bits", () => {
    const bench = new Bench({ mode: "real", vendor: "amd" });
    bench.execute([...loadAddStore16.slice(0, 6), 0x66, ...loadAddStore16.slice(6)]);
    expect(bench.words(0x80, 7, 4)).toEqual(["ffff037f", "ffff3800", "ffff7fff", "ffff0104", "10c0", "ffff0040", "2000"]);
  });

  test("FNSAVE and FRSTOR", () => {
    const bench = new Bench({ mode: "real", vendor: "amd" });
    // FLDPI, FLDZ, FLD1, FNSAVE [0x80].
    bench.execute([0xd9, 0xeb, 0xd9, 0xee, 0xd9, 0xe8, 0xdd, 0x36, 0x80, 0x00]);
    expect(bench.words(0x80, 3, 2)).toEqual(["37f", "2800", "13ff"]);
    expect(bench.words(0x80 + 14, 5, 2)).toEqual(["0", "0", "0", "8000", "3fff"]);
    expect(bench.processor.state.get16(state.x87Tag)).toBe(0);
    // FRSTOR [0x80], FSTP ST(0), FSTP ST(0), FSTP tbyte [0].
    bench.execute([0xdd, 0x26, 0x80, 0x00, 0xdd, 0xd8, 0xdd, 0xd8, 0xdb, 0x3e, 0, 0]);
    expect(bench.words(0, 5, 2)).toEqual(["c235", "2168", "daa2", "c90f", "4000"]);
  });
});

/** FLDCW [0x10] with everything unmasked, FADDP on an empty stack, then NOPs. */
const makePending = [0xdb, 0xe3, 0xd9, 0x2e, 0x10, 0x00, 0xde, 0xc1];

describe("exceptions", () => {
  function pendingBench(setting: Partial<Setting> = {}): Bench {
    const bench = new Bench({ mode: "real", ...setting });
    bench.ram.setUint16(dataBase + 0x10, 0x340, true);
    return bench;
  }

  test.each([
    ["FWAIT", [0x9b], 16], ["FLD1", [0xd9, 0xe8], 16], ["EMMS", [0x0f, 0x77], 16], ["FNSTSW AX", [0xdf, 0xe0], undefined],
    ["FNCLEX, FLD1", [0xdb, 0xe2, 0xd9, 0xe8], undefined], ["FNINIT, FLD1", [0xdb, 0xe3, 0xd9, 0xe8], undefined],
  ] as const)("%s after an unmasked exception", (_, code, vector) => {
    expect(pendingBench().execute([...makePending, ...code])).toBe(vector);
  });

  test("FERR# without IGNNE# holds the next instruction", () => {
    let isIgnored = false, count = 0;
    const bench = pendingBench({
      cr0: 0,
      floatingPointError() {
        count++;
        return isIgnored;
      },
    });
    expect(bench.execute([...makePending, 0xd9, 0xe8], 10)).toBeUndefined();
    expect(bench.processor.state.get64(state.rip)).toBe(BigInt(0x100 + makePending.length));
    expect(count).toBeGreaterThan(1);
    isIgnored = true;
    bench.processor.run(10);
    expect(bench.status & 0x3800).toBe(0x3800);
  });

  test("without FERR# pending exceptions are ignored while CR0.NE = 0", () => {
    const bench = pendingBench({ cr0: 0 });
    expect(bench.execute([...makePending, 0xd9, 0xe8])).toBeUndefined();
    expect(bench.status & (0x3800 | invalidOperation)).toBe(0x3800 | invalidOperation);
  });

  test.each([
    ["EM", Cr0Mask.EM, [0xd9, 0xe8], 7], ["TS", Cr0Mask.TS, [0xdf, 0xe0], 7], ["TS, FWAIT", Cr0Mask.TS, [0x9b], undefined],
    ["TS and MP, FWAIT", Cr0Mask.TS | Cr0Mask.MP, [0x9b], 7], ["EM, FWAIT", Cr0Mask.EM, [0x9b], undefined],
  ] as const)("CR0.%s", (_, cr0, code, vector) => {
    const bench = new Bench({ mode: "real" });
    bench.processor.state.set64(state.cr0, BigInt(cr0));
    bench.processor.modeChanged();
    expect(bench.execute(code)).toBe(vector);
  });

  test("a ninth push overflows the stack", () => {
    const bench = new Bench({ mode: "real" });
    bench.execute([0xdb, 0xe3, ...Array.from({ length: 9 }, () => [0xd9, 0xe8]).flat()]);
    expect(bench.status).toBe(0x3a41);
    expect(bench.processor.state.get64(state.x87[7])).toBe(0xc000_0000_0000_0000n);
  });
});
