/** The inventory of the instruction set: its levels and extensions, and what of the rest breaks emulators. */
import { leftOut, offered, type Evidence, type Inventory, type InventoryRow } from "./inventory.ts";

const levels = "levels", extensions = "extensions", pitfalls = "what breaks emulators";
const differential = "tests/differential/coverage.json", softX87 = "src/softfloat/x87.test.ts", softSimd = "src/softfloat/simd.test.ts";

function extension(name: string, ...evidence: readonly Evidence[]): InventoryRow {
  return offered(extensions, "", name, ...(evidence.length === 0 ? [`forms ${name}` as const] : evidence));
}

export const isaInventory: Inventory = {
  title: "Instruction set", guestPrefix: "",
  rows: [
    offered(levels, "", "x86-64-v1: x87, MMX, SSE, SSE2", "forms v1"),
    offered(levels, "", "x86-64-v2: SSE3 to SSE4.2, POPCNT, CMPXCHG16B", "forms v2"),
    leftOut(levels, "", "x86-64-v3: AVX, AVX2, FMA, BMI", "registers have 128 bits; what needs v3 does not run, the guests of the catalog need v1"),
    leftOut(levels, "", "x86-64-v4: AVX-512", "as v3; no operating system needs it"),
    extension("AES"), extension("PCLMULQDQ"), extension("SHA"), extension("RDRAND"), extension("RDSEED"), extension("XSAVE"), extension("XSAVEC"),
    extension("XSAVEOPT"), extension("FSGSBASE"), extension("SMAP"), extension("PKU"), extension("INVPCID"), extension("RDTSCP"), extension("MOVBE"),
    extension("CLFLUSH"), extension("CLFLUSHOPT"),
    extension("XSAVES", "admitted xsaves64"),
    extension("SERIALIZE", "covers CPUID serialize"), extension("RDPID", "covers CPUID rdpid"), extension("MONITOR", "admitted monitor", "admitted mwait"),
    extension("SVM", "instruction vmrun", "instruction vmload", "instruction vmsave", "instruction stgi", "instruction clgi", "instruction invlpga", "instruction vmmcall"),
    extension("CLWB", `test ${differential}: 64 clwb`), extension("PREFETCHW", `test ${differential}: 64 prefetchw`),
    leftOut(extensions, "", "ADX", "not in the models: a part of v4's processors"),
    leftOut(extensions, "", "CET", "no shadow stacks and no tracking of indirect branches: no guest of the catalog switches them on"),
    leftOut(extensions, "", "GFNI", "as v3"),
    leftOut(extensions, "", "WAITPKG", "waits of user programs: HLT and MWAIT exist"),
    offered(pitfalls, "", "80 bits of x87: pseudo-denormals, FBSTP, FPREM, FYL2X", `test ${softX87}: takes pseudo-denormals at their value`,
      `test ${softX87}: round-trips integers and packed BCD`, `test ${softX87}: needs several steps for distant exponents`, `test ${differential}: 64 fbstp`,
      `test ${differential}: 64 fprem`, `test ${differential}: 64 fyl2x`),
    offered(pitfalls, "", "MXCSR's flags with DAZ, FTZ and signalling NaNs", `test ${softSimd}: flushes tiny results and denormal operands when asked`,
      `test ${softSimd}: prefers the first NaN and quiets it`, `test ${differential}: 64 addps`),
    leftOut(pitfalls, "", "rounding of FMA", "there is no FMA"),
    offered(pitfalls, "", "REP with faults in between", "test src/engine/string-runs.test.ts: interrupts come between two elements, in the middle of a page",
      "covers repeated string instructions"),
    offered(pitfalls, "", "accesses across pages", "covers accesses across pages", "test src/engine/mmu.test.ts: a fault on the second page names it"),
    offered(pitfalls, "", "accessed, dirty and reserved bits", "covers accessed and dirty bits", "covers reserved bits"),
    offered(pitfalls, "", "code that rewrites itself, and what others rewrite", "covers self-modifying code", "test tests/jit/self-rewriting.test.ts: four times as many rounds keep no more"),
    offered(pitfalls, "", "limits of segments in 16- and 32-bit code", "covers limits of segments"),
    offered(pitfalls, "", "real mode, and with large limits", "covers real mode", "covers unreal mode"),
    offered(pitfalls, "", "virtual-8086 mode", "covers CPUID vme"),
    offered(pitfalls, "", "task switches", "covers task switches"),
    offered(pitfalls, "", "shadows of STI and loads of SS, TF, debug registers", "covers interrupt shadows", "covers single step"),
    offered(pitfalls, "", "blocking of NMIs", "covers blocking of NMIs"),
    offered(pitfalls, "", "SYSRET to a non-canonical address", "test src/isa/system/privileged-state.test.ts: SYSRET to a non-canonical address is #GP at level 0"),
    leftOut(pitfalls, "", "SMM and RSM", "there is no system-management mode: firmware finds it set up"),
    offered(pitfalls, "", "INIT and start-up IPIs", "test src/devices/irq/local-apic/local-apic.test.ts: INIT, SIPI and NMI start and stop other processors", "exit 3", "exit 4"),
    offered(pitfalls, "", "SMAP's implicit accesses", "test src/engine/mmu.test.ts: SMAP lifted by AC is not lifted for the second page of the processor's own accesses", "covers CPUID smap"),
    offered(pitfalls, "", "protection keys", "covers CPUID pku"),
    offered(pitfalls, "", "five levels of paging", "test src/engine/mmu.test.ts: with five levels bit 56 decides"),
    offered(pitfalls, "", "process contexts", "covers CPUID pcid", "test src/engine/mmu.test.ts: process contexts keep theirs when told so, and only then"),
    offered(pitfalls, "", "UMIP", "covers CPUID umip"),
    offered(pitfalls, "", "decoding, against tables of others", "test tests/decoder-iced.test.ts: the test's own encodings"),
  ],
};
