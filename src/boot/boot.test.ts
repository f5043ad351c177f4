import { describe, expect, test } from "vitest";
import { UserError, type UserErrorCode } from "../base/errors.ts";
import { ascii, concatBytes, dataView, mebibyte } from "./bytes.ts";
import { parseBzImage } from "./bzimage.ts";
import type { BootImage } from "./contract.ts";
import { writeCpio } from "./cpio.ts";
import { parseElf } from "./elf.ts";
import { loadKernel, type KernelBootOptions } from "./kernel.ts";
import { createMemoryMap, encodeE820 } from "./memory-map.ts";
import { makeBzImage, makeElf, multiboot1Header, multiboot2Header, pvhNote } from "./testing/images.ts";

const memory = createMemoryMap(256 * mebibyte);
const code = Uint8Array.from({ length: 5000 }, (_, i) => i);

function load(kernel: Uint8Array, more: Partial<KernelBootOptions> = {}): BootImage {
  return loadKernel({ kernel, commandLine: "console=ttyS0", memory, ...more });
}

interface Materialized {
  readonly bytes: (address: number, sizeBytes: number) => Uint8Array;
  readonly u32: (address: number) => number;
  readonly u64: (address: number) => number;
  readonly text: (address: number) => string;
}

/** What the image's writes leave in memory. */
function materialize(image: BootImage): Materialized {
  const bytes = (address: number, sizeBytes: number): Uint8Array => {
    const result = new Uint8Array(sizeBytes);
    for (const write of image.writes) {
      for (let i = Math.max(address, write.address); i < Math.min(address + sizeBytes, write.address + write.bytes.length); i++) result[i - address] = write.bytes[i - write.address];
    }
    return result;
  };
  return {
    bytes,
    u32: (address) => dataView(bytes(address, 4)).getUint32(0, true),
    u64: (address) => Number(dataView(bytes(address, 8)).getBigUint64(0, true)),
    text: (address) => new TextDecoder().decode(bytes(address, 100)).replace(/\0.*$/su, ""),
  };
}

function failure(action: () => unknown): { code: UserErrorCode | "none"; message: string } {
  try {
    action();
  } catch (error) {
    if (error instanceof UserError) return { code: error.code, message: error.message };
    throw error;
  }
  return { code: "none", message: "" };
}

describe("memory map", () => {
  test("leaves the PCI hole out and puts the rest above 4 GiB", () => {
    const map = createMemoryMap(5 * 1024 * mebibyte);
    expect(map.ram).toEqual([
      { address: 0, sizeBytes: 0x8000_0000, ramOffset: 0 },
      { address: 0x1_0000_0000, sizeBytes: 0xc000_0000, ramOffset: 0x8000_0000 },
    ]);
    for (const [i, region] of map.regions.slice(1).entries()) expect(region.address).toBeGreaterThanOrEqual(map.regions[i].address + map.regions[i].sizeBytes);
    const table = encodeE820(map.regions);
    expect(table.length).toBe(20 * map.regions.length);
  });

  test("of 1 MiB has nothing above the BIOS area", () => {
    expect(createMemoryMap(mebibyte).regions.filter(({ kind }) => kind === "ram")).toEqual([{ address: 0, sizeBytes: 0x9_fc00, kind: "ram" }]);
  });

  test.each([0, -1, 1.5, mebibyte - 1, mebibyte + 1, Number.NaN, 2 ** 41])("of %d bytes is refused", (size) => {
    expect(failure(() => createMemoryMap(size)).code).toBe("BAD_MEMORY_SIZE");
  });
});

