/** A guest for deterministic machines: a timer's interrupts and a loop change memory together until it ends by itself. */
import type { BootImage, MemoryWrite } from "../../boot/contract.ts";
import { createDescriptorTable, protectedModeRegisters } from "../../boot/registers.ts";
import { defaultDevices, type MachineConfig } from "../config.ts";

const codeAddress = 0x1_0000, handlerAddress = 0x1_1000, tableAddress = 0x8000, pointerAddress = 0x9000;
export const tickAddress = 0x9100;
const idtAddress = 0x9800, timerVector = 0x20;
export const nsPerInstruction = 10;
export const hashedBytes = 0x3_0000;

/**
 * The local APIC's timer ticks every 20 µs while a loop changes memory and halts now and then; each tick's handler mixes
 * into a word what the loop had come to. Ends through isa-debug-exit after 60 ticks.
 */
export const program: string =
  "0f011d00900000" + // lidt [0x9000]
  "c705f000e0feff010000 c705e003e0fe0b000000" + // spurious vector and enable; divide by 1
  "c7052003e0fe20000200 c7058003e0fe204e0000" + // periodic, vector 0x20; initial count 20000
  "fb f4" + // sti; hlt
  "43 89d9 81e1ff0f0000 011c8d00000200" + // L: inc ebx; mov ecx, ebx; and ecx, 0xfff; add [0x20000+ecx*4], ebx
  "f7c3ff070000 75e8 f4" + // test ebx, 0x7ff; jnz L; hlt
  "833d009100003c 72de b001 e6f4 f4"; // cmp dword [0x9100], 60; jb L; mov al, 1; out 0xf4, al
const handler =
  "50 ff0500910000 a104910000 c1c005 31d8 01c8 a304910000" + // push eax; inc [0x9100]; [0x9104] = rol 5 ^ ebx + ecx
  "c705b000e0fe00000000 58 cf"; // EOI; pop eax; iretd

function bytesOf(hex: string): Uint8Array {
  return Uint8Array.from(hex.replaceAll(" ", "").match(/../g) ?? [], (byte) => Number.parseInt(byte, 16));
}

export function imageOf(code: string): BootImage {
  const gate = new Uint8Array(8), pointer = new Uint8Array(6);
  const gateView = new DataView(gate.buffer), pointerView = new DataView(pointer.buffer);
  gateView.setUint16(0, handlerAddress & 0xffff, true);
  gateView.setUint16(2, 0x10, true);
  gateView.setUint32(4, (handlerAddress & 0xffff_0000) | 0x8e00, true);
  pointerView.setUint16(0, 0x7ff, true);
  pointerView.setUint32(2, idtAddress, true);
  const place = (name: string, address: number, bytes: Uint8Array): MemoryWrite => ({ name, address, bytes, sizeBytes: bytes.length });
  return {
    protocol: "multiboot1", mode: "protected32",
    writes: [
      place("code", codeAddress, bytesOf(code)), place("handler", handlerAddress, bytesOf(handler)),
      place("gdt", tableAddress, createDescriptorTable(0xc09b)), place("idt", idtAddress + timerVector * 8, gate),
      place("idtr", pointerAddress, pointer),
    ],
    registers: protectedModeRegisters({ rip: codeAddress, general: { rsp: 0x7000 }, descriptorTable: tableAddress }),
  };
}


export const machineConfig: MachineConfig = {
  memorySizeBytes: 16 << 20, cpu: "intel-v2", clock: { mode: "deterministic", nsPerInstruction }, startEpochMs: 0,
  fillRandom: (target) => void target.fill(4), disks: [], devices: defaultDevices, onSerial: () => undefined,
};
