import { describe, expect, test } from "vitest";
import { FlagMask } from "../isa/flags.ts";
import * as state from "../isa/state.ts";
import { Cr0Mask, Cr4Mask, EferMask } from "../isa/system/mode.ts";
import { hostSpace } from "./mmu.ts";
import type { SecondStage } from "./page-walk.ts";
import { EngineMachine, PageBit, Place, Select, type EngineMachineOptions } from "./testing/engine-machine.ts";

const all = PageBit.present | PageBit.writable | PageBit.user;
const rax = 0, rbx = 3, rbp = 5;
const done = 0x80;
const int80 = "cd80";
const load64 = "488b03"; // mov rax, [rbx]
const store64 = "488903"; // mov [rbx], rax
const invlpg = "0f013b"; // invlpg [rbx]
const writeCr3 = "0f22da"; // mov cr3, rdx

interface Attempt {
  readonly machine: EngineMachine;
  readonly code: string;
  readonly address: bigint;
  readonly value?: bigint;
  readonly rdx?: bigint;
  readonly cpl?: 0 | 3;
  readonly flags?: number;
}

/** Runs `code`, with RBX the address and RAX the value, up to INT 80h or whatever stops it first. */
function attempt({ machine, code, address, value = 0n, rdx = 0n, cpl = 0, flags = 0 }: Attempt): { vector: number; errorCode: bigint; cr2: bigint; rax: bigint } {
  machine.enter(cpl);
  machine.physical.writeRange(Place.code, new Uint8Array(32).fill(0x90));
  machine.physical.writeRange(Place.code, Uint8Array.from(Buffer.from(code + int80, "hex")));
  machine.setRegister(rbx, address);
  machine.setRegister(rax, value);
  machine.setRegister(2, rdx);
  machine.setFlags(flags);
  expect(machine.run(1000)).toBe("halted");
  const delivered = machine.delivered();
  if (delivered === undefined) throw new Error(`halted at ${machine.rip.toString(16)}`);
  return { vector: delivered.vector, errorCode: delivered.errorCode, cr2: delivered.cr2, rax: machine.register(rax) };
}

function longMachine(options: EngineMachineOptions = {}): EngineMachine {
  const machine = new EngineMachine({ ramBytes: 0x40_0000, ...options });
  machine.longMode();
  return machine;
}

function setControl(machine: EngineMachine, field: state.StateField, mask: number): void {
  const s = machine.processor.state;
  s.set64(field, s.get64(field) | BigInt(mask));
  machine.processor.modeChanged();
}

function setTable(machine: EngineMachine, table: number, index: number, entry: bigint): void {
  machine.view.setBigUint64(table + index * 8, entry, true);
}

const data = BigInt(Place.data);

