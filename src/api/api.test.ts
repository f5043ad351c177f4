import { describe, expect, it } from "vitest";
import { commandBeginMarker } from "../host/node/guests/index.ts";
import { debugExit, endlessSleep, greeting } from "../../tests/cli/tiny-guest.ts";
import { CommandOutput } from "./command-output.ts";
import { ConsoleWatch } from "./console-watch.ts";
import { UserError, Vm } from "./index.ts";
import { SerialPort } from "./serial-port.ts";
import { parseDuration, parseSize } from "./sizes.ts";

async function collect(stream: ReadableStream<Uint8Array>): Promise<Uint8Array[]> {
  const chunks: Uint8Array[] = [];
  for await (const chunk of stream) chunks.push(chunk);
  return chunks;
}

describe("sizes and times", () => {
  it.each([["512", 512 << 20], ["512M", 512 << 20], ["2G", 2 ** 31], ["1.5g", 1.5 * 2 ** 30], ["64 KiB", 65_536], ["1TB", 2 ** 40]])("%s", (text, bytes) => {
    expect(parseSize(text)).toBe(bytes);
  });

  it.each(["", "0", "-1M", "M", "1X", "12MM", "1e9", "0.0000001K", "99999999T"])("is no size: %s", (text) => {
    expect(() => parseSize(text)).toThrow(UserError);
  });

  it.each([["20", 20_000], ["1.5s", 1500], ["250ms", 250], ["2m", 120_000], ["1h", 3_600_000]])("%s", (text, ms) => {
    expect(parseDuration(text)).toBe(ms);
  });

  it.each(["", "0", "soon", "-3s", "1000h", "5 m s"])("is no duration: %s", (text) => {
    expect(() => parseDuration(text)).toThrow(UserError);
  });
});

describe("the output of a command", () => {
  const console = `boot log\r\n${commandBeginMarker}out\u001B[1mput\u001B]x\n\u001B]ringmaster;exit=42\u0007\r\n# `;

  it.each([1, 2, 3, 7, 1000])("is found in pieces of %i", (size) => {
    const output = new CommandOutput();
    let text = "";
    for (let at = 0; at < console.length; at += size) text += Buffer.from(output.push(Buffer.from(console.slice(at, at + size)))).toString();
    expect(text).toBe("out\u001B[1mput\u001B]x\n");
    expect(output.status).toBe(42);
  });

  it("comes as it was, bytes that are no text too", () => {
    const output = new CommandOutput();
    output.push(Buffer.from(commandBeginMarker));
    expect([...output.push(Uint8Array.of(0, 0xff, 0x80, 10))]).toEqual([0, 0xff, 0x80, 10]);
  });
});

describe("waiting for text", () => {
  it.each<[string | RegExp, string[], string | undefined]>([
    ["login: ", ["debian lo", "gin: "], "login: "],
    ["a.c", ["abc"], undefined],
    [/RM-(\d+)/gu, ["RM-", "42"], "RM-42"],
    ["userspace", ["[1.0] Run /init as in", "it process"], "Run /init as init process"],
    ["userspace", ["\r\n/ # "], "\n/ # "],
  ])("%s", (until, pieces, expected) => {
    const watch = new ConsoleWatch(until);
    expect(pieces.map((piece) => watch.push(Buffer.from(piece))).findLast(() => true)).toBe(expected);
  });
});

