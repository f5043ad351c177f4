/** Guests of a few bytes for tests of the command line: multiboot 1 images without ELF around them. */

const loadAddress = 0x10_0000;
const headerBytes = 32;

/** A kernel that starts with `code` in flat 32-bit protected mode. */
export function multibootKernel(code: readonly number[]): Uint8Array {
  const image = new Uint8Array(headerBytes + code.length);
  const view = new DataView(image.buffer);
  const magic = 0x1bad_b002, hasAddressesMask = 0x1_0000;
  const fields = [magic, hasAddressesMask, -(magic + hasAddressesMask), loadAddress, loadAddress, 0, 0, loadAddress + headerBytes];
  fields.forEach((field, index) => view.setUint32(4 * index, field >>> 0, true));
  image.set(code, headerBytes);
  return image;
}

const jumpToSelf = [0xeb, 0xfe];

function outByte(port: number, value: number): number[] {
  // mov edx, port; mov al, value; out dx, al
  return [0xba, port & 0xff, port >> 8, 0, 0, 0xb0, value, 0xee];
}

/** Writes `value` to isa-debug-exit. */
export const debugExit = (value: number): Uint8Array => multibootKernel([...outByte(0xf4, value), ...jumpToSelf]);

/** Writes `text` to COM1, then ends with debug-exit 0. */
export const greeting = (text: string): Uint8Array => multibootKernel([
  ...[...Buffer.from(text)].flatMap((byte) => outByte(0x3f8, byte)), ...outByte(0xf4, 0), ...jumpToSelf,
]);

/** UD2, whose exception cannot be delivered without an IDT. */
const invalidInstruction = [0x0f, 0x0b];
const hardReset = [...outByte(0xcf9, 6), ...jumpToSelf];

/** Polls COM1's line status until there is a character: mov edx, 0x3fd; in al, dx; test al, 1; jz -5. */
const awaitInput = [0xba, 0xfd, 0x03, 0, 0, 0xec, 0xa8, 0x01, 0x74, 0xfb];

export const tripleFault = (): Uint8Array => multibootKernel(invalidInstruction);

export const tripleFaultAfterInput = (): Uint8Array => multibootKernel([...awaitInput, ...invalidInstruction]);

/** Jumps to itself. */
export const endlessLoop = (): Uint8Array => multibootKernel(jumpToSelf);

/** Reads COM1's line status over and over: mov edx, 0x3fd; in al, dx; jmp -3. */
export const portPoller = (): Uint8Array => multibootKernel([0xba, 0xfd, 0x03, 0, 0, 0xec, 0xeb, 0xfd]);

/** CLI, HLT: waits for what never comes. */
export const endlessSleep = (): Uint8Array => multibootKernel([0xfa, 0xf4, 0xeb, 0xfd]);

/** A hard reset through port 0xCF9. */
export const reset = (): Uint8Array => multibootKernel(hardReset);

export const resetAfterInput = (): Uint8Array => multibootKernel([...awaitInput, ...hardReset]);

/** Keeps every character it gets in memory at 2 MiB, and prints all of them after each. */
export const rememberer = (): Uint8Array => multibootKernel([
  0xbb, 0, 0, 0x20, 0, // mov ebx, 0x200000
  ...awaitInput,
  0xba, 0xf8, 0x03, 0, 0, 0xec, 0x88, 0x03, 0x43, // mov edx, 0x3f8; in al, dx; mov [ebx], al; inc ebx
  0xbe, 0, 0, 0x20, 0, // mov esi, 0x200000
  0x8a, 0x06, 0xee, 0x46, 0x39, 0xde, 0x72, 0xf8, // L: mov al, [esi]; out dx, al; inc esi; cmp esi, ebx; jb L
  0xeb, 0xde,
]);

/** A bzImage header that tells of more than there is. */
export function truncatedBzImage(): Uint8Array {
  const image = new Uint8Array(4096);
  const view = new DataView(image.buffer);
  view.setUint8(0x1f1, 4);
  view.setUint32(0x1f4, 0x10_0000, true);
  view.setUint16(0x1fe, 0xaa55, true);
  image.set(Buffer.from("HdrS"), 0x202);
  view.setUint16(0x206, 0x20f, true);
  view.setUint8(0x211, 1);
  return image;
}

/** A master boot record with one partition of `sectors` sectors after the first 2048, in an image of `sizeBytes`. */
export function partitionedDisk(sizeBytes: number, sectors: number): Uint8Array {
  const image = new Uint8Array(sizeBytes);
  const view = new DataView(image.buffer);
  view.setUint8(446 + 4, 0x83);
  view.setUint32(446 + 8, 2048, true);
  view.setUint32(446 + 12, sectors, true);
  view.setUint16(510, 0xaa55, true);
  return image;
}

function littleEndian(value: number): number[] {
  return [value & 0xff, (value >>> 8) & 0xff, (value >>> 16) & 0xff, value >>> 24];
}

/** mov dword [address], value */
function store(address: number, value: number): number[] {
  return [0xc7, 0x05, ...littleEndian(address), ...littleEndian(value)];
}

/** Where the VMCB of `tinyHypervisor` is. */
export const tinyVmcbAddress = 0x20_0000;
const tinyGuestAddress = 0x8000;

/**
 * Switches SVM on and enters a real-mode guest that executes CPUID, then HLT, both intercepted; a third entry is refused,
 * because the ASID is zero. Then it `ends`, or waits for good with that VMCB.
 */
export const tinyHypervisor = (ends: boolean): Uint8Array => {
  const vmcb = tinyVmcbAddress, run = [0x0f, 0x01, 0xd8];
  const cpuid = 1 << 18, halt = 1 << 24, vmrun = 1, efer = 0x1000;
  return multibootKernel([
    // mov ecx, EFER; rdmsr; or eax, SVME; wrmsr
    0xb9, ...littleEndian(0xc000_0080), 0x0f, 0x32, 0x0d, ...littleEndian(efer), 0x0f, 0x30,
    ...store(vmcb + 0x0c, cpuid | halt), ...store(vmcb + 0x10, vmrun), ...store(vmcb + 0x58, 1), ...store(vmcb + 0x4d0, efer),
    ...store(vmcb + 0x558, 0x10), ...store(vmcb + 0x410, 0x9b_0000), ...store(vmcb + 0x414, 0xffff), ...store(vmcb + 0x578, tinyGuestAddress),
    ...store(tinyGuestAddress, 0x00f4_a20f),
    0xb8, ...littleEndian(vmcb), ...run,
    ...store(vmcb + 0x578, tinyGuestAddress + 2), ...run,
    ...store(vmcb + 0x58, 0), ...run,
    ...(ends ? outByte(0xf4, 0) : [0xf4]), ...jumpToSelf,
  ]);
};