describe("translations", () => {
  test("are made once and then found by generated code", () => {
    const machine = longMachine();
    machine.view.setBigUint64(Place.data + 8, 0x1122_3344_5566_7788n, true);
    attempt({ machine, code: load64, address: data });
    const { slowLoads } = machine.processor.memory.counters;
    expect(attempt({ machine, code: load64, address: data + 8n }).rax).toBe(0x1122_3344_5566_7788n);
    expect(machine.processor.memory.counters.slowLoads).toBe(slowLoads);
  });

  test("the first store to a clean page sets its dirty bit, also when a load came before", () => {
    const machine = longMachine();
    attempt({ machine, code: load64, address: data });
    expect(machine.page(Place.data) & (PageBit.accessed | PageBit.dirty)).toBe(PageBit.accessed);
    attempt({ machine, code: store64, address: data, value: 5n });
    expect(machine.page(Place.data) & PageBit.dirty).toBe(PageBit.dirty);
    expect(machine.view.getBigUint64(Place.data, true)).toBe(5n);
  });

  test("INVLPG makes a changed entry count", () => {
    const machine = longMachine();
    machine.view.setUint32(Place.data + 0x1000, 77, true);
    attempt({ machine, code: load64, address: data });
    machine.setPage(Place.data, BigInt(Place.data + 0x1000) | all);
    expect(attempt({ machine, code: invlpg + load64, address: data }).rax).toBe(77n);
  });

  test("INVLPG within a large page voids all of it", () => {
    const machine = longMachine();
    setTable(machine, Place.level2, 8, all | PageBit.large);
    const linear = 0x100_0000n;
    machine.view.setUint32(0x21_0000, 1, true);
    attempt({ machine, code: load64, address: linear + data });
    attempt({ machine, code: load64, address: linear + data + 0x1000n });
    setTable(machine, Place.level2, 8, 0x20_0000n | all | PageBit.large);
    machine.view.setUint32(0x22_1000, 78, true);
    expect(attempt({ machine, code: `${invlpg}488b8300100000`, address: linear + data }).rax).toBe(78n);
  });

  test("INVLPG within a page of 4 MiB voids both halves", () => {
    const machine = new EngineMachine({ ramBytes: 0x80_0000 });
    machine.protectedMode();
    const { view } = machine, { state: s } = machine.processor;
    // In another GiB than the code, of which all is known to be in large pages.
    const largePage = 0x87, half = 0x20_0000, page = 0x4040_0000, frame = 0x40_0000, entry = Place.level4 + (page >>> 22) * 4;
    view.setUint32(Place.level4, largePage, true);
    view.setUint32(entry, frame | largePage | Number(PageBit.accessed), true);
    view.setUint32(frame + half, 5, true);
    view.setUint32(half, 7, true);
    s.set64(state.cr3, BigInt(Place.level4));
    setControl(machine, state.cr4, Cr4Mask.PSE);
    setControl(machine, state.cr0, Cr0Mask.PG);
    // mov eax, [ebx]
    const load32 = "8b03";
    const { slowLoads } = machine.processor.memory.counters;
    expect(attempt({ machine, code: load32, address: BigInt(page + half) }).rax).toBe(5n);
    expect(machine.processor.memory.counters.slowLoads).toBe(slowLoads);
    view.setUint32(entry, largePage | Number(PageBit.accessed), true);
    expect(attempt({ machine, code: load32, address: BigInt(page + half) }).rax).toBe(5n);
    attempt({ machine, code: invlpg, address: BigInt(page) });
    expect(attempt({ machine, code: load32, address: BigInt(page + half) }).rax).toBe(7n);
  });

  test("a write of CR3 voids them without process contexts", () => {
    const machine = longMachine();
    attempt({ machine, code: load64, address: data });
    machine.setPage(Place.data, 0n);
    expect(attempt({ machine, code: writeCr3 + load64, address: data, rdx: BigInt(Place.level4) })).toMatchObject({ vector: 14, errorCode: 0n, cr2: data });
  });

  test("process contexts keep theirs when told so, and only then", () => {
    const machine = longMachine();
    setControl(machine, state.cr4, Cr4Mask.PCIDE);
    const root = BigInt(Place.level4), keep = 1n << 63n;
    const go = (context: bigint, code: string): ReturnType<typeof attempt> => attempt({ machine, code: writeCr3 + code, address: data, rdx: root | context });
    machine.view.setUint32(Place.data, 1, true);
    machine.view.setUint32(Place.data + 0x1000, 2, true);
    expect(go(1n, load64).rax).toBe(1n);
    machine.setPage(Place.data, BigInt(Place.data + 0x1000) | all);
    expect(go(2n, load64).rax).toBe(2n);
    // Context 1 may show either page, but no other context's fault or rights; without the keep bit it sees the tables.
    expect([1n, 2n]).toContain(go(1n | keep, load64).rax);
    expect(go(1n, load64).rax).toBe(2n);
  });

  test("context slots that are used up start over", () => {
    const machine = longMachine();
    const { memory } = machine.processor;
    for (let round = 0; round < 3000; round++) memory.switchAddressSpace(round % 4096, false);
    machine.view.setUint32(Place.data, 9, true);
    expect(attempt({ machine, code: load64, address: data }).rax).toBe(9n);
  });

  test("a PAE guest's write of the same CR3 loads the directory pointers anew", () => {
    const machine = new EngineMachine();
    machine.protectedMode();
    const set = (address: number, entry: bigint): void => machine.view.setBigUint64(address, entry, true);
    set(Place.level3, BigInt(Place.level2) | 1n);
    for (let index = 0; index < 512; index++) set(Place.level2 + index * 8, BigInt(index) * 0x20_0000n | all | PageBit.large);
    const s = machine.processor.state;
    s.set64(state.cr3, BigInt(Place.level3));
    s.set64(state.cr4, BigInt(Cr4Mask.PAE));
    s.set64(state.cr0, s.get64(state.cr0) | BigInt(Cr0Mask.PG));
    machine.processor.modeChanged();
    // mov eax, [0x40010000] after mov edx, cr3; mov cr3, edx
    machine.write(Place.code, "0f20da 0f22da a100000140 f4");
    machine.view.setUint32(Place.code + 0x100, 0, true);
    set(Place.level3 + 8, BigInt(Place.level2) | 1n);
    expect(machine.run(100)).toBe("halted");
    expect(machine.delivered()).toBeUndefined();
    expect(machine.register(rax)).toBe(BigInt(machine.view.getUint32(Place.code, true)));
  });
});

