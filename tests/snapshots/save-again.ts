/** Saves what is in one snapshot as another one, over and over, until somebody ends it: `save-again.ts SOURCE TARGET`. */
import { randomFillSync } from "node:crypto";
import { byteContents } from "../../src/host/node/snapshot/byte-region.ts";
import { Snapshot } from "../../src/host/node/snapshot/reader.ts";
import { writeSnapshot } from "../../src/host/node/snapshot/writer.ts";

const [source, target] = process.argv.slice(2);
const snapshot = Snapshot.open(source);
/** So that it takes a while. */
const ballast = randomFillSync(new Uint8Array(24 << 20));
const regions = [...snapshot.regions.map((region) => byteContents(region.name, region.readAll(), undefined)), byteContents("ballast", ballast, undefined)];
for (;;) {
  process.stdout.write("saving\n");
  await writeSnapshot(target, { manifest: snapshot.manifest, regions });
}
