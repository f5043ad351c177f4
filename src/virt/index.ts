/** The virtualization extension that a processor of a given model has. */
import type { SoftProcessor } from "../engine/processor.ts";
import type { CpuModel } from "../isa/processor.ts";
import type { Virtualization } from "../isa/virtualization.ts";
import { Svm } from "./svm/svm.ts";

/** Undefined: the model has none. */
export function virtualizationOf(model: CpuModel): ((processor: SoftProcessor) => Virtualization) | undefined {
  return model.hasFeature("svm") ? (processor) => new Svm(processor) : undefined;
}
