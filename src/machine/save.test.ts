/** A saved machine goes on as if nothing had happened, and a saved device is the same device. */
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import type { Accelerator } from "../accel/contract.ts";
import { softAccelerator } from "../accel/soft/index.ts";
import { guestPhysical } from "../base/address.ts";
import { UserError } from "../base/errors.ts";
import type { Json } from "../base/shape.ts";
import { MemoryDisk } from "../devices/disk/memory-disk.ts";
import type { MachineConfig } from "./config.ts";
import { Machine } from "./machine.ts";
import { bareAccelerator } from "./testing/bare-accelerator.ts";
import { copyMachine, savedMachine, saveParts } from "./testing/saved-copy.ts";
import { hashedBytes, imageOf, machineConfig, program } from "./testing/ticking-guest.ts";

interface Outcome {
  readonly end: string;
  readonly retired: number;
  readonly nowNs: number;
  readonly memory: Uint8Array;
}

function finish(machine: Machine): Outcome {
  for (let slice = 0; slice < 1_000_000; slice++) {
    const result = machine.runSlice();
    if (result.kind !== "ended") continue;
    const memory = new Uint8Array(hashedBytes);
    machine.guestMemory().read(guestPhysical(0), memory);
    return { end: JSON.stringify(result.end), retired: machine.retiredInstructions, nowNs: machine.clock.nowNs(), memory };
  }
  throw new Error("the guest does not come to its end");
}

function started(): Machine {
  const machine = new Machine(machineConfig, softAccelerator);
  machine.load(imageOf(program));
  return machine;
}

function runSlices(machine: Machine, count: number): void {
  for (let slice = 0; slice < count; slice++) machine.runSlice();
}

describe("a machine", () => {
  const expected = finish(started());

  test.each([0, 1, 3, 20, 40])("saved after %i slices ends as the one it was copied from", (slices) => {
    const machine = started();
    runSlices(machine, slices);
    expect(machine.end).toBeUndefined();
    const copy = copyMachine(machine, machineConfig, softAccelerator);
    expect(copy.retiredInstructions).toBe(machine.retiredInstructions);
    expect(finish(copy)).toEqual(expected);
    expect(finish(machine)).toEqual(expected);
  });

  test("saved and restored after every slice ends the same", () => {
    let machine = started();
    for (let slice = 0; slice < 12; slice++) {
      runSlices(machine, 4);
      machine = copyMachine(machine, machineConfig, softAccelerator);
    }
    expect(finish(machine)).toEqual(expected);
  });

  test("ten hand-overs to a new processor change nothing", () => {
    const machine = started();
    for (let handOver = 0; handOver < 10; handOver++) {
      runSlices(machine, 5);
      machine.switchAccelerator(softAccelerator);
    }
    expect(finish(machine)).toEqual(expected);
  });

  test("restored and handed over before it has read all of its memory ends the same", () => {
    const machine = started();
    runSlices(machine, 20);
    const copy = copyMachine(machine, machineConfig, softAccelerator);
    runSlices(copy, 2);
    copy.switchAccelerator(softAccelerator);
    runSlices(copy, 2);
    copy.switchAccelerator(softAccelerator);
    expect(finish(copy)).toEqual(expected);
  });

  test("keeps its notes of written pages over a hand-over, and stays as it was when that fails", () => {
    const machine = started();
    machine.noteWrites();
    runSlices(machine, 20);
    const written = machine.writtenPages()?.slice();
    expect(written?.[0x20 >> 3]).not.toBe(0);
    machine.switchAccelerator(softAccelerator);
    expect(machine.writtenPages()).toEqual(written);
    const small = { ...softAccelerator, maximumStorageBytes: 0x1_0000 };
    expect(() => machine.switchAccelerator(small)).toThrow(expect.objectContaining({ code: "BAD_MEMORY_SIZE" }));
    const uncounted = { ...softAccelerator, countsInstructions: false };
    expect(() => machine.switchAccelerator(uncounted)).toThrow(expect.objectContaining({ code: "BAD_CONFIG" }));
    const slow = { ...softAccelerator, timeStampFrequencyHz: () => 1 };
    expect(() => machine.switchAccelerator(slow)).toThrow(expect.objectContaining({ code: "BAD_CONFIG" }));
    expect(finish(machine)).toEqual(expected);
  });

  test("keeps registers of a virtualization extension, switched on or not", () => {
    const config = { ...machineConfig, cpu: "epyc" };
    const parts = saveParts(new Machine(config, softAccelerator));
    const hostSave = { index: 0xc001_0117, value: "0x5000" };
    const withRegister = parts.json.replace('"storedMsrs":[', `"storedMsrs":[${JSON.stringify(hostSave)},`).replace(",]", "]");
    const restored = new Machine(config, softAccelerator, savedMachine({ ...parts, json: withRegister }));
    expect(saveParts(restored).json).toContain(JSON.stringify(hostSave));
    const switchedOn = parts.json.replace('"efer":"0x0"', '"efer":"0x1000"');
    expect(switchedOn).not.toBe(parts.json);
    const machine = new Machine(config, softAccelerator, savedMachine({ ...parts, json: switchedOn }));
    expect(saveParts(machine).json).toContain('"efer":"0x1000"');
    machine.switchAccelerator(softAccelerator);
    expect(saveParts(machine).json).toContain('"efer":"0x1000"');
  });

  test("that has ended cannot be saved", () => {
    const machine = started();
    finish(machine);
    expect(() => machine.save({ put: () => {} })).toThrow(UserError);
  });
});

