/** VMREAD and VMWRITE as generated code do what the VMCS does, for every encoding. */
import { expect, test } from "vitest";
import { emitFastPath } from "../../engine/wasm-emitter.ts";
import { wasm } from "../../engine/web-assembly.ts";
import type { FastPath } from "../../ir/index.ts";
import { fieldNumber, readFieldPath, writeFieldPath } from "../../isa/semantics/vmcs-access.ts";
import { StateView } from "../../isa/state-view.ts";
import * as state from "../../isa/state.ts";
import { ModuleBuilder } from "../../wasm/index.ts";
import { groupsByField } from "./checks/pending.ts";
import { controls } from "./controls.ts";
import { Field, findField, sizeBytesOf, vmcsFields, type VmcsField } from "./fields.ts";
import { publishFields } from "./published-fields.ts";
import { Vmcs } from "./vmcs.ts";

const withheld = "enable VPID";
const offered = new Set(controls.map(({ name }) => name).filter((name) => name !== withheld));
const pages = Math.ceil(state.processorAreaSizeBytes / 65_536);
const memory = new wasm.Memory({ initial: pages, maximum: pages, shared: true });
const view = new StateView(memory.buffer, 0);
const address = 0x7000;
const mark = 0x1122_3344_5566_7788n;

function functionOf(path: FastPath): (cpu: number, ...args: bigint[]) => number {
  const builder = new ModuleBuilder();
  builder.importMemory("host", "memory", { min: pages, max: pages, shared: true });
  const type = { params: ["i32", ...path.parameters.map(() => "i64" as const)], results: ["i32"] } as const;
  builder.exportFunction("f", builder.addFunction("f", type, (f) => emitFastPath(f, path)));
  const { f } = new wasm.Instance(new wasm.Module(builder.build()), { host: { memory } }).exports;
  return f as (...args: (number | bigint)[]) => number;
}

const read = functionOf(readFieldPath()), write = functionOf(writeFieldPath());

function makeCurrent(): Vmcs {
  const vmcs = new Vmcs(address, memory.buffer, state.vmcsOffset);
  for (const field of vmcsFields) vmcs.set(field, mark ^ BigInt(field.encoding));
  vmcs.unchecked = 0;
  view.set32(state.currentVmcs, vmcs.place);
  view.set32(state.cpl, 0);
  publishFields(view, offered);
  return vmcs;
}

function exists({ requires }: VmcsField): boolean {
  return requires === undefined || offered.has(requires);
}

test("reads give the field, and what is no field of this processor is the routine's", () => {
  const vmcs = makeCurrent();
  let found = 0;
  for (let encoding = 0; encoding < 0x1_0000; encoding++) {
    const field = findField(encoding);
    const isOurs = field !== undefined && !field.isHigh && exists(field.field);
    expect(read(0, BigInt(encoding)), `${encoding}`).toBe(isOurs ? 1 : 0);
    if (!isOurs) continue;
    found++;
    expect(view.get64(state.scratch[0])).toBe(vmcs.get(field.field));
    expect(view.get32(state.scratch[1])).toBe(0);
  }
  expect(found).toBe(vmcsFields.filter(exists).length);
  for (const encoding of [0x1_0000_0000n, 0x8000_0000_0000_681en, 0xffff_ffff_ffff_ffffn]) expect(read(0, encoding)).toBe(0);
});

test("writes change the field and no other, and say what has to be checked again", () => {
  for (const field of vmcsFields.filter(exists)) {
    const vmcs = makeCurrent(), expected = new Vmcs(address);
    expected.bytes.set(vmcs.bytes);
    const isOurs = field !== Field.guestRflags;
    expect(write(0, BigInt(field.encoding), 0xfedc_ba98_7654_3210n), field.name).toBe(isOurs ? 1 : 0);
    if (isOurs) expected.set(field, 0xfedc_ba98_7654_3210n);
    expect(Buffer.compare(vmcs.bytes, expected.bytes), field.name).toBe(0);
    expect(vmcs.unchecked).toBe(isOurs ? groupsByField.get(field) : 0);
  }
  expect(write(0, 0n, 1n)).toBe(0);
});

test("without a current VMCS, and outside of level 0, both are the routine's", () => {
  makeCurrent();
  view.set32(state.cpl, 3);
  expect([read(0, 0x681en), write(0, 0x681en, 1n)]).toEqual([0, 0]);
  view.set32(state.cpl, 0);
  view.set32(state.currentVmcs, 0);
  expect([read(0, 0x681en), write(0, 0x681en, 1n)]).toEqual([0, 0]);
});

test("every field has a number of its own", () => {
  const numbers = vmcsFields.map(({ encoding }) => fieldNumber(encoding));
  expect(new Set(numbers).size).toBe(vmcsFields.length);
  expect(vmcsFields.every(({ offset, width }) => offset + sizeBytesOf(width) <= 0x1000)).toBe(true);
});