test("where a guest's tables are is kept with its context, and forgotten with its translations", () => {
  const { memory } = longMachine().processor;
  const guest = 7, root = Place.level4;
  let tables = 0;
  const stage: SecondStage = {
    translate: (address, _kind, target) => {
      if (target === "table") tables++;
      return address;
    },
    mayWrite: true, mayFetch: true, isLargePage: false, readsPointersOnDemand: false, tellsOfInstruction: true,
  };
  const asksFor = (page: number): number => {
    tables = 0;
    expect(memory.load(data + BigInt(page * 0x1000), 8)).toBe(0n);
    return tables;
  };
  const enter = (): void => {
    memory.enterSpace(guest, stage, root);
    memory.publishPaging();
  };
  const leaveAndEnter = (between: () => void): void => {
    memory.enterSpace(hostSpace, undefined, root);
    between();
    enter();
  };
  enter();
  expect(asksFor(0)).toBeGreaterThanOrEqual(4);
  const known = asksFor(1);
  expect(known).toBeLessThan(4);
  leaveAndEnter(() => {});
  expect(asksFor(2)).toBe(known);
  memory.flush({ keepGlobal: false });
  expect(asksFor(3)).toBe(known + 4);
  leaveAndEnter(() => memory.forgetSpace(guest));
  expect(asksFor(4)).toBe(known + 4);
  const visit = (contexts: number): void => {
    for (let tag = 0; tag < contexts; tag++) memory.enterSpace(1000 + tag, stage, root);
    memory.enterSpace(hostSpace, undefined, root);
  };
  leaveAndEnter(() => visit(10));
  expect(asksFor(5)).toBe(known);
  // Nobody keeps as many as a hypervisor can name.
  leaveAndEnter(() => visit(600));
  expect(asksFor(6)).toBe(known + 4);
});

