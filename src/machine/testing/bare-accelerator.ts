/** An accelerator with memory and without instructions: for tests of everything around a processor. */
import { type Accelerator, storageGranuleBytes } from "../../accel/contract.ts";
import { softAccelerator } from "../../accel/soft/index.ts";
import type { ProcessorState } from "../../accel/processor-state.ts";
import { createCpuModel } from "../../isa/models/index.ts";
import type { ProcessorBus } from "../../isa/processor.ts";

let resetState: ProcessorState | undefined;

/** The state of a processor that has never run, made once. */
function powerOnState(): ProcessorState {
  if (resetState === undefined) {
    const options = { storageBytes: 0x1_0000, processorCount: 1, memoryBus: { read: () => 0, write: () => {} }, timeStampFrequencyHz: 1e9 };
    resetState = softAccelerator.create({ ...options, model: createCpuModel("intel-v2", { tscFrequencyHz: 1e9, apicId: 0, processors: 1 }) })
      .createProcessor(0, idleBus, { hasInterrupt: () => false, acknowledge: () => -1 }).getState();
  }
  return resetState;
}

const idleBus: ProcessorBus = {
  portRead: () => 0, portWrite: () => {}, timeStampCounter: () => 0n, setTimeStampCounter: () => {}, readMsr: () => undefined,
  writeMsr: () => "unknown", taskPriority: () => 0, setTaskPriority: () => {}, random64: () => 0n,
};

export const bareAccelerator: Accelerator = {
  name: "soft",
  countsInstructions: true,
  maximumStorageBytes: 2 ** 32,
  timeStampFrequencyHz: (wantedHz) => wantedHz,
  missingFeatures: () => [],
  create({ storageBytes }) {
    const storage = new Uint8Array(storageBytes);
    const isInside = (address: number, sizeBytes: number): boolean => address >= 0 && address + sizeBytes <= storageBytes;
    return {
      storage,
      map: () => {},
      fillStorage(source) {
        for (const granule of source.granules()) {
          const start = granule * storageGranuleBytes;
          source.read(granule, storage.subarray(start, start + storageGranuleBytes));
        }
      },
      isFilled: () => true,
      noteWrites: () => {},
      takeWrittenPages: () => new Uint8Array(Math.ceil(storageBytes / 0x8000)),
      close: () => {},
      readMemory(address, target) {
        if (!isInside(address, target.length)) return false;
        target.set(storage.subarray(address, address + target.length));
        return true;
      },
      writeMemory(address, source) {
        if (!isInside(address, source.length)) return false;
        storage.set(source, address);
        return true;
      },
      createProcessor(index) {
        let state = powerOnState();
        return {
          index, retiredInstructions: 0, isWaitingForStartUp: false, failure: undefined, shutdownCause: undefined, stateObstacle: undefined, virtualization: undefined,
          kickHandle: { flag: new Int32Array(new SharedArrayBuffer(4)), thread: undefined },
          run: () => "budget",
          inject: () => {}, setDebug: () => {}, timeStampCounter: () => 0n, timeChanged: () => {},
          attend: () => {}, stop: () => {}, signalNmi: () => {}, reset: () => {}, startUp: () => {}, setBootState: () => {},
          getState: () => state,
          setState(next) {
            state = next;
          },
        };
      },
    };
  },
};
