/** Memory in generated code: effective addresses, segment checks, the TLB probe and the calls behind it. */
import type { Node, SegmentReference } from "../../ir/index.ts";
import * as state from "../../isa/state.ts";
import type { FuncIndex, Local } from "../../wasm/index.ts";
import { RecordField } from "../record.ts";
import { accessFlags, scratchValue } from "../slow-access.ts";
import type { RecordCore } from "./record-core.ts";

export class MemoryEmitter {
  readonly #core: RecordCore;
  /** Host address local of each readForWrite load: 0 after a slow access. */
  readonly #hostAddresses = new Map<Node, Local<"i32">>();

  constructor(core: RecordCore) {
    this.#core = core;
  }

  computeEffectiveAddress(): void {
    const f = this.#core.f;
    const { address, variant } = this.#core.form;
    if (address.absolute) {
      f.local.get(this.#core.environment.record);
      f.i64.load(RecordField.immediate);
    } else {
      this.#core.registerAddress(RecordField.base);
      f.i64.load();
      if (address.hasIndex) {
        this.#core.registerAddress(RecordField.index);
        f.i64.load();
        f.local.get(this.#core.environment.record);
        f.i64.load8_u(RecordField.scale);
        f.i64.shl();
        f.i64.add();
      }
      f.local.get(this.#core.environment.record);
      f.i64.load32_s(RecordField.displacement);
      f.i64.add();
    }
    if (variant.addressSize === 64) return;
    f.i64.const(variant.addressSize === 32 ? 0xffff_ffffn : 0xffffn);
    f.i64.and();
  }

  #segmentation(segment: SegmentReference): "flat" | "based" | "checked" {
    if (!this.#core.form.variant.long) return "checked";
    if (segment === "operand") return this.#core.form.address.segmentation;
    return segment >= 4 ? "based" : "flat";
  }

  /** Pushes the address of the segment's fields in the state area: base, readEnd, writeEnd. */
  #segmentAddress(segment: SegmentReference): void {
    this.#core.stateAddress();
    if (segment !== "operand") return;
    const [first, second] = state.segments;
    this.#core.f.local.get(this.#core.environment.record);
    this.#core.f.i32.load8_u(RecordField.segment);
    this.#core.f.i32.const(second.base.offset - first.base.offset);
    this.#core.f.i32.mul();
    this.#core.f.i32.add();
  }

  #segmentFieldOffset(segment: SegmentReference, field: "base" | "readEnd" | "writeEnd"): number {
    return state.segments[segment === "operand" ? 0 : segment][field].offset;
  }

  /** Offset on the stack becomes a linear address, without a check. */
  addSegmentBase(segment: SegmentReference): void {
    const f = this.#core.f;
    const segmentation = this.#segmentation(segment);
    if (segmentation === "flat") return;
    this.#segmentAddress(segment);
    f.i64.load(this.#segmentFieldOffset(segment, "base"));
    f.i64.add();
    if (segmentation === "based") return;
    f.i64.const(0xffff_ffffn);
    f.i64.and();
  }

  /** Calls a host function whose non-zero answer means fault; its arguments are pushed by `push`. */
  #callOrFault(host: FuncIndex, push: () => void): void {
    const f = this.#core.f;
    this.#core.setCurrentRecord();
    push();
    f.call(host);
    f.if("void", "unlikely");
    this.#core.environment.exits.fault();
    f.end();
  }

  /** Leaves the linear address of an access in a local, after the segment check. */
  #linear(segment: SegmentReference, offset: Node, sizeBytes: number, forWrite: boolean): Local<"i64"> {
    const f = this.#core.f;
    const linear = this.#core.local("i64");
    if (this.#segmentation(segment) === "checked") {
      this.#core.push(offset);
      f.i64.const(sizeBytes);
      f.i64.add();
      this.#segmentAddress(segment);
      f.i64.load(this.#segmentFieldOffset(segment, forWrite ? "writeEnd" : "readEnd"));
      f.i64.gt_u();
      f.if("void", "unlikely");
      this.#core.stateAddress();
      this.#core.push(offset);
      f.i64.store(state.slowAddress.offset);
      this.#callOrFault(this.#core.environment.host.segmentCheck, () => {
        f.i32.const(segment === "operand" ? -1 : segment);
        f.i32.const(sizeBytes);
        f.i32.const(forWrite ? 1 : 0);
      });
      f.end();
    }
    this.#core.push(offset);
    this.addSegmentBase(segment);
    f.local.set(linear);
    return linear;
  }

  /** Pushes 1 when the TLB's read or write tag matches; leaves the entry's address in `entry`. */
  #probe(linear: Local<"i64">, sizeBytes: number, tagOffset: number, entry: Local<"i32">): void {
    const f = this.#core.f;
    this.#core.stateAddress();
    f.local.get(linear);
    f.i32.wrap_i64();
    f.i32.const(7);
    f.i32.shr_u();
    f.i32.const((state.tlbEntries - 1) * state.tlbEntrySizeBytes);
    f.i32.and();
    f.i32.add();
    f.local.tee(entry);
    f.i64.load(state.tlbOffset + tagOffset);
    f.local.get(linear);
    if (sizeBytes > 1) {
      f.i64.const(sizeBytes - 1);
      f.i64.add();
    }
    f.i64.const(-4096);
    f.i64.and();
    this.#core.stateAddress();
    f.i64.load(state.tlbContext.offset);
    f.i64.or();
    f.i64.eq();
  }

  #hostAddress(linear: Local<"i64">, entry: Local<"i32">): void {
    const f = this.#core.f;
    f.local.get(linear);
    f.i32.wrap_i64();
    f.local.get(entry);
    f.i32.load(state.tlbOffset + 16);
    f.i32.add();
  }

  #setSlowAddress(linear: Local<"i64">): void {
    this.#core.stateAddress();
    this.#core.f.local.get(linear);
    this.#core.f.i64.store(state.slowAddress.offset);
  }

  load(node: Extract<Node, { op: "load" }>, destination: Local): void {
    const f = this.#core.f;
    const sizeBytes = node.width / 8;
    const forWrite = node.intent === "readForWrite";
    const linear = this.#linear(node.segment, node.args[0], sizeBytes, forWrite);
    const entry = this.#core.local("i32");
    const hostAddress = forWrite ? this.#core.local("i32") : undefined;
    this.#probe(linear, sizeBytes, forWrite ? 8 : 0, entry);
    f.if("void", "likely");
    this.#hostAddress(linear, entry);
    if (hostAddress !== undefined) f.local.tee(hostAddress);
    this.#core.loadWidth(node.width, 0);
    f.local.set(destination);
    f.else();
    this.#setSlowAddress(linear);
    this.#callOrFault(this.#core.environment.host.slowLoad, () => {
      f.i32.const(sizeBytes);
      f.i32.const(accessFlags(node.segment, forWrite));
    });
    if (hostAddress !== undefined) {
      f.i32.const(0);
      f.local.set(hostAddress);
      this.#hostAddresses.set(node, hostAddress);
    }
    this.#core.stateAddress();
    this.#core.loadWidth(node.width, scratchValue.offset);
    f.local.set(destination);
    f.end();
    f.local.get(destination);
  }

  #slowStore(segment: SegmentReference, linear: () => void, value: Node): void {
    const f = this.#core.f;
    this.#core.stateAddress();
    linear();
    f.i64.store(state.slowAddress.offset);
    this.#core.stateAddress();
    this.#core.push(value);
    this.#core.storeWidth(value.width, scratchValue.offset);
    this.#callOrFault(this.#core.environment.host.slowStore, () => {
      f.i32.const(value.width / 8);
      f.i32.const(accessFlags(segment, true));
    });
  }

  store(node: Extract<Node, { op: "store" }>): void {
    const f = this.#core.f;
    const [offset, value] = node.args;
    const sizeBytes = value.width / 8;
    const known = node.prepared === undefined ? undefined : this.#hostAddresses.get(node.prepared);
    if (known !== undefined) {
      f.local.get(known);
      f.if("void", "likely");
      f.local.get(known);
      this.#core.push(value);
      this.#core.storeWidth(value.width, 0);
      f.else();
      this.#slowStore(node.segment, () => {
        this.#core.push(offset);
        this.addSegmentBase(node.segment);
      }, value);
      f.end();
      return;
    }
    const linear = this.#linear(node.segment, offset, sizeBytes, true);
    const entry = this.#core.local("i32");
    this.#probe(linear, sizeBytes, 8, entry);
    f.if("void", "likely");
    this.#hostAddress(linear, entry);
    this.#core.push(value);
    this.#core.storeWidth(value.width, 0);
    f.else();
    this.#slowStore(node.segment, () => f.local.get(linear), value);
    f.end();
  }

  checkWrite(node: Extract<Node, { op: "checkWrite" }>): void {
    const f = this.#core.f;
    const linear = this.#linear(node.segment, node.args[0], node.sizeBytes, true);
    const entry = this.#core.local("i32");
    this.#probe(linear, node.sizeBytes, 8, entry);
    f.i32.eqz();
    f.if("void", "unlikely");
    this.#setSlowAddress(linear);
    this.#callOrFault(this.#core.environment.host.slowCheckWrite, () => {
      f.i32.const(node.sizeBytes);
      f.i32.const(accessFlags(node.segment, true));
    });
    f.end();
  }
}
