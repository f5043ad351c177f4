/** Our decoder against iced-x86, on every opcode and ModRM byte and on random prefixes and tails. */
import { describe, expect, test } from "vitest";
import { Decoder } from "../src/isa/decode.ts";
import type { EncodedInstruction } from "../src/isa/decode-table.ts";
import type { Size } from "../src/isa/operand.ts";
import { compareDecoders, randomSample, sampleBytes, seededBytes } from "./decoder-comparison.ts";
import type { Difference } from "./decoder-comparison.ts";
import { encodingFixtures } from "./encoding-fixtures.ts";

const seed = Number(process.env["RINGMASTER_SEED"] ?? 1);
const randomSampleCount = Number(process.env["RINGMASTER_SAMPLES"] ?? 60_000);

/** Differences that are right, each with its reason. */
const justified: readonly { readonly reason: string; readonly applies: (difference: Difference) => boolean }[] = [
  {
    reason: "another name for the same instruction",
    applies: ({ key, ourMnemonic, theirMnemonic }) => key.startsWith("mnemonic") && aliases.get(theirMnemonic) === ourMnemonic,
  },
  {
    reason: "iced knows instructions that our processor does not have; there the bytes are a hint NOP or an ignored prefix",
    applies: ({ ourMnemonic, theirMnemonic }) => extensionsOverOlder.get(theirMnemonic) === ourMnemonic,
  },
  {
    reason: "MOV to CS is #UD in the semantics",
    applies: ({ ourEncoding, theirMnemonic }) => ourEncoding.startsWith("8E /r") && theirMnemonic === "",
  },
  {
    reason: "LOCK MOV CR0 is MOV CR8 on AMD; iced wants an option for it",
    applies: ({ ourEncoding, theirMnemonic }) => /^0F 2[02]/.test(ourEncoding) && theirMnemonic === "",
  },
  {
    reason: "AMD's UD0 takes no ModRM byte; #UD either way",
    applies: ({ key, ourMnemonic }) => key.startsWith("length") && ourMnemonic === "ud0",
  },
  {
    reason: "operands that iced lists and we imply, or whose register iced names wider than what is read",
    applies: ({ key, ourMnemonic }) => key.startsWith("operands") && operandConventions.has(ourMnemonic),
  },
];

const aliases: ReadonlyMap<string, string> = new Map([
  ["reservednop", "nop"], ["sysretq", "sysret"], ["sysexitq", "sysexit"], ["pcmpestri64", "pcmpestri"],
  ["pcmpestrm64", "pcmpestrm"],
]);

const extensionsOverOlder: ReadonlyMap<string, string> = new Map([
  ["wbnoinvd", "wbinvd"], ["cldemote", "nop"], ["prefetchit0", "nop"], ["prefetchit1", "nop"], ["rdsspd", "nop"],
  ["rdsspq", "nop"], ["prefetchwt1", "prefetch"], ["vmgexit", "vmmcall"],
]);

const operandConventions: ReadonlySet<string> = new Set([
  "xlatb", "arpl", "maskmovq", "maskmovdqu", "verr", "verw", "lldt", "ltr", "lmsw", "rdpid", "nop",
]);

function samples(): Uint8Array {
  const systematic: number[] = [];
  const leads = [[], [0x0f], [0x66, 0x0f], [0xf3, 0x0f], [0xf2, 0x0f], [0x66, 0x0f, 0x38], [0x0f, 0x38], [0x66, 0x0f, 0x3a]];
  const random = seededBytes(seed);
  for (const lead of leads) {
    for (let opcode = 0; opcode < 256; opcode++) {
      for (let modrm = 0; modrm < 256; modrm += 1) {
        const tail = Array.from({ length: sampleBytes - lead.length - 2 }, random);
        systematic.push(...lead, opcode, modrm, ...tail);
      }
    }
  }
  const bytes = new Uint8Array(systematic.length + randomSampleCount * sampleBytes);
  bytes.set(systematic);
  for (let start = systematic.length; start < bytes.length; start += sampleBytes) randomSample(bytes, start, random);
  return bytes;
}

function mnemonicsOf(instructions: readonly EncodedInstruction[]): ReadonlySet<string> {
  return new Set(instructions.flatMap(({ name, names }) => [name, ...Object.values(names ?? {})]));
}

describe.each([["the test's own encodings", encodingFixtures]] as const)("%s", (_, instructions) => {
  const mnemonics = mnemonicsOf(instructions);
  const bytes = samples();

  test.each<[Size, "intel" | "amd"]>([
    [16, "intel"], [32, "intel"], [64, "intel"], [32, "amd"], [64, "amd"],
  ])("%i-bit mode of %s decodes as iced does", (mode, vendor) => {
    const decoder = new Decoder<EncodedInstruction>(instructions, { hasFeature: () => true, vendor });
    const differences = new Map<string, string>();
    const agreed = compareDecoders(decoder, bytes, mode, vendor, (difference) => {
      const isMissing = difference.ourMnemonic === "" && !mnemonics.has(difference.theirMnemonic);
      if (isMissing || justified.some(({ applies }) => applies(difference))) return;
      differences.set(difference.key, difference.example);
    });
    expect(Object.fromEntries(differences), `seed ${seed}`).toEqual({});
    expect(agreed).toBeGreaterThan(100_000);
  });
});
