/**
 * Windows: what a region remembers of the page that an address register pointed into last. An access through one costs a
 * subtraction and a comparison instead of a look into the TLB. They hold while nothing changes mappings: routines do, and
 * every region begins with none.
 */
import type { Node } from "../../ir/index.ts";
import type { StateView } from "../../isa/state-view.ts";
import * as state from "../../isa/state.ts";
import type { FunctionBuilder, Local } from "../../wasm/index.ts";
import { pageSizeBytes } from "../physical-memory.ts";
import { operandFields, RecordField } from "../record.ts";
import { innermostLoops, type Structure } from "./control-flow.ts";
import { generalRegisterAt, type MemoryAccess } from "./handler-summary.ts";
import type { Region, RegionInstruction } from "./region.ts";

/** Locals of one window. */
export interface Window {
  /** First linear address of the page. */
  readonly page: Local<"i64">;
  /** From there to the host's addresses. */
  readonly addend: Local<"i32">;
  /** Offsets in the page below this are within: `roomBytes` once there is a page, 0 before. */
  readonly room: Local<"i64">;
  /** One more than the highest offset at which the largest access lies within one page. */
  readonly roomBytes: number;
}

/** An access, and what it shares its window with. */
interface KeyedAccess {
  readonly instruction: RegionInstruction;
  readonly access: MemoryAccess;
  readonly key: string;
}

const stackPointer = 4;
const maximumWindows = 6;
/** Larger loops have so many registers to keep that windows cost more than they save. */
const maximumLoopInstructions = 80;

export class Windows {
  readonly #view: StateView;
  readonly #all: Window[] = [];
  readonly #byInstruction = new Map<RegionInstruction, Map<Node, Window>>();

  constructor(f: FunctionBuilder, view: StateView, { blocks }: Region, structure: Structure) {
    this.#view = view;
    if (!structure.isLoopHead.includes(true)) return;
    const loops = smallLoops(blocks, innermostLoops(structure));
    const chased = this.#findChased(blocks, loops);
    const keyed = blocks.flatMap(({ instructions }, block) => {
      const loop = loops[block];
      if (loop === undefined) return [];
      const isChased = (register: number): boolean => chased[loop].has(register);
      return instructions.flatMap((instruction) => instruction.summary.accesses.flatMap((access): KeyedAccess[] => {
        const key = this.#keyOf(instruction, access, isChased);
        return key === undefined ? [] : [{ instruction, access, key }];
      }));
    });
    for (const accesses of worthwhile(keyed)) {
      const roomBytes = pageSizeBytes + 1 - Math.max(...accesses.map(({ access }) => access.sizeBytes));
      const window = { page: f.addLocal("i64"), addend: f.addLocal("i32"), room: f.addLocal("i64"), roomBytes };
      this.#all.push(window);
      for (const { instruction, access } of accesses) {
        let windows = this.#byInstruction.get(instruction);
        if (windows === undefined) this.#byInstruction.set(instruction, windows = new Map());
        windows.set(access.node, window);
      }
    }
  }

  /** The window that an access goes through, if it has one. */
  of(instruction: RegionInstruction, node: Node): Window | undefined {
    return this.#byInstruction.get(instruction)?.get(node);
  }

  /** Mappings may be different from here on. */
  forget(f: FunctionBuilder): void {
    for (const { room } of this.#all) {
      f.i64.const(0);
      f.local.set(room);
    }
  }

  #field(instruction: RegionInstruction, field: number): number {
    return this.#view.u16[(instruction.record + field) >>> 1];
  }

  /** Registers by loop that it loads from memory: they point somewhere else every time. */
  #findChased(blocks: Region["blocks"], loops: readonly (number | undefined)[]): Set<number>[] {
    const chased: Set<number>[] = [];
    blocks.forEach(({ instructions }, block) => {
      const loop = loops[block];
      if (loop === undefined) return;
      const registers = chased[loop] ??= new Set();
      for (const instruction of instructions) {
        const { accesses, writtenSlots } = instruction.summary;
        if (!accesses.some(({ isLoad }) => isLoad)) continue;
        for (const slot of writtenSlots) {
          const number = generalRegisterAt(this.#field(instruction, operandFields[slot]));
          if (number !== undefined && number !== stackPointer) registers.add(number);
        }
      }
    });
    return chased;
  }

  /** Accesses with the same key are likely to be in the same page. */
  #keyOf(instruction: RegionInstruction, { base, isWrite }: MemoryAccess, isChased: (register: number) => boolean): string | undefined {
    if (base === undefined) return undefined;
    const kind = isWrite ? "w" : "r";
    if (base !== "operand") return isChased(base) ? undefined : `${kind}${base}:0`;
    const { address } = instruction.handler.form;
    if (address.absolute) return undefined;
    const displacement = this.#view.u32[(instruction.record + RecordField.displacement) >>> 2] | 0;
    const register = this.#field(instruction, RecordField.base);
    if (register === state.ripBase.offset) return `${kind}rip:${(instruction.blockOffset + displacement) >> 12}`;
    const number = generalRegisterAt(register) ?? (address.hasIndex ? generalRegisterAt(this.#field(instruction, RecordField.index)) : undefined);
    if (number !== undefined && isChased(number)) return undefined;
    // Halfway around a register, so that what lies before and behind it in a frame belongs together.
    return `${kind}${generalRegisterAt(register) ?? "absolute"}:${(displacement + 2048) >> 12}`;
  }
}

/** Leaves out loops that call and those that are large. */
function smallLoops(blocks: Region["blocks"], loops: readonly (number | undefined)[]): (number | undefined)[] {
  const sizes = new Map<number, number>();
  blocks.forEach(({ instructions }, block) => {
    const loop = loops[block];
    if (loop === undefined) return;
    const calls = instructions.some(({ handler: { form } }) => form.definition.name === "call" || form.definition.name === "ret");
    sizes.set(loop, (sizes.get(loop) ?? 0) + (calls ? Infinity : instructions.length));
  });
  return loops.map((loop) => loop !== undefined && sizes.get(loop)! <= maximumLoopInstructions ? loop : undefined);
}

/** Accesses by window, those first that are many. */
function worthwhile(keyed: readonly KeyedAccess[]): KeyedAccess[][] {
  return [...Map.groupBy(keyed, ({ key }) => key).values()].toSorted((a, b) => b.length - a.length).slice(0, maximumWindows);
}