describe("Linux", () => {
  test("starts in 64-bit mode at 0x200 of the kernel, with the zero page filled in", () => {
    const initrd = Uint8Array.from({ length: 5000 }, () => 0xab);
    const image = load(makeBzImage(), { initrd, rsdp: { address: 0xe_0000, bytes: new Uint8Array(36) }, hasVgaText: true });
    const { registers } = image;
    expect(image).toMatchObject({ protocol: "linux64", mode: "long64" });
    expect(registers).toMatchObject({ rip: 0x100_0200, rflags: 2, cr0: 0x8000_0031, cr4: 0x20, efer: 0x500 });
    expect(registers.cs).toEqual({ selector: 0x10, base: 0, limit: 0xffff_ffff, attributes: 0xa09b });
    const { bytes, u32, u64, text } = materialize(image);
    const zeroPage = registers.general.rsi;
    expect(bytes(zeroPage + 0x202, 4)).toEqual(ascii("HdrS"));
    expect(bytes(zeroPage + 0x210, 1)[0]).toBe(0xff);
    expect(u64(zeroPage + 0x70)).toBe(0xe_0000);
    expect(bytes(zeroPage + 0x06, 2)).toEqual(Uint8Array.of(3, 80));
    expect(text(u32(zeroPage + 0x228))).toBe("console=ttyS0");
    expect([u32(zeroPage + 0x218) % 4096, u32(zeroPage + 0x21c)]).toEqual([0, initrd.length]);
    expect(bytes(u32(zeroPage + 0x218), initrd.length)).toEqual(initrd);
    expect(bytes(zeroPage + 0x1e8, 1)[0]).toBe(memory.regions.length);
    expect(bytes(zeroPage + 0x2d0, 20)).toEqual(encodeE820(memory.regions).subarray(0, 20));
  });

  test("page tables map the first 4 GiB to themselves", () => {
    const image = load(makeBzImage());
    const { u64 } = materialize(image);
    for (const address of [0, 0x1234_5678, 0x8000_0000, 0xffff_ffff]) {
      const directory = u64((u64(image.registers.cr3) & ~0xfff) + 8 * Math.floor(address / 2 ** 30));
      const entry = u64(directory - (directory % 4096) + 8 * (Math.floor(address / 2 ** 21) % 512));
      expect(entry).toBe(address - (address % 2 ** 21) + 0x83);
    }
  });

  test("uses the 32-bit entry of kernels that have no other", () => {
    const image = load(makeBzImage({ extendedLoadFlags: 0 }));
    const { registers } = image;
    expect(image).toMatchObject({ protocol: "linux32", mode: "protected32", registers: { rip: 0x100_0000, rflags: 2, cr0: 0x11, cr3: 0, cr4: 0, efer: 0 } });
    const flat = { base: 0, limit: 0xffff_ffff };
    expect([registers.cs, registers.ds, registers.es, registers.ss]).toEqual([
      { ...flat, selector: 0x10, attributes: 0xc09b }, ...Array.from({ length: 3 }, () => ({ ...flat, selector: 0x18, attributes: 0xc093 })),
    ]);
    const { bytes, u32 } = materialize(image);
    expect(bytes(registers.general.rsi + 0x202, 4)).toEqual(ascii("HdrS"));
    // Flat 32-bit code and flat data, as the registers have them.
    expect([0x10, 0x14, 0x18, 0x1c].map((offset) => u32(registers.gdtr.base + offset))).toEqual([0xffff, 0x00cf_9b00, 0xffff, 0x00cf_9300]);
  });

  test("describes the kernel", () => {
    expect(parseBzImage(makeBzImage())).toMatchObject({ kernelVersion: "6.6.6-test", version: 0x20f, has64BitEntry: true, payloadFormat: "unknown" });
  });

  test.each<[string, UserErrorCode, RegExp, () => unknown]>([
    ["an empty file", "BAD_IMAGE", /empty/u, () => load(new Uint8Array(0))],
    ["a text", "BAD_IMAGE", /script/u, () => load(ascii("#!/bin/sh\n"))],
    ["a gzip file", "BAD_IMAGE", /gzip/u, () => load(Uint8Array.of(0x1f, 0x8b, 8, 0))],
    ["a disk", "BAD_IMAGE", /--disk/u, () => load(concatBytes([new Uint8Array(510), Uint8Array.of(0x55, 0xaa), new Uint8Array(4096)]))],
    ["a kernel for ARM", "BAD_IMAGE", /ARM/u, () => load(concatBytes([ascii("MZ"), new Uint8Array(0x36), ascii("ARM\x64")]))],
    ["a truncated kernel", "BAD_IMAGE", /cut off/u, () => load(makeBzImage().subarray(0, 20_000))],
    ["a kernel cut in its header", "BAD_IMAGE", /header/u, () => load(makeBzImage().subarray(0, 0x240))],
    ["an old protocol", "BAD_IMAGE", /2\.05/u, () => load(makeBzImage({ version: 0x205 }))],
    ["a long command line", "BAD_ARGUMENT", /at most 20/u, () => load(makeBzImage({ commandLineSize: 20 }), { commandLine: "x".repeat(21) })],
    ["a command line with a zero", "BAD_ARGUMENT", /zero/u, () => load(makeBzImage(), { commandLine: "a\0b" })],
    ["too little memory", "BAD_MEMORY_SIZE", /at least 18 MiB .* has 16 MiB/u, () => load(makeBzImage(), { memory: createMemoryMap(16 * mebibyte) })],
    ["1 MiB of memory", "BAD_MEMORY_SIZE", /18 MiB/u, () => load(makeBzImage(), { memory: createMemoryMap(mebibyte) })],
    ["an initrd that does not fit", "BAD_MEMORY_SIZE", /at least 260 MiB/u, () => load(makeBzImage(), { initrd: new Uint8Array(242 * mebibyte) })],
    ["an initrd above its limit", "BAD_IMAGE", /initial RAM/u, () => load(makeBzImage({ initrdAddressMaximum: 0x140_0000 }), { initrd: new Uint8Array(3 * mebibyte) })],
    ["modules", "BAD_ARGUMENT", /modules/u, () => load(makeBzImage(), { modules: [{ bytes: code, commandLine: "" }] })],
  ])("refuses %s", (_, errorCode, message, action) => {
    expect(failure(action)).toEqual({ code: errorCode, message: expect.stringMatching(message) as string });
  });
});

