/** Translation and cache control, fences, prefetches and hints: SDM volume 1, "System Instructions" and "Cacheability Control". */
import {
  instruction, linearAddress, load, Vector, type InstructionDefinition,
} from "../definition.ts";
import { routine } from "../processor.ts";
import * as state from "../state.ts";
import { invalidatePage, invalidateProcessContext, prepareProcessContextInvalidation } from "../system/control-registers.ts";
import { InterceptionMask, interceptionStatus } from "../virtualization.ts";
import { askInterceptor } from "./privilege.ts";

const invalidatePageRoutine = routine("invlpg", (p) => invalidatePage(p, p.state.argument32(0), p.state.getHigh32(state.scratch[0])));

const invlpg = instruction({
  name: "invlpg", encodings: ["0F 01 /7 M"], endsBlock: true,
  execute({ cpu, dst }) {
    cpu.call(invalidatePageRoutine, [linearAddress("operand", dst.offset())]);
  },
});

const invalidateContextRoutine = routine("invpcid", (p) =>
  invalidateProcessContext(p, p.state.argument64(0), p.state.argument64(1), p.state.argument64(2)));

const prepareContextRoutine = routine("prepare invpcid", prepareProcessContextInvalidation);

const invpcid = instruction({
  name: "invpcid", feature: "invpcid", encodings: ["66 0F 38 82 /r i64 Gd,Mdq", "66 0F 38 82 /r o64 Gq,Mdq"],
  endsBlock: true,
  execute({ cpu, dst, src }) {
    cpu.call(prepareContextRoutine);
    const at = src.offset();
    cpu.call(invalidateContextRoutine, [dst.read().zext(64), load(64, "operand", at), load(64, "operand", at.add(8))]);
  },
});

/** There are no caches to write back. */
function cacheControl(name: "invd" | "wbinvd", encoding: string): InstructionDefinition {
  const run = routine(name, (p) =>
    p.state.get32(state.cpl) === 0 ? interceptionStatus(p, name) : p.raise(Vector.GP, 0));
  return instruction({
    name, encodings: [encoding],
    execute({ cpu }) {
      cpu.call(run);
    },
  });
}

/** CLFLUSH and its kin fault as a load of one byte does, and do nothing else. */
const lineFlushes = [
  ["clflush", "clflush", "NP 0F AE /7 Mb"], ["clflushopt", "clflushopt", "66 0F AE /7 Mb"], ["clwb", "clwb", "66 0F AE /6 Mb"],
].map(([name, feature, encoding]) => instruction({
  name, feature, encodings: [encoding],
  execute({ dst }) {
    load(8, "operand", dst.offset());
  },
}));

/** Memory is accessed in program order, so that fences have nothing to wait for. */
function withoutEffect(name: string, encodings: readonly string[], feature?: string): InstructionDefinition {
  return instruction({ name, encodings, ...(feature === undefined ? {} : { feature }), execute() {} });
}

const fences = [
  withoutEffect("lfence", ["NP 0F AE /5 mod3"], "sse2"), withoutEffect("mfence", ["NP 0F AE /6 mod3"], "sse2"),
  withoutEffect("sfence", ["NP 0F AE /7 mod3"], "sse"),
];

const prefetches = [
  withoutEffect("prefetchnta", ["0F 18 /0 Mb"]), withoutEffect("prefetcht0", ["0F 18 /1 Mb"]),
  withoutEffect("prefetcht1", ["0F 18 /2 Mb"]), withoutEffect("prefetcht2", ["0F 18 /3 Mb"]),
  withoutEffect("prefetch", ["0F 0D /0 Mb"]), withoutEffect("prefetchw", ["0F 0D /1 Mb"]),
];

/** Opcodes set aside for hints: executed as NOP where a processor does not know them. */
const hintNops = [
  withoutEffect("nop", [
    "0F 1F /r Ev", "0F 19 /r Ev", "0F 1A /r Ev", "0F 1B /r Ev", "0F 1C /r Ev", "0F 1D /r Ev", "0F 1E /r Ev",
    ...[0, 1, 2, 3].map((digit) => `0F 18 /${digit} Rv`), ...[4, 5, 6, 7].map((digit) => `0F 18 /${digit} Ev`),
    ...[2, 3, 4, 5, 6, 7].map((digit) => `0F 0D /${digit} Mv`),
  ]),
  instruction({
    name: "nop", encodings: ["0F 0D /r Rv"], notDifferential: "a hint on Intel's processors, #UD on AMD's", execute() {},
  }),
];

const serialize = instruction({
  name: "serialize", feature: "serialize", encodings: ["NP 0F 01 E8"], endsBlock: true, execute() {},
});

const pauseRoutine = routine("pause", (p) => interceptionStatus(p, "pause"));

const pause = instruction({
  name: "pause", encodings: ["F3 90"],
  execute({ cpu }) {
    askInterceptor(cpu, InterceptionMask.pause, pauseRoutine);
  },
});

export const memoryHints: readonly InstructionDefinition[] = [
  invlpg, invpcid, cacheControl("invd", "0F 08"), cacheControl("wbinvd", "NFx 0F 09"), ...lineFlushes, ...fences, ...prefetches, ...hintNops, serialize, pause,
];
