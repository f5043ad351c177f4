/** What happens between instructions: interrupts, shadows, traps, faults and their delivery, ways to stop. */
import { describe, expect, test } from "vitest";
import { FlagMask } from "../isa/flags.ts";
import * as state from "../isa/state.ts";
import { EngineMachine, Place } from "./testing/engine-machine.ts";

const rax = 0, rcx = 1, rsp = 4;
const { IF, TF } = FlagMask;
const code = BigInt(Place.code);

function machineWith(hex: string, flags: number = 0): EngineMachine {
  const machine = new EngineMachine();
  machine.longMode();
  machine.write(Place.code, hex);
  machine.setFlags(flags);
  return machine;
}

describe("faults name the instruction that raised them", () => {
  test.each<[string, string, number, bigint, bigint]>([
    ["division by zero within a block", "ffc0 ffc0 31c9 f7f1 90", 0, 6n, -1n],
    ["undefined opcode", "ffc0 0f0b", 6, 2n, -1n],
    ["page fault of a load", "9090 48a10000400000000000", 14, 2n, 0n],
    ["general protection by an MSR", "b978563412 0f32", 13, 5n, 0n],
    ["after a taken branch", "eb02 cccc ffc0 0f0b", 6, 6n, -1n],
    ["beyond a block's length", `${"90".repeat(70)}0f0b`, 6, 70n, -1n],
    ["sixteen bytes", `90 ${"66".repeat(15)}90`, 13, 1n, 0n],
    ["traps name the next one", "90 cc 90", 3, 2n, -1n],
  ])("%s", (_name, hex, vector, offset, errorCode) => {
    const machine = machineWith(hex);
    expect(machine.run(1000)).toBe("halted");
    expect(machine.delivered()).toMatchObject({ vector, errorCode, rip: code + offset });
  });

  test("a failed fetch has the address that it went to, and what retired before it is counted", () => {
    const machine = machineWith("b800004000 ffe0"); // mov eax, 0x400000; jmp rax
    machine.run(1000);
    expect(machine.delivered()).toMatchObject({ vector: 14, errorCode: 0x10n, rip: 0x40_0000n, cr2: 0x40_0000n });
    expect(machine.processor.retired).toBe(3);
  });
});

describe("interrupts", () => {
  test("arrive between blocks, with the next instruction as return address", () => {
    const machine = machineWith("ffc0 ebfc", IF); // inc eax; jmp -4
    machine.run(100);
    machine.interrupt(0x30);
    expect(machine.run(100)).toBe("halted");
    expect(machine.delivered()).toMatchObject({ vector: 0x30, rip: code });
    expect(machine.register(rax)).toBe(BigInt((machine.processor.retired - 1) / 2));
  });

  test("wait while IF is clear, and while a gate has cleared it", () => {
    const machine = machineWith("ffc0 ebfc");
    machine.interrupt(0x30);
    expect(machine.run(100)).toBe("budget");
    machine.setFlags(IF);
    machine.interrupt(0x31);
    machine.run(100);
    expect(machine.delivered()?.vector).toBe(0x30);
    expect(machine.interrupts).toEqual([0x31]);
  });

  test("raised by a device's access come before the next instruction", () => {
    const machine = machineWith("e680 ffc0 ffc0 f4", IF);
    machine.onAccess = () => machine.interrupt(0x40);
    machine.run(100);
    expect(machine.delivered()).toMatchObject({ vector: 0x40, rip: code + 2n });
    expect(machine.register(rax)).toBe(0n);
  });

  test("that vanish do nothing", () => {
    const machine = machineWith("ffc0 f4", IF);
    machine.interrupts.push(-1);
    expect(machine.run(100)).toBe("halted");
    expect(machine.delivered()).toBeUndefined();
  });

  test.each([["an interrupt wakes HLT", IF, 0x50], ["not while IF is clear", 0, undefined]])("%s", (_name, flags, vector) => {
    const machine = machineWith("f4 ffc0 f4", flags);
    expect(machine.run(100)).toBe("halted");
    expect(machine.run(100)).toBe("halted");
    machine.interrupt(0x50);
    expect(machine.run(100)).toBe("halted");
    expect(machine.delivered()?.vector).toBe(vector);
    if (vector !== undefined) expect(machine.delivered()?.rip).toBe(code + 1n);
  });
});