describe("PVH", () => {
  const kernel = makeElf(true, 0x100_0000, [{ physicalAddress: 0x100_0000, bytes: code, sizeBytes: 9000 }, { type: 4, physicalAddress: 0, bytes: pvhNote(0x100_0100) }]);

  test("starts at the note's entry with the start information in EBX", () => {
    const image = load(kernel, { initrd: code, modules: [{ bytes: code.subarray(7), commandLine: "second" }] });
    expect(image).toMatchObject({ protocol: "pvh", mode: "protected32", registers: { rip: 0x100_0100, cr0: 0x11, cr3: 0, efer: 0 } });
    const { bytes, u32, u64, text } = materialize(image);
    const info = image.registers.general.rbx;
    expect([u32(info), u32(info + 4), u32(info + 12)]).toEqual([0x336e_c578, 1, 2]);
    expect(text(u64(info + 24))).toBe("console=ttyS0");
    const modules = u64(info + 16);
    expect(bytes(u64(modules), code.length)).toEqual(code);
    expect([u64(modules + 8), u64(modules + 32 + 8), text(u64(modules + 32 + 16))]).toEqual([5000, 4993, "second"]);
    expect(u32(info + 48)).toBe(memory.regions.length);
    expect(u64(u64(info + 40) + 8)).toBe(0x9_fc00);
  });

  test("finds a stored ELF file in a bzImage", () => {
    expect(load(makeBzImage({ payload: kernel }), { protocol: "pvh" }).registers.rip).toBe(0x100_0100);
  });

  test("unpacks LZ4", () => {
    // One literal run of 12 bytes and a match 12 back, by hand.
    const literals = kernel.subarray(0, 12);
    const rest = kernel.subarray(12);
    const runs: Uint8Array[] = [];
    const length = rest.length + 12;
    runs.push(Uint8Array.of(0xf0), Uint8Array.from({ length: Math.floor((length - 15) / 255) }, () => 255), Uint8Array.of((length - 15) % 255), literals, rest);
    const block = concatBytes(runs);
    const words = (value: number): Uint8Array => Uint8Array.of(value & 0xff, (value >> 8) & 0xff, (value >> 16) & 0xff, value >>> 24);
    const payload = concatBytes([ascii("\x02\x21\x4c\x18"), words(block.length), block, words(kernel.length)]);
    expect(load(makeBzImage({ payload }), { protocol: "pvh" }).registers.rip).toBe(0x100_0100);
    const damaged = payload.slice();
    damaged.fill(0, 12, 40);
    expect(failure(() => load(makeBzImage({ payload: damaged }), { protocol: "pvh" })).code).toBe("BAD_IMAGE");
  });

  test.each<[string, UserErrorCode, RegExp, () => unknown]>([
    ["an ELF file without entry", "BAD_IMAGE", /neither a PVH entry nor a multiboot header/u, () => load(makeElf(true, 0, [{ physicalAddress: 0x100_0000, bytes: code }]))],
    ["an ELF file for another processor", "BAD_IMAGE", /another processor \(machine 243\)/u, () => load(Uint8Array.from(kernel, (byte, i) => (i === 18 ? 243 : byte)))],
    ["a truncated ELF file", "BAD_IMAGE", /cut off/u, () => load(kernel.subarray(0, 2000))],
    ["segments over each other", "BAD_IMAGE", /overlap/u, () => load(makeElf(true, 0, [
      { physicalAddress: 0x100_0000, bytes: code }, { physicalAddress: 0x100_1000, bytes: code }, { type: 4, physicalAddress: 0, bytes: pvhNote(1) }]))],
    ["a segment in the BIOS area", "BAD_IMAGE", /no memory/u, () => load(makeElf(true, 0, [{ physicalAddress: 0xa_0000, bytes: code }, { type: 4, physicalAddress: 0, bytes: pvhNote(1) }]))],
    ["a segment beyond RAM", "BAD_MEMORY_SIZE", /at least 513 MiB/u, () => load(makeElf(true, 0, [{ physicalAddress: 0x2000_0000, bytes: code }, { type: 4, physicalAddress: 0, bytes: pvhNote(1) }]))],
    ["a bzImage packed with xz", "BAD_IMAGE", /xz/u, () => load(makeBzImage({ payload: ascii("\xfd7zXZ\0\0\0") }), { protocol: "pvh" })],
  ])("refuses %s", (_, errorCode, message, action) => {
    expect(failure(action)).toEqual({ code: errorCode, message: expect.stringMatching(message) as string });
  });
});

