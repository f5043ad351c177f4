/**
 * Groups of accesses at known distances from one another, as those of a frame, of a structure, of a row of pushes. The first
 * one looks whether all of them lie in one page that the TLB knows; if so, the others need no look of their own.
 */
import type { Node, SegmentReference } from "../../ir/index.ts";
import type { StateView } from "../../isa/state-view.ts";
import * as state from "../../isa/state.ts";
import type { Local } from "../../wasm/index.ts";
import { operandFields, RecordField } from "../record.ts";
import type { AddressForm, RegisterReference } from "./address-forms.ts";
import { generalRegisterAt, type MemoryAccess } from "./handler-summary.ts";
import type { Region, RegionInstruction } from "./region.ts";

/** More of a page makes it likely that the page's end lies in between. */
const maximumBytes = 256;

/** Accesses that share a look. Offsets are bytes from a place that all of them are at a known distance from. */
export interface AccessGroup {
  /** Where the first byte of all is, and the end of the last. */
  first: number;
  end: number;
  isWrite: boolean;
  /** Block of the access that looks. */
  readonly block: number;
  members: number;
  /** Of them, those that no code has been generated for. */
  remaining: number;
  /** From linear addresses to places in linear memory, 0 when each has to look for itself; there since the look. */
  addend: Local<"i32"> | undefined;
}

export interface GroupedAccess {
  readonly group: AccessGroup;
  readonly offset: number;
}

/** A value: so far from what a register held once. */
interface Distance {
  readonly root: number;
  readonly offset: number;
}

/** What is known at a place of the code. */
interface Knowledge {
  readonly registers: (Distance | undefined)[];
  /** By root. */
  readonly open: Map<number, AccessGroup>;
}

export interface GroupingRules {
  /** How often each block is jumped to. */
  readonly entries: readonly number[];
  readonly isLoopHead: readonly boolean[];
  /** Segments through which linear addresses are offsets. */
  isFlat(instruction: RegionInstruction, segment: SegmentReference): boolean;
  /** What has another way to its page already. */
  isTaken(instruction: RegionInstruction, node: Node): boolean;
}

const instructionPointerRoot = 0;

export class AccessGroups {
  readonly #view: StateView;
  readonly #region: Region;
  readonly #rules: GroupingRules;
  readonly #byInstruction = new Map<RegionInstruction, Map<Node, GroupedAccess>>();
  /** Roots of sums. */
  readonly #sums = new Map<string, number>();
  #roots = instructionPointerRoot + 1;
  /** Accesses that need no look of their own. */
  shared = 0;

  constructor(view: StateView, region: Region, rules: GroupingRules) {
    this.#view = view;
    this.#region = region;
    this.#rules = rules;
    const blocks = region.blocks.map((_, block) => block);
    const waiting = blocks.filter((block) => !this.#hasOneWayTo(block)).map((block) => ({ block, known: this.#nothing() }));
    for (let next = waiting.pop(); next !== undefined; next = waiting.pop()) {
      this.#visit(next.block, next.known);
      for (const block of region.successors[next.block]) {
        if (this.#hasOneWayTo(block)) waiting.push({ block, known: { registers: [...next.known.registers], open: new Map(next.known.open) } });
      }
    }
  }

  /** The group that an access belongs to, if it shares a look. */
  of(instruction: RegionInstruction, node: Node): GroupedAccess | undefined {
    const found = this.#byInstruction.get(instruction)?.get(node);
    return found === undefined || found.group.members < 2 ? undefined : found;
  }

  #nothing(): Knowledge {
    return { registers: Array.from({ length: state.gpr.length }, () => undefined), open: new Map() };
  }

  /** What is known where the only block ends that leads to this one is known where it begins. */
  #hasOneWayTo(block: number): boolean {
    return block !== 0 && this.#rules.entries[block] === 1 && !this.#rules.isLoopHead[block];
  }

  #visit(block: number, known: Knowledge): void {
    for (const instruction of this.#region.blocks[block].instructions) {
      const { accesses, writes, forgets } = instruction.summary.addresses;
      if (forgets) {
        known.open.clear();
        known.registers.fill(undefined);
        continue;
      }
      for (const { access, form } of accesses) {
        if (!this.#rules.isFlat(instruction, access.segment) || this.#rules.isTaken(instruction, access.node)) continue;
        this.#add(instruction, access, this.#resolve(instruction, form, known), block, known);
      }
      if (writes.length === 0) continue;
      const values = writes.map(({ form }) => form === undefined ? undefined : this.#resolve(instruction, form, known));
      writes.forEach(({ target }, index) => {
        const number = this.#registerOf(instruction, target);
        if (number !== undefined) known.registers[number] = values[index];
      });
    }
  }

  #field(instruction: RegionInstruction, field: number): number {
    return this.#view.u16[(instruction.record + field) >>> 1];
  }

