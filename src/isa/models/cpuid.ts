/** CPUID leaves of a model (SDM volume 2, "CPUID"; AMD APM volume 3, appendix E). Bits that follow CR4 are the processor's. */
import { pkruSizeBytes, pkruStandardOffset, standardAreaMaximumBytes } from "../system/extended-state.ts";
import { featureBits } from "./features.ts";
import { brandString, vendorStrings, type CpuPreset } from "./presets.ts";

export interface CpuidResult {
  readonly eax: number;
  readonly ebx: number;
  readonly ecx: number;
  readonly edx: number;
}

/** What the leaves are made of. */
export interface CpuidFacts {
  readonly preset: CpuPreset;
  readonly features: ReadonlySet<string>;
  readonly tscFrequencyHz: number;
  readonly apicTimerFrequencyHz: number;
  readonly apicId: number;
  readonly processors: number;
}

const none: CpuidResult = { eax: 0, ebx: 0, ecx: 0, edx: 0 };
const maximumBasicLeaf = 0x16;
const hypervisorLeaf = 0x4000_0000;
const maximumHypervisorLeaf = 0x4000_0010;
const maximumExtendedLeaf = { intel: 0x8000_0008, amd: 0x8000_0021, via: 0x8000_0008 } as const;
const hypervisorSignature = "RingmasterRM";
/** Guests look for other interfaces every 0x100 leaves. */
const kvmLeaf = 0x4000_0100, kvmFeatureLeaf = 0x4000_0101;
const kvmSignature = "KVMKVMKVM\0\0\0";
const cacheLineBytes = 64;
const svmRevision = 1;
const addressSpaceIdentifiers = 0x8000;
const lastFeatureSubleaf = 2;

/** Four characters as a register holds them. */
function word(text: string, index: number): number {
  let value = 0;
  for (let byte = 3; byte >= 0; byte--) value = (value << 8) | (text.charCodeAt(index * 4 + byte) || 0);
  return value >>> 0;
}

function signature({ family, model, stepping }: CpuPreset): number {
  const baseFamily = Math.min(family, 15);
  return ((family - baseFamily) << 20) | ((model >> 4) << 16) | (baseFamily << 8) | ((model & 15) << 4) | stepping;
}

/** Feature bits of one register. */
function bitsOf(facts: CpuidFacts, leaf: number, subleaf: number, register: keyof CpuidResult): number {
  let bits = 0;
  for (const name of facts.features) {
    const place = featureBits.get(name);
    if (place?.leaf === leaf && place.subleaf === subleaf && place.register === register) bits |= 1 << place.bit;
  }
  return bits >>> 0;
}

function featureLeaf(facts: CpuidFacts, leaf: number, subleaf: number): CpuidResult {
  return {
    eax: bitsOf(facts, leaf, subleaf, "eax"), ebx: bitsOf(facts, leaf, subleaf, "ebx"),
    ecx: bitsOf(facts, leaf, subleaf, "ecx"), edx: bitsOf(facts, leaf, subleaf, "edx"),
  };
}

function log2Ceil(value: number): number {
  return value <= 1 ? 0 : 32 - Math.clz32(value - 1);
}

function greatestCommonDivisor(a: number, b: number): number {
  return b === 0 ? a : greatestCommonDivisor(b, a % b);
}

/** One cache of leaf 4 (or AMD's 8000_001D): type 1 data, 2 instruction, 3 unified. */
function cacheLeaf(facts: CpuidFacts, type: number, level: number, ways: number, sets: number, isShared: boolean): CpuidResult {
  const sharing = isShared ? (1 << log2Ceil(facts.processors)) - 1 : 0;
  const cores = Math.min((1 << log2Ceil(facts.processors)) - 1, 63);
  const selfInitializingMask = 1 << 8;
  return {
    eax: (type | (level << 5) | selfInitializingMask | (Math.min(sharing, 0xfff) << 14) | (cores << 26)) >>> 0,
    ebx: ((cacheLineBytes - 1) | ((ways - 1) << 22)) >>> 0, ecx: sets - 1, edx: 0,
  };
}

function cacheParameters(facts: CpuidFacts, subleaf: number): CpuidResult {
  switch (subleaf) {
    case 0:
      return cacheLeaf(facts, 1, 1, 8, 64, false);
    case 1:
      return cacheLeaf(facts, 2, 1, 8, 64, false);
    case 2:
      return cacheLeaf(facts, 3, 2, 8, 512, false);
    case 3:
      return cacheLeaf(facts, 3, 3, 16, 8192, true);
    default:
      return none;
  }
}

function identification(facts: CpuidFacts): CpuidResult {
  const lineInQuadwords = cacheLineBytes / 8;
  const hyperThreadingMask = facts.processors > 1 ? 1 << 28 : 0;
  return {
    eax: signature(facts.preset),
    ebx: ((lineInQuadwords << 8) | (Math.min(facts.processors, 255) << 16) | (facts.apicId << 24)) >>> 0,
    ecx: bitsOf(facts, 1, 0, "ecx"), edx: (bitsOf(facts, 1, 0, "edx") | hyperThreadingMask) >>> 0,
  };
}

