/** How a test inside of a virtual machine tells its outcomes to the host, through the console. */

export interface NestedOutcome {
  readonly name: string;
  readonly state: "passed" | "failed" | "skipped";
  /** Why it failed or was skipped; what was seen. */
  readonly detail: string;
  readonly seconds: number;
}

/** Begins a line with an outcome as JSON. */
export const outcomeMark = "RINGMASTER-OUTCOME ";

export function tell(outcome: NestedOutcome): void {
  process.stdout.write(`${outcomeMark}${JSON.stringify(outcome)}\n`);
}

/** Runs `test`, whose result is what was seen, and tells its outcome. */
export async function tellOutcome(name: string, test: () => string | Promise<string>): Promise<void> {
  const startMs = performance.now();
  const seconds = (): number => Math.round((performance.now() - startMs) / 100) / 10;
  try {
    const detail = await test();
    tell({ name, state: "passed", detail, seconds: seconds() });
  } catch (error) {
    tell({ name, state: "failed", detail: error instanceof Error ? error.message : String(error), seconds: seconds() });
  }
}
