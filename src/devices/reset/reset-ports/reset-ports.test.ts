import { describe, expect, test } from "vitest";
import { byteRegisterBlock } from "../../byte-registers.ts";
import { VirtualClock } from "../../clock.ts";
import { hammer, recordingLine } from "../../testing/wires.ts";
import { ResetPorts, type ResetPortsState } from "./reset-ports.ts";

function build(state?: ResetPortsState) {
  const resets: string[] = [];
  const a20 = recordingLine();
  return { ports: new ResetPorts({ onReset: (kind) => resets.push(kind), a20 }, state), resets, a20 };
}

describe("ResetPorts", () => {
  test("the trigger's rise resets what the other bits name", () => {
    const { ports, resets } = build();
    ports.writeResetControl(0x02);
    expect(resets).toEqual([]);
    ports.writeResetControl(0x06);
    ports.writeResetControl(0x06);
    expect(resets).toEqual(["platform"]);
    ports.writeResetControl(0x00);
    ports.writeResetControl(0x04);
    expect(resets).toEqual(["platform", "processor"]);
    expect(ports.readResetControl()).toBe(0x04);
  });

  test("port 0x92: A20 and fast reset", () => {
    const { ports, resets, a20 } = build();
    ports.writePort92(0x02);
    expect([a20.level, ports.readPort92()]).toEqual([true, 2]);
    ports.writePort92(0x03);
    expect(resets).toEqual(["processor"]);
    expect(build({ resetControl: 0, port92: 2 }).a20.level).toBe(true);
    ports.reset();
    expect(a20.level).toBe(false);
  });

  test("random accesses", () => {
    hammer(() => {
      const { ports } = build();
      const registers = byteRegisterBlock({
        read: (offset) => (offset ? ports.readPort92() : ports.readResetControl()),
        write: (offset, value) => (offset ? ports.writePort92(value) : ports.writeResetControl(value)),
      });
      return { registers, clock: new VirtualClock(), sizeBytes: 2 };
    });
  });
});
