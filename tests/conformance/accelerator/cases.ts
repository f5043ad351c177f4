/** What every accelerator must do alike: tiny guests, seen only through the contract. The list of all cases. */
import type { Accelerator } from "../../../src/accel/contract.ts";
import { debugCases } from "./debug.ts";
import { Fixture } from "./fixture.ts";
import { interruptsCases } from "./interrupts.ts";
import { memoryCases } from "./memory.ts";
import { modelCases } from "./model.ts";
import { modesCases } from "./modes.ts";
import { stateCases } from "./state.ts";
import { stoppingCases } from "./stopping.ts";
import { writtenPagesCases } from "./written-pages.ts";

type Run = (f: Fixture) => void;

/** By name. */
export type ConformanceCases = Readonly<Record<string, Run>>;

export interface ConformanceCase {
  readonly group: string;
  readonly name: string;
  /** Throws when the accelerator fails. */
  run(accelerator: Accelerator): void;
}

const groups: Readonly<Record<string, ConformanceCases>> = {
  modes: modesCases, model: modelCases, memory: memoryCases, interrupts: interruptsCases, stopping: stoppingCases, state: stateCases,
  debugging: debugCases, "written pages": writtenPagesCases,
};

export const conformanceCases: readonly ConformanceCase[] = Object.entries(groups).flatMap(([group, cases]) =>
  Object.entries(cases).map(([name, run]): ConformanceCase => ({
    group, name,
    run: (accelerator) => {
      const fixture = new Fixture(accelerator);
      try {
        run(fixture);
      } finally {
        fixture.close();
      }
    },
  })));
