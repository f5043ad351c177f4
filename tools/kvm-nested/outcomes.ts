/** What the program in the outer guest tells on its console, and the table of it. */
import { commandExitPattern } from "../../src/host/node/guests/index.ts";
import { outcomeMark, type NestedOutcome } from "../../tests/kvm/nested/report.ts";

const keptLines = 20;

/** Reads the console line by line. */
export class OutcomeReader {
  readonly outcomes: NestedOutcome[] = [];
  readonly #isVerbose: boolean;
  #status: string | undefined;
  #tail: string[] = [];

  constructor(isVerbose: boolean) {
    this.#isVerbose = isVerbose;
  }

  read(line: string): void {
    this.#status ??= commandExitPattern.exec(line)?.groups?.["status"];
    const at = line.indexOf(outcomeMark);
    if (at < 0) {
      this.#tail = [...this.#tail, line].slice(-keptLines);
      if (this.#isVerbose) process.stderr.write(`| ${line}\n`);
      return;
    }
    const outcome = JSON.parse(line.slice(at + outcomeMark.length)) as NestedOutcome;
    this.outcomes.push(outcome);
    if (outcome.state === "failed" || this.#isVerbose) process.stderr.write(`${outcome.state} ${outcome.name} (${outcome.seconds} s) ${outcome.detail}\n`);
  }

  fail(name: string, detail: string, seconds: number): void {
    this.outcomes.push({ name, state: "failed", detail, seconds });
  }

  /** The console has come to its end. */
  finish(): readonly NestedOutcome[] {
    if (this.#status !== "0") this.fail("the program inside", `ended with ${this.#status ?? "no"} status: ${this.#tail.join(" / ")}`, 0);
    return this.outcomes;
  }
}

/** The conformance cases as one line a group, everything else by itself. */
export function outcomeRows(outcomes: readonly NestedOutcome[]): string[][] {
  const groups = Map.groupBy(outcomes, ({ name }) => (/^[a-z ]+(?=: )/u.exec(name) ?? [name])[0]);
  return [...groups].map(([name, members]) => {
    const count = (state: NestedOutcome["state"]): number => members.filter((outcome) => outcome.state === state).length;
    const seconds = members.reduce((sum, outcome) => sum + outcome.seconds, 0);
    const details = members.filter(({ state, detail }) => state === "failed" || members.length === 1 || (state === "skipped" && detail !== ""));
    const notes = [...new Set(details.map((outcome) => (members.length === 1 ? outcome.detail : `${outcome.name.slice(name.length + 2)}: ${outcome.detail}`)))];
    return [name, String(count("passed")), String(count("failed")), String(count("skipped")), seconds.toFixed(1), notes.join("; ")];
  });
}