/** Leaf 0xB: one thread per core, all cores in one package. */
function topology({ processors, apicId }: CpuidFacts, subleaf: number): CpuidResult {
  const smtType = 1, coreType = 2;
  if (subleaf === 0) return { eax: 0, ebx: 1, ecx: smtType << 8, edx: apicId };
  if (subleaf === 1) return { eax: log2Ceil(processors), ebx: processors, ecx: 1 | (coreType << 8), edx: apicId };
  return { eax: 0, ebx: 0, ecx: subleaf & 0xff, edx: apicId };
}

function extendedStateLeaf(facts: CpuidFacts, subleaf: number): CpuidResult {
  if (!facts.features.has("xsave")) return none;
  const hasKeys = facts.features.has("pku");
  const legacyAreaBytes = 576;
  const pkruComponent = 9;
  if (subleaf === 0) {
    return { eax: 3 | (hasKeys ? 1 << pkruComponent : 0), ebx: legacyAreaBytes, ecx: hasKeys ? standardAreaMaximumBytes : legacyAreaBytes, edx: 0 };
  }
  if (subleaf === 1) return { ...none, eax: bitsOf(facts, 0xd, 1, "eax") };
  return subleaf === pkruComponent && hasKeys ? { eax: pkruSizeBytes, ebx: pkruStandardOffset, ecx: 0, edx: 0 } : none;
}

/** The fraction nearest to `ratio` whose denominator is at most `maximum`, by continued fractions. */
function nearestFraction(ratio: number, maximum: number): { readonly numerator: number; readonly denominator: number } {
  let previous = { numerator: 1, denominator: 0 }, current = { numerator: Math.floor(ratio), denominator: 1 };
  for (let rest = ratio - Math.floor(ratio); rest > 1e-12;) {
    const inverse = 1 / rest, whole = Math.floor(inverse);
    const next = {
      numerator: whole * current.numerator + previous.numerator, denominator: whole * current.denominator + previous.denominator,
    };
    if (next.denominator > maximum) break;
    previous = current;
    current = next;
    rest = inverse - whole;
  }
  return current;
}

/**
 * Leaf 0x15: TSC frequency as a fraction of the crystal that the APIC timer counts too. Operating systems multiply the
 * numerator by kHz in 32 bits: where the exact one would overflow, the nearest that does not is given, which is a few
 * millionths off.
 */
function timeStampFrequency({ tscFrequencyHz, apicTimerFrequencyHz }: CpuidFacts): CpuidResult {
  const divisor = greatestCommonDivisor(tscFrequencyHz, apicTimerFrequencyHz);
  const isExact = (tscFrequencyHz / divisor) * (apicTimerFrequencyHz / 1000) <= 0xffff_ffff;
  const ratio = tscFrequencyHz / apicTimerFrequencyHz;
  const { numerator, denominator } = isExact
    ? { numerator: tscFrequencyHz / divisor, denominator: apicTimerFrequencyHz / divisor }
    : nearestFraction(ratio, Math.floor(0xffff_ffff / (tscFrequencyHz / 1000)));
  return { eax: denominator, ebx: numerator, ecx: apicTimerFrequencyHz, edx: 0 };
}

function processorFrequency({ tscFrequencyHz }: CpuidFacts): CpuidResult {
  const megahertz = Math.round(tscFrequencyHz / 1e6) & 0xffff;
  return { eax: megahertz, ebx: megahertz, ecx: 100, edx: 0 };
}

function basicLeaf(facts: CpuidFacts, leaf: number, subleaf: number): CpuidResult {
  const { vendor } = facts.preset;
  switch (leaf) {
    case 0: {
      const text = vendorStrings[vendor];
      return { eax: maximumBasicLeaf, ebx: word(text, 0), edx: word(text, 1), ecx: word(text, 2) };
    }
    case 1:
      return identification(facts);
    case 2:
      // Descriptor FF: leaf 4 describes the caches.
      return vendor === "amd" ? none : { eax: 0xff01, ebx: 0, ecx: 0, edx: 0 };
    case 4:
      return vendor === "amd" ? none : cacheParameters(facts, subleaf);
    case 5:
      return facts.features.has("monitor") ? { eax: cacheLineBytes, ebx: cacheLineBytes, ecx: 3, edx: 0 } : none;
    case 6:
      return featureLeaf(facts, leaf, 0);
    case 7:
      if (subleaf === 0) return { ...featureLeaf(facts, leaf, 0), eax: lastFeatureSubleaf };
      return subleaf <= lastFeatureSubleaf ? featureLeaf(facts, leaf, subleaf) : none;
    case 0xb:
      return topology(facts, subleaf);
    case 0xd:
      return extendedStateLeaf(facts, subleaf);
    case 0x15:
      return timeStampFrequency(facts);
    case 0x16:
      return processorFrequency(facts);
    default:
      return none;
  }
}

