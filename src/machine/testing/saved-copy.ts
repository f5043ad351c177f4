/** A machine's state as a snapshot would keep it, without files. */
import { type Accelerator, storageGranuleBytes } from "../../accel/contract.ts";
import { guestPhysical } from "../../base/address.ts";
import type { Json } from "../../base/shape.ts";
import type { MachineConfig } from "../config.ts";
import { Machine, type SavedMachine } from "../machine.ts";
import { SavedComponents } from "../saved-components.ts";

export interface SavedParts {
  /** As text, so that nothing but JSON survives. */
  readonly json: string;
  readonly regions: ReadonlyMap<string, Uint8Array>;
  /** RAM from address zero, as far as it is contiguous there. */
  readonly memory: Uint8Array;
}

export function saveParts(machine: Machine): SavedParts {
  const regions = new Map<string, Uint8Array>();
  const components = machine.save({ put: (path, bytes) => void regions.set(path, bytes.slice()) });
  const memory = new Uint8Array(machine.memoryMap.ram[0].sizeBytes);
  const low = memory.subarray(0, 0xa_0000), high = memory.subarray(0x10_0000);
  machine.guestMemory().read(guestPhysical(0), low);
  machine.guestMemory().read(guestPhysical(0x10_0000), high);
  return { json: JSON.stringify(components), regions, memory };
}

export function savedMachine({ json, regions, memory }: SavedParts): SavedMachine {
  const components = SavedComponents.fromJson(JSON.parse(json) as Json, {
    take: (path, sizeBytes) => {
      const found = regions.get(path);
      return found?.length === sizeBytes ? found : undefined;
    },
  });
  const granules = Array.from({ length: memory.length / storageGranuleBytes }, (_, granule) => granule);
  return {
    components,
    fillStorage: (instance) => instance.fillStorage({
      granules: () => granules,
      read: (granule, target) => target.set(memory.subarray(granule * storageGranuleBytes, (granule + 1) * storageGranuleBytes)),
    }),
  };
}

/** The same machine again. */
export function copyMachine(machine: Machine, config: MachineConfig, accelerator: Accelerator): Machine {
  return new Machine(config, accelerator, savedMachine(saveParts(machine)));
}
