/** What the TLB, the jump cache and links between blocks keep, and what makes them forget. */
import { beforeEach, describe, expect, test } from "vitest";
import * as state from "../isa/state.ts";
import { Activity, Cr4Mask } from "../isa/system/mode.ts";
import { EntrySet } from "./entry-set.ts";
import { bytesOf, EngineMachine, PageBit, Place } from "./testing/engine-machine.ts";

const all = PageBit.present | PageBit.writable | PageBit.user;
const [RAX, RBX, RDX] = [0, 3, 2];
const writeCr3 = "0f22da"; // mov cr3, rdx
const invlpg = "0f013b"; // invlpg [rbx]
const load = "8b03"; // mov eax, [rbx]
const hlt = "f4";
/** Two routines that differ in what they return: mov eax, imm32; ret. */
const routineOf = (value: number): string => `b8${value.toString(16).padStart(2, "0")}000000c3`;

let m: EngineMachine;

beforeEach(() => {
  m = new EngineMachine();
  m.longMode();
  m.setRegister(RDX, BigInt(Place.level4));
});

function run(...parts: readonly string[]): bigint {
  m.physical.writeRange(Place.code, bytesOf(parts.join("") + hlt));
  m.processor.state.set32(state.activity, Activity.active);
  m.rip = BigInt(Place.code);
  expect(m.run(10_000)).toBe("halted");
  expect(m.delivered()).toBeUndefined();
  return m.register(RAX);
}

/** Calls RBX. */
const call = "ffd3";

describe("a write of CR3", () => {
  test("forgets pages, but not global ones", () => {
    for (const [flag, expected] of [[0n, 2n], [PageBit.global, 1n]] as const) {
      m = new EngineMachine();
      m.longMode();
      m.setRegister(RDX, BigInt(Place.level4));
      m.setRegister(RBX, BigInt(Place.data));
      m.view.setUint32(Place.data, 1, true);
      m.view.setUint32(Place.data + 0x1000, 2, true);
      m.setPage(Place.data, BigInt(Place.data) | all | flag);
      run(load);
      m.setPage(Place.data, BigInt(Place.data + 0x1000) | all | flag);
      expect(run(writeCr3, load)).toBe(expected);
      expect(run(invlpg, load)).toBe(2n);
    }
  });

  test("forgets code in pages that are not global, but not code in global ones", () => {
    for (const [flag, expected] of [[0n, 2n], [PageBit.global, 1n]] as const) {
      m = new EngineMachine();
      m.longMode();
      m.setRegister(RDX, BigInt(Place.level4));
      m.setRegister(RBX, BigInt(Place.data));
      m.physical.writeRange(Place.data, bytesOf(routineOf(1)));
      m.physical.writeRange(Place.data + 0x1000, bytesOf(routineOf(2)));
      m.setPage(Place.data, BigInt(Place.data) | all | flag);
      run(call);
      m.setPage(Place.data, BigInt(Place.data + 0x1000) | all | flag);
      expect(run(writeCr3, call)).toBe(expected);
      expect(run(invlpg, call)).toBe(2n);
    }
  });

  test("forgets global pages while CR4.PGE is clear, and a change of CR4.PGE forgets all", () => {
    const s = m.processor.state;
    m.setRegister(RBX, BigInt(Place.data));
    m.view.setUint32(Place.data + 0x1000, 2, true);
    m.setPage(Place.data, BigInt(Place.data) | all | PageBit.global);
    run(load);
    m.setPage(Place.data, BigInt(Place.data + 0x1000) | all | PageBit.global);
    s.set64(state.cr4, s.get64(state.cr4) & ~BigInt(Cr4Mask.PGE));
    m.processor.modeChanged();
    expect(run(load)).toBe(2n);
    m.view.setUint32(Place.data, 1, true);
    m.setPage(Place.data, BigInt(Place.data) | all | PageBit.global);
    expect(run(writeCr3, load)).toBe(1n);
  });

  test("keeps what global code has been found before", () => {
    for (let page = 0; page < 512; page++) m.setPage(page * 0x1000, BigInt(page * 0x1000) | all | PageBit.global);
    m.setRegister(RBX, BigInt(Place.data));
    m.physical.writeRange(Place.data, bytesOf(routineOf(1)));
    run(writeCr3, call);
    const { walks } = m.processor.memory.counters;
    m.processor.state.set32(state.activity, Activity.active);
    m.rip = BigInt(Place.code);
    expect(m.run(100)).toBe("halted");
    expect(m.processor.memory.counters.walks).toBe(walks);
  });
});

