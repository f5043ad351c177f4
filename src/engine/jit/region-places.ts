/** Operands, flags and memory of compiled code: registers in locals, operand numbers folded, rare cases left to the interpreter. */
import type { Node, SegmentReference, StateMatch, Width } from "../../ir/index.ts";
import type { StateView } from "../../isa/state-view.ts";
import * as state from "../../isa/state.ts";
import type { Local } from "../../wasm/index.ts";
import type { EmitterCore } from "../emit/core.ts";
import type { EffectNode, FastPathNode, NodeOf, Places, ReadNode } from "../emit/places.ts";
import { pageSizeBytes } from "../physical-memory.ts";
import { operandFields, RecordField } from "../record.ts";
import type { AccessGroup, GroupedAccess } from "./access-groups.ts";
import { cachedPlace } from "./cached-place.ts";
import { InlinedFastPath, type FoundValue } from "./inlined-fast-path.ts";
import { isOrdinary } from "./ordinary-vectors.ts";
import { hasX87FastPath, isX87Offset, type RegionX87 } from "./region-x87.ts";
import { codeBitsOf, jumpTargetOf, type RegionInstruction } from "./region.ts";
import type { RegionCode, Segmentation } from "./region-code.ts";
import { pushTlbMiss } from "./translate.ts";
import type { Window } from "./windows.ts";

const lowMasks: Partial<Record<Width, bigint>> = { 8: 0xffn, 16: 0xffffn, 32: 0xffff_ffffn };

/** Emits the reads and effects of the instructions of a region, one after the other. */
export class RegionPlaces implements Places {
  readonly #code: RegionCode;
  readonly #core: EmitterCore;
  #instruction!: RegionInstruction;
  /** Host address of each load that checked its page for writing. */
  readonly #hostAddresses = new Map<Node, Local<"i32">>();
  /** What inlined fast paths have answered. */
  readonly #results = new Map<number, FoundValue>();
  /** Whether host functions may have done something that ends the region. */
  callsRoutines = false;
  readonly #savedNotes: number[] = [];
  readonly #saved: RegionCode["flags"]["state"][] = [];

  constructor(code: RegionCode, core: EmitterCore) {
    this.#code = code;
    this.#core = core;
  }

  /** What follows is code of this instruction. */
  begin(instruction: RegionInstruction): void {
    this.#instruction = instruction;
    this.callsRoutines = false;
    if (this.#hostAddresses.size > 0) this.#hostAddresses.clear();
    if (this.#results.size > 0) this.#results.clear();
  }

  get #view(): StateView {
    return this.#code.view;
  }

  #record8(field: number): number {
    return this.#view.u8[this.#instruction.record + field];
  }

