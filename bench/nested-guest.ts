/**
 * The guest of the bench "nested": a hypervisor of a few instructions under SVM, with nested paging, whose guest does nothing
 * but leave it. It writes a letter to COM1 before each kind of exit, and one after the last.
 */
import { multibootKernel } from "../tests/cli/tiny-guest.ts";

/** In the order in which the guest comes to them. */
export const nestedExitKinds = ["vmmcall", "cpuid", "port", "nested page fault"] as const;

const serialPort = 0x3f8, endPort = 0xf4;
const Place = { vmcb: 0x20_0000, portMap: 0x21_0000, hostTable: 0x30_0000, nestedTable: 0x31_0000, code: 0x8000 } as const;
/** Where nested tables map nothing, and no RAM is. */
const absent = 0x4000_0000;
/** Present, writable, user, 2 MiB. */
const largePage = 0x87;
const present = 1;
const pageBytes = 0x1000, largePageBytes = 0x20_0000;
const Vmcb = {
  interceptMisc1: 0x0c, interceptMisc2: 0x10, iopmBase: 0x40, asid: 0x58, nestedControl: 0x90, nestedCr3: 0xb0,
  cs: 0x410, ds: 0x430, efer: 0x4d0, cr4: 0x548, cr3: 0x550, cr0: 0x558, rip: 0x578, pat: 0x668,
} as const;
const Misc1 = { cpuid: 1 << 18, ioio: 1 << 27 } as const;
const Misc2 = { vmrun: 1, vmmcall: 2 } as const;

function word(value: number): number[] {
  return [value & 0xff, (value >>> 8) & 0xff, (value >>> 16) & 0xff, value >>> 24];
}

/** mov dword [address], value */
function store(address: number, value: number): number[] {
  return [0xc7, 0x05, ...word(address), ...word(value)];
}

function field(offset: number, value: number): number[] {
  return store(Place.vmcb + offset, value);
}

function writeByte(port: number, value: number): number[] {
  return [0xba, ...word(port), 0xb0, value, 0xee];
}

/**
 * PAE tables that leave all of memory where it is, in pages of 2 MiB: four pointers, then four directories in a row.
 * mov edi, directories; mov eax, entry; mov ecx, 2048; L: stosd; mov dword [edi], 0; add edi, 4; add eax, 2 MiB; loop L
 */
function identityTables(at: number): number[] {
  const directories = at + pageBytes;
  const pointers = [0, 1, 2, 3].flatMap((index) => [...store(at + index * 8, directories + index * pageBytes + present), ...store(at + index * 8 + 4, 0)]);
  const fill = [0xab, 0xc7, 0x07, 0, 0, 0, 0, 0x83, 0xc7, 4, 0x05, ...word(largePageBytes)];
  return [...pointers, 0xbf, ...word(directories), 0xb8, ...word(largePage), 0xb9, ...word(2048), ...fill, 0xe2, 0x100 - (fill.length + 2)];
}

/** What the guest of the guest does in a loop of its own, by kind: an instruction that leaves, and a jump back to it. */
const leaving: readonly (readonly number[])[] = [
  [0x0f, 0x01, 0xd9],
  [0x0f, 0xa2],
  [0xe6, 0x80],
  [0xa0, 0, 0, 0, 0], // mov al, [0], with DS at the absent address
];

/** Enters `count` times, each time behind what has left. */
function loop(instruction: readonly number[], count: number): number[] {
  const jump = [0xeb, 0x100 - (instruction.length + 2)];
  const code = [...instruction, ...jump, 0, 0, 0].slice(0, 8);
  const [low, high] = [code.slice(0, 4), code.slice(4)].map((bytes) => bytes.reduce((sum, byte, index) => sum + byte * 2 ** (8 * index), 0));
  const enter = [
    0xb8, ...word(Place.vmcb), 0x0f, 0x01, 0xd8, // mov eax, vmcb; vmrun
    0x83, 0x05, ...word(Place.vmcb + Vmcb.rip), instruction.length, // add dword [rip], length
    0x4e, // dec esi
  ];
  return [
    ...store(Place.code, low), ...store(Place.code + 4, high), ...field(Vmcb.rip, Place.code),
    0xbe, ...word(count), // mov esi, count
    ...enter, 0x75, 0x100 - (enter.length + 2),
  ];
}

/** A multiboot kernel; each side warms up before the first letter. */
export function nestedExitsGuest(count: number): Uint8Array {
  const kinds = leaving.map((instruction) => loop(instruction, count));
  const letters = "ABCDE";
  return multibootKernel([
    0xb9, ...word(0xc000_0080), 0x0f, 0x32, 0x0d, ...word(0x1000), 0x0f, 0x30, // EFER.SVME
    ...identityTables(Place.hostTable), ...identityTables(Place.nestedTable), ...store(Place.nestedTable + pageBytes + (absent / largePageBytes) * 8, 0),
    ...store(Place.portMap + 0x80 / 8, 1),
    0x0f, 0x20, 0xe0, 0x83, 0xc8, 0x20, 0x0f, 0x22, 0xe0, // CR4.PAE
    0xb8, ...word(Place.hostTable), 0x0f, 0x22, 0xd8, // CR3
    0x0f, 0x20, 0xc0, 0x0d, ...word(0x8000_0000), 0x0f, 0x22, 0xc0, // CR0.PG
    ...field(Vmcb.interceptMisc1, Misc1.cpuid | Misc1.ioio), ...field(Vmcb.interceptMisc2, Misc2.vmrun | Misc2.vmmcall),
    ...field(Vmcb.iopmBase, Place.portMap), ...field(Vmcb.asid, 1), ...field(Vmcb.nestedControl, 1), ...field(Vmcb.nestedCr3, Place.nestedTable),
    // Flat, and with paging: without, QEMU leaves out the nested tables.
    ...field(Vmcb.cs, 0xc9b_0000), ...field(Vmcb.cs + 4, 0xffff_ffff), ...field(Vmcb.ds, 0xc93_0000), ...field(Vmcb.ds + 4, 0xffff_ffff),
    ...field(Vmcb.ds + 8, absent), ...field(Vmcb.efer, 0x1000), ...field(Vmcb.cr4, 0x20), ...field(Vmcb.cr3, Place.hostTable), ...field(Vmcb.cr0, 0x8000_0011), ...field(Vmcb.pat, 0x0007_0406), ...field(Vmcb.pat + 4, 0x0007_0406),
    ...leaving.flatMap((instruction) => loop(instruction, Math.ceil(count / 8))),
    ...kinds.flatMap((kind, index) => [...writeByte(serialPort, letters.charCodeAt(index)), ...kind]),
    ...writeByte(serialPort, letters.charCodeAt(kinds.length)), ...writeByte(endPort, 0), 0xfa, 0xf4, 0xeb, 0xfd,
  ]);
}
