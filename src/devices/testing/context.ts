/** A board of nothing but buses, a clock and wires, for tests of definitions. */
import { DispatchBus, memorySpaceBytes, portSpaceBytes } from "../bus.ts";
import { VirtualClock } from "../clock.ts";
import type { DeviceContext, GuestMemory } from "../contract.ts";
import { type RecordingLine, recordingLine } from "./wires.ts";

export interface TestContext extends DeviceContext {
  readonly ports: DispatchBus;
  readonly memoryBus: DispatchBus;
  readonly clock: VirtualClock;
  readonly ram: Uint8Array;
  readonly lines: RecordingLine[];
  readonly signals: [number, number][];
}

export function testContext(ramBytes = 0x1_0000, startNs = 0): TestContext {
  const ram = new Uint8Array(ramBytes);
  const lines = Array.from({ length: 24 }, () => recordingLine());
  const signals: [number, number][] = [];
  const isRam = (address: number, length: number): boolean => address >= 0 && address + length <= ramBytes;
  const memory: GuestMemory = {
    sizeBytes: ramBytes,
    read(address, target) {
      if (!isRam(address, target.length)) return false;
      target.set(ram.subarray(address, address + target.length));
      return true;
    },
    write(address, source) {
      if (!isRam(address, source.length)) return false;
      ram.set(source, address);
      return true;
    },
  };
  return {
    ports: new DispatchBus(portSpaceBytes),
    memoryBus: new DispatchBus(memorySpaceBytes),
    clock: new VirtualClock({ startNs }),
    memory,
    ram,
    lines,
    signals,
    signalMessage: (address, data) => signals.push([address, data]),
    irq: (line) => lines[line],
  };
}
