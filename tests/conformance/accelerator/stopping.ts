/** Budgets, stops, shutdowns and resets. */
import assert from "node:assert/strict";
import type { ConformanceCases } from "./cases.ts";
import { bytesOf, protectedMode, resultAddress, romBytes, romOffset } from "./fixture.ts";

/** L: out 0x80, al; inc eax; jmp L */
const writeForever = "e680 40 ebfb";

export const stoppingCases: ConformanceCases = {
  "a budget ends a loop, soon after the instructions or the time that it allows": (f) => {
    f.start(protectedMode(), "40 ebfd");
    for (const budget of [1, 10, 1000, 12_345]) {
      const before = f.processor.retiredInstructions;
      assert.equal(f.processor.run({ instructions: budget, nanoseconds: 1000 * budget }), "budget");
      const retired = f.processor.retiredInstructions - before;
      if (f.countsInstructions) assert.ok(retired >= budget && retired < budget + 32);
      else assert.equal(retired, 0);
    }
  },

  "stop ends run before the next instruction of a device's access": (f) => {
    f.onPortWrite = () => f.processor.stop();
    f.start(protectedMode(), writeForever);
    f.runTo("stopped");
    assert.deepEqual(f.portWrites, [[0x80, 1, 0]]);
    f.runTo("stopped");
    assert.deepEqual(f.portWrites, [[0x80, 1, 0], [0x80, 1, 1]]);
  },

  "stop before run is not lost": (f) => {
    f.start(protectedMode(), writeForever);
    f.processor.stop();
    f.runTo("stopped");
    assert.deepEqual(f.portWrites, []);
  },

  "attending from a device's access loses and repeats nothing": (f) => {
    f.onPortWrite = () => f.processor.attend();
    f.onBusAccess = () => f.processor.attend();
    // mov ecx, 20; L: out 0x80, al; mov [0xfe000000], eax; inc eax; loop L; hlt
    f.start(protectedMode(), "b914000000 e680 a3000000fe 40 e2f6 f4");
    f.runToHalt();
    assert.deepEqual(f.portWrites.map(([, , value]) => value), Array.from({ length: 20 }, (_, index) => index));
    assert.deepEqual(f.busAccesses.map(([, , , value]) => value), Array.from({ length: 20 }, (_, index) => index));
  },

  "retired instructions are exact when a device is accessed, or not counted at all": (f) => {
    const counts: number[] = [];
    f.onPortWrite = () => counts.push(f.processor.retiredInstructions);
    f.onBusAccess = () => counts.push(f.processor.retiredInstructions);
    // mov ecx, 3; L: nop; out 0x80, al; mov [0xfe000000], eax; nop; dec ecx; jnz L; hlt
    f.start(protectedMode(), "b903000000 90 e680 a3000000fe 90 49 75f4 f4");
    f.runToHalt();
    const expected = [2, 3, 8, 9, 14, 15, 1 + 3 * 6 + 1];
    assert.deepEqual([...counts, f.processor.retiredInstructions], f.countsInstructions ? expected : expected.map(() => 0));
  },

  "a triple fault is shutdown until reset, which starts at the reset vector": (f) => {
    f.instance.storage.set(bytesOf("b055 e680 f4"), romOffset + romBytes - 16); // mov al, 0x55; out 0x80, al; hlt
    f.start({ ...protectedMode(), idtr: { base: 0, limit: 0 } }, "0f0b");
    f.runTo("shutdown");
    f.runTo("shutdown");
    f.processor.reset("reset");
    f.runToHalt();
    assert.deepEqual(f.portWrites, [[0x80, 1, 0x55]]);
  },

  "reset from a device's access takes effect at once": (f) => {
    f.instance.storage.set(bytesOf("b055 e681 f4"), romOffset + romBytes - 16);
    f.onPortWrite = (port) => {
      if (port === 0x80) f.processor.reset("init");
    };
    f.start(protectedMode(), "e680 b877000000 a300700000 f4");
    f.runToHalt();
    assert.deepEqual(f.portWrites, [[0x80, 1, 0], [0x81, 1, 0x55]]);
    assert.equal(f.word(resultAddress), 0);
  },

  "a start-up message leaves the wait for it": (f) => {
    f.write(0x1_2000, "8cc8 a30070 f4"); // mov ax, cs; mov [0x7000], ax; hlt
    f.processor.reset("init");
    f.processor.setState({ ...f.processor.getState(), activity: "waiting-for-sipi" });
    f.runTo("halted");
    assert.equal(f.processor.isWaitingForStartUp, true);
    f.processor.startUp(0x12);
    assert.equal(f.processor.isWaitingForStartUp, false);
    f.runToHalt();
    assert.equal(f.word(resultAddress), 0x1200);
  },

  "a kick stops a guest": (f) => {
    f.start(protectedMode(), "40 ebfd");
    Atomics.store(f.processor.kickHandle.flag, 0, 1);
    f.runTo("stopped");
    assert.equal(f.run(), "budget");
  },
};
