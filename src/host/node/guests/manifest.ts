/** What a built guest's directory says about itself: which packages it is from, and its files with their hashes. */
import { readFile, stat, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { sha256Hex } from "./cache.ts";

export interface ManifestFile {
  readonly file: string;
  readonly sizeBytes: number;
  readonly sha256: string;
}

export interface Manifest {
  /** Changes when our way of building this guest does, which makes the old one stale. */
  readonly recipe: string;
  readonly packages: readonly { readonly name: string; readonly version: string; readonly sha256: string }[];
  /** By the key under which the path is handed out. */
  readonly files: Readonly<Record<string, ManifestFile>>;
}

const manifestName = "manifest.json";

/** Hashes `files` (key to name in `directory`) and writes the manifest beside them. */
export async function writeManifest(directory: string, manifest: Omit<Manifest, "files">, files: Readonly<Record<string, string>>): Promise<void> {
  const described = await Promise.all(Object.entries(files).map(async ([key, file]) => {
    const bytes = await readFile(join(directory, file));
    return [key, { file, sizeBytes: bytes.length, sha256: sha256Hex(bytes) }] as const;
  }));
  await writeFile(join(directory, manifestName), `${JSON.stringify({ ...manifest, files: Object.fromEntries(described) }, null, 2)}\n`);
}

/** The manifest, when the directory is complete and from this `recipe`. With `checkHashes` contents are compared too. */
export async function readManifest(directory: string, recipe: string, checkHashes: boolean): Promise<Manifest | undefined> {
  try {
    const manifest = JSON.parse(await readFile(join(directory, manifestName), "utf8")) as Manifest;
    if (manifest.recipe !== recipe) return undefined;
    for (const { file, sizeBytes, sha256 } of Object.values(manifest.files)) {
      const path = join(directory, file);
      if ((await stat(path)).size !== sizeBytes) return undefined;
      if (checkHashes && sha256Hex(await readFile(path)) !== sha256) return undefined;
    }
    return manifest;
  } catch {
    return undefined;
  }
}

/** Absolute paths by key. */
export function manifestPaths(directory: string, manifest: Manifest): Record<string, string> {
  return Object.fromEntries(Object.entries(manifest.files).map(([key, { file }]) => [key, join(directory, file)]));
}
