/** FXSAVE and XSAVE areas (SDM volume 1, "Managing State Using the XSAVE Feature Set"). */
import { Status } from "../../ir/index.ts";
import { Vector } from "../definition.ts";
import type { Processor } from "../processor.ts";
import type { StateView } from "../state-view.ts";
import * as layout from "../state.ts";
import { EferMask, is64BitMode } from "./mode.ts";

/** State components by their bit in XCR0. */
const ComponentMask = { x87: 1n, sse: 2n, pkru: 0x200n } as const;

const legacyAreaSizeBytes = 512;
const headerSizeBytes = 64;
const extendedAreaOffset: number = legacyAreaSizeBytes + headerSizeBytes;
/** Where PKRU lies in the standard format: as on processors with AVX-512, so that a later model can add what is between. */
export const pkruStandardOffset = 2688;
export const pkruSizeBytes = 8;

const mxcsrMask = 0xffff;
const initialMxcsr = 0x1f80;
const initialControlWord = 0x37f;
const errorSummaryMask = 0x80;
const compactedMask = 1n << 63n;

/** Bytes of an area for `components`, in the standard or the compacted format. */
export function stateAreaSizeBytes(components: bigint, isCompacted: boolean): number {
  if ((components & ComponentMask.pkru) === 0n) return extendedAreaOffset;
  return (isCompacted ? extendedAreaOffset : pkruStandardOffset) + pkruSizeBytes;
}

export const standardAreaMaximumBytes: number = stateAreaSizeBytes(ComponentMask.pkru, false);

/** Sequential access to an area; after a fault all accesses are skipped. */
class Area {
  readonly #processor: Processor;
  readonly #base: bigint;
  hasFaulted: boolean = false;

  constructor(processor: Processor, base: bigint) {
    this.#processor = processor;
    this.#base = base;
  }

  load(offset: number, sizeBytes: 1 | 2 | 4 | 8): bigint {
    if (this.hasFaulted) return 0n;
    const value = this.#processor.memory.load(BigInt.asUintN(64, this.#base + BigInt(offset)), sizeBytes);
    this.hasFaulted = value === undefined;
    return value ?? 0n;
  }