const everything: MachineConfig = {
  ...machineConfig,
  devices: { ...machineConfig.devices, serialPorts: 4, vga: true, debugConsolePort: 0x402 },
  disks: [{ backend: new MemoryDisk(new Uint8Array(1 << 16)) }, { backend: new MemoryDisk(new Uint8Array(1 << 16)), serial: "two" }],
  cdrom: new MemoryDisk(new Uint8Array(1 << 16), { readOnly: true }),
};

interface Access {
  readonly space: "port" | "memory" | "config";
  readonly address: number;
  readonly sizeBytes: 1 | 2 | 4;
  readonly value: number;
  readonly isWrite: boolean;
  readonly elapsedNs: number;
}

/** Where devices answer; the port and memory spaces are too large to be hit by chance. */
const ports = [0x20, 0x21, 0xa0, 0xa1, 0x4d0, 0x40, 0x41, 0x42, 0x43, 0x61, 0x60, 0x64, 0x70, 0x71, 0x72, 0x73, 0x92, 0x3f8, 0x3f9, 0x3fa, 0x3fb, 0x3fc, 0x2f8, 0x2f9, 0x510, 0x511, 0x514, 0x600, 0x602, 0x604, 0x608, 0x620, 0x628, 0xb2, 0x3c0, 0x3c4, 0x3c5, 0x3ce, 0x3cf, 0x3d4, 0x3d5, 0x3c8, 0x3c9, 0x1ce, 0x1d0, 0xcf8, 0xcfc];
const memoryBases = [0xfec0_0000, 0xfed0_0000, 0xfee0_0000, 0xfed0_0100, 0xa_0000, 0xc000_0000, 0xc100_0000];

const access: fc.Arbitrary<Access> = fc.record({
  space: fc.constantFrom("port" as const, "memory" as const, "config" as const),
  address: fc.nat(),
  sizeBytes: fc.constantFrom(1 as const, 2 as const, 4 as const),
  value: fc.oneof(fc.nat(255), fc.integer({ min: 0, max: 0xffff_ffff })),
  isWrite: fc.boolean(),
  elapsedNs: fc.nat(200_000),
});

function perform(machine: Machine, { space, address, sizeBytes, value, isWrite, elapsedNs }: Access): void {
  const { board } = machine;
  machine.clock.advanceTo(machine.clock.nowNs() + elapsedNs);
  if (space === "config") {
    const functions = board.pci.functions();
    const { pciFunction } = functions[address % functions.length];
    // Sizing or moving a BAR is allowed, but leaves little to be reached: mostly the rest is written.
    const offset = (address >>> 8) % 256 & ~(sizeBytes - 1);
    if (!isWrite) pciFunction.readConfig(offset, sizeBytes);
    else if (offset < 4 || offset > 0x27 || address % 16 === 0) pciFunction.writeConfig(offset, sizeBytes, value);
    return;
  }
  const bus = space === "port" ? board.ports : board.memoryBus;
  const regions = board.pci.functions().flatMap(({ pciFunction }) => pciFunction.baseAddresses).filter(({ definition }) => definition.kind !== "io");
  const bases = space === "port" ? ports : [...memoryBases, ...regions.map((region) => region.address)];
  const at = bases[address % bases.length] + (space === "port" ? 0 : ((address >>> 6) % 0x400) & ~(sizeBytes - 1));
  // 0xF4 ends the machine, 0xCF9 and 0x64 reset it; those have tests of their own.
  if (isWrite) bus.write(at, sizeBytes, value);
  else bus.read(at, sizeBytes);
}

describe("every device", () => {
  const machineWith = (accesses: readonly Access[]): Machine => {
    const machine = new Machine(everything, bareAccelerator);
    for (const one of accesses) perform(machine, one);
    return machine;
  };

  test("of the catalog is on this board", () => {
    const names = new Set(machineWith([]).board.devices.map(({ name }) => name.replace(/@.*/u, "")));
    expect([...names].toSorted()).toEqual([
      "debugcon", "fw-cfg", "hpet", "i8042", "ich9-ahci", "ich9-lpc-bridge", "ioapic", "isa-debug-exit", "pic", "pit", "pm-block",
      "q35-host-bridge", "reset-ports", "rtc", "uart16550", "vga", "virtio-block", "virtio-entropy", "vm-generation-id",
    ]);
  });

  test("saves, restores and saves the same, and answers alike from then on", () => {
    fc.assert(fc.property(fc.array(access, { maxLength: 300 }), fc.array(access, { maxLength: 100 }), (before, after) => {
      const machine = machineWith(before);
      if (machine.end !== undefined) return;
      const parts = saveParts(machine);
      const copy = new Machine(everything, bareAccelerator, savedMachine(parts));
      expect(JSON.parse(saveParts(copy).json)).toEqual(JSON.parse(parts.json));
      for (const one of after) {
        perform(machine, one);
        perform(copy, one);
      }
      if (machine.end !== undefined) return;
      expect(JSON.parse(saveParts(copy).json)).toEqual(JSON.parse(saveParts(machine).json));
    }), { numRuns: 15 });
  });
});

