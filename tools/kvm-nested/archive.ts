/** What a Linux guest needs to run this checkout: Node.js with its libraries from Debian, koffi, our code without types. */
import { readdir, readFile } from "node:fs/promises";
import { stripTypeScriptTypes } from "node:module";
import { dirname, join, relative } from "node:path";
import type { CpioEntry } from "../../src/boot/cpio.ts";
import type { PackageSource } from "../../src/host/node/guests/apt.ts";

const root = join(import.meta.dirname, "../..");
/** Where the checkout lies in the guest. */
export const guestRoot = "ringmaster";

/** Debian's packages with the libraries that Node.js and koffi are linked with. */
const libraryPackages = ["libc6", "libgcc-s1", "libstdc++6", "libatomic1"];
const libraryPattern = /\/(?:ld-linux-x86-64|libc|libm|libdl|libpthread|libgcc_s|libstdc\+\+|libatomic)\.so\.\d+(?:\.\d+)*$/u;
const loaderPath = "lib64/ld-linux-x86-64.so.2";
const libraryDirectory = "lib/x86_64-linux-gnu";

/** Packages of ours from node_modules, with the files that are needed at run time. */
const modules: readonly (readonly [name: string, wanted: RegExp])[] = [
  ["commander", /\.(?:js|json)$/u], ["koffi", /^(?!vendor\/|doc\/).*\.(?:c?js|json)$/u],
  ["@koromix/koffi-linux-x64", /^(?:[^/]+\.(?:js|json|cjs)|linux_x64\/.*)$/u],
];

async function filesBelow(directory: string): Promise<string[]> {
  const entries = await readdir(directory, { recursive: true, withFileTypes: true });
  return entries.filter((entry) => entry.isFile()).map((entry) => relative(directory, join(entry.parentPath, entry.name)));
}

/** Directories before what is in them, each once. */
function withDirectories(files: readonly CpioEntry[], known: readonly string[]): CpioEntry[] {
  const seen = new Set(known);
  return files.flatMap((file): CpioEntry[] => {
    const parents: CpioEntry[] = [];
    for (let path = dirname(file.path); path !== "." && !seen.has(path); path = dirname(path)) {
      seen.add(path);
      parents.unshift({ kind: "directory", path });
    }
    return [...parents, file];
  });
}

async function libraries(packages: PackageSource): Promise<CpioEntry[]> {
  const entries: CpioEntry[] = [];
  for (const name of libraryPackages) {
    const { directory } = await packages.unpack(name);
    for (const path of await filesBelow(directory)) {
      if (!libraryPattern.test(`/${path}`) || path.includes("/gconv/")) continue;
      const bytes = await readFile(join(directory, path));
      const file = path.slice(path.lastIndexOf("/") + 1);
      // Libraries are looked for by their major version.
      const soname = file.replace(/(?<major>\.so\.\d+).*$/u, "$<major>");
      const target = soname.startsWith("ld-linux") ? loaderPath : `${libraryDirectory}/${soname}`;
      entries.push({ kind: "file", path: target, permissions: 0o755, bytes });
    }
  }
  return entries;
}

/** Our sources as the compiler left them in dist/, in the place of src/. */
async function compiledSources(): Promise<CpioEntry[]> {
  const directory = join(root, "dist");
  const files = (await filesBelow(directory)).filter((path) => path.endsWith(".js"));
  return Promise.all(files.map(async (path): Promise<CpioEntry> => ({
    kind: "file", path: `${guestRoot}/src/${path}`, bytes: await readFile(join(directory, path)),
  })));
}

/** A folder of tests, its types taken away: there, they would be by a WebAssembly program that takes a minute. */
async function strippedTests(folder: string): Promise<CpioEntry[]> {
  const directory = join(root, folder);
  const files = (await filesBelow(directory)).filter((path) => path.endsWith(".ts") && !path.endsWith(".test.ts"));
  return Promise.all(files.map(async (path): Promise<CpioEntry> => {
    const text = stripTypeScriptTypes(await readFile(join(directory, path), "utf8"));
    const code = text.replaceAll(/(?<before>(?:from|import) ")(?<specifier>\.[^"]*)\.ts"/gu, '$<before>$<specifier>.js"');
    return { kind: "file", path: `${guestRoot}/${folder}/${path.replace(/\.ts$/u, ".js")}`, bytes: Buffer.from(code) };
  }));
}

async function nodeModules(): Promise<CpioEntry[]> {
  const entries = await Promise.all(modules.map(async ([name, wanted]) => {
    const directory = join(root, "node_modules", name);
    const files = (await filesBelow(directory)).filter((path) => wanted.test(path));
    return Promise.all(files.map(async (path): Promise<CpioEntry> => ({
      kind: "file", path: `${guestRoot}/node_modules/${name}/${path}`, bytes: await readFile(join(directory, path)),
    })));
  }));
  return entries.flat();
}

/** To be appended to an initial RAM file system of ours; `tests` are folders of the checkout. */
export async function checkoutEntries(packages: PackageSource, tests: readonly string[], extra: readonly CpioEntry[]): Promise<CpioEntry[]> {
  return withDirectories([
    ...await libraries(packages),
    { kind: "file", path: "bin/node", permissions: 0o755, bytes: await readFile(join(root, "node_modules/node/bin/node")) },
    { kind: "file", path: `${guestRoot}/package.json`, bytes: await readFile(join(root, "package.json")) },
    ...await compiledSources(), ...(await Promise.all(tests.map(strippedTests))).flat(), ...await nodeModules(), ...extra,
  ], ["bin", "lib"]);
}
