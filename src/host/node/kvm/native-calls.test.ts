import { afterEach, beforeEach, expect, test, vi } from "vitest";

beforeEach(() => vi.resetModules());

afterEach(() => {
  vi.doUnmock("node:module");
  vi.unstubAllGlobals();
});

async function problemOf(): Promise<unknown> {
  const { nativeCalls } = await import("./native-calls.ts");
  return nativeCalls();
}

function stubProcess(changes: object): void {
  vi.stubGlobal("process", new Proxy(process, { get: (target, key) => Reflect.get({ ...changes }, key) ?? Reflect.get(target, key) }));
}

test("a host without koffi hears how to get it", async () => {
  vi.doMock("node:module", () => ({ createRequire: () => () => { throw new Error("Cannot find module 'koffi'\nRequire stack: ..."); } }));
  expect(await problemOf()).toEqual({
    problem: "the optional package koffi, which calls the kernel, does not load (Cannot find module 'koffi')", remedy: "install it: npm install koffi",
  });
});

test("a koffi that finds no C library is a problem, not a crash", async () => {
  vi.doMock("node:module", () => ({ createRequire: () => () => ({ load: () => { throw new Error("no such library"); } }) }));
  expect(await problemOf()).toMatchObject({ problem: "koffi cannot call the C library (no such library)" });
});

test("other systems and other processors are named", async () => {
  stubProcess({ platform: "darwin" });
  expect(await problemOf()).toMatchObject({ problem: "KVM is Linux's, and this host runs darwin" });
  vi.resetModules();
  stubProcess({ platform: "linux", arch: "arm64" });
  expect(await problemOf()).toMatchObject({ problem: "guests are x86-64, and this host's processor is arm64" });
});
