/** Features of a model after the user's changes such as `+la57,-smap`. */
import { UserError } from "../../base/errors.ts";
import { featureBits, featureRequirements } from "./features.ts";

function knownFeature(name: string): string {
  if (featureBits.has(name)) return name;
  const names = [...featureBits.keys()].toSorted().join(", ");
  throw new UserError("BAD_CONFIG", `CPU feature "${name}" is unknown; use any of: ${names}`);
}

/**
 * Applies `overrides` to the features of a model. Adding a feature adds what it needs; removing one removes what needs
 * it. Throws `UserError` BAD_CONFIG for an unknown name or a missing sign.
 */
export function applyFeatureOverrides(features: readonly string[], overrides: string): ReadonlySet<string> {
  const result = new Set(features);
  for (const item of overrides.split(",").map((part) => part.trim()).filter((part) => part !== "")) {
    const sign = item[0];
    if (sign !== "+" && sign !== "-") {
      throw new UserError("BAD_CONFIG", `CPU feature "${item}" needs a sign: write "+${item}" to add or "-${item}" to remove it`);
    }
    const name = knownFeature(item.slice(1));
    if (sign === "+") addFeature(result, name);
    else removeFeature(result, name);
  }
  return result;
}

function addFeature(features: Set<string>, name: string): void {
  features.add(name);
  for (const needed of featureRequirements[name] ?? []) if (!features.has(needed)) addFeature(features, needed);
}

function removeFeature(features: Set<string>, name: string): void {
  features.delete(name);
  for (const [dependent, needed] of Object.entries(featureRequirements)) {
    if (features.has(dependent) && needed.includes(name)) removeFeature(features, dependent);
  }
}