describe("rights in the TLB", () => {
  test("what the supervisor reached is out of the user's reach", () => {
    const machine = longMachine();
    machine.setPage(Place.data, data | PageBit.present | PageBit.writable);
    expect(attempt({ machine, code: load64, address: data }).vector).toBe(done);
    expect(attempt({ machine, code: load64, address: data, cpl: 3 })).toMatchObject({ vector: 14, errorCode: 5n, cr2: data });
  });

  test("SMAP holds for pages that were reached with AC set", () => {
    const machine = longMachine();
    setControl(machine, state.cr4, Cr4Mask.SMAP);
    for (const page of [Place.stack - 0x1000, Place.handlers, Place.code, Place.idt, Place.gdt, Place.tss]) machine.setPage(page, BigInt(page) | PageBit.present | PageBit.writable);
    expect(attempt({ machine, code: load64, address: data, flags: FlagMask.AC }).vector).toBe(done);
    expect(attempt({ machine, code: load64, address: data })).toMatchObject({ vector: 14, errorCode: 1n });
  });

  test("a page is written only with the right to", () => {
    const machine = longMachine();
    machine.setPage(Place.data, data | PageBit.present | PageBit.user);
    expect(attempt({ machine, code: load64 + store64, address: data })).toMatchObject({ vector: 14, errorCode: 3n });
    expect(attempt({ machine, code: load64 + store64, address: data, cpl: 3 })).toMatchObject({ vector: 14, errorCode: 7n });
  });

  test("SMAP lifted by AC is not lifted for the second page of the processor's own accesses", () => {
    const machine = longMachine();
    setControl(machine, state.cr4, Cr4Mask.SMAP);
    machine.setFlags(FlagMask.AC);
    machine.setPage(Place.data, data | PageBit.present | PageBit.writable);
    const { memory } = machine.processor;
    expect(memory.load(data + 0xffcn, 8, "supervisor")).toBeUndefined();
    expect(memory.load(data + 0xffcn, 8)).toBeDefined();
  });
});

describe("accesses across pages", () => {
  test("load and store reach both pages", () => {
    const machine = longMachine();
    machine.setPage(Place.data, BigInt(Place.data + 0x5000) | all);
    const linear = data + 0xffdn;
    attempt({ machine, code: store64, address: linear, value: 0x0807_0605_0403_0201n });
    expect([...machine.ram.subarray(Place.data + 0x5ffd, Place.data + 0x6000)]).toEqual([1, 2, 3]);
    expect([...machine.ram.subarray(Place.data + 0x1000, Place.data + 0x1005)]).toEqual([4, 5, 6, 7, 8]);
    expect(attempt({ machine, code: load64, address: linear }).rax).toBe(0x0807_0605_0403_0201n);
  });

  test("a fault on the second page names it and leaves the first as it was", () => {
    const machine = longMachine();
    machine.setPage(Place.data + 0x1000, 0n);
    const outcome = attempt({ machine, code: store64, address: data + 0xffdn, value: -1n });
    expect(outcome).toMatchObject({ vector: 14, errorCode: 2n, cr2: data + 0x1000n });
    expect(machine.ram[Place.data + 0xffd]).toBe(0);
  });

  test("reads and writes of one instruction are checked for writing first", () => {
    const machine = longMachine();
    machine.setPage(Place.data + 0x1000, BigInt(Place.data + 0x1000) | PageBit.present);
    expect(attempt({ machine, code: "480103", address: data + 0xffdn, value: 1n })).toMatchObject({ vector: 14, errorCode: 3n, cr2: data + 0x1000n });
    expect(machine.ram[Place.data + 0xffd]).toBe(0);
  });
});

