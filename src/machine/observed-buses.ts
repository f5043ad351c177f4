/** Buses that tell of every access while somebody counts exits, whichever accelerator makes it. */
import type { MemoryBus } from "../accel/contract.ts";
import type { ExitObserver, ExitReason } from "../accel/exits.ts";
import type { ProcessorBus } from "../isa/processor.ts";
import type { ExitAccount } from "./exit-account.ts";

/** Where exits go: to an account while there is one, which can come and go while the machine runs. */
export class ExitTap implements ExitObserver {
  account: ExitAccount | undefined;

  constructor(account: ExitAccount | undefined) {
    this.account = account;
  }

  nowNs(): number {
    return this.account?.nowNs() ?? 0;
  }

  record(reason: ExitReason, place: number | undefined, ns: number): void {
    this.account?.record(reason, place, ns);
  }
}

/** Without an account, an access costs a test of a field more than on `bus` itself. */
export class ObservedMemoryBus implements MemoryBus {
  readonly #bus: MemoryBus;
  readonly #tap: ExitTap;

  constructor(bus: MemoryBus, tap: ExitTap) {
    this.#bus = bus;
    this.#tap = tap;
  }

  read(address: number, sizeBytes: 1 | 2 | 4): number {
    const { account } = this.#tap;
    if (account === undefined) return this.#bus.read(address, sizeBytes);
    const startNs = account.nowNs();
    const value = this.#bus.read(address, sizeBytes);
    account.record("memory read", address, account.nowNs() - startNs);
    return value;
  }

  write(address: number, sizeBytes: 1 | 2 | 4, value: number): void {
    const { account } = this.#tap;
    if (account === undefined) return this.#bus.write(address, sizeBytes, value);
    const startNs = account.nowNs();
    this.#bus.write(address, sizeBytes, value);
    account.record("memory write", address, account.nowNs() - startNs);
  }
}

/** The time stamp counter, the task priority and random numbers are no exits: under KVM the processor answers them. */
export function observeProcessorBus(bus: ProcessorBus, tap: ExitTap): ProcessorBus {
  const observed = <Result>(account: ExitAccount, reason: ExitReason, place: number, access: () => Result): Result => {
    const startNs = account.nowNs();
    const result = access();
    account.record(reason, place, account.nowNs() - startNs);
    return result;
  };
  return {
    ...bus,
    portRead(port, sizeBytes) {
      const { account } = tap;
      return account === undefined ? bus.portRead(port, sizeBytes) : observed(account, "port read", port, () => bus.portRead(port, sizeBytes));
    },
    portWrite(port, sizeBytes, value) {
      const { account } = tap;
      if (account === undefined) bus.portWrite(port, sizeBytes, value);
      else observed(account, "port write", port, () => bus.portWrite(port, sizeBytes, value));
    },
    peekMsr: (index) => bus.readMsr(index),
    readMsr(index) {
      const { account } = tap;
      return account === undefined ? bus.readMsr(index) : observed(account, "MSR read", index, () => bus.readMsr(index));
    },
    writeMsr(index, value) {
      const { account } = tap;
      return account === undefined ? bus.writeMsr(index, value) : observed(account, "MSR write", index, () => bus.writeMsr(index, value));
    },
  };
}