// --- states from strangers -----------------------------------------------------------------------------------------

/** Places of values within JSON. */
function places(json: Json, path: readonly (string | number)[] = []): (readonly (string | number)[])[] {
  if (typeof json !== "object" || json === null) return [path];
  return [path, ...Object.entries(json).flatMap(([name, value]) => places(value, [...path, name]))];
}

function at(json: Json, path: readonly (string | number)[]): Json {
  return path.reduce<Json>((value, name) => (value as { readonly [name: string | number]: Json })[name], json);
}

function replaced(json: Json, path: readonly (string | number)[], value: Json): Json {
  const [name, ...rest] = path;
  if (name === undefined) return value;
  if (Array.isArray(json)) return json.map((element: Json, index) => String(index) === String(name) ? replaced(element, rest, value) : element);
  const members = json as { readonly [name: string]: Json };
  return { ...members, [name]: replaced(members[name], rest, value) };
}

interface Oddity {
  readonly place: number;
  readonly number: number;
  readonly digits: bigint;
  /** Instead of a value of the same kind. */
  readonly stranger: Json | undefined;
}

const number = fc.oneof(fc.nat(4), fc.nat(255), fc.integer({ min: 0, max: 0xffff_ffff }), fc.integer(), fc.maxSafeInteger(), fc.double());
const stranger = fc.constantFrom<Json>(null, true, "", "0x0", -1, 0.5, 1e300, [], {});
const oddity: fc.Arbitrary<Oddity> = fc.record({
  place: fc.nat(), number, digits: fc.bigInt({ min: 0n, max: 2n ** 64n - 1n }), stranger: fc.oneof({ weight: 9, arbitrary: fc.constant(undefined) }, { weight: 1, arbitrary: stranger }),
});

function oddValue(old: Json, { number: value, digits, stranger: other }: Oddity): Json {
  if (other !== undefined) return other;
  if (typeof old === "number") return value;
  if (typeof old === "boolean") return !old;
  if (typeof old !== "string") return old === null ? value : old;
  if (old.startsWith("0x")) return `0x${digits.toString(16)}`;
  return digits.toString(16).padStart(16, "0").repeat(Math.ceil(old.length / 16)).slice(0, old.length);
}

describe("a changed state is refused, or makes a machine that works in its way", () => {
  const original = new Machine(everything, softAccelerator);
  original.load(imageOf(program));
  runSlices(original, 20);
  const parts = saveParts(original);
  const components = JSON.parse(parts.json) as Json;
  const isOfProcessor = ([index]: readonly (string | number)[]): boolean => /^(?:processor|local-apic|machine)/u.test((components as { name: string }[])[Number(index)].name);
  const all = places(components).filter((path) => path.length > 0);

  const changes = (of: readonly (readonly (string | number)[])[]): fc.Arbitrary<Json> =>
    fc.array(oddity, { minLength: 1, maxLength: 3 }).map((oddities) => oddities.reduce((changed, one) => {
      const path = of[one.place % of.length];
      try {
        return replaced(changed, path, oddValue(at(changed, path), one));
      } catch {
        // An earlier change took the place away.
        return changed;
      }
    }, components));

  /** Undefined when it was refused as it should be. */
  const restored = (changed: Json, accelerator: Accelerator): Machine | undefined => {
    try {
      return new Machine(everything, accelerator, savedMachine({ ...parts, json: JSON.stringify(changed) }));
    } catch (error) {
      if (error instanceof UserError && (error.code === "BAD_SNAPSHOT" || error.code === "SNAPSHOT_NEWER")) return undefined;
      throw error;
    }
  };

  test("of devices", () => {
    let accepted = 0;
    fc.assert(fc.property(changes(all), fc.array(access, { maxLength: 60 }), (changed, accesses) => {
      const machine = restored(changed, bareAccelerator);
      if (machine === undefined) return;
      accepted++;
      for (const one of accesses) perform(machine, one);
      machine.board.vga?.readPixels();
    }), { numRuns: 150 });
    expect(accepted).toBeGreaterThan(30);
  });

  test("of the processor", () => {
    let accepted = 0;
    fc.assert(fc.property(changes(all.filter(isOfProcessor)), (changed) => {
      const machine = restored(changed, softAccelerator);
      if (machine === undefined) return;
      accepted++;
      runSlices(machine, 3);
    }), { numRuns: 40 });
    expect(accepted).toBeGreaterThan(5);
  });
});
