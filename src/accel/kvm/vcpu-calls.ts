/** The requests of one vCPU's file descriptor, with structures as DataViews, and MSRs and debug settings as values. */
import { invariant } from "../../base/errors.ts";
import { Request, Size, tscControlGroup, tscOffsetAttribute } from "./abi.ts";
import type { HostCalls } from "./host-calls.ts";

const setNames: ReadonlyMap<number, string> = new Map(Object.entries(Request).map(([name, number]) => [number, name]));

export class VcpuCalls {
  readonly descriptor: number;
  readonly #calls: HostCalls;

  constructor(calls: HostCalls, descriptor: number) {
    this.#calls = calls;
    this.descriptor = descriptor;
  }

  /** A structure that KVM fills. */
  get(request: number, sizeBytes: number): DataView<ArrayBuffer> {
    const bytes = new Uint8Array(new ArrayBuffer(sizeBytes));
    this.#check(request, this.#calls.controlBytes(this.descriptor, request, bytes));
    return new DataView(bytes.buffer);
  }

  set(request: number, view: DataView<ArrayBuffer>): void {
    this.#check(request, this.#calls.controlBytes(this.descriptor, request, new Uint8Array(view.buffer)));
  }

  call(request: number, argument = 0): number {
    return this.#calls.control(this.descriptor, request, argument);
  }

  #check(request: number, result: number): void {
    invariant(result >= 0, `KVM refuses ${setNames.get(request)} with error ${-result}`);
  }

  /** Values of the registers that KVM knows, in order; undefined from the first that it does not know. */
  readMsrs(indices: readonly number[]): (bigint | undefined)[] {
    const view = msrList(indices.map((index) => [index, 0n]));
    const count = this.#calls.controlBytes(this.descriptor, Request.getMsrs, new Uint8Array(view.buffer));
    return indices.map((_, at) => (at < count ? view.getBigUint64(8 + at * Size.msrEntry + 8, true) : undefined));
  }

  writeMsrs(values: readonly (readonly [index: number, value: bigint])[]): void {
    const view = msrList(values);
    const count = this.#calls.controlBytes(this.descriptor, Request.setMsrs, new Uint8Array(view.buffer));
    invariant(count === values.length, `KVM refuses MSR 0x${(values[Math.max(count, 0)]?.[0] ?? 0).toString(16)} = 0x${(values[Math.max(count, 0)]?.[1] ?? 0n).toString(16)}`);
  }

  /** What KVM adds to the host's time stamp counter; undefined before Linux 5.16. */
  readTscOffset(): bigint | undefined {
    const attribute = this.#tscAttribute(0n);
    const result = this.#calls.controlBytes(this.descriptor, Request.getDeviceAttr, new Uint8Array(attribute.buffer));
    return result === 0 ? attribute.getBigInt64(Size.deviceAttr, true) : undefined;
  }

  writeTscOffset(offset: bigint): void {
    this.set(Request.setDeviceAttr, this.#tscAttribute(offset));
  }

  /** struct kvm_device_attr, and behind it, where it points, the value. */
  #tscAttribute(value: bigint): DataView<ArrayBuffer> {
    const attribute = new DataView(new ArrayBuffer(Size.deviceAttr + 8));
    attribute.setUint32(4, tscControlGroup, true);
    attribute.setBigUint64(8, BigInt(tscOffsetAttribute), true);
    // SAFETY: the address is that of the structure's own buffer, which the request holds on to.
    attribute.setBigUint64(16, this.#calls.addressOf(new Uint8Array(attribute.buffer)) + BigInt(Size.deviceAttr), true);
    attribute.setBigInt64(Size.deviceAttr, value, true);
    return attribute;
  }
}

/** struct kvm_msrs. */
export function msrList(values: readonly (readonly [index: number, value: bigint])[]): DataView<ArrayBuffer> {
  const view = new DataView(new ArrayBuffer(8 + values.length * Size.msrEntry));
  view.setUint32(0, values.length, true);
  values.forEach(([index, value], at) => {
    view.setUint32(8 + at * Size.msrEntry, index, true);
    view.setBigUint64(8 + at * Size.msrEntry + 8, value, true);
  });
  return view;
}
