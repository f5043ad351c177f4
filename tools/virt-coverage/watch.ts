/** What can be seen of a machine's virtualization extension while a test guest runs: entries, checks, exits, and what does not exit. */
import type { Machine } from "../../src/machine/machine.ts";
import { jitTotals } from "../../src/engine/jit/jit.ts";
import { Status } from "../../src/ir/index.ts";
import type { Interceptable, Transition, Virtualization } from "../../src/isa/virtualization.ts";
import { consistencyChecks } from "../../src/virt/svm/checks.ts";
import { controlChecks } from "../../src/virt/vmx/checks/controls.ts";
import { guestChecks } from "../../src/virt/vmx/checks/guest.ts";
import { hostChecks } from "../../src/virt/vmx/checks/host.ts";
import { controls } from "../../src/virt/vmx/controls.ts";
import { Vmx } from "../../src/virt/vmx/vmx.ts";
import type { Evidence } from "./inventory.ts";

/** Told of checks, which belong to no processor. */
let noteCheck: (evidence: Evidence) => void = () => {};

function watchMethod<Holder extends object, Name extends keyof Holder>(
  holder: Holder, name: Name, note: (result: unknown, ...parameters: readonly unknown[]) => void,
): void {
  const method = (holder[name] as (...parameters: readonly unknown[]) => unknown).bind(holder);
  Object.assign(holder, {
    [name]: (...parameters: readonly unknown[]) => {
      const result = method(...parameters);
      note(result, ...parameters);
      return result;
    },
  });
}

for (const check of new Set([...controlChecks, ...hostChecks, ...guestChecks])) {
  watchMethod(check, "holds", (holds) => noteCheck(`${holds === true ? "passed" : "failed"} ${check.rule}`));
}
for (const check of consistencyChecks) {
  watchMethod(check, "isViolated", (isViolated) => noteCheck(`${isViolated === true ? "failed" : "passed"} ${check.problem}`));
}

function nameOf(instruction: Interceptable): string {
  switch (instruction.kind) {
    case "read cr": case "write cr": case "read dr": case "write dr": return `${instruction.kind} ${instruction.number}`;
    default: return instruction.kind;
  }
}

export class Watch {
  readonly evidence: Set<string> = new Set();
  readonly #isCompiled: boolean;
  #compiledAtExit: number = jitTotals.executed;

  /** With `isCompiled`, only what compiled code had a part in since the last exit counts. */
  constructor(isCompiled: boolean) {
    this.#isCompiled = isCompiled;
  }

  note(evidence: Evidence): void {
    if (!this.#isCompiled || jitTotals.executed > this.#compiledAtExit) this.evidence.add(evidence);
  }

  begin({ processors }: Machine): void {
    noteCheck = (evidence) => this.note(evidence);
    const extension = processors[0]?.virtualization as Virtualization | undefined;
    if (extension === undefined) return;
    extension.observer = (transition) => this.#see(extension, transition);
    const whileGuest = (note: (result: unknown, ...parameters: readonly unknown[]) => void) => (result: unknown, ...parameters: readonly unknown[]) => {
      if (extension.isGuest) note(result, ...parameters);
    };
    watchMethod(extension, "intercepts", (result, instruction) => result === false && this.note(`admitted ${nameOf(instruction as Interceptable)}`));
    watchMethod(extension, "interceptsEvent", (result, event) => result === false && this.note(`delivered ${(event as { readonly vector: number }).vector}`));
    watchMethod(extension, "takeEvent", whileGuest((action) => (action === "interrupt" || action === "nmi") && this.note(`admitted ${action}`)));
    watchMethod(extension, "execute", whileGuest((status, instruction) => status === Status.Next && this.note(`admitted ${instruction as string}`)));
    watchMethod(extension, "admitReset", whileGuest((result) => result === "admitted" && this.note("admitted init")));
  }

  #see(extension: Virtualization, { kind, code }: Transition): void {
    if (kind === "entry") {
      if (!(extension instanceof Vmx)) return;
      for (const control of controls) if (extension.context.has(control)) this.note(`control ${control.group} ${control.bit}`);
      return;
    }
    this.note(`exit ${code}`);
    this.#compiledAtExit = jitTotals.executed;
  }
}
