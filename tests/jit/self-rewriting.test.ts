/** Code that rewrites itself does the same compiled as interpreted, and what is kept of it does not grow. */
import { beforeAll, expect, test } from "vitest";
import { jitSettingsNamed } from "../../src/engine/jit/settings.ts";
import { readRewritingGuest, RewritingGuest, type RewritingImage } from "./rewriting-guest.ts";

let image: RewritingImage | undefined;
let missing = "";

beforeAll(async () => {
  try {
    image = await readRewritingGuest();
  } catch (error) {
    missing = error instanceof Error ? error.message : String(error);
  }
});

function run(jit: string, rounds: number): RewritingGuest {
  const guest = new RewritingGuest(image!, rounds, jitSettingsNamed(jit));
  while (guest.runSlice());
  return guest;
}

test.each(["on", "forced", "tiny", "huge"])("with the JIT %s as without", (jit) => {
  if (image === undefined) return console.log(`skipped: ${missing}`);
  const expected = run("off", 600), guest = run(jit, 600);
  expect(expected.text()).toMatch(/^rewriting\n[0-9a-f]{16}\npassed/u);
  expect(guest.text()).toBe(expected.text());
  expect(guest.machine.retiredInstructions).toBe(expected.machine.retiredInstructions);
  expect(guest.jit.counters.regions).toBeGreaterThan(0);
});

test("four times as many rounds keep no more", () => {
  if (image === undefined) return console.log(`skipped: ${missing}`);
  const [few, many] = [200, 800].map((rounds) => run("forced", rounds).jit);
  expect(many.counters.regions).toBeGreaterThan(few.counters.regions * 2);
  expect(many.kept.modules).toBeLessThan(few.kept.modules + 20);
  expect(many.kept.places).toBeLessThan(few.kept.places + 20);
});
