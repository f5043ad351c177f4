/** Why the guest was left, for accounting: what every accelerator has in common, by the names of what the guest did. */

export type ExitReason =
  | "port read" | "port write" | "memory read" | "memory write" | "MSR read" | "MSR write"
  /** The guest waits for an interrupt. */
  | "halt"
  /** The guest now takes an interrupt that has been waiting. */
  | "interrupt window"
  /** Its time was up, or somebody on the host wanted something. */
  | "interruption";

/** Hears of every exit. */
export interface ExitObserver {
  /** The host's monotonic clock. */
  nowNs(): number;
  /** `place` is the port, address or register; `ns` what answering took, without the way from the guest and back. */
  record(reason: ExitReason, place: number | undefined, ns: number): void;
}
