import { expect, test } from "vitest";
import { vmcbFields } from "./vmcb.ts";

test("fields of the control block do not overlap", () => {
  let end = 0;
  for (const { name, offset, width } of vmcbFields) {
    expect(offset, name).toBeGreaterThanOrEqual(end);
    expect(offset % (width / 8), name).toBe(0);
    end = offset + width / 8;
  }
});