describe("where a page of code is", () => {
  const first = Place.data, second = Place.data + 0x100;

  /** Calls the first routine of a page, maps the page somewhere else, and calls its second routine, which answers 2 there. */
  function callMoved(flag: bigint, ...between: readonly string[]): bigint {
    m.physical.writeRange(first, bytesOf(routineOf(1)));
    m.physical.writeRange(second, bytesOf(routineOf(1)));
    m.physical.writeRange(second + 0x1000, bytesOf(routineOf(2)));
    m.setPage(Place.data, BigInt(Place.data) | all | flag);
    m.setRegister(RBX, BigInt(first));
    run(call);
    m.setPage(Place.data, BigInt(Place.data + 0x1000) | all | flag);
    // add ebx, 0x100
    return run(...between, "81c300010000", call);
  }

  test.each([["INVLPG", 0n, invlpg], ["INVLPG, if it is global", PageBit.global, invlpg], ["a write of CR3", 0n, writeCr3]])("is forgotten by %s", (_, flag, instruction) => {
    expect(callMoved(flag, instruction)).toBe(2n);
  });

  test.each([["nothing happens", 0n, ""], ["CR3 is written, if it is global", PageBit.global, writeCr3]])("is known while %s", (_, flag, instruction) => {
    expect(callMoved(flag, instruction)).toBe(1n);
  });

  test("is asked anew at another privilege level", () => {
    m.setPage(Place.data, BigInt(Place.data) | PageBit.present | PageBit.writable);
    m.physical.writeRange(first, bytesOf(routineOf(1)));
    m.setRegister(RBX, BigInt(first));
    run(call);
    m.enter(3);
    m.processor.state.set32(state.activity, Activity.active);
    m.rip = BigInt(second);
    m.run(10);
    expect(m.delivered()).toMatchObject({ vector: 14, rip: BigInt(second) });
  });
});

describe("INVLPG", () => {
  test("of a page with the second half of an instruction", () => {
    const at = Place.data + 0xffe;
    m.physical.writeRange(at, bytesOf(routineOf(1)));
    m.physical.writeRange(Place.data + 0x2000, bytesOf("0900 00c3"));
    m.setRegister(RBX, BigInt(at));
    expect(run(call)).toBe(1n);
    // The immediate's upper three bytes now come from another page.
    m.setPage(Place.data + 0x1000, BigInt(Place.data + 0x2000) | all);
    m.setRegister(RBX, BigInt(Place.data + 0x1000));
    run(invlpg);
    m.setRegister(RBX, BigInt(at));
    expect(run(call)).toBe(0x901n);
  });
});

test("a block that is written anew is linked to again", () => {
  // mov ecx, 100; L: nop; jmp T; T: inc eax; dec ecx; jnz L; hlt
  const code = bytesOf("b964000000 90 eb00 ffc0 ffc9 75f7 f4");
  const target = Place.code + 8;
  m.physical.writeRange(Place.code, code);
  const again = (): number => {
    m.processor.state.set32(state.activity, Activity.active);
    m.rip = BigInt(Place.code);
    const { walks } = m.processor.memory.counters;
    expect(m.run(10_000)).toBe("halted");
    return m.processor.memory.counters.walks - walks;
  };
  m.setRegister(RAX, 0n);
  again();
  expect(again()).toBe(0);
  // dec eax instead of inc eax
  m.physical.writeRange(target, bytesOf("ffc8"));
  expect(again()).toBeLessThan(8);
  expect(again()).toBe(0);
  expect(m.register(RAX)).toBe(0n);
});

test("a set of entries holds each once, and nothing after it has been emptied", () => {
  const set = new EntrySet(16);
  for (const entry of [3, 5, 3, 15, 0, 5]) set.add(entry);
  expect([...set.members.subarray(0, set.size)]).toEqual([3, 5, 15, 0]);
  set.clear();
  expect(set.size).toBe(0);
  set.add(5);
  expect([...set.members.subarray(0, set.size)]).toEqual([5]);
});
