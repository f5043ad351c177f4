/** RAM, ROM and devices in guest-physical memory. */
import assert from "node:assert/strict";
import type { ConformanceCases } from "./cases.ts";
import { bytesOf, codeAddress, deviceAddress, longMode, protectedMode, ramBytes, resultAddress, romAddress, romBytes, romOffset, zeros } from "./fixture.ts";

export const memoryCases: ConformanceCases = {
  "devices see accesses of 1, 2 and 4 bytes": (f) => {
    // mov [rdi], al; mov [rdi+2], ax; mov [rdi+4], eax; movzx ebx, byte [rdi+1]; hlt
    f.start(longMode([0x1122_3344, 0, 0, 0, 0, 0, 0, deviceAddress, 0, 0, 0, 0, 0, 0, 0, 0]), "8807 66894702 894704 0fb65f01 f4");
    f.runToHalt();
    assert.deepEqual(f.busAccesses, [
      ["write", deviceAddress, 1, 0x44], ["write", deviceAddress + 2, 2, 0x3344], ["write", deviceAddress + 4, 4, 0x1122_3344],
      ["read", deviceAddress + 1, 1, 1],
    ]);
  },

  "ROM is read from storage and written to the bus": (f) => {
    f.instance.storage.set(bytesOf("78563412"), romOffset);
    // mov eax, [0xffff0000]; mov [0x7000], eax; mov [0xffff0000], edx; mov eax, [0xffff0000]; mov [0x7004], eax; hlt
    f.start(protectedMode([0, 0, 5, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]), "a10000ffff a300700000 89150000ffff a10000ffff a304700000 f4");
    f.runToHalt();
    assert.deepEqual([f.word(resultAddress), f.word(resultAddress + 4)], [0x1234_5678, 0x1234_5678]);
    assert.deepEqual(f.busAccesses, [["write", romAddress, 4, 5]]);
  },

  "a range can be mapped elsewhere while the guest runs: reads from ROM, writes to RAM, then RAM": (f) => {
    f.instance.storage.set(bytesOf("11000000"), romOffset);
    f.map({ address: 0xf_0000, sizeBytes: romBytes, readOffset: romOffset, writeOffset: 0xf_0000 });
    f.onPortWrite = () => f.map({ address: 0xf_0000, sizeBytes: romBytes, readOffset: 0xf_0000, writeOffset: 0xf_0000 });
    // mov eax, [0xf0000]; inc eax; mov [0xf0000], eax; mov ebx, [0xf0000]; out 0x80, al; mov ecx, [0xf0000]; store both; hlt
    f.start(protectedMode(), "a100000f00 40 a300000f00 8b1d00000f00 e680 8b0d00000f00 891d00700000 890d04700000 f4");
    f.runToHalt();
    assert.deepEqual([f.word(resultAddress), f.word(resultAddress + 4)], [0x11, 0x12]);
  },

  "code is what the mapping says at the time": (f) => {
    f.instance.storage.set(bytesOf("b802000000 c3"), romOffset);
    f.write(0xf_0000, "b801000000 c3");
    f.onPortWrite = () => f.map({ address: 0xf_0000, sizeBytes: romBytes, readOffset: romOffset, writeOffset: undefined });
    // mov ebx, 0xf0000; call ebx; mov [0x7000], eax; out 0x80, al; call ebx; mov [0x7004], eax; hlt
    f.start(protectedMode(), "bb00000f00 ffd3 a300700000 e680 ffd3 a304700000 f4");
    f.runToHalt();
    assert.deepEqual([f.word(resultAddress), f.word(resultAddress + 4)], [1, 2]);
  },

  "copies from outside reach RAM only, all or nothing, and void decoded code": (f) => {
    assert.equal(f.instance.writeMemory(ramBytes - 2, bytesOf("01020304")), false);
    assert.equal(f.word(ramBytes - 4), 0);
    assert.equal(f.instance.writeMemory(romAddress, bytesOf("01")), false);
    assert.equal(f.instance.readMemory(deviceAddress, new Uint8Array(1)), false);
    assert.equal(f.instance.readMemory(2 ** 60, new Uint8Array(1)), false);
    f.onPortWrite = () => f.write(codeAddress + 2, "b803000000");
    // out 0x80, al; mov eax, 1 (becomes 3); mov [0x7000], eax; hlt
    f.start(protectedMode(), "e680 b801000000 a300700000 f4");
    f.runToHalt();
    assert.equal(f.word(resultAddress), 3);
  },

  "devices see 8 bytes as twice 4, and what crosses into them in parts": (f) => {
    const general = zeros.map((_, register) => (register === 7 ? deviceAddress : register === 0 ? 0x1122_3344_5566 : 0));
    // mov [rdi], rax; mov rbx, [rdi+8]; mov [rdi+18], eax; hlt
    f.start(longMode(general), "488907 488b5f08 f4");
    f.runToHalt();
    assert.deepEqual(f.busAccesses, [
      ["write", deviceAddress, 4, 0x3344_5566], ["write", deviceAddress + 4, 4, 0x1122],
      ["read", deviceAddress + 8, 4, 0x108], ["read", deviceAddress + 12, 4, 0x10c],
    ]);
    assert.equal(f.processor.getState().general[3], 0x10c_0000_0108n);
  },

  "string instructions reach devices and ports": (f) => {
    f.write(0x6000, "0102030405060708");
    const general = zeros.map((_, register) => (register === 6 ? 0x6000 : register === 7 ? deviceAddress : register === 1 ? 2 : register === 2 ? 0x1234 : 0));
    // rep movsd; mov ecx, 4; mov esi, 0x6000; rep outsb; mov edi, 0x7000; mov ecx, 3; rep insb; hlt
    f.start(protectedMode(general), "f3a5 b904000000 be00600000 f36e bf00700000 b903000000 f36c f4");
    f.portValue = 0x5a;
    f.runToHalt();
    assert.deepEqual(f.busAccesses, [["write", deviceAddress, 4, 0x0403_0201], ["write", deviceAddress + 4, 4, 0x0807_0605]]);
    assert.deepEqual(f.portWrites, [1, 2, 3, 4].map((value) => [0x1234, 1, value]));
    assert.equal(f.word(resultAddress), 0x5a_5a5a);
  },
};