describe("shadows", () => {
  test("STI lets one more instruction pass", () => {
    const machine = machineWith("fb ffc0 ffc0 ffc0 f4");
    machine.interrupt(0x30);
    machine.run(100);
    expect(machine.delivered()?.vector).toBe(0x30);
    expect(machine.delivered()!.rip).toBeGreaterThanOrEqual(code + 3n);
    expect(machine.register(rax)).toBeGreaterThanOrEqual(1n);
  });

  test("STI; HLT halts before the interrupt is taken", () => {
    const machine = machineWith("fb f4");
    machine.interrupt(0x30);
    machine.run(100);
    expect(machine.delivered()).toMatchObject({ vector: 0x30, rip: code + 2n });
  });

  test("each STI has a shadow of its own, also when nothing came between", () => {
    // sti; nop; nop; cli; out 0x80, al; sti; hlt — the interrupt comes up at OUT
    const machine = machineWith("fb 90 90 fa e680 fb f4");
    machine.onAccess = () => machine.interrupt(0x30);
    machine.run(1000);
    expect(machine.delivered()).toMatchObject({ vector: 0x30, rip: code + 8n });
  });

  test("STI while interrupts are on casts none", () => {
    const machine = machineWith("e680 fb ffc0 f4", IF);
    machine.onAccess = () => machine.interrupt(0x30);
    machine.run(100);
    expect(machine.delivered()?.rip).toBe(code + 2n);
  });

  test("a load of SS keeps interrupts, NMI and debug traps away from the next instruction", () => {
    // mov eax, ss; mov ss, eax; mov rsp, rbx; inc ecx; hlt
    const hex = "8cd0 8ed0 4889dc ffc1 f4";
    for (const raise of [(m: EngineMachine) => m.interrupt(0x30), (m: EngineMachine) => m.processor.signalNmi()]) {
      const machine = machineWith(hex, IF);
      machine.setRegister(3, BigInt(Place.userStack));
      const original = machine.processor.interpreter.run.bind(machine.processor.interpreter);
      let isRaised = false;
      machine.processor.interpreter.run = () => {
        const result = original();
        if (!isRaised && machine.processor.state.get32(state.interruptShadow) === 2) raise(machine);
        isRaised ||= machine.processor.state.get32(state.interruptShadow) === 2;
        return result;
      };
      machine.run(2);
      machine.run(1000);
      expect(machine.delivered()!.rip).toBeGreaterThanOrEqual(code + 7n);
      expect(machine.register(rsp)).toBeLessThan(BigInt(Place.userStack));
      expect(machine.register(rsp)).toBeGreaterThan(BigInt(Place.stack));
    }
  });
});

describe("NMI", () => {
  test("comes whatever IF is, and not again before IRET", () => {
    const machine = machineWith("ffc0 ebfc");
    machine.setHandler(2, Place.handlers + 0x1000);
    machine.write(Place.handlers + 0x1000, "ffc1 eb00 eb00 48cf"); // inc ecx; jmp; jmp; iretq
    machine.processor.signalNmi();
    machine.run(1);
    expect(machine.processor.state.get32(state.nmiBlocked)).toBe(1);
    machine.processor.signalNmi();
    machine.run(1);
    expect(machine.register(rcx)).toBe(1n);
    machine.run(50);
    expect(machine.register(rcx)).toBe(2n);
    expect(machine.processor.state.get32(state.nmiBlocked)).toBe(0);
  });

  test("wakes HLT", () => {
    const machine = machineWith("f4");
    machine.run(10);
    machine.processor.signalNmi();
    machine.run(10);
    expect(machine.delivered()).toMatchObject({ vector: 2, rip: code + 1n });
  });
});

