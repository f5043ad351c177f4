/** Chooses what executes the guest's instructions, and says why. */
import type { Accelerator } from "../accel/contract.ts";
import { createSoftAccelerator, softAccelerator } from "../accel/soft/index.ts";
import { UserError } from "../base/errors.ts";
import { jitSettingsNamed } from "../engine/jit/settings.ts";
import { kvmAvailability } from "../host/node/kvm/availability.ts";
import { createCpuModel, defaultCpuModelName } from "../isa/models/index.ts";
import type { AcceleratorChoice, VmOptions } from "./options.ts";

export interface ChosenAccelerator {
  readonly name: "soft" | "kvm";
  /** For people: why this one. */
  readonly reason: string;
}

interface Choice {
  readonly accelerator: Accelerator;
  readonly chosen: ChosenAccelerator;
}

/** What has a say in the choice. */
export type AcceleratorWishes = Pick<VmOptions, "accel" | "cpu" | "deterministic" | "jit">;

const choices: readonly AcceleratorChoice[] = ["auto", "soft", "kvm"];

function soft({ jit }: AcceleratorWishes, reason: string): Choice {
  const accelerator = jit === undefined ? softAccelerator : createSoftAccelerator({ jit: jitSettingsNamed(jit) });
  return { accelerator, chosen: { name: "soft", reason } };
}

interface Obstacle {
  readonly problem: string;
  readonly remedy: string;
}

/** Why this host cannot run machines under KVM; undefined when it can. */
function findHostObstacle(): Obstacle | undefined {
  const { accelerator, problem = "", remedy = "" } = kvmAvailability();
  return accelerator === undefined ? { problem, remedy } : undefined;
}

/** Features of the CPU model that this host's KVM cannot give guests. */
function featuresBeyond(accelerator: Accelerator, cpu: string): readonly string[] {
  return accelerator.missingFeatures(createCpuModel(cpu, { tscFrequencyHz: accelerator.timeStampFrequencyHz(1e9), apicId: 0, processors: 1 }));
}

function cpuWithout(cpu: string, features: readonly string[]): string {
  return [cpu, ...features.map((name) => `-${name}`)].join(",");
}

/** The CPU model of a machine: where nobody named one, the default without what the host's KVM has not got, if KVM runs it. */
export function chosenCpu(wishes: AcceleratorWishes): string {
  if (wishes.cpu !== undefined) return wishes.cpu;
  const { accelerator, chosen } = chooseAccelerator(wishes);
  return chosen.name === "kvm" ? cpuWithout(defaultCpuModelName, featuresBeyond(accelerator, defaultCpuModelName)) : defaultCpuModelName;
}

/** Why this machine cannot run under KVM; undefined when it can. */
function findObstacle({ cpu, deterministic = false }: AcceleratorWishes): Obstacle | undefined {
  if (deterministic) return { problem: "deterministic machines count instructions, which KVM does not", remedy: "take away --deterministic" };
  const { accelerator } = kvmAvailability();
  if (accelerator === undefined) return findHostObstacle();
  if (cpu === undefined) return undefined;
  const missing = featuresBeyond(accelerator, cpu);
  if (missing.length === 0) return undefined;
  return { problem: `this host's KVM cannot give guests ${missing.join(", ")}, which the CPU model has`, remedy: `take them away: --cpu ${cpuWithout(cpu, missing)}` };
}

function unavailable({ problem, remedy }: Obstacle): UserError {
  return new UserError("ACCELERATOR_UNAVAILABLE", `The kvm accelerator cannot be used, because ${problem}: ${remedy}, or use --accel soft.`);
}

function checkName(choice: AcceleratorChoice): void {
  if (!choices.includes(choice)) throw new UserError("BAD_ARGUMENT", `There is no accelerator "${String(choice)}": use auto, soft or kvm.`);
}

/**
 * Refuses what no machine could have on this host, for callers who do not know the machine yet.
 * @throws UserError ACCELERATOR_UNAVAILABLE, BAD_ARGUMENT.
 */
export function checkAcceleratorChoice(choice: AcceleratorChoice = "auto"): void {
  checkName(choice);
  const obstacle = choice === "kvm" ? findHostObstacle() : undefined;
  if (obstacle !== undefined) throw unavailable(obstacle);
}

/** @throws UserError ACCELERATOR_UNAVAILABLE, BAD_ARGUMENT, BAD_CONFIG. */
export function chooseAccelerator(wishes: AcceleratorWishes): Choice {
  const choice = wishes.accel ?? "auto";
  checkName(choice);
  if (choice === "soft") return soft(wishes, "asked for");
  const obstacle = findObstacle(wishes);
  const { accelerator, probe } = obstacle === undefined ? kvmAvailability() : {};
  if (accelerator !== undefined) {
    const figure = `${probe?.loopInstructions ?? 0} instructions in ${(probe?.loopMs ?? 0).toFixed(2)} ms`;
    return { accelerator, chosen: { name: "kvm", reason: choice === "kvm" ? "asked for" : `the host's virtualization works: ${figure}` } };
  }
  if (choice === "kvm" && obstacle !== undefined) throw unavailable(obstacle);
  return soft(wishes, obstacle?.problem ?? "");
}
