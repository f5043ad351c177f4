/** Modes of the processor. */
import assert from "node:assert/strict";
import type { ConformanceCases } from "./cases.ts";
import { deviceAddress, longMode, protectedMode, realMode, resultAddress, stackAddress, zeros } from "./fixture.ts";

export const modesCases: ConformanceCases = {
  "real mode": (f) => {
    // mov al, 0x42; out 0x80, al; mov dx, 0x1234; in ax, dx; inc ax; out dx, ax; hlt
    f.start(realMode(), "b042 e680 ba3412 ed 40 ef f4");
    f.portValue = 0xabcd;
    f.runToHalt();
    assert.deepEqual(f.portWrites, [[0x80, 1, 0x42], [0x1234, 2, 0xabce]]);
  },

  "protected mode": (f) => {
    // mov eax, [0xfe000010]; mov [0x7000], eax; mov edx, 0x80; in eax, dx; out dx, eax; hlt
    f.start(protectedMode(), "a1100000fe a300700000 ba80000000 ed ef f4");
    f.portValue = 0x1234_5678;
    f.runToHalt();
    assert.equal(f.word(resultAddress), 0x110);
    assert.deepEqual(f.portWrites, [[0x80, 4, 0x1234_5678]]);
  },

  "the boot state's general registers, in the order of their numbers": (f) => {
    const values = zeros.map((_, register) => register * 0x1_0000_0001 + 7);
    // mov [absolute], register, for each
    const stores = zeros.map((_, register) => {
      const address = Buffer.alloc(4);
      address.writeUInt32LE(resultAddress + register * 8);
      return `${register < 8 ? "48" : "4c"} 89 ${(0x04 | (register & 7) << 3).toString(16).padStart(2, "0")} 25 ${address.toString("hex")}`;
    });
    f.start(longMode(values), `${stores.join("")} f4`);
    f.runToHalt();
    const seen = zeros.map((_, register) => f.word(resultAddress + register * 8) + f.word(resultAddress + register * 8 + 4) * 0x1_0000_0000);
    assert.deepEqual(seen, values.map((value, register) => (register === 4 ? stackAddress : value)));
  },

  "from real to protected to long mode": (f) => {
    f.write(0x1100, "1f00 08110000");
    f.write(0x1108, "0000000000000000 ffff0000009bcf00 ffff00000093cf00 ffff0000009baf00");
    f.start(realMode(),
      "fa 0f01160011 0f20c0 0c01 0f22c0 66ea161000000800" +
      "b810000000 8ed8 8ed0 8ec0 bc00800000 b800900000 0f22d8 0f20e0 83c820 0f22e0 b9800000c0 0f32 0d00010000 0f30 0f20c0 0d00000080 0f22c0 ea571000001800" +
      "48b88877665544332211 4889042500700000 bf000000fe c74704aa550000 8b5f08 891c2508700000 f4");
    f.runToHalt();
    assert.deepEqual([f.word(resultAddress), f.word(resultAddress + 4), f.word(resultAddress + 8)], [0x5566_7788, 0x1122_3344, 0x108]);
    assert.deepEqual(f.busAccesses, [["write", deviceAddress + 4, 4, 0x55aa], ["read", deviceAddress + 8, 4, 0x108]]);
  },
};