/** A #DB handler that writes the return address to a list at [r15] and returns. */
function traceTraps(machine: EngineMachine, clearsTrap: boolean = false): () => number[] {
  const list = Place.data + 0x2000;
  machine.setHandler(1, Place.handlers + 0x1100);
  // push rax; mov rax, [rsp+8]; mov [r15], eax; add r15, 4; pop rax; (btr qword [rsp+16], 8;) iretq
  machine.write(Place.handlers + 0x1100, `50 488b442408 418907 4983c704 58 ${clearsTrap ? "480fba74241008" : ""} 48cf`);
  machine.setRegister(15, BigInt(list));
  return () => Array.from({ length: Math.min(Number(machine.register(15)) - list, 400) / 4 }, (_, index) => machine.view.getUint32(list + index * 4, true) - Place.code);
}

describe("single-stepping", () => {
  test("traps after each instruction", () => {
    const machine = machineWith("90 ffc0 eb00 ffc0 cd80", TF);
    const trace = traceTraps(machine);
    machine.run(1000);
    expect(trace()).toEqual([1, 3, 5, 7]);
    expect(machine.processor.state.get32(state.dr[6]) & 0x4000).toBe(0x4000);
    expect(machine.register(rax)).toBe(2n);
  });

  test("begins after the instruction that follows POPF, and ends with the one that clears TF", () => {
    // pushf; or dword [rsp], 0x100; popf; nop; pushf; and dword [rsp], ~0x100; popf; nop; int 0x80
    const machine = machineWith("9c 810c2400010000 9d 90 9c 812424fffeffff 9d 90 cd80");
    const trace = traceTraps(machine);
    machine.run(1000);
    expect(trace()).toEqual([10, 11, 18, 19]);
  });

  test("no trap between a load of SS and the next instruction", () => {
    const machine = machineWith("8cd0 8ed0 90 90 cd80", TF);
    const trace = traceTraps(machine);
    machine.run(1000);
    expect(trace()).toEqual([2, 5, 6]);
  });

  test("INT n clears TF and is not followed by a trap", () => {
    const machine = machineWith("90 cd21 90 cd80", TF);
    const trace = traceTraps(machine);
    machine.setHandler(0x21, Place.handlers + 0x1200);
    machine.write(Place.handlers + 0x1200, "ffc1 48cf");
    machine.run(1000);
    expect(machine.register(rcx)).toBe(1n);
    expect(trace()).toEqual([1, 4]);
  });

  test("a handler that clears TF in the frame ends it", () => {
    const machine = machineWith("90 90 90 cd80", TF);
    const trace = traceTraps(machine, true);
    machine.run(1000);
    expect(trace()).toEqual([1]);
  });

  test("a faulting instruction is not followed by a trap", () => {
    const machine = machineWith("90 0f0b", TF);
    const trace = traceTraps(machine);
    machine.run(1000);
    expect(machine.delivered()).toMatchObject({ vector: 6, rip: code + 1n });
    expect(trace()).toEqual([1]);
  });

  test("a trap wakes HLT", () => {
    const machine = machineWith("f4 ffc1 cd80", TF);
    const trace = traceTraps(machine);
    machine.run(1000);
    expect(trace()).toEqual([1, 3]);
  });

  test("repeated strings trap at each iteration", () => {
    const machine = machineWith("f3aa 90 cd80", TF);
    const trace = traceTraps(machine);
    machine.setRegister(rcx, 3n);
    machine.setRegister(7, BigInt(Place.data));
    machine.run(1000);
    expect(trace()).toEqual([0, 0, 2, 3]);
  });
});

test("breakpoints on instructions come before them, and not again with RF", () => {
  const machine = machineWith("ffc0 ffc0 ffc0 f4");
  machine.processor.state.set64(state.dr[0], code + 2n);
  machine.processor.state.set64(state.dr[7], 0x402n);
  machine.processor.modeChanged();
  machine.run(100);
  const frame = machine.delivered();
  expect(frame).toMatchObject({ vector: 1, rip: code + 2n });
  expect(machine.register(rax)).toBe(1n);
  expect(machine.processor.state.get32(state.dr[6]) & 0xf).toBe(1);
  // SDM volume 3, "Instruction-Breakpoint Exception Condition": of all faults only this one does not push RF as 1.
  const flags = machine.view.getUint32(Number(machine.register(rsp)) + 16, true);
  expect(flags & FlagMask.RF).toBe(0);
  machine.enter(0);
  machine.rip = code + 2n;
  machine.setFlags(FlagMask.RF);
  expect(machine.run(100)).toBe("halted");
  expect(machine.delivered()).toBeUndefined();
  expect(machine.register(rax)).toBe(3n);
});

