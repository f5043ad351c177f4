/** Delivery between APICs that live in one thread: matching, lowest-priority arbitration and EOI broadcast. */
import { DeliveryMode, type InterruptMessage } from "../message.ts";
import type { LocalApic } from "./local-apic.ts";
import type { InterProcessorBus } from "./state.ts";

export class ApicBus implements InterProcessorBus {
  readonly #processors: LocalApic[] = [];
  readonly #endOfInterruptListeners: ((vector: number) => void)[] = [];

  attach(apic: LocalApic): void {
    this.#processors.push(apic);
  }

  /** An I/O APIC listens for the end of level-triggered interrupts. */
  onEndOfInterrupt(listener: (vector: number) => void): void {
    this.#endOfInterruptListeners.push(listener);
  }

  /** `sender` is the APIC ID of the sending processor; I/O APICs and MSI sources leave it out. */
  send(message: InterruptMessage, sender?: number): void {
    const isToOthers = message.target === "others";
    const targets = this.#processors.filter((apic) => !(isToOthers && apic.id === sender) && apic.matches(message));
    if (message.deliveryMode !== DeliveryMode.lowestPriority) {
      for (const apic of targets) apic.receive(message);
      return;
    }
    let chosen: LocalApic | undefined;
    for (const apic of targets) {
      if (!apic.acceptsLowestPriority()) continue;
      if (chosen === undefined || apic.processorPriority() < chosen.processorPriority()) chosen = apic;
    }
    chosen?.receive(message);
  }

  broadcastEndOfInterrupt(vector: number): void {
    for (const listener of this.#endOfInterruptListeners) listener(vector);
  }
}
