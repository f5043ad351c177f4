/** Machines are saved and restored, one after the other and many at once, and everything that does not fit is told. */
import { mkdtempSync, readFileSync, rmSync, utimesSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { debugExit, endlessSleep, rememberer } from "../../tests/cli/tiny-guest.ts";
import { OverlayDisk } from "../devices/disk/overlay-disk.ts";
import { MemoryDisk } from "../devices/disk/memory-disk.ts";
import type { Manifest } from "../host/node/snapshot/manifest.ts";
import { overlayContents, SnapshotOverlayStore } from "../host/node/snapshot/overlay-store.ts";
import { Snapshot } from "../host/node/snapshot/reader.ts";
import { writeSnapshot } from "../host/node/snapshot/writer.ts";
import { Vm } from "./index.ts";

let directory: string;
beforeAll(() => {
  directory = mkdtempSync(join(tmpdir(), "ringmaster-restore-"));
});
afterAll(() => rmSync(directory, { recursive: true }));

/** Types `text` and waits for what the guest makes of it. */
async function tell(vm: Vm, text: string, answer: string): Promise<void> {
  const answered = vm.boot({ until: answer, signal: AbortSignal.timeout(30_000) });
  vm.serial.write(text);
  await answered;
}

async function remembering(text: string): Promise<Vm> {
  const vm = await Vm.create({ kernel: rememberer(), memory: "4M" });
  vm.run();
  await tell(vm, text, text);
  return vm;
}

describe("a machine", () => {
  it("goes on in another one, and in itself", async () => {
    const path = join(directory, "one.rmsnap");
    await using vm = await remembering("ab");
    const { fileBytes, storedPages } = await vm.snapshot(path);
    expect(storedPages).toBeGreaterThan(2);
    expect(fileBytes).toBe(readFileSync(path).length);
    expect(vm.state).toBe("running");
    await tell(vm, "X", "abX");
    await using copy = await Vm.restore(path);
    expect(copy.state).toBe("created");
    expect(copy.bootProtocol).toBe("multiboot1");
    expect(copy.retiredInstructions).toBeGreaterThan(0);
    await tell(copy, "Y", "abY");
    await using again = await Vm.restore(path, { accel: "soft", keepGenerationId: true });
    await tell(again, "Z", "abZ");
    expect(again.generationId).toBe(vm.generationId);
    expect(copy.generationId).not.toBe(vm.generationId);
  });

  it("has clones that see nothing of each other", async () => {
    const path = join(directory, "fork.rmsnap");
    await using vm = await remembering("root");
    await vm.snapshot(path);
    const clones = await Vm.restore(path, { fork: 4 });
    expect(clones).toHaveLength(4);
    expect(new Set([vm, ...clones].map(({ generationId }) => generationId)).size).toBe(5);
    await Promise.all(clones.map((clone, index) => tell(clone, String(index), `root${index}`)));
    await Promise.all(clones.map((clone, index) => tell(clone, "!", `root${index}!`)));
    for (const clone of clones) await clone.stop();
    await expect(Vm.restore(path, { fork: 0 })).rejects.toMatchObject({ code: "BAD_ARGUMENT" });
  });

  it("is saved in steps", async () => {
    const paths = ["first", "second", "third"].map((name) => join(directory, `${name}.rmsnap`));
    await using vm = await remembering("a");
    const first = await vm.snapshot(paths[0]);
    await tell(vm, "b", "ab");
    const second = await vm.snapshot(paths[1], { parent: paths[0] });
    expect(second.storedPages).toBeLessThan(first.storedPages);
    await using middle = await Vm.restore(paths[1]);
    await tell(middle, "c", "abc");
    await middle.snapshot(paths[2], { parent: paths[1] });
    await using last = await Vm.restore(paths[2]);
    await tell(last, "d", "abcd");
    await last.snapshot(join(directory, "whole.rmsnap"));
    rmSync(paths[0]);
    await expect(Vm.restore(paths[2])).rejects.toMatchObject({ code: "BAD_SNAPSHOT" });
    await using whole = await Vm.restore(join(directory, "whole.rmsnap"));
    await tell(whole, "e", "abcde");
  });

  it("can be saved before it has run, and while it is paused", async () => {
    const path = join(directory, "new.rmsnap");
    await using vm = await Vm.create({ kernel: debugExit(3), memory: "4M" });
    await vm.snapshot(path);
    expect(vm.state).toBe("created");
    await using copy = await Vm.restore(path);
    copy.run();
    expect(await copy.wait()).toEqual({ kind: "debug-exit", status: 7 });
    vm.run();
    await vm.wait();
    await expect(vm.snapshot(path)).rejects.toMatchObject({ code: "BAD_ARGUMENT" });
    await using sleeper = await Vm.create({ kernel: endlessSleep(), memory: "4M", vga: true });
    sleeper.run();
    sleeper.pause();
    const { uptimeSeconds } = sleeper;
    await sleeper.snapshot(path);
    expect([sleeper.state, sleeper.uptimeSeconds]).toEqual(["paused", uptimeSeconds]);
    await using later = await Vm.restore(path);
    expect(later.uptimeSeconds).toBeCloseTo(uptimeSeconds, 6);
    expect(later.screenText()).toEqual(sleeper.screenText());
  });

  it("that repeats itself repeats itself after a restoration", async () => {
    const run = async (isRestored: boolean): Promise<{ readonly retired: number; readonly end: unknown }> => {
      const path = join(directory, "repeats.rmsnap");
      let vm = await Vm.create({ kernel: debugExit(1), memory: "4M", deterministic: true });
      if (isRestored) {
        await vm.snapshot(path);
        await vm.stop();
        vm = await Vm.restore(path);
      }
      vm.run();
      return { end: await vm.wait(), retired: vm.retiredInstructions };
    };
    expect(await run(true)).toEqual(await run(false));
  });

  it("moves to another processor and back between two instructions", async () => {
    await using vm = await remembering("a");
    const retired = vm.retiredInstructions;
    for (const letter of "bcd") {
      expect(vm.switchAccelerator("soft")).toMatchObject({ name: "soft", reason: "asked for" });
      const answered = vm.boot({ until: letter, signal: AbortSignal.timeout(30_000) });
      vm.serial.write(letter);
      await answered;
    }
    await tell(vm, "!", "abcd!");
    expect(vm.retiredInstructions).toBeGreaterThan(retired);
    expect(() => vm.switchAccelerator("warp" as "soft")).toThrow(expect.objectContaining({ code: "BAD_ARGUMENT" }));
    await vm.stop();
    expect(() => vm.switchAccelerator("soft")).toThrow(expect.objectContaining({ code: "BAD_ARGUMENT" }));
  });

  it("is saved once at a time, and not after an abort", async () => {
    await using vm = await remembering("z");
    const saving = vm.snapshot(join(directory, "once.rmsnap"));
    await expect(vm.snapshot(join(directory, "twice.rmsnap"))).rejects.toMatchObject({ code: "BAD_ARGUMENT" });
    await saving;
    await expect(vm.snapshot(join(directory, "no.rmsnap"), { signal: AbortSignal.abort() })).rejects.toMatchObject({ code: "ABORTED" });
    await expect(vm.snapshot(join(directory, "no", "where"))).rejects.toMatchObject({ code: "FILE_NOT_WRITABLE" });
    await expect(vm.snapshot(join(directory, "once.rmsnap"), { parent: join(directory, "once.rmsnap") })).rejects.toMatchObject({ code: "BAD_ARGUMENT" });
    await tell(vm, "!", "z!");
  });
});

describe("disks", () => {
  it("with an overlay are part of a snapshot, others have to be what they were", async () => {
    const image = join(directory, "disk.img"), path = join(directory, "disks.rmsnap");
    writeFileSync(image, new Uint8Array(1 << 16));
    await using vm = await Vm.create({ kernel: endlessSleep(), memory: "4M", disks: [{ path: image, overlay: true }, { path: image, readOnly: true, serial: "two" }] });
    await vm.snapshot(path);
    await using copy = await Vm.restore(path);
    await copy.stop();
    using snapshot = Snapshot.open(path);
    expect(snapshot.manifest.machine.disks).toMatchObject([{ path: image, hasOverlay: true, readOnly: false }, { hasOverlay: false, readOnly: true, serial: "two" }]);
    utimesSync(image, 1000, 1000);
    await expect(Vm.restore(path)).rejects.toThrow(/was written to after the snapshot/u);
    await using moved = await Vm.restore(path, { disks: [image, image] });
    await moved.stop();
    await expect(Vm.restore(path, { disks: [image] })).rejects.toMatchObject({ code: "BAD_ARGUMENT" });
    writeFileSync(image, new Uint8Array(1 << 15));
    await expect(Vm.restore(path, { disks: [image, image] })).rejects.toThrow(/had 65536/u);
    rmSync(image);
    await expect(Vm.restore(path)).rejects.toMatchObject({ code: "FILE_NOT_FOUND" });
  });

  it("have their changed blocks in the file, through parents", async () => {
    const sizeBytes = 5 * 65_536 + 512;
    const base = new MemoryDisk(new Uint8Array(sizeBytes).fill(0xee), { readOnly: true });
    const manifest: Omit<Manifest, "id" | "regions"> = {
      parent: undefined, createdBy: "", createdAt: "", accelerator: "soft", components: [],
      machine: {
        memorySizeBytes: 0, cpu: "", timeStampFrequencyHz: 1, nsPerInstruction: undefined, randomState: undefined, startEpochMs: 0, firmwareBytes: undefined,
        vgaBiosBytes: undefined, disks: [], cdrom: undefined, bootProtocol: undefined,
        devices: { serialPorts: 0, hpet: false, rtc: false, keyboard: false, vga: false, random: false, generationId: false },
      },
    };
    let overlay = new OverlayDisk(base);
    const model = base.bytes.slice();
    let parent: Snapshot | undefined;
    const writes = [[0, 100, 1], [65_000, 1000, 0], [5 * 65_536, 512, 3], [70_000, 10, 4], [0, 65_536, 0], [3 * 65_536, 65_536, 5]];
    for (const [index, [offset, length, value]] of writes.entries()) {
      await overlay.write(offset, new Uint8Array(length).fill(value));
      model.fill(value, offset, offset + length);
      const path = join(directory, `overlay-${index}.rmsnap`);
      const region = parent?.region("disk@0");
      await writeSnapshot(path, {
        manifest: { ...manifest, parent: parent === undefined ? undefined : { id: parent.manifest.id, path: parent.path } },
        regions: [overlayContents("disk@0", sizeBytes, overlay.store, region)],
      });
      parent?.close();
      parent = Snapshot.open(path);
      const restored = parent.region("disk@0");
      if (restored === undefined) throw new Error("the overlay is not there");
      overlay = new OverlayDisk(base, { store: new SnapshotOverlayStore(restored) });
      const bytes = new Uint8Array(sizeBytes);
      await overlay.read(0, bytes);
      expect(Buffer.compare(bytes, model)).toBe(0);
    }
    parent?.close();
  });
});

describe("a file that is no snapshot of ours", () => {
  it.each([["nothing", new Uint8Array(0)], ["text", Buffer.from("hello, world, this is text\n".repeat(10))]])("%s", async (_, bytes) => {
    const path = join(directory, "strange");
    writeFileSync(path, bytes);
    await expect(Vm.restore(path)).rejects.toMatchObject({ code: "BAD_SNAPSHOT" });
  });

  it("one that is not there", async () => {
    await expect(Vm.restore(join(directory, "missing"))).rejects.toMatchObject({ code: "FILE_NOT_FOUND" });
  });

  it("memory that turns out to be damaged ends the machine with an error that says so", async () => {
    const path = join(directory, "damaged.rmsnap");
    await using vm = await remembering("ab");
    await vm.snapshot(path);
    const bytes = readFileSync(path);
    using snapshot = Snapshot.open(path);
    bytes.fill(0xff, 16, snapshot.manifest.regions[0].indexOffset);
    writeFileSync(path, bytes);
    await using copy = await Vm.restore(path);
    copy.run();
    await expect(copy.wait()).rejects.toMatchObject({ code: "BAD_SNAPSHOT" });
  });
});
