/** Maskable and non-maskable interrupts. */
import assert from "node:assert/strict";
import type { ConformanceCases } from "./cases.ts";
import {
  codeAddress, handlerAddress, longMode, protectedMode, realMode, resultAddress, stackAddress, type Fixture,
} from "./fixture.ts";

/** sti; L: inc dword [0x7000]; jmp L */
const countForever = "fb 66ff060070 ebf9";

function installHandlers(f: Fixture): void {
  f.setVector(0x21, handlerAddress);
  f.setVector(2, handlerAddress + 0x10);
  f.write(handlerAddress, "b021 e681 f4"); // mov al, 0x21; out 0x81, al; hlt
  f.write(handlerAddress + 0x10, "b002 e682 cf"); // mov al, 2; out 0x82, al; iret
}

export const interruptsCases: ConformanceCases = {
  "come to a running guest": (f) => {
    installHandlers(f);
    f.start(realMode(), countForever);
    for (let round = 0; round < 100 && f.word(resultAddress) < 100; round++) assert.equal(f.run(), "budget");
    assert.ok(f.word(resultAddress) >= 100);
    f.interrupt(0x21);
    f.runToHalt();
    assert.deepEqual(f.portWrites, [[0x81, 1, 0x21]]);
    assert.deepEqual(f.pending, []);
  },

  "come soon when a device raises one": (f) => {
    installHandlers(f);
    f.onPortWrite = (port) => {
      if (port === 0x80) f.interrupt(0x21);
    };
    f.start(realMode(), "fb 90 e680 ff060070 ebfa");
    f.runToHalt();
    assert.deepEqual(f.portWrites, [[0x80, 1, 0], [0x81, 1, 0x21]]);
    assert.ok(f.word(resultAddress) < 32);
  },

  "wait while the guest does not want them, halted or not": (f) => {
    installHandlers(f);
    f.start(realMode(), "f4 f4");
    f.interrupt(0x21);
    f.runTo("halted");
    f.runTo("halted");
    assert.deepEqual([f.pending, f.portWrites], [[0x21], []]);
  },

  "wake a halted processor": (f) => {
    installHandlers(f);
    f.start(realMode(), "fb f4 f4");
    f.runTo("halted");
    f.runTo("halted");
    f.interrupt(0x21);
    f.runToHalt();
    assert.deepEqual(f.portWrites, [[0x81, 1, 0x21]]);
  },

  "that have gone do nothing": (f) => {
    installHandlers(f);
    f.start(realMode(), "fb 90 90 ff060070 f4");
    f.interrupt(-1);
    f.runToHalt();
    assert.deepEqual([f.word(resultAddress), f.portWrites], [1, []]);
  },

  "NMI comes whatever the flags are, and wakes": (f) => {
    installHandlers(f);
    f.start(realMode(), "fa f4 ff060070 f4");
    f.runTo("halted");
    assert.equal(f.word(resultAddress), 0);
    f.processor.signalNmi();
    f.runToHalt();
    assert.deepEqual([f.word(resultAddress), f.portWrites], [1, [[0x82, 1, 2]]]);
  },

  "come through the window that a guest opens": (f) => {
    installHandlers(f);
    // mov cx, 50; L: inc dword [0x7000]; loop L; sti; nop; cli; mov byte [0x7004], 1; hlt
    f.start(realMode(), "b93200 66ff060070 e2f9 fb 90 fa c606047001 f4");
    f.interrupt(0x21);
    f.runToHalt();
    assert.deepEqual([f.portWrites, f.word(resultAddress), f.word(resultAddress + 4)], [[[0x81, 1, 0x21]], 50, 0]);
  },

  "come one after the other, and return": (f) => {
    for (const vector of [0x30, 0x31, 0x32]) {
      f.setVector(vector, handlerAddress + 0x40 * (vector - 0x2f));
      f.write(handlerAddress + 0x40 * (vector - 0x2f), `b0${vector.toString(16)} e680 cf`); // mov al, vector; out 0x80, al; iret
    }
    f.start(realMode(), "fb 90 fa f4");
    f.pending.push(0x31, 0x30, 0x32);
    f.processor.attend();
    // Each handler runs with interrupts off, and the next comes at its return.
    f.runToHalt();
    assert.deepEqual(f.portWrites.map(([, , value]) => value), [0x31, 0x30, 0x32]);
    assert.equal(f.processor.getState().general[4], BigInt(stackAddress));
  },

  "through an interrupt gate, with flags and return address on the stack": (f) => {
    f.write(0x2108, "00200800008e0000"); // gate of vector 0x21: 0008:2000
    f.write(0x1108, "ffff0000009bcf00 ffff00000093cf00");
    f.write(handlerAddress, "8b0424 a300700000 8b442408 a304700000 f4"); // eax = [esp] → 0x7000; [esp + 8] → 0x7004
    f.start({ ...protectedMode(), idtr: { base: 0x2000, limit: 0x7ff }, gdtr: { base: 0x1100, limit: 0x17 } }, "fb 90 ebfe");
    f.interrupt(0x21);
    f.runToHalt();
    assert.deepEqual([f.word(resultAddress), f.word(resultAddress + 4) & 0x200], [codeAddress + 2, 0x200]);
  },

  "an injected exception brings its error code": (f) => {
    f.write(0x2068, "00200800008e0000"); // gate of #GP
    f.write(0x1108, "ffff0000009bcf00 ffff00000093cf00");
    f.write(handlerAddress, "58 a300700000 f4"); // pop eax; mov [0x7000], eax; hlt
    f.start({ ...protectedMode(), idtr: { base: 0x2000, limit: 0x7ff }, gdtr: { base: 0x1100, limit: 0x17 } }, "e680 f4");
    f.processor.inject({ kind: "exception", vector: 13, errorCode: 0x1230 });
    f.runToHalt();
    assert.deepEqual([f.portWrites, f.word(resultAddress)], [[], 0x1230]);
  },

  "the task priority is the local APIC's": (f) => {
    f.taskPriority = 3;
    // mov rax, cr8; mov [0x7000], eax; mov eax, 9; mov cr8, rax; hlt
    f.start(longMode(), "440f20c0 89042500700000 b809000000 440f22c0 f4");
    f.runToHalt();
    assert.deepEqual([f.word(resultAddress), f.taskPriority], [3, 9]);
  },
};
