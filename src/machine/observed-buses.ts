/** Buses that tell an observer of every access, whichever accelerator makes it. */
import type { MemoryBus } from "../accel/contract.ts";
import type { ExitObserver, ExitReason } from "../accel/exits.ts";
import type { ProcessorBus } from "../isa/processor.ts";

function observed<Result>(observer: ExitObserver, reason: ExitReason, place: number, access: () => Result): Result {
  const startNs = observer.nowNs();
  const result = access();
  observer.record(reason, place, observer.nowNs() - startNs);
  return result;
}

export function observeMemoryBus(bus: MemoryBus, observer: ExitObserver): MemoryBus {
  return {
    read: (address, sizeBytes) => observed(observer, "memory read", address, () => bus.read(address, sizeBytes)),
    write: (address, sizeBytes, value) => observed(observer, "memory write", address, () => bus.write(address, sizeBytes, value)),
  };
}

/** The time stamp counter, the task priority and random numbers are no exits: under KVM the processor answers them. */
export function observeProcessorBus(bus: ProcessorBus, observer: ExitObserver): ProcessorBus {
  return {
    ...bus,
    portRead: (port, sizeBytes) => observed(observer, "port read", port, () => bus.portRead(port, sizeBytes)),
    portWrite: (port, sizeBytes, value) => observed(observer, "port write", port, () => bus.portWrite(port, sizeBytes, value)),
    readMsr: (index) => observed(observer, "MSR read", index, () => bus.readMsr(index)),
    writeMsr: (index, value) => observed(observer, "MSR write", index, () => bus.writeMsr(index, value)),
  };
}
