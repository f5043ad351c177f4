/** The virtualization extension that a processor of a given model has. */
import type { SoftProcessor } from "../engine/processor.ts";
import type { CpuModel } from "../isa/processor.ts";
import type { Virtualization } from "../isa/virtualization.ts";
import { Svm } from "./svm/svm.ts";
import { Vmx } from "./vmx/vmx.ts";

/** Undefined: the model has none. */
export function virtualizationOf(model: CpuModel): ((processor: SoftProcessor) => Virtualization) | undefined {
  if (model.hasFeature("svm")) return (processor) => new Svm(processor);
  return model.hasFeature("vmx") ? (processor) => new Vmx(processor) : undefined;
}