describe("multiboot 1", () => {
  const elf = makeElf(false, 0x10_0020, [{ physicalAddress: 0x10_0000, bytes: concatBytes([multiboot1Header(3), code]), sizeBytes: 8000 }]);

  test("loads ELF32 with modules, memory map, command line and loader name", () => {
    const image = load(elf, { initrd: code, modules: [{ bytes: code.subarray(1), commandLine: "two" }] });
    expect(image).toMatchObject({ protocol: "multiboot1", registers: { rip: 0x10_0020, general: { rax: 0x2bad_b002 } } });
    const { bytes, u32, text } = materialize(image);
    const info = image.registers.general.rbx;
    expect(u32(info) & 0x24d).toBe(0x24d);
    expect([u32(info + 4), u32(info + 8)]).toEqual([639, 255 * 1024]);
    expect(text(u32(info + 16))).toBe("kernel console=ttyS0");
    expect(text(u32(info + 64))).toBe("Ringmaster");
    const modules = u32(info + 24);
    expect([u32(info + 20), u32(modules + 4) - u32(modules), text(u32(modules + 8)), text(u32(modules + 16 + 8))]).toEqual([2, 5000, "module", "module two"]);
    expect(bytes(u32(modules), code.length)).toEqual(code);
    expect([u32(info + 44), u32(u32(info + 48)), u32(u32(info + 48) + 12)]).toEqual([memory.regions.length * 24, 20, 0x9_fc00]);
  });

  test("loads a raw image by the addresses in its header", () => {
    const header = multiboot1Header(0x1_0003, [0x10_0010, 0x10_0000, 0, 0x11_0000, 0x10_0040]);
    const image = load(concatBytes([new Uint8Array(64), header, code]), {});
    const [kernel] = image.writes;
    expect([kernel.address, kernel.bytes.length, kernel.sizeBytes, image.registers.rip]).toEqual([0x10_0000, 16 + header.length + code.length, 0x1_0000, 0x10_0040]);
  });

  test("starts kernels that are linked high at their physical entry", () => {
    const high = makeElf(false, 0xc010_0020, [{ physicalAddress: 0x10_0000, virtualAddress: 0xc010_0000, bytes: concatBytes([multiboot1Header(0), code]) }]);
    expect(load(high).registers.rip).toBe(0x10_0020);
  });

  test("refuses unknown requirements and bad addresses", () => {
    expect(failure(() => load(concatBytes([multiboot1Header(0x8000), code]))).message).toMatch(/requires features 0x8000/u);
    expect(failure(() => load(concatBytes([multiboot1Header(3), code]))).message).toMatch(/no ELF file/u);
    expect(failure(() => load(concatBytes([multiboot1Header(0x1_0000, [0x10_0000, 0x20_0000, 0, 0, 0]), code]))).code).toBe("BAD_IMAGE");
    expect(failure(() => load(concatBytes([multiboot1Header(0x1_0000, [0x10_0000, 0x10_0000, 0x90_0000, 0, 0]), code]))).message).toMatch(/cut off/u);
  });
});

