/** Tests of the guests of a family: each is assembled, run, and must report success. */
import { beforeAll, describe, expect, it } from "vitest";
import type { BuildTool } from "../../src/host/node/guests/build-tools.ts";
import { findAssembler, listUnitGuests, readUnitGuest, type GuestFamily } from "../../tools/guests/assemble.ts";
import { runUnitGuest } from "./unit-guest.ts";

export interface GuestSelection {
  /** Beginning of the guests' names; default: all. */
  readonly prefix?: string;
  /** Names that the assembler defines. */
  readonly defines?: readonly string[];
}

export async function describeGuests(family: GuestFamily, { prefix = "", defines = [] }: GuestSelection = {}): Promise<void> {
  const guests = (await listUnitGuests(family)).filter(({ name }) => name.startsWith(prefix));
  describe("test guests", () => {
    let assembler: BuildTool | undefined;
    let missing = "";
    beforeAll(async () => {
      try {
        assembler = await findAssembler();
      } catch (error) {
        missing = error instanceof Error ? error.message : String(error);
      }
    });

    it.each(guests.map((guest) => [guest.name, guest] as const))("%s", async (_name, guest) => {
      if (assembler === undefined) {
        console.log(`skipped: ${missing}`);
        return;
      }
      const { passed, text, end } = runUnitGuest(guest, await readUnitGuest(assembler, guest, defines));
      if (!passed) expect.fail(`${text}\nended with ${JSON.stringify(end) ?? "nothing"}`);
    });
  });
}
