import { expect, test } from "vitest";
import { Request } from "./abi.ts";
import { KvmDevice } from "./device.ts";
import { ErrorNumber, type HostCalls } from "./host-calls.ts";

/** A host whose /dev/kvm opens with `descriptor`, and answers as `control` does. */
function host(descriptor: number, control: (request: number, argument: number) => number = () => 1): HostCalls & { readonly closed: number[] } {
  const closed: number[] = [];
  const unused = (): never => {
    throw new Error("not to be called");
  };
  return {
    closed, openDevice: () => descriptor, close: (file) => void closed.push(file), control: (_, request, argument) => control(request, argument),
    controlBytes: unused, mapShared: unused, unmap: unused, addressOf: unused, createInterrupter: unused, nowNs: () => 0,
  };
}

test.each([
  [ErrorNumber.ENOENT, /there is no \/dev\/kvm/u, /load the module/u],
  [ErrorNumber.ENODEV, /no driver/u, /load the module/u],
  [ErrorNumber.EACCES, /not for this user/u, /group that owns it.*or run as root.*--device/u],
  [ErrorNumber.EPERM, /not for this user/u, /--device/u],
  [ErrorNumber.EBUSY, /busy/u, /other hypervisor/u],
  [5, /error 5/u, /kernel's log/u],
])("error %i on opening says what to do", (error, problem, remedy) => {
  expect(KvmDevice.open(host(-error))).toMatchObject({
    problem: expect.stringMatching(problem), remedy: expect.stringMatching(remedy), isAbsent: error === ErrorNumber.ENOENT,
  });
});

test("another version of the interface is refused, and the device closed", () => {
  const calls = host(7, () => 11);
  expect(KvmDevice.open(calls)).toMatchObject({ problem: expect.stringMatching(/version 11 .* not 12/u) });
  expect(calls.closed).toEqual([7]);
});

test("what an old kernel lacks is named", () => {
  const calls = host(7, (request, argument) => (request === Request.getApiVersion ? 12 : argument === 189 ? 0 : 1));
  expect(KvmDevice.open(calls)).toMatchObject({ problem: "this kernel's KVM lacks MSR filters (Linux 5.10)", remedy: "use a newer kernel" });
});