function hypervisorLeaves(facts: CpuidFacts, leaf: number): CpuidResult {
  if (leaf === hypervisorLeaf) {
    return {
      eax: maximumHypervisorLeaf, ebx: word(hypervisorSignature, 0), ecx: word(hypervisorSignature, 1),
      edx: word(hypervisorSignature, 2),
    };
  }
  if (facts.features.has("kvmclock") && leaf === kvmLeaf) {
    return { eax: kvmFeatureLeaf, ebx: word(kvmSignature, 0), ecx: word(kvmSignature, 1), edx: word(kvmSignature, 2) };
  }
  if (leaf === kvmFeatureLeaf) return { ...none, eax: bitsOf(facts, leaf, 0, "eax") };
  if (leaf !== maximumHypervisorLeaf) return none;
  return { ...none, eax: Math.round(facts.tscFrequencyHz / 1000), ebx: Math.round(facts.apicTimerFrequencyHz / 1000) };
}

/** Bits of leaf 1 EDX that AMD's processors repeat in leaf 8000_0001 EDX. */
const repeatedFeatures = 0x0183_f3ff;

function extendedLeaf(facts: CpuidFacts, leaf: number, subleaf: number): CpuidResult {
  const isAmd = facts.preset.vendor === "amd";
  const brand = brandString.padEnd(48, "\0");
  const brandLeaf = leaf - 0x8000_0002;
  switch (leaf) {
    case 0x8000_0000: {
      const text = isAmd ? vendorStrings.amd : "\0".repeat(12);
      return { eax: maximumExtendedLeaf[facts.preset.vendor], ebx: word(text, 0), edx: word(text, 1), ecx: word(text, 2) };
    }
    case 0x8000_0001: {
      const repeated = isAmd ? bitsOf(facts, 1, 0, "edx") & repeatedFeatures : 0;
      const legacyCoresMask = isAmd && facts.processors > 1 ? 1 << 1 : 0;
      return {
        eax: isAmd ? signature(facts.preset) : 0, ebx: 0, ecx: bitsOf(facts, leaf, 0, "ecx") | legacyCoresMask,
        edx: (bitsOf(facts, leaf, 0, "edx") | repeated) >>> 0,
      };
    }
    case 0x8000_0002:
    case 0x8000_0003:
    case 0x8000_0004:
      return {
        eax: word(brand, brandLeaf * 4), ebx: word(brand, brandLeaf * 4 + 1), ecx: word(brand, brandLeaf * 4 + 2),
        edx: word(brand, brandLeaf * 4 + 3),
      };
    case 0x8000_0005:
      // 32 KiB each, 8-way, one line per tag.
      return isAmd ? { eax: 0, ebx: 0, ecx: 0x2008_0140, edx: 0x2008_0140 } : none;
    case 0x8000_0006:
      // 256 KiB, 8-way; AMD's models add 8 MiB of third level, 16-way, in EDX.
      return { eax: 0, ebx: 0, ecx: 0x0100_6140, edx: isAmd ? 0x0040_8140 : 0 };
    case 0x8000_0007:
      return featureLeaf(facts, leaf, 0);
    case 0x8000_0008: {
      const linearBits = facts.features.has("la57") ? 57 : 48;
      const coreIdBits = log2Ceil(facts.processors) << 12;
      return { eax: facts.preset.physicalAddressBits | (linearBits << 8), ebx: 0, ecx: isAmd ? (facts.processors - 1) | coreIdBits : 0, edx: 0 };
    }
    case 0x8000_000a:
      return facts.features.has("svm")
        ? { eax: svmRevision, ebx: addressSpaceIdentifiers, ecx: 0, edx: bitsOf(facts, leaf, 0, "edx") } : none;
    case 0x8000_001d:
      return isAmd ? cacheParameters(facts, subleaf) : none;
    case 0x8000_0021:
      return isAmd ? featureLeaf(facts, leaf, 0) : none;
    default:
      return none;
  }
}

/**
 * What CPUID answers. Beyond the model's leaves, Intel's processors repeat the highest basic one (SDM volume 2, "CPUID"),
 * AMD's read as zeros.
 */
export function cpuidLeaf(facts: CpuidFacts, leaf: number, subleaf: number): CpuidResult {
  const { vendor } = facts.preset;
  if (leaf <= maximumBasicLeaf) return basicLeaf(facts, leaf, subleaf);
  if (leaf >= hypervisorLeaf && leaf <= kvmFeatureLeaf && facts.features.has("hypervisor")) return hypervisorLeaves(facts, leaf);
  if (leaf >= 0x8000_0000 && leaf <= maximumExtendedLeaf[vendor]) return extendedLeaf(facts, leaf, subleaf);
  return vendor === "amd" ? none : basicLeaf(facts, maximumBasicLeaf, subleaf);
}
