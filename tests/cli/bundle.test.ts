/** Which of the bundle and the sources the launcher loads. */
import { mkdir, mkdtemp, rm, utimes, writeFile } from "node:fs/promises";
import { createRequire } from "node:module";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { afterEach, beforeEach, expect, it } from "vitest";

const { entry, sourceStamp, stampFile } = createRequire(import.meta.url)("../../bin/bundle.cjs") as {
  entry(root: string, name: string): string;
  sourceStamp(root: string): string;
  readonly stampFile: string;
};

const source = "src/cli/main.ts", bundled = "dist/bundle/cli/main.js";
let root = "";

async function write(place: string, text: string): Promise<void> {
  await mkdir(dirname(join(root, place)), { recursive: true });
  await writeFile(join(root, place), text);
}

beforeEach(async () => {
  root = await mkdtemp(join(tmpdir(), "ringmaster-bundle-"));
  await write(source, "1");
  await write("src/base/errors.ts", "2");
  await write(stampFile, sourceStamp(root));
});

afterEach(() => rm(root, { recursive: true }));

function chosen(): string {
  return entry(root, "cli/main").slice(root.length + 1);
}

it("loads the bundle of the sources as they are", async () => {
  expect(chosen()).toBe(bundled);
  await write("src/base/errors.test.ts", "not part of it");
  expect(chosen()).toBe(bundled);
});

it("loads the bundle where there are no sources", async () => {
  await rm(join(root, "src"), { recursive: true });
  expect(chosen()).toBe(bundled);
});

it.each([
  ["a source is longer", () => write("src/base/errors.ts", "22")],
  ["a source was written anew", () => utimes(join(root, "src/base/errors.ts"), 0, 0)],
  ["a source is new", () => write("src/base/address.ts", "3")],
  ["a source is gone", () => rm(join(root, "src/base/errors.ts"))],
  ["nothing was bundled", () => rm(join(root, stampFile))],
])("loads the sources when %s", async (_, change) => {
  await change();
  expect(chosen()).toBe(source);
});
