/** CPUID, model-specific registers and the time stamp counter: the machine's, not the host's. */
import assert from "node:assert/strict";
import type { ConformanceCases } from "./cases.ts";
import { longMode, protectedMode, handlerAddress, refusedMsrValue, resultAddress, zeros, type Fixture } from "./fixture.ts";

/** Registers with numbers for ECX, EAX and EDX in place. */
const withRegisters = (ecx: number, eax = 0, edx = 0): number[] => zeros.map((_, register) => [eax, ecx, edx][register] ?? 0);

/** IA32_X2APIC_INIT_COUNT, as an example. */
const machineMsr = 0x838;

/** #GP ends the guest with 0xBAD at 0x7000. */
function catchGeneralProtection(f: Fixture): { idtr: { base: number; limit: number }; gdtr: { base: number; limit: number } } {
  f.write(0x2068, "00200800008e0000");
  f.write(0x1108, "ffff0000009bcf00 ffff00000093cf00");
  f.write(handlerAddress, "c70500700000ad0b0000 f4");
  return { idtr: { base: 0x2000, limit: 0x7ff }, gdtr: { base: 0x1100, limit: 0x17 } };
}

export const modelCases: ConformanceCases = {
  "CPUID is the model's": (f) => {
    // For leaves 0 and 1 and 0x40000000: eax, ebx, edx to 0x7000 on. Leaf in esi.
    // xor ecx, ecx; mov eax, leaf; cpuid; mov [0x7000], eax; mov [0x7004], ebx; mov [0x7008], ecx; mov [0x700c], edx; hlt
    for (const leaf of [0, 1, 7, 0x4000_0000, 0x8000_0001]) {
      const code = Buffer.alloc(4);
      code.writeUInt32LE(leaf);
      f.start(protectedMode(), `31c9 b8${code.toString("hex")} 0fa2 a300700000 891d04700000 890d08700000 8915 0c700000 f4`);
      f.processor.setState({ ...f.processor.getState(), activity: "active" });
      f.runToHalt();
      const { eax, ebx, ecx, edx } = f.model.cpuid(leaf, 0);
      assert.deepEqual([0, 4, 8, 12].map((at) => f.word(resultAddress + at)), [eax, ebx, ecx, edx].map((word) => word >>> 0));
    }
  },

  "the machine's registers are read and written there": (f) => {
    f.machineMsrs.set(machineMsr, 0x1111_2222_3333_4444n);
    // rdmsr; mov [0x7000], eax; mov [0x7004], edx; inc eax; wrmsr; hlt
    f.start(protectedMode(withRegisters(machineMsr)), "0f32 a300700000 891504700000 40 0f30 f4");
    f.runToHalt();
    assert.deepEqual([f.word(resultAddress), f.word(resultAddress + 4)], [0x3333_4444, 0x1111_2222]);
    assert.equal(f.machineMsrs.get(machineMsr), 0x1111_2222_3333_4445n);
  },

  "the local APIC's deadline is the machine's": (f) => {
    // Where a kernel keeps it for itself, the accelerator has to say that guests cannot have it.
    if (!f.model.hasFeature("tsc_deadline")) return;
    f.machineMsrs.set(0x6e0, 0n);
    // wrmsr; hlt
    f.start(protectedMode(withRegisters(0x6e0, 0x5555, 0x77)), "0f30 f4");
    f.runToHalt();
    assert.equal(f.machineMsrs.get(0x6e0), 0x77_0000_5555n);
  },

  "what the machine refuses is a general protection": (f) => {
    f.machineMsrs.set(machineMsr, 0n);
    f.start({ ...protectedMode(withRegisters(machineMsr, Number(refusedMsrValue))), ...catchGeneralProtection(f) }, "0f30 f4");
    f.runToHalt();
    assert.equal(f.word(resultAddress), 0xbad);
  },

  "so are registers that the model does not have": (f) => {
    f.start({ ...protectedMode(withRegisters(0x4b56_4d01)), ...catchGeneralProtection(f) }, "0f32 f4");
    f.runToHalt();
    assert.equal(f.word(resultAddress), 0xbad);
  },

  "the model's storage keeps what is written, and belongs to the state": (f) => {
    // wrmsr (IA32_MTRR_PHYSBASE0); xor eax, eax; rdmsr; mov [0x7000], eax; hlt
    f.start(protectedMode(withRegisters(0x200, 0xc000_0006)), "0f30 31c0 0f32 a300700000 f4");
    f.runToHalt();
    assert.equal(f.word(resultAddress), 0xc000_0006);
    assert.deepEqual(f.processor.getState().storedMsrs, [[0x200, 0xc000_0006n]]);
  },

  "SYSCALL's registers are in the state": (f) => {
    // wrmsr (IA32_LSTAR); hlt
    f.start(longMode(withRegisters(0xc000_0082, 0x1234_5678, 0xffff_8000)), "0f30 f4");
    f.runToHalt();
    assert.equal(f.processor.getState().msrs.lstar, 0xffff_8000_1234_5678n);
  },

  "the time stamp counter goes on from where it was set": (f) => {
    f.timeStamp = 0x10_0000_0000n;
    f.processor.timeChanged();
    // rdtsc; mov [0x7000], edx; mov eax, 7; mov edx, 0x50; mov ecx, 0x10; wrmsr; rdtsc; mov [0x7004], edx; hlt
    f.start(protectedMode(), "0f31 891500700000 b807000000 ba50000000 b910000000 0f30 0f31 891504700000 f4");
    f.runToHalt();
    assert.deepEqual([f.word(resultAddress), f.word(resultAddress + 4), f.timeStamp], [0x10, 0x50, 0x50_0000_0007n]);
    assert.equal(f.processor.timeStampCounter() >> 32n, 0x50n);
  },
};
