import { execFileSync } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import type { AcpiBoard } from "./board.ts";
import { exampleBoard } from "../testing/example-board.ts";
import { createAcpiFiles, fwCfgNames, layOutAcpiTables } from "./layout.ts";

const sum = (bytes: Uint8Array): number => bytes.reduce((total, byte) => (total + byte) & 0xff, 0);

function hasTool(name: string): boolean {
  try {
    execFileSync(name, ["-v"], { stdio: "ignore" });
    return true;
  } catch {
    return false;
  }
}

const iasl = process.env["RINGMASTER_IASL"] ?? "iasl";
const minimalBoard: AcpiBoard = {
  processors: [{ apicId: 0 }],
  localApicBase: 0xfee0_0000,
  ioApic: { id: 0, base: 0xfec0_0000 },
  powerManagement: exampleBoard.powerManagement,
  serialPorts: [{ port: 0x3f8, interrupt: 4 }],
  hasKeyboardController: false,
  hasRtc: false,
  hasVga: false,
};
const manyProcessors: AcpiBoard = { ...exampleBoard, processors: Array.from({ length: 300 }, (_, apicId) => ({ apicId })) };

describe.each([["full", exampleBoard], ["minimal", minimalBoard], ["300 processors", manyProcessors]])("ACPI tables of a %s board", (_, board) => {
  test("add up to zero and point at each other", () => {
    const { rsdpAddress, writes } = layOutAcpiTables(board);
    const memory = new Uint8Array(0x10_0000);
    for (const { address, bytes } of writes) memory.set(bytes, address);
    const view = new DataView(memory.buffer);
    const table = (address: number): Uint8Array => memory.subarray(address, address + view.getUint32(address + 4, true));
    const signature = (address: number): string => new TextDecoder().decode(memory.subarray(address, address + 4));
    expect(new TextDecoder().decode(memory.subarray(rsdpAddress, rsdpAddress + 8))).toBe("RSD PTR ");
    expect(sum(memory.subarray(rsdpAddress, rsdpAddress + 20))).toBe(0);
    expect(sum(memory.subarray(rsdpAddress, rsdpAddress + 36))).toBe(0);
    const rsdt = view.getUint32(rsdpAddress + 16, true);
    const xsdt = Number(view.getBigUint64(rsdpAddress + 24, true));
    expect([signature(rsdt), signature(xsdt), sum(table(rsdt)), sum(table(xsdt))]).toEqual(["RSDT", "XSDT", 0, 0]);
    const listed = Array.from({ length: (table(rsdt).length - 36) / 4 }, (__, i) => view.getUint32(rsdt + 36 + 4 * i, true));
    const extended = Array.from({ length: (table(xsdt).length - 36) / 8 }, (__, i) => Number(view.getBigUint64(xsdt + 36 + 8 * i, true)));
    expect(extended).toEqual(listed);
    for (const address of listed) expect(sum(table(address))).toBe(0);
    const fadt = listed.find((address) => signature(address) === "FACP") ?? 0;
    expect([signature(view.getUint32(fadt + 36, true)), signature(view.getUint32(fadt + 40, true))]).toEqual(["FACS", "DSDT"]);
    expect(view.getUint32(fadt + 36, true) % 64).toBe(0);
  });

  test("the linker script makes of the files what direct placement gives", () => {
    const files = createAcpiFiles(board, 2);
    const placed = new Map<string, { address: number; bytes: Uint8Array }>();
    const script = files.get(fwCfgNames.loader) ?? new Uint8Array();
    const text = (offset: number): string => new TextDecoder().decode(script.subarray(offset, offset + 56)).replace(/\0.*$/su, "");
    const scriptView = new DataView(script.buffer, script.byteOffset);
    let next = 0x7000_0000;
    for (let at = 0; at < script.length; at += 128) {
      const file = text(at + 4);
      const operands = at + 4 + 56;
      switch (scriptView.getUint32(at, true)) {
        case 1: {
          placed.set(file, { address: next, bytes: (files.get(file) ?? new Uint8Array()).slice() });
          next += 0x10_0000;
          break;
        }
        case 2: {
          const { bytes } = placed.get(file) ?? { bytes: new Uint8Array() };
          const offset = scriptView.getUint32(operands + 56, true);
          const sizeBytes = script[operands + 60];
          const view = new DataView(bytes.buffer);
          const base = placed.get(text(operands))?.address ?? 0;
          if (sizeBytes === 8) view.setBigUint64(offset, view.getBigUint64(offset, true) + BigInt(base), true);
          else view.setUint32(offset, view.getUint32(offset, true) + base, true);
          break;
        }
        default: {
          const { bytes } = placed.get(file) ?? { bytes: new Uint8Array() };
          const offset = scriptView.getUint32(operands, true);
          const start = scriptView.getUint32(operands + 4, true);
          bytes[offset] -= sum(bytes.subarray(start, start + scriptView.getUint32(operands + 8, true)));
        }
      }
    }
    const root = placed.get(fwCfgNames.rsdp)?.bytes ?? new Uint8Array();
    const tables = placed.get(fwCfgNames.tables) ?? { address: 0, bytes: new Uint8Array() };
    expect(sum(root)).toBe(0);
    const view = new DataView(tables.bytes.buffer);
    const rsdt = new DataView(root.buffer).getUint32(16, true) - tables.address;
    const count = (view.getUint32(rsdt + 4, true) - 36) / 4;
    for (let i = -1; i < count; i++) {
      const offset = i < 0 ? rsdt : view.getUint32(rsdt + 36 + 4 * i, true) - tables.address;
      expect(sum(tables.bytes.subarray(offset, offset + view.getUint32(offset + 4, true)))).toBe(0);
    }
  });

  test.skipIf(!hasTool(iasl))("are understood by iasl without error or warning (skipped where acpica-tools is not installed)", () => {
    const directory = mkdtempSync(join(tmpdir(), "acpi-"));
    try {
      for (const { name, bytes } of layOutAcpiTables(board).writes) {
        if (name.endsWith("RSDP")) continue;
        const file = join(directory, name.replace("ACPI ", ""));
        writeFileSync(`${file}.aml`, bytes);
        const output = execFileSync(iasl, ["-d", `${file}.aml`], { cwd: directory, encoding: "utf8", stdio: ["ignore", "pipe", "pipe"] });
        expect(output).not.toMatch(/error|warning|invalid/iu);
        if (!name.endsWith("DSDT")) continue;
        const compiled = execFileSync(iasl, ["-oa", "-p", join(directory, "again"), `${file}.dsl`], { cwd: directory, encoding: "utf8", stdio: ["ignore", "pipe", "pipe"] });
        expect(compiled).toMatch(/0 Errors, 0 Warnings/u);
        expect(readFileSync(join(directory, "again.aml")).subarray(36).equals(bytes.subarray(36))).toBe(true);
      }
    } finally {
      rmSync(directory, { recursive: true });
    }
  });
});