  #registerOf(instruction: RegionInstruction, register: RegisterReference): number | undefined {
    return "number" in register ? register.number : generalRegisterAt(this.#field(instruction, operandFields[register.slot]));
  }

  #valueOf({ registers }: Knowledge, register: number): Distance {
    return registers[register] ??= { root: this.#roots++, offset: 0 };
  }

  #resolve(instruction: RegionInstruction, { origin, distance, immediates }: AddressForm, known: Knowledge): Distance | undefined {
    const immediate = immediates === 0 ? 0 : this.#immediate(instruction);
    const value = origin === "operand" ? this.#operand(instruction, known) : this.#register(instruction, origin, known);
    if (immediate === undefined || value === undefined) return undefined;
    return { root: value.root, offset: value.offset + distance + immediates * immediate };
  }

  #register(instruction: RegionInstruction, reference: RegisterReference, known: Knowledge): Distance | undefined {
    const number = this.#registerOf(instruction, reference);
    return number === undefined ? undefined : this.#valueOf(known, number);
  }

  /** Undefined when it is too large to be a distance; outside of 64-bit mode only its lower half counts. */
  #immediate({ record, handler }: RegionInstruction): number | undefined {
    const low = this.#view.u32[(record + RecordField.immediate) >>> 2] | 0, high = this.#view.u32[(record + RecordField.immediate + 4) >>> 2] | 0;
    return !handler.form.variant.long || high === low >> 31 ? low : undefined;
  }

  #operand(instruction: RegionInstruction, known: Knowledge): Distance | undefined {
    const displacement = this.#view.u32[(instruction.record + RecordField.displacement) >>> 2] | 0;
    const base = this.#field(instruction, RecordField.base);
    if (base === state.ripBase.offset) return { root: instructionPointerRoot, offset: instruction.blockOffset + displacement };
    const index = instruction.handler.form.address.hasIndex ? generalRegisterAt(this.#field(instruction, RecordField.index)) : undefined;
    const baseNumber = generalRegisterAt(base);
    const sum = baseNumber === undefined ? undefined : this.#valueOf(known, baseNumber);
    if (index === undefined) return sum && { root: sum.root, offset: sum.offset + displacement };
    const scale = this.#view.u8[instruction.record + RecordField.scale];
    const scaled = this.#valueOf(known, index);
    const key = `${sum?.root}+${scaled.root}<<${scale}`;
    let root = this.#sums.get(key);
    if (root === undefined) this.#sums.set(key, root = this.#roots++);
    return { root, offset: (sum?.offset ?? 0) + scaled.offset * 2 ** scale + displacement };
  }

  #add(instruction: RegionInstruction, access: MemoryAccess, place: Distance | undefined, block: number, { open }: Knowledge): void {
    if (place === undefined) return;
    let group = open.get(place.root);
    if (group === undefined || !join(group, access, place.offset, block)) {
      group = { first: place.offset, end: place.offset + access.sizeBytes, isWrite: access.isWrite, block, members: 1, remaining: 1, addend: undefined };
      open.set(place.root, group);
    } else this.shared++;
    let grouped = this.#byInstruction.get(instruction);
    if (grouped === undefined) this.#byInstruction.set(instruction, grouped = new Map());
    grouped.set(access.node, { group, offset: place.offset });
  }
}

/** Makes an access a member, if it fits; changes nothing otherwise. */
function join(group: AccessGroup, { sizeBytes, isWrite }: MemoryAccess, offset: number, block: number): boolean {
  const first = Math.min(group.first, offset), end = Math.max(group.end, offset + sizeBytes);
  // Where the code divides, perhaps nothing is written: then a page that cannot be written must do.
  if (end - first > maximumBytes || (isWrite && !group.isWrite && group.block !== block)) return false;
  group.first = first;
  group.end = end;
  group.isWrite ||= isWrite;
  group.members++;
  group.remaining++;
  return true;
}