  store(offset: number, sizeBytes: 1 | 2 | 4 | 8, value: bigint | number): void {
    if (this.hasFaulted) return;
    const linear = BigInt.asUintN(64, this.#base + BigInt(offset));
    this.hasFaulted = !this.#processor.memory.store(linear, sizeBytes, BigInt(value));
  }
}

function topOfStack(state: StateView): number {
  return (state.get16(layout.x87Status) >>> 11) & 7;
}

/** Physical register behind ST(i). */
function stackRegister(top: number, index: number): layout.StateField {
  return layout.x87[(top + index) & 7];
}

function upperHalf(field: layout.StateField): layout.StateField {
  return { name: field.name, offset: field.offset + 8, width: 64 };
}

function isZero128(state: StateView, field: layout.StateField): boolean {
  return state.get64(field) === 0n && state.get64(upperHalf(field)) === 0n;
}

/** AMD saves opcode and pointers only while an exception is pending, else zeros (AMD APM volume 2, "x87 Environment"). */
function savesPointers({ state, model }: Processor): boolean {
  return model.vendor !== "amd" || (state.get16(layout.x87Status) & errorSummaryMask) !== 0;
}

function saveX87(p: Processor, area: Area, hasWidePointers: boolean): void {
  const { state } = p;
  area.store(0, 2, state.get16(layout.x87Control));
  area.store(2, 2, state.get16(layout.x87Status));
  area.store(4, 2, state.get16(layout.x87Tag) & 0xff);
  if (savesPointers(p)) {
    area.store(6, 2, state.get16(layout.x87Opcode));
    savePointer(state, area, 8, layout.x87InstructionPointer, layout.x87InstructionSelector, hasWidePointers);
    savePointer(state, area, 16, layout.x87DataPointer, layout.x87DataSelector, hasWidePointers);
  } else {
    for (const [offset, sizeBytes] of [[6, 2], [8, 8], [16, 8]] as const) area.store(offset, sizeBytes, 0);
  }
  const top = topOfStack(state);
  for (let index = 0; index < 8; index++) {
    const register = stackRegister(top, index);
    area.store(32 + 16 * index, 8, state.get64(register));
    area.store(40 + 16 * index, 8, state.get64(upperHalf(register)) & 0xffffn);
  }
}

function savePointer(
  state: StateView, area: Area, at: number, offset: layout.StateField, selector: layout.StateField, isWide: boolean,
): void {
  if (isWide) return area.store(at, 8, state.get64(offset));
  area.store(at, 4, state.get32(offset));
  area.store(at + 4, 4, state.get16(selector));
}

interface X87Image {
  readonly control: number;
  readonly status: number;
  readonly tag: number;
  readonly opcode: number;
  readonly instruction: bigint;
  readonly data: bigint;
  /** Significand, then sign and exponent, of ST(0) to ST(7). */
  readonly registers: readonly bigint[];
}

function loadX87(area: Area): X87Image {
  return {
    control: Number(area.load(0, 2)), status: Number(area.load(2, 2)), tag: Number(area.load(4, 1)),
    opcode: Number(area.load(6, 2)), instruction: area.load(8, 8), data: area.load(16, 8),
    registers: Array.from({ length: 16 }, (_, index) => area.load(32 + 8 * index, 8)),
  };
}

function commitX87(state: StateView, image: X87Image, hasWidePointers: boolean): void {
  state.set16(layout.x87Control, (image.control & 0x1f3f) | 0x40);
  state.set16(layout.x87Status, statusWord(image.status, image.control));
  state.set16(layout.x87Tag, image.tag);
  state.set16(layout.x87Opcode, image.opcode & 0x7ff);
  commitPointer(state, image.instruction, layout.x87InstructionPointer, layout.x87InstructionSelector, hasWidePointers);
  commitPointer(state, image.data, layout.x87DataPointer, layout.x87DataSelector, hasWidePointers);
  const top = topOfStack(state);
  for (let index = 0; index < 8; index++) {
    const register = stackRegister(top, index);
    state.set64(register, image.registers[2 * index]);
    state.set64(upperHalf(register), image.registers[2 * index + 1] & 0xffffn);
  }
}

/** ES and B say whether an unmasked exception is pending, whatever the image says. */
function statusWord(status: number, control: number): number {
  const summaryMask = 0x8080;
  const isPending = (status & ~control & 0x3f) !== 0;
  return (status & ~summaryMask) | (isPending ? summaryMask : 0);
}

function commitPointer(
  state: StateView, value: bigint, offset: layout.StateField, selector: layout.StateField, isWide: boolean,
): void {
  state.set64(offset, isWide ? value : value & 0xffff_ffffn);
  state.set16(selector, isWide ? 0 : Number((value >> 32n) & 0xffffn));
}

const initialX87: X87Image = {
  control: initialControlWord, status: 0, tag: 0, opcode: 0, instruction: 0n, data: 0n,
  registers: Array.from({ length: 16 }, () => 0n),
};

function xmmCount(state: StateView): number {
  return is64BitMode(state) ? 16 : 8;
}

function saveXmm(state: StateView, area: Area): void {
  for (let index = 0; index < xmmCount(state); index++) {
    area.store(160 + 16 * index, 8, state.get64(layout.xmm[index]));
    area.store(168 + 16 * index, 8, state.get64(upperHalf(layout.xmm[index])));
  }
}

function loadXmm(state: StateView, area: Area): bigint[] {
  return Array.from({ length: 2 * xmmCount(state) }, (_, index) => area.load(160 + 8 * index, 8));
}

function commitXmm(state: StateView, halves: readonly bigint[]): void {
  for (let index = 0; index < halves.length; index += 2) {
    state.set64(layout.xmm[index / 2], halves[index]);
    state.set64(upperHalf(layout.xmm[index / 2]), halves[index + 1]);
  }
}

/** EFER.FFXSR: at privilege level 0 in 64-bit mode FXSAVE and FXRSTOR leave out the XMM registers (AMD APM volume 2). */
function skipsXmm(state: StateView): boolean {
  return (state.get32(layout.efer) & EferMask.FFXSR) !== 0 && is64BitMode(state) && state.get32(layout.cpl) === 0;
}

/** FXSAVE to an area that has been checked for writing. */
export function fxsave(p: Processor, base: bigint, hasWidePointers: boolean): Status {
  const { state } = p;
  const area = new Area(p, base);
  saveX87(p, area, hasWidePointers);
  area.store(24, 4, state.get32(layout.mxcsr));
  area.store(28, 4, mxcsrMask);
  if (!skipsXmm(state)) saveXmm(state, area);
  return area.hasFaulted ? Status.Fault : Status.Next;
}

export function fxrstor(p: Processor, base: bigint, hasWidePointers: boolean): Status {
  const { state } = p;
  const area = new Area(p, base);
  const x87 = loadX87(area);
  const mxcsr = Number(area.load(24, 4));
  const xmm = skipsXmm(state) ? [] : loadXmm(state, area);
  if (area.hasFaulted) return Status.Fault;
  if ((mxcsr & ~mxcsrMask) !== 0) return p.raise(Vector.GP, 0);
  commitX87(state, x87, hasWidePointers);
  state.set32(layout.mxcsr, mxcsr);
  commitXmm(state, xmm);
  return Status.Next;
}

export interface SaveOptions {
  readonly hasWidePointers: boolean;
  /** XSAVEC and XSAVES. */
  readonly isCompacted: boolean;
  /** XSAVEOPT, XSAVEC and XSAVES may leave out components in their initial configuration. */
  readonly leavesOutInitial: boolean;
}

/** Components that are not in their initial configuration (XINUSE). */
function componentsInUse(state: StateView): bigint {
  let inUse = 0n;
  const isX87Initial = state.get16(layout.x87Control) === initialControlWord && state.get16(layout.x87Status) === 0 &&
    state.get16(layout.x87Tag) === 0 && state.get16(layout.x87Opcode) === 0 &&
    state.get64(layout.x87InstructionPointer) === 0n && state.get64(layout.x87DataPointer) === 0n &&
    layout.x87.every((register) => isZero128(state, register));
  if (!isX87Initial) inUse |= ComponentMask.x87;
  if (layout.xmm.some((register) => !isZero128(state, register))) inUse |= ComponentMask.sse;
  if (state.get32(layout.pkru) !== 0) inUse |= ComponentMask.pkru;
  return inUse;
}

/** XSAVE, XSAVEOPT, XSAVEC or XSAVES of the components in `requested` (EDX:EAX). */
export function xsave(p: Processor, base: bigint, requested: bigint, options: SaveOptions): Status {
  const { state } = p;
  const components = requested & state.get64(layout.xcr0);
  if (!p.memory.probe(base, stateAreaSizeBytes(components, options.isCompacted), "write")) return Status.Fault;
  const area = new Area(p, base);
  const inUse = componentsInUse(state);
  // MXCSR is part of the SSE component, but not of what makes it count as in use: XSAVEC and XSAVES look at it as well.
  const hasOwnMxcsr = options.isCompacted && state.get32(layout.mxcsr) !== initialMxcsr;
  const counted = hasOwnMxcsr ? inUse | ComponentMask.sse : inUse;
  const saved = options.leavesOutInitial ? components & counted : components;
  if ((saved & ComponentMask.x87) !== 0n) saveX87(p, area, options.hasWidePointers);
  const savesMxcsr = ((options.isCompacted ? saved : components) & ComponentMask.sse) !== 0n;
  if (savesMxcsr) {
    area.store(24, 4, state.get32(layout.mxcsr));
    area.store(28, 4, mxcsrMask);
  }
  if ((saved & ComponentMask.sse) !== 0n) saveXmm(state, area);
  if ((saved & ComponentMask.pkru) !== 0n) {
    area.store(options.isCompacted ? extendedAreaOffset : pkruStandardOffset, 8, state.get32(layout.pkru));
  }
  if (options.isCompacted) {
    area.store(512, 8, components & counted);
    area.store(520, 8, compactedMask | components);
  } else {
    const kept = area.load(512, 8) & ~components;
    area.store(512, 8, kept | (components & inUse));
  }
  return area.hasFaulted ? Status.Fault : Status.Next;
}

/** XRSTOR (either format) or XRSTORS (compacted only) of the components in `requested`. */
export function xrstor(p: Processor, base: bigint, requested: bigint, hasWidePointers: boolean, isSupervisor: boolean): Status {
  const { state } = p;
  const enabled = state.get64(layout.xcr0);
  const components = requested & enabled;
  const area = new Area(p, base);
  const present = area.load(512, 8);
  const format = area.load(520, 8);
  const reserved = [0, 1, 2, 3, 4, 5].map((index) => area.load(528 + 8 * index, 8));
  if (area.hasFaulted) return Status.Fault;
  const isCompacted = (format & compactedMask) !== 0n;
  const isRefused = (present & ~enabled) !== 0n || (isSupervisor && !isCompacted) ||
    (isCompacted
      ? !p.model.hasFeature("xsavec") || (format & ~compactedMask & ~enabled) !== 0n || (present & ~format) !== 0n || reserved.some((word) => word !== 0n)
      : format !== 0n || reserved[0] !== 0n);
  if (isRefused) return p.raise(Vector.GP, 0);

  const loaded = components & present;
  const x87 = (loaded & ComponentMask.x87) !== 0n ? loadX87(area) : initialX87;
  // The standard format restores MXCSR whenever SSE is asked for; the compacted one treats it as part of the component.
  const loadsMxcsr = ((isCompacted ? loaded : components) & ComponentMask.sse) !== 0n;
  const mxcsr = loadsMxcsr ? Number(area.load(24, 4)) : initialMxcsr;
  const xmm = (loaded & ComponentMask.sse) !== 0n ? loadXmm(state, area) : Array.from({ length: 2 * xmmCount(state) }, () => 0n);
  const pkru = (loaded & ComponentMask.pkru) !== 0n ? Number(area.load(isCompacted ? extendedAreaOffset : pkruStandardOffset, 4)) : 0;
  if (area.hasFaulted) return Status.Fault;
  if ((mxcsr & ~mxcsrMask) !== 0) return p.raise(Vector.GP, 0);

  if ((components & ComponentMask.x87) !== 0n) commitX87(state, x87, hasWidePointers);
  if ((components & ComponentMask.sse) !== 0n) {
    state.set32(layout.mxcsr, mxcsr);
    commitXmm(state, xmm);
  }
  if ((components & ComponentMask.pkru) !== 0n && state.get32(layout.pkru) !== pkru) {
    state.set32(layout.pkru, pkru);
    p.modeChanged();
    p.memory.flush({ keepGlobal: false });
  }
  return Status.Next;
}