describe("devices and ROM", () => {
  test("accesses are split into naturally aligned ones of at most four bytes", () => {
    const machine = longMachine();
    expect(attempt({ machine, code: load64, address: BigInt(Place.device) }).rax).toBe(0x0706_0504_0302_0100n);
    expect(machine.deviceAccesses.map(({ address, sizeBytes }) => [address - Place.device, sizeBytes])).toEqual([[0, 4], [4, 4]]);
    machine.deviceAccesses.length = 0;
    expect(attempt({ machine, code: "8b4301", address: BigInt(Place.device) }).rax).toBe(0x0403_0201n);
    expect(machine.deviceAccesses.map(({ address, sizeBytes }) => [address - Place.device, sizeBytes])).toEqual([[1, 1], [2, 2], [4, 1]]);
    machine.deviceAccesses.length = 0;
    attempt({ machine, code: store64, address: BigInt(Place.device) + 2n, value: 0x8877_6655_4433_2211n });
    expect(machine.deviceAccesses.map(({ address, sizeBytes, value }) => [address - Place.device, sizeBytes, value])).toEqual([[2, 2, 0x2211], [4, 4, 0x6655_4433], [8, 2, 0x8877]]);
  });

  test("reading and writing one register reads once and writes once", () => {
    const machine = longMachine();
    attempt({ machine, code: "0103", address: BigInt(Place.device), value: 1n });
    expect(machine.deviceAccesses.map(({ kind, value }) => [kind, value])).toEqual([["read", 0x0302_0100], ["write", 0x0302_0101]]);
  });

  test("ROM is read from memory, and writes to it go to the bus", () => {
    const machine = longMachine();
    machine.physical.mapSeparately(0x10_0000, 0x1000, machine.ramOffset + 0x10_0000, undefined);
    machine.view.setBigUint64(0x10_0000, 42n, true);
    expect(attempt({ machine, code: load64, address: 0x10_0000n }).rax).toBe(42n);
    attempt({ machine, code: `${load64}48ffc0${store64}`, address: 0x10_0000n });
    expect(machine.view.getBigUint64(0x10_0000, true)).toBe(42n);
    expect(machine.deviceAccesses).toEqual([
      { kind: "write", address: 0x10_0000, sizeBytes: 4, value: 43 }, { kind: "write", address: 0x10_0004, sizeBytes: 4, value: 0 },
    ]);
  });

  test("mapping memory elsewhere voids translations", () => {
    const machine = longMachine();
    machine.view.setUint32(Place.data, 1, true);
    machine.view.setUint32(0x30_0000, 2, true);
    expect(attempt({ machine, code: load64, address: data }).rax).toBe(1n);
    machine.physical.map(Place.data, 0x1000, machine.ramOffset + 0x30_0000);
    expect(attempt({ machine, code: load64, address: data }).rax).toBe(2n);
  });
});

test("writes to a page with decoded code are noticed although it could be written before", () => {
  const machine = longMachine();
  const function42 = 0xc3_2ab0n, function43 = 0xc3_2bb0n; // mov al, n; ret
  attempt({ machine, code: store64, address: data, value: function42 });
  expect(attempt({ machine, code: "ffd3", address: data }).rax).toBe(42n);
  expect(attempt({ machine, code: `${store64}ffd3`, address: data, value: function43 }).rax & 0xffn).toBe(43n);
});

describe("alignment checking", () => {
  test.each<[string, string, bigint, 0 | 3, number]>([
    ["8 bytes at 4", load64, data + 4n, 3, 17], ["8 bytes at 8", load64, data + 8n, 3, done], ["2 bytes at 1", "668b03", data + 1n, 3, 17],
    ["1 byte", "8a03", data + 1n, 3, done], ["stores", store64, data + 1n, 3, 17], ["not for the supervisor", load64, data + 4n, 0, done],
    ["before the page is looked at", load64, 0x30_0001n, 3, 17],
  ])("%s", (_name, code, address, cpl, vector) => {
    const machine = longMachine();
    setControl(machine, state.cr0, Cr0Mask.AM);
    expect(attempt({ machine, code: load64, address: data, cpl }).vector).toBe(done);
    const outcome = attempt({ machine, code, address, cpl, flags: FlagMask.AC });
    expect(outcome.vector).toBe(vector);
    if (vector === 17) expect(outcome.errorCode).toBe(0n);
  });

  test("not without CR0.AM", () => {
    expect(attempt({ machine: longMachine(), code: load64, address: data + 4n, cpl: 3, flags: FlagMask.AC }).vector).toBe(done);
  });
});