  #record16(field: number): number {
    return this.#view.u16[(this.#instruction.record + field) >>> 1];
  }

  #record32(field: number): number {
    return this.#view.u32[(this.#instruction.record + field) >>> 2];
  }

  #immediate(): bigint {
    return BigInt(this.#record32(RecordField.immediate)) | (BigInt(this.#record32(RecordField.immediate + 4)) << 32n);
  }

  constant(node: ReadNode | FastPathNode): bigint | undefined {
    switch (node.op) {
      case "immediate": return node.width > 32 ? this.#immediate() : BigInt.asUintN(node.width, BigInt(this.#record32(RecordField.immediate)));
      case "routineResult": {
        const result = this.#results.get(node.index);
        return typeof result === "bigint" ? result : undefined;
      }
      case "readState":
        if (node.location.offset === state.simdFault.offset && this.#code.assumesSimd) return 0n;
        return this.#code.x87?.constant(node);
      default: return this.#code.x87?.constant(node);
    }
  }

  isOrdinary(node: NodeOf<"isModerate">, operand: Node): boolean {
    const { ordinaryVectors } = this.#code;
    return ordinaryVectors !== undefined && isOrdinary(this.#view, ordinaryVectors, this.#instruction, node, operand);
  }

  matches(match: StateMatch): void {
    this.#code.pushIsQuiet(match);
  }

  beforeIf(node: NodeOf<"if">): void {
    if (this.#changesFlags(node.then) || this.#changesFlags(node.otherwise)) this.#code.flags.makeExplicit();
  }

  enterConditional(): void {
    this.#savedNotes.push(this.#code.x87?.notes ?? 0);
    this.#saved.push(this.#code.flags.state);
  }

  leaveConditional(body: readonly Node[]): void {
    const before = this.#saved.pop()!, notesBefore = this.#savedNotes.pop()!;
    // What is noted before and after holds either way.
    if (this.#code.x87 !== undefined) this.#code.x87.notes &= notesBefore;
    if (this.#changesFlags(body)) this.#code.flags.makeExplicit();
    else this.#code.flags.state = before;
  }

  /** Whether what follows a conditional body finds other flags than before. */
  #changesFlags(body: readonly Node[]): boolean {
    return body.some((node) =>
      node.op === "writeFlags" || node.op === "arithmeticFlags" || node.op === "logicFlags" ||
      (node.op === "routine" && !this.#instruction.summary.calls.rare.has(node)) ||
      (node.op === "if" && (this.#changesFlags(node.then) || this.#changesFlags(node.otherwise))));
  }

  read(node: ReadNode, destination: Local | undefined): void {
    const { f } = this.#core;
    const { offset, nextOffset, blockOffset } = this.#instruction;
    switch (node.op) {
      case "immediate": return this.#core.pushConstant(node.width, this.constant(node)!);
      case "nextRip": return this.#code.pushRip(nextOffset);
      case "thisRip": return this.#code.pushRip(offset);
      case "branchTarget": return this.#code.pushRip(blockOffset + (this.#record32(RecordField.immediate) | 0));
      case "readState": return this.#readPlace(node.location.offset, node.width);
      case "readStateBits":
        this.#readPlace(node.location.offset, node.location.width);
        f.i32.const(node.mask);
        return f.i32.and();
      case "readRegister": return this.#readPlace(this.#record16(operandFields[node.slot]), node.width);
      case "readFlag": return this.#code.flags.readFlag(node.flag);
      case "condition": return this.#code.flags.condition(node.code);
      case "effectiveAddress": return this.#effectiveAddress();
      case "linearAddress":
        this.#core.push(node.args[0]);
        return this.#addSegmentBase(node.segment);
      case "load": return this.#load(node, destination!);
      case "routineResult":
        if (this.#results.has(node.index)) return f.local.get(this.#results.get(node.index) as Local);
        f.i32.const(0);
        return this.#core.loadWidth(node.width, this.#code.place(state.scratch[node.index]));
    }
  }

  perform(node: EffectNode): void {
    const { flags } = this.#code;
    switch (node.op) {
      case "writeState":
        if (node.location.offset === state.x87InstructionPointer.offset && node.args[0].op === "thisRip" && this.#code.x87 !== undefined) {
          return this.#code.x87.noteInstruction(this.#instruction.offset);
        }
        return this.#writePlace(node.location.offset, node.location.width, () => this.#core.push(node.args[0]));
      case "writeRegister": return this.#writeRegister(node);
      case "writeFlags": return flags.write(this.#core, node.flags, node.args);
      case "arithmeticFlags": return flags.arithmetic(this.#core, node);
      case "logicFlags": return flags.logic(this.#core, node.args[0]);
      case "store": return this.#store(node);
      case "checkWrite": return this.#checkWrite(node);
      // Nothing has been committed: the interpreter finds the same and raises it.
      case "raise": return this.#code.interpret(this.#instruction);
      case "jump": return this.#jump(node.args[0]);
      case "jumpTarget": return this.#code.goTo(this.#instruction.targetOffset!);
      case "routine": return this.#routine(node);
    }
  }

  #jump(target: Node): void {
    const kind = jumpTargetOf(target, codeBitsOf(this.#code.modeNumber));
    if (kind === "self") return this.#code.goTo(this.#instruction.offset);
    if (kind === "branch" && this.#instruction.targetOffset !== undefined) return this.#code.goTo(this.#instruction.targetOffset);
    this.#code.goToDynamic(this.#instruction, () => this.#core.push(target));
  }

  // --- registers -----------------------------------------------------------------------------------------------------

  #readPlace(offset: number, width: Width): void {
    const { f } = this.#core;
    const place = cachedPlace(offset);
    if (place === undefined) {
      if (this.#code.x87 !== undefined && isX87Offset(offset)) return this.#code.x87.read(offset);
      f.i32.const(0);
      return this.#core.loadWidth(width, this.#code.base + offset);
    }
    if (place.file === "xmm") return this.#readLane(place.number, place.byte, width);
    f.local.get(this.#code.general(place.number));
    if (place.byte !== 0) {
      f.i64.const(place.byte * 8);
      f.i64.shr_u();
    }
    if (width === 64) return;
    f.i32.wrap_i64();
    this.#core.mask(width);
  }

  #readLane(number: number, byte: number, width: Width): void {
    const { f } = this.#core;
    f.local.get(this.#code.vector(number));
    // By way of floating point, which costs nothing where that is what the value is for.
    if (byte === 0 && width === 64) {
      f.f64x2.extract_lane(0);
      return f.i64.reinterpret_f64();
    }
    if (byte === 0 && width === 32) {
      f.f32x4.extract_lane(0);
      return f.i32.reinterpret_f32();
    }
    switch (width) {
      case 128: return;
      case 64: return f.i64x2.extract_lane(byte / 8);
      case 32: return f.i32x4.extract_lane(byte / 4);
      case 16: return f.i16x8.extract_lane_u(byte / 2);
      default: return f.i8x16.extract_lane_u(byte);
    }
  }

  #writePlace(offset: number, width: Width, push: () => void): void {
    const { f } = this.#core;
    const place = cachedPlace(offset);
    if (place === undefined) {
      if (this.#code.x87 !== undefined && isX87Offset(offset)) return this.#code.x87.write(offset, push);
      f.i32.const(0);
      push();
      this.#core.storeWidth(width, this.#code.base + offset);
      if (offset === state.mxcsr.offset) this.#code.askWhetherQuiet();
      return;
    }
    if (place.file === "xmm") {
      const local = this.#code.vector(place.number);
      if (width !== 128) f.local.get(local);
      push();
      if (place.byte === 0 && width === 64) {
        f.f64.reinterpret_i64();
        f.f64x2.replace_lane(0);
      } else if (place.byte === 0 && width === 32) {
        f.f32.reinterpret_i32();
        f.f32x4.replace_lane(0);
      } else if (width === 64) f.i64x2.replace_lane(place.byte / 8);
      else if (width === 32) f.i32x4.replace_lane(place.byte / 4);
      else if (width === 16) f.i16x8.replace_lane(place.byte / 2);
      else if (width === 8) f.i8x16.replace_lane(place.byte);
      return f.local.set(local);
    }
    const local = this.#code.general(place.number);
    if (width === 64) {
      push();
      return f.local.set(local);
    }
    const shift = BigInt(place.byte * 8), mask = lowMasks[width]! << shift;
    f.local.get(local);
    f.i64.const(BigInt.asIntN(64, ~mask));
    f.i64.and();
    push();
    f.i64.extend_i32_u();
    if (shift !== 0n) {
      f.i64.const(shift);
      f.i64.shl();
    }
    f.i64.or();
    f.local.set(local);
  }

  #writeRegister(node: NodeOf<"writeRegister">): void {
    const operand = this.#instruction.handler.form.operands[node.slot];
    const [value] = node.args;
    const offset = this.#record16(operandFields[node.slot]);
    if (operand.kind !== "register" || operand.file !== "gpr" || value.width !== 32) {
      return this.#writePlace(offset, value.width, () => this.#core.push(value));
    }
    this.#writePlace(offset, 64, () => this.#core.push64(value));
  }

  // --- memory --------------------------------------------------------------------------------------------------------

  #effectiveAddress(): void {
    const { f } = this.#core;
    const { address, variant } = this.#instruction.handler.form;
    if (address.absolute) f.i64.const(BigInt.asIntN(64, this.#immediate()));
    else this.#pushSum(address.hasIndex);
    if (variant.addressSize === 64) return;
    f.i64.const(variant.addressSize === 32 ? 0xffff_ffffn : 0xffffn);
    f.i64.and();
  }

  #pushSum(hasIndex: boolean): void {
    const { f } = this.#core;
    const displacement = this.#record32(RecordField.displacement) | 0;
    const base = this.#record16(RecordField.base), index = this.#record16(RecordField.index);
    if (base === state.ripBase.offset) return this.#code.pushRip(this.#instruction.blockOffset + displacement);
    let terms = 0;
    const add = (): void => {
      if (terms++ > 0) f.i64.add();
    };
    if (base !== state.zero.offset) {
      this.#readPlace(base, 64);
      add();
    }
    if (hasIndex && index !== state.zero.offset) {
      this.#readPlace(index, 64);
      const scale = this.#record8(RecordField.scale);
      if (scale !== 0) {
        f.i64.const(scale);
        f.i64.shl();
      }
      add();
    }
    if (displacement === 0 && terms > 0) return;
    f.i64.const(displacement);
    add();
  }

  #segmentNumber(segment: SegmentReference): number {
    return this.#code.segmentNumber(this.#instruction, segment);
  }

  #segmentation(segment: SegmentReference): Segmentation {
    return this.#code.segmentation(this.#instruction, segment);
  }

  #loadState64(field: state.StateField): void {
    this.#core.f.i32.const(0);
    this.#core.f.i64.load(this.#code.place(field));
  }

  #addSegmentBase(segment: SegmentReference): void {
    const { f } = this.#core;
    const segmentation = this.#segmentation(segment);
    if (segmentation === "flat") return;
    this.#loadState64(state.segments[this.#segmentNumber(segment)].base);
    f.i64.add();
    if (segmentation === "based") return;
    f.i64.const(0xffff_ffffn);
    f.i64.and();
  }

  #linear(segment: SegmentReference, offset: Node, sizeBytes: number, forWrite: boolean): Local<"i64"> {
    const { f } = this.#core;
    const linear = this.#core.local("i64");
    if (this.#segmentation(segment) === "checked") {
      const fields = state.segments[this.#segmentNumber(segment)];
      this.#core.push(offset);
      f.i64.const(sizeBytes);
      f.i64.add();
      this.#loadState64(forWrite ? fields.writeEnd : fields.readEnd);
      f.i64.gt_u();
      f.if("void", "unlikely");
      this.#code.interpret(this.#instruction);
      f.end();
    }
    this.#core.push(offset);
    this.#addSegmentBase(segment);
    f.local.set(linear);
    return linear;
  }

  /** Pushes where in linear memory an access goes; what cannot go there by itself is left to the interpreter. */
  #pushHostAddress(node: EffectNode | ReadNode, linear: Local<"i64">, sizeBytes: number, forWrite: boolean): void {
    const window = this.#code.windows.of(this.#instruction, node);
    if (window !== undefined) return this.#pushByWindow(window, linear, sizeBytes, forWrite);
    const grouped = this.#code.groups.of(this.#instruction, node);
    if (grouped === undefined) this.#pushByTranslation(linear, sizeBytes, forWrite);
    else this.#pushByGroup(grouped, linear, sizeBytes, forWrite);
  }

  #pushByGroup({ group, offset }: GroupedAccess, linear: Local<"i64">, sizeBytes: number, forWrite: boolean): void {
    const { f } = this.#core;
    if (group.addend === undefined) {
      group.addend = f.addLocal("i32");
      this.#lookForGroup(group, offset, linear);
    }
    const { addend } = group;
    f.local.get(addend);
    f.if("i32", "likely");
    f.local.get(linear);
    f.i32.wrap_i64();
    f.local.get(addend);
    f.i32.add();
    f.else();
    f.local.get(linear);
    f.i32.const(sizeBytes * 2 + (forWrite ? 1 : 0));
    f.call(this.#code.calls.locate);
    const place = this.#core.local("i32");
    f.local.tee(place);
    f.i32.eqz();
    f.if();
    this.#code.interpret(this.#instruction);
    f.end();
    f.local.get(place);
    f.end();
    group.remaining--;
    if (group.remaining === 0) f.freeLocal(addend);
  }

  /** Sets the group's addend, by way of the access at `offset`. */
  #lookForGroup({ first, end, isWrite, addend }: AccessGroup, offset: number, linear: Local<"i64">): void {
    const { f } = this.#core;
    const entry = this.#core.local("i32");
    let start = linear;
    if (first !== offset) {
      start = this.#core.local("i64");
      f.local.get(linear);
      f.i64.const(first - offset);
      f.i64.add();
      f.local.set(start);
    }
    pushTlbMiss(f, this.#code.base, start, end - first, isWrite, entry, () => f.local.get(this.#code.context));
    f.if("i32", "unlikely");
    f.i32.const(0);
    f.else();
    f.local.get(entry);
    f.i32.load(this.#code.base + state.tlbOffset + 16);
    f.end();
    f.local.set(addend!);
  }

  #pushByWindow({ page, addend, room, roomBytes }: Window, linear: Local<"i64">, sizeBytes: number, forWrite: boolean): void {
    const { f } = this.#core;
    f.local.get(linear);
    f.local.get(page);
    f.i64.sub();
    f.local.get(room);
    f.i64.ge_u();
    f.if("void", "unlikely");
    f.local.get(linear);
    f.i32.const(sizeBytes * 2 + (forWrite ? 1 : 0));
    f.call(this.#code.calls.translate);
    f.local.tee(addend);
    f.i32.eqz();
    f.if();
    this.#code.interpret(this.#instruction);
    f.end();
    f.local.get(addend);
    f.local.get(linear);
    f.i64.const(-pageSizeBytes);
    f.i64.and();
    f.local.tee(page);
    f.i32.wrap_i64();
    f.i32.sub();
    f.local.set(addend);
    f.i64.const(roomBytes);
    f.local.set(room);
    f.end();
    f.local.get(linear);
    f.i32.wrap_i64();
    f.local.get(addend);
    f.i32.add();
  }

  #pushByTranslation(linear: Local<"i64">, sizeBytes: number, forWrite: boolean): void {
    const { f } = this.#core;
    const entry = this.#core.local("i32");
    pushTlbMiss(f, this.#code.base, linear, sizeBytes, forWrite, entry, () => f.local.get(this.#code.context));
    f.if("void", "unlikely");
    f.local.get(linear);
    f.i32.const(sizeBytes * 2 + (forWrite ? 1 : 0));
    f.call(this.#code.calls.reach);
    f.i32.eqz();
    f.if();
    this.#code.interpret(this.#instruction);
    f.end();
    f.end();
    f.local.get(linear);
    f.i32.wrap_i64();
    f.local.get(entry);
    f.i32.load(this.#code.base + state.tlbOffset + 16);
    f.i32.add();
  }

  #load(node: NodeOf<"load">, _destination: Local): void {
    const { f } = this.#core;
    const sizeBytes = node.width / 8, forWrite = node.intent === "readForWrite";
    this.#pushHostAddress(node, this.#linear(node.segment, node.args[0], sizeBytes, forWrite), sizeBytes, forWrite);
    if (forWrite) {
      const hostAddress = this.#core.local("i32");
      f.local.tee(hostAddress);
      this.#hostAddresses.set(node, hostAddress);
    }
    this.#core.loadWidth(node.width, 0);
  }

  #store(node: NodeOf<"store">): void {
    const [offset, value] = node.args;
    const sizeBytes = value.width / 8;
    const known = node.prepared === undefined ? undefined : this.#hostAddresses.get(node.prepared);
    if (known !== undefined) this.#core.f.local.get(known);
    else this.#pushHostAddress(node, this.#linear(node.segment, offset, sizeBytes, true), sizeBytes, true);
    this.#core.push(value);
    this.#core.storeWidth(value.width, 0);
  }

  #checkWrite(node: NodeOf<"checkWrite">): void {
    this.#pushHostAddress(node, this.#linear(node.segment, node.args[0], node.sizeBytes, true), node.sizeBytes, true);
    this.#core.f.drop();
  }

  // --- routines ------------------------------------------------------------------------------------------------------

  #routine(node: NodeOf<"routine">): void {
    const { f } = this.#core;
    const { x87 } = this.#code;
    if (x87 !== undefined) return this.#withUnitInLocals(node, x87);
    const fast = this.#code.fastFunction(node.routine);
    if (this.#instruction.summary.calls.observing.has(node)) return this.#observe(node);
    if (fast === undefined) return this.#slowRoutine(node);
    f.i32.const(this.#code.base);
    this.#core.pushAll(node.args);
    f.call(fast);
    if (node.routine.fast!().isTotal) return f.drop();
    f.i32.eqz();
    f.if("void", "unlikely");
    this.#slowRoutine(node);
    f.end();
  }

  /** Fast paths of the unit become part of the code; before all other routines the region is left, since they see state that is elsewhere. */
  #withUnitInLocals(node: NodeOf<"routine">, x87: RegionX87): void {
    const leave = (): void => {
      if (!this.#instruction.summary.calls.first.has(node)) x87.isImpossible = true;
      this.#code.interpret(this.#instruction);
    };
    if (!hasX87FastPath(node.routine)) return leave();
    new InlinedFastPath(this.#core, x87, this.#code.base, node.args, node.routine.fast!().body, this.#results, leave);
  }

  #slowRoutine(node: NodeOf<"routine">): void {
    if (this.#instruction.summary.calls.rare.has(node)) this.#code.interpret(this.#instruction);
    else this.#callRoutine(node);
  }

  /** Registers stay where they are. What does not simply go on is left to the interpreter, which asks again. */
  #observe(node: NodeOf<"routine">): void {
    const { f } = this.#core;
    this.#passArguments(node);
    this.#enterHost();
    f.i32.const(this.#code.routineNumber(node.routine));
    f.call(this.#code.calls.observe);
    f.i32.const(0);
    f.i32.const(0);
    f.i32.store(this.#code.place(state.currentRecord));
    f.if("void", "unlikely");
    this.#code.interpret(this.#instruction);
    f.end();
  }

  #passArguments(node: NodeOf<"routine">): void {
    const { f } = this.#core;
    node.args.forEach((argument, index) => {
      f.i32.const(0);
      if (argument.width === 128) {
        this.#core.push(argument);
        f.v128.store(this.#code.place(state.scratch[index]));
      } else {
        this.#core.push64(argument);
        f.i64.store(this.#code.place(state.scratch[index]));
      }
    });
  }

  /** Says where execution is, for what the host may ask. */
  #enterHost(): void {
    const { f } = this.#core;
    const { count, record, blockOffset } = this.#instruction;
    this.#code.storeRip(state.ripBase, blockOffset);
    f.i32.const(0);
    f.i32.const(record);
    f.i32.store(this.#code.place(state.currentRecord));
    // The host counts from the beginning of the decoded block that the record belongs to.
    this.#code.storeBudget(count - 1 - this.#code.executedBefore);
  }

  #callRoutine(node: NodeOf<"routine">): void {
    const { f } = this.#core;
    this.#passArguments(node);
    this.callsRoutines = true;
    this.#code.storeRegisters();
    this.#enterHost();
    const status = this.#core.local("i32");
    f.i32.const(this.#code.routineNumber(node.routine));
    f.call(this.#code.calls.routine);
    f.local.tee(status);
    f.if("void", "unlikely");
    this.#code.leaveRoutine(status, this.#instruction);
    f.end();
    f.i32.const(0);
    f.i32.const(0);
    f.i32.store(this.#code.place(state.currentRecord));
    this.#code.reload(this.#code.executedBefore - (this.#instruction.count - 1));
  }
}
