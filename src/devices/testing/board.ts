/** A small board for device tests: RAM, both buses, recorded interrupts and messages. */
import type { GuestPhysical } from "../../base/address.ts";
import { DispatchBus, memorySpaceBytes, portSpaceBytes } from "../bus.ts";
import { VirtualClock } from "../clock.ts";
import type { GuestMemory, IrqLine } from "../contract.ts";
import { PciBus } from "../pci/bus.ts";
import type { PciDeviceContext } from "../pci/contract.ts";

/** RAM from address zero. */
export class TestMemory implements GuestMemory {
  readonly bytes: Uint8Array;

  constructor(sizeBytes: number) {
    this.bytes = new Uint8Array(sizeBytes);
  }

  get sizeBytes(): number {
    return this.bytes.length;
  }

  get view(): DataView {
    return new DataView(this.bytes.buffer);
  }

  read(address: GuestPhysical, target: Uint8Array): boolean {
    if (!(address >= 0 && address + target.length <= this.bytes.length)) return false;
    target.set(this.bytes.subarray(address, address + target.length));
    return true;
  }

  write(address: GuestPhysical, source: Uint8Array): boolean {
    if (!(address >= 0 && address + source.length <= this.bytes.length)) return false;
    this.bytes.set(source, address);
    return true;
  }
}

export class TestBoard {
  readonly ports: DispatchBus = new DispatchBus(portSpaceBytes);
  readonly memoryBus: DispatchBus = new DispatchBus(memorySpaceBytes);
  readonly clock: VirtualClock = new VirtualClock();
  readonly memory: TestMemory;
  readonly pci: PciBus = new PciBus();
  readonly messages: { address: number; data: number }[] = [];
  /** Levels of ISA interrupts 0 to 15 and I/O APIC pins 16 to 23. */
  readonly levels: boolean[] = Array.from({ length: 24 }, () => false);

  constructor(memorySizeBytes: number = 1 << 20) {
    this.memory = new TestMemory(memorySizeBytes);
  }

  get context(): PciDeviceContext {
    return {
      ports: this.ports,
      memoryBus: this.memoryBus,
      clock: this.clock,
      memory: this.memory,
      pci: this.pci,
      signalMessage: (address, data) => {
        this.messages.push({ address, data });
      },
      irq: (line) => this.#line(line),
    };
  }

  #line(line: number): IrqLine {
    return {
      set: (level) => {
        this.levels[line] = level;
      },
    };
  }
}