describe("a serial port", () => {
  const wires = { fed: [] as number[], room: 0, isBlocked: false };
  const create = (): SerialPort => new SerialPort({
    feed: (bytes) => {
      const taken = bytes.subarray(0, wires.room);
      wires.fed.push(...taken);
      wires.room -= taken.length;
      return taken.length;
    },
    received: () => {},
    setBlocked: (isBlocked) => {
      wires.isBlocked = isBlocked;
    },
  });
  const send = (port: SerialPort, count: number, value = 65): void => {
    for (let i = 0; i < count; i++) port.receive(value);
    port.flush();
  };

  it("gives input as the UART has room, and tells when it has all", async () => {
    const port = create();
    wires.room = 2;
    let isTaken = false;
    const writer = port.writable.getWriter();
    const written = writer.write("abcd").then(() => {
      isTaken = true;
    });
    await Promise.resolve();
    expect(Buffer.from(wires.fed).toString()).toBe("ab");
    expect(isTaken).toBe(false);
    wires.room = 16;
    port.feedMore();
    await written;
    expect(Buffer.from(wires.fed).toString()).toBe("abcd");
  });

  it("keeps the last MiB for a reader who comes late", async () => {
    const port = create();
    for (let i = 0; i < 40; i++) send(port, 1 << 16, i);
    port.close();
    const chunks = await collect(port.readable);
    expect(chunks.reduce((sum, { length }) => sum + length, 0)).toBe(1 << 20);
    expect(chunks.at(-1)?.[0]).toBe(39);
    expect(wires.isBlocked).toBe(false);
  });

  it("holds the machine for a reader who is slow", async () => {
    const port = create();
    const reader = port.readable.getReader();
    for (let i = 0; i < 17; i++) send(port, 1 << 16);
    expect(wires.isBlocked).toBe(true);
    for (let i = 0; i < 12; i++) await reader.read();
    expect(wires.isBlocked).toBe(false);
  });
});

describe("Vm", () => {
  it("boots until text appears, and tells how it ended", async () => {
    await using vm = await Vm.create({ kernel: greeting("hello\n"), memory: "4M" });
    const states: string[] = [];
    vm.on("state", (state) => states.push(state));
    expect(vm.state).toBe("created");
    const report = await vm.boot({ until: "hello" });
    expect(report.matched).toBe("hello");
    expect(report.instructions).toBeGreaterThan(0);
    expect(await vm.wait()).toEqual({ kind: "debug-exit", status: 1 });
    expect(states).toEqual(["running", "ended"]);
  });

  it("streams the console", async () => {
    await using vm = await Vm.create({ kernel: greeting("streamed"), memory: "4M" });
    vm.run();
    const chunks = await collect(vm.serial.readable);
    expect(Buffer.concat(chunks).toString()).toBe("streamed");
  });

  it.each<[string, () => Promise<unknown>, string]>([
    ["a guest that ends too early", async () => (await Vm.create({ kernel: debugExit(0), memory: "4M" })).boot(), "GUEST_FAILED"],
    ["a timeout", async () => (await Vm.create({ kernel: endlessSleep(), memory: "4M", timeoutMs: 50 })).boot(), "TIMEOUT"],
    ["a signal", async () => {
      await using vm = await Vm.create({ kernel: endlessSleep(), memory: "4M" });
      return await vm.boot({ signal: AbortSignal.timeout(50) });
    }, "ABORTED"],
    ["nothing to boot", () => Vm.create({}), "BAD_ARGUMENT"],
  ])("rejects for %s", async (_, action, code) => {
    await expect(action()).rejects.toMatchObject({ name: "UserError", code });
  });

  it("stands still while paused", async () => {
    await using vm = await Vm.create({ kernel: endlessSleep(), memory: "4M" });
    vm.run();
    vm.pause();
    const { uptimeSeconds } = vm;
    await new Promise((resolve) => setTimeout(resolve, 20));
    expect(vm.uptimeSeconds).toBe(uptimeSeconds);
    expect(vm.state).toBe("paused");
  });

  it("takes the same time in every deterministic run", async () => {
    const run = async (): Promise<number> => {
      await using vm = await Vm.create({ kernel: greeting("same"), memory: "4M", deterministic: true });
      vm.run();
      await vm.wait();
      return vm.retiredInstructions;
    };
    expect(await run()).toBe(await run());
  });

  it("shows the text of a VGA display", async () => {
    await using vm = await Vm.create({ kernel: endlessSleep(), memory: "4M", vga: true });
    expect(vm.screenText()?.length).toBe(25);
    await using without = await Vm.create({ kernel: endlessSleep(), memory: "4M" });
    expect(without.screenText()).toBeUndefined();
  });
});
