/** CPU models: CPUID and model-specific registers as a property of the machine, not of the host. */
import { UserError } from "../../base/errors.ts";
import type { CpuModel, VirtualizationSetting } from "../processor.ts";
import { cpuidLeaf, type CpuidFacts, type CpuidResult } from "./cpuid.ts";
import { applyFeatureOverrides } from "./feature-set.ts";
import { featureBits } from "./features.ts";
import { storageRegisters } from "./model-specific-registers.ts";
import { defaultCpuModelName, presets } from "./presets.ts";

export { defaultCpuModelName };

export const cpuModelNames: readonly string[] = presets.map((preset) => preset.name);
export const cpuFeatureNames: readonly string[] = [...featureBits.keys()];

const virtualizationSettings: readonly VirtualizationSetting[] = ["on", "locked-off", "unlocked"];

export interface CpuModelOptions {
  /** A multiple of 1 MHz lets CPUID leaf 0x15 tell it exactly. */
  readonly tscFrequencyHz: number;
  readonly apicId: number;
  /** Processors of the machine, at most 255. */
  readonly processors: number;
  /** Changes such as `"+la57,-smap"`. */
  readonly features?: string;
  /** Default 1 GHz, the local APIC's timer. */
  readonly apicTimerFrequencyHz?: number;
}

const defaultApicTimerFrequencyHz = 1_000_000_000;

/** The last of the settings `virtualization=…`; "on" where there is none. */
function virtualizationSetting(settings: readonly string[]): VirtualizationSetting {
  let result: VirtualizationSetting = "on";
  for (const setting of settings) {
    const [name, value] = setting.split("=");
    const known = virtualizationSettings.find((candidate) => candidate === value);
    if (name !== "virtualization" || known === undefined) {
      throw new UserError("BAD_CONFIG", `CPU setting "${setting}" is unknown; there is virtualization=${virtualizationSettings.join("|")}`);
    }
    result = known;
  }
  return result;
}

/**
 * Builds a model by name, to which changes of features may be appended, and how firmware leaves virtualization: `max`,
 * `amd-v2,+la57`, `epyc,virtualization=locked-off`. Throws `UserError` BAD_CONFIG for an unknown model, feature or setting.
 */
export function createCpuModel(description: string, options: CpuModelOptions): CpuModel {
  const [name, ...changes] = description.split(",");
  const preset = presets.find((candidate) => candidate.name === name);
  if (preset === undefined) {
    throw new UserError("BAD_CONFIG", `CPU model "${name}" is unknown; use one of: ${cpuModelNames.join(", ")}`);
  }
  const settings = changes.filter((change) => change.includes("="));
  const virtualization = virtualizationSetting(settings);
  const features = applyFeatureOverrides(
    preset.features, [...changes.filter((change) => !change.includes("=")), options.features ?? ""].join(","));
  const facts: CpuidFacts = {
    preset, features, tscFrequencyHz: options.tscFrequencyHz, apicId: options.apicId, processors: options.processors,
    apicTimerFrequencyHz: options.apicTimerFrequencyHz ?? defaultApicTimerFrequencyHz,
  };
  const registers = storageRegisters(preset, features);
  return {
    name: preset.name,
    vendor: preset.vendor,
    physicalAddressBits: preset.physicalAddressBits,
    linearAddressBits: features.has("la57") ? 57 : 48,
    virtualization,
    hasFeature: (feature) => features.has(feature),
    cpuid: (leaf, subleaf): CpuidResult => cpuidLeaf(facts, leaf >>> 0, subleaf >>> 0),
    msr: (index) => registers.get(index >>> 0),
  };
}