describe("ways to stop", () => {
  test("a triple fault is shutdown, until reset", () => {
    const machine = machineWith("0f0b");
    machine.processor.state.set32(state.idtrLimit, 0);
    expect(machine.run(100)).toBe("shutdown");
    machine.interrupt(0x30);
    machine.processor.signalNmi();
    expect(machine.run(100)).toBe("shutdown");
    machine.processor.reset();
    expect(machine.rip).toBe(0xfff0n);
    expect(machine.processor.state.get32(state.activity)).toBe(0);
  });

  test("what a triple fault came from is told", () => {
    const machine = machineWith("8b00"); // a load from where nothing is; the gates of page and double faults are empty
    machine.setRegister(rax, 0x40_0000n);
    machine.view.setBigUint64(Place.idt + 14 * 16, 0n, true);
    machine.view.setBigUint64(Place.idt + 8 * 16, 0n, true);
    expect(machine.run(100)).toBe("shutdown");
    expect(machine.processor.shutdownCause).toBe(
      `#PF at 0x400000 (error code 0x0), then #DF (error code 0x0), then #GP (error code 0x43); in 64-bit mode with CS:RIP 0x8:0x${Place.code.toString(16)}, ` +
      `RSP 0x${Place.stack.toString(16)}, CR3 0x${Place.level4.toString(16)}, IDT 0x${Place.idt.toString(16)} with limit 0xfff`);
  });

  test("a double fault is not", () => {
    const machine = machineWith("31c9 f7f1"); // a division by zero, whose gate is missing
    machine.view.setBigUint64(Place.idt, 0n, true);
    machine.run(100);
    expect(machine.delivered()).toMatchObject({ vector: 8, errorCode: 0n });
  });

  test.each([
    ["a fault whose handler is the faulting instruction", 6, Place.code, "0f0b"],
    ["a page fault whose handler is not there", 14, 0x40_0000, "ffe0"],
  ])("run returns from %s", (_name, vector, handler, hex) => {
    const machine = machineWith(hex);
    machine.setRegister(rax, 0x40_0000n);
    machine.setHandler(vector, handler);
    // Each delivery pushes 40 bytes; the stack comes to its end at some time.
    machine.setRegister(rsp, 0x20_0000n);
    for (let round = 0; round < 3; round++) expect(["budget", "shutdown"]).toContain(machine.run(1_000_000));
  });

  test("a request is honoured within a loop, by a device's access, and before anything runs", () => {
    const machine = machineWith("e680 ebfc");
    machine.onAccess = () => machine.processor.requestStop();
    expect(machine.run(1_000_000)).toBe("stopped");
    expect(machine.processor.retired).toBe(1);
    machine.onAccess = () => undefined;
    machine.processor.requestStop();
    expect(machine.run(1000)).toBe("stopped");
    expect(machine.processor.retired).toBe(1);
    expect(machine.run(1000)).toBe("budget");
  });

  test("counts are exact at each access to a device", () => {
    // L: out 0x80, al; mov [rbx], eax; nop; dec ecx; jnz L; hlt
    const machine = machineWith("e680 8903 90 ffc9 75f7 f4");
    machine.setRegister(rcx, 3n);
    machine.setRegister(3, BigInt(Place.device));
    const counts: number[] = [];
    machine.onAccess = () => counts.push(machine.processor.retiredBeforeCurrent);
    machine.run(1000);
    expect(counts).toEqual([0, 1, 5, 6, 10, 11]);
  });

  test("attending while a block runs ends the slice after it", () => {
    const machine = machineWith("8903 ebfc");
    machine.setRegister(3, BigInt(Place.device));
    machine.onAccess = () => machine.processor.attend();
    machine.run(10);
    expect(machine.processor.retired).toBe(10);
  });
});

test("reset during an access takes effect before the next instruction", () => {
  const machine = machineWith("e680 ffc0 f4");
  machine.onAccess = () => machine.processor.requestReset("init");
  machine.run(1);
  expect(machine.rip).toBe(0xfff0n);
  expect(machine.register(rax)).toBe(0n);
});