test("a Q35 has the tables that systems look for, in the revisions that they know, and none of what it lacks", () => {
  const { writes } = layOutAcpiTables(exampleBoard);
  const tables = new Map(writes.map(({ bytes }) => [new TextDecoder().decode(bytes.subarray(0, 4)), bytes]));
  const revisions = Object.fromEntries([...tables].filter(([name]) => name !== "RSD " && name !== "FACS").map(([name, bytes]) => [name, bytes[8]]));
  expect(revisions).toEqual({ APIC: 3, DSDT: 2, FACP: 3, HPET: 1, MCFG: 1, RSDT: 1, WAET: 1, XSDT: 1 });
  expect(tables.has("FACS")).toBe(true);
  const fixed = new DataView(tables.get("FACP")!.buffer, tables.get("FACP")!.byteOffset);
  // PM1 event block, PM timer and GPE0 as the chipset has them; ECAM where MCFG says.
  expect([fixed.getUint32(56, true), fixed.getUint32(76, true), fixed.getUint32(80, true)]).toEqual([0x600, 0x608, 0x620]);
  expect(new DataView(tables.get("MCFG")!.buffer, tables.get("MCFG")!.byteOffset).getBigUint64(44, true)).toBe(0xb000_0000n);
});

test("the definition block names what the board has", () => {
  const text = new TextDecoder("latin1").decode(layOutAcpiTables(minimalBoard).writes.find(({ name }) => name.endsWith("DSDT"))?.bytes);
  expect(text).toContain("COM1");
  expect(text).not.toContain("PCI0");
  expect(text).not.toContain("HPET");
});
