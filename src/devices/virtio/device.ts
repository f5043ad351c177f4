/** A virtio device type together with its transport, plugged into the bus: what the definitions' factories return. */
import { object, type Shape } from "../../base/shape.ts";
import type { PciDevice, PciDeviceContext } from "../pci/contract.ts";
import type { PciFunction } from "../pci/function.ts";
import type { VirtioDevice } from "./contract.ts";
import { VirtioPciTransport, type VirtioPciState, virtioPciStateShape } from "./pci-transport.ts";

export interface VirtioState<Own> {
  readonly transport: VirtioPciState;
  /** The device type's own state. */
  readonly device: Own;
}

export function virtioStateShape<Own>(queueSizes: readonly number[], device: Shape<Own>): Shape<VirtioState<Own>> {
  return object<VirtioState<Own>>({ transport: virtioPciStateShape(queueSizes), device });
}

export class VirtioPciDevice<Type extends VirtioDevice & { readonly state: Own }, Own> implements PciDevice<VirtioState<Own>> {
  readonly device: Type;
  readonly transport: VirtioPciTransport;
  readonly state: VirtioState<Own>;

  constructor(device: Type, context: PciDeviceContext, saved: VirtioState<Own> | undefined, broken?: (reason: string) => void) {
    this.device = device;
    this.transport = new VirtioPciTransport(device, {
      ports: context.ports,
      memoryBus: context.memoryBus,
      memory: context.memory,
      signalMessage: context.signalMessage,
      ...(broken === undefined ? {} : { broken }),
    });
    this.state = { transport: this.transport.state, device: device.state };
    context.pci.attach(this.transport.pciFunction, context.address);
    if (saved !== undefined) this.transport.restore(saved.transport);
  }

  get requestsUnderWay(): number {
    return this.device.requestsUnderWay ?? 0;
  }

  get pciFunction(): PciFunction {
    return this.transport.pciFunction;
  }

  reset(): void {
    this.transport.reset();
  }
}
