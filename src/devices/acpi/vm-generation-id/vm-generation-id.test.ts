import { describe, expect, test } from "vitest";
import { TestBoard } from "../../testing/board.ts";
import { formatGenerationId, vmGenerationId, type VmGenerationIdState } from "./index.ts";

function build(state?: VmGenerationIdState) {
  const placed: Uint8Array[] = [];
  let changes = 0;
  const config = { fillRandom: (target: Uint8Array) => void target.fill(7), place: (id: Uint8Array) => void placed.push(id.slice()), onChange: () => void changes++ };
  const device = vmGenerationId.create(config, new TestBoard().context, state);
  return { device, placed, changes: () => changes };
}

describe("the generation ID", () => {
  test("is random at first, and then what somebody says", () => {
    const { device, placed, changes } = build();
    expect(placed).toEqual([new Uint8Array(16).fill(7)]);
    device.reset();
    device.change(new Uint8Array(16).fill(9));
    expect(placed).toEqual([new Uint8Array(16).fill(7), new Uint8Array(16).fill(9)]);
    expect(changes()).toBe(1);
    expect(device.state.id).toEqual(new Uint8Array(16).fill(9));
  });

  test("stays over a restoration by itself", () => {
    const { placed, changes } = build({ id: new Uint8Array(16).fill(3) });
    expect(placed).toEqual([new Uint8Array(16).fill(3)]);
    expect(changes()).toBe(0);
  });

  test("reads as a GUID", () => {
    expect(formatGenerationId(Uint8Array.from({ length: 16 }, (_, index) => index))).toBe("03020100-0504-0706-0809-0a0b0c0d0e0f");
  });
});