describe("multiboot 2", () => {
  test("loads ELF with every tag it tells", () => {
    const kernel = makeElf(false, 0x10_0000, [{ physicalAddress: 0x10_0000, bytes: concatBytes([new Uint8Array(4), multiboot2Header([[1, 0, 1, 4, 6]]), code]) }]);
    // The header must lie on 8 bytes of the file: 52 + 32 bytes of ELF headers are followed by 4.
    const image = load(kernel, { initrd: code, rsdp: { address: 0xe_0000, bytes: new Uint8Array(36).fill(7) } });
    expect(image).toMatchObject({ protocol: "multiboot2", registers: { general: { rax: 0x36d7_6289 } } });
    const { u32, bytes, text } = materialize(image);
    const info = image.registers.general.rbx;
    const tags = new Map<number, number>();
    let at = info + 8;
    while (at < info + u32(info)) {
      tags.set(u32(at), at);
      at += Math.ceil(u32(at + 4) / 8) * 8;
    }
    expect(at).toBe(info + u32(info));
    expect([...tags.keys()]).toEqual([1, 2, 4, 6, 15, 3, 0]);
    expect(text((tags.get(1) ?? 0) + 8)).toBe("console=ttyS0");
    const moduleTag = tags.get(3) ?? 0;
    expect(bytes(u32(moduleTag + 8), code.length)).toEqual(code);
    expect(u32(moduleTag + 12) - u32(moduleTag + 8)).toBe(code.length);
  });

  test("loads a raw image by its address tag", () => {
    const kernel = concatBytes([multiboot2Header([[2, 0, 0x10_0000, 0x10_0000, 0, 0x11_0000], [3, 0, 0x10_0200]]), code]);
    expect(load(kernel)).toMatchObject({ protocol: "multiboot2", registers: { rip: 0x10_0200 } });
  });

  test("refuses what it cannot do", () => {
    expect(failure(() => load(concatBytes([multiboot2Header([[1, 0, 8]]), code]))).message).toMatch(/tags 8/u);
    expect(failure(() => load(concatBytes([multiboot2Header([[99, 0, 1]]), code]))).message).toMatch(/header tags 99/u);
    expect(failure(() => load(concatBytes([multiboot2Header([[2, 0, 0x10_0000, 0x20_0000, 0, 0]]), code]))).code).toBe("BAD_IMAGE");
  });
});

test("ELF notes are read to the end of their segment and no further", () => {
  const note = pvhNote(5);
  const cut = makeElf(true, 0, [{ physicalAddress: 0x10_0000, bytes: code }, { type: 4, physicalAddress: 0, bytes: note.subarray(0, 18) }]);
  expect(parseElf(cut).notes).toEqual([]);
  const two = makeElf(true, 0, [{ physicalAddress: 0x10_0000, bytes: code }, { type: 4, physicalAddress: 0, bytes: concatBytes([note, note]) }]);
  expect(parseElf(two).notes.map(({ owner, type }) => [owner, type])).toEqual([["Xen", 18], ["Xen", 18]]);
});

test("cpio archives have the form that the kernel unpacks", () => {
  const archive = writeCpio([
    { kind: "directory", path: "dev" },
    { kind: "character-device", path: "dev/console", major: 5, minor: 1 },
    { kind: "file", path: "größe", bytes: ascii("12345"), permissions: 0o755 },
    { kind: "symlink", path: "link", target: "größe" },
  ]);
  const text = new TextDecoder().decode(archive);
  expect(archive.length % 4).toBe(0);
  expect(text.match(/070701/gu)).toHaveLength(5);
  expect(text).toContain("TRAILER!!!");
  expect(text.slice(6 + 8, 6 + 16)).toBe("000041ED");
});