describe("addresses that are not canonical", () => {
  const viaStack = "4889dd488b4500"; // mov rbp, rbx; mov rax, [rbp]
  test.each<[string, string, bigint, number]>([
    ["data", load64, 0x8000_0000_0000n, 13], ["stack", viaStack, 0x8000_0000_0000n, 12], ["the last byte", load64, 0x7fff_ffff_fff9n, 13],
    ["just below", load64, 0xffff_7fff_ffff_fff8n, 13], ["stores", store64, 1n << 63n, 13], ["push", "4889dc50", 0x8000_0000_0010n, 12],
  ])("%s", (_name, code, address, vector) => {
    const machine = longMachine();
    // Delivery must not need the stack that faults.
    machine.view.setBigUint64(Place.tss + 0x24, BigInt(Place.stack), true);
    for (const each of [12, 13]) machine.view.setUint8(Place.idt + each * 16 + 4, 1);
    expect(attempt({ machine, code, address })).toMatchObject({ vector, errorCode: 0n });
    expect(machine.register(rbp)).toBe(code === viaStack ? address : machine.register(rbp));
  });

  test("with five levels bit 56 decides", () => {
    const machine = longMachine();
    const s = machine.processor.state;
    setTable(machine, 0x8000, 0, BigInt(Place.level4) | all);
    s.set64(state.cr3, 0x8000n);
    setControl(machine, state.cr4, Cr4Mask.LA57);
    expect(attempt({ machine, code: load64, address: 0x8000_0000_0000n })).toMatchObject({ vector: 14 });
    expect(attempt({ machine, code: load64, address: 1n << 56n })).toMatchObject({ vector: 13 });
  });
});

describe("data breakpoints", () => {
  const dr = (machine: EngineMachine, index: number, value: bigint): void => {
    machine.processor.state.set64(state.dr[index], value);
    machine.processor.modeChanged();
  };
  const writeOf4 = 0xd_0402n, accessOf4 = 0xf_0402n;

  test("hit after the access, also on a page that was in the TLB", () => {
    const machine = longMachine();
    attempt({ machine, code: store64, address: data, value: 1n });
    dr(machine, 0, data + 4n);
    dr(machine, 7, writeOf4);
    expect(attempt({ machine, code: `${store64}90`, address: data, value: 7n }).vector).toBe(1);
    expect(machine.view.getBigUint64(Place.data, true)).toBe(7n);
    expect(machine.processor.state.get32(state.dr[6]) & 0xf).toBe(1);
    expect(machine.delivered()?.rip).toBe(BigInt(Place.code) + 3n);
  });

  test("armed by the guest itself", () => {
    const machine = longMachine();
    attempt({ machine, code: store64, address: data, value: 1n });
    dr(machine, 0, data);
    // mov dr7, rdx
    expect(attempt({ machine, code: `0f23fa${store64}90`, address: data, value: 7n, rdx: writeOf4 }).vector).toBe(1);
  });

  test("tell reads from writes, and neighbours apart", () => {
    const machine = longMachine();
    dr(machine, 0, data + 8n);
    dr(machine, 7, writeOf4);
    expect(attempt({ machine, code: load64, address: data + 8n }).vector).toBe(done);
    expect(attempt({ machine, code: store64, address: data }).vector).toBe(done);
    dr(machine, 7, accessOf4);
    expect(attempt({ machine, code: load64, address: data + 8n }).vector).toBe(1);
  });

  test("are gone once DR7 is cleared", () => {
    const machine = longMachine();
    dr(machine, 0, data);
    dr(machine, 7, accessOf4);
    attempt({ machine, code: load64, address: data });
    dr(machine, 7, 0x400n);
    attempt({ machine, code: load64, address: data });
    const { slowLoads } = machine.processor.memory.counters;
    expect(attempt({ machine, code: load64, address: data }).vector).toBe(done);
    expect(machine.processor.memory.counters.slowLoads).toBe(slowLoads);
  });
});

test("compatibility mode: linear addresses have 32 bits", () => {
  const machine = longMachine();
  expect(machine.processor.state.get32(state.efer) & EferMask.LMA).not.toBe(0);
  machine.view.setUint32(Place.data + 0x40, 99, true);
  machine.loadSegment(1, Select.code32);
  machine.setRegister(rbx, 0xffff_0000_0000_0000n | BigInt(Place.data));
  machine.processor.modeChanged();
  machine.write(Place.code, "8b4340 f4"); // mov eax, [ebx + 0x40]
  expect(machine.run(10)).toBe("halted");
  expect(machine.register(rax)).toBe(99n);
});
