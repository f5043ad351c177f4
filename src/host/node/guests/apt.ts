/** Fetches Debian packages by the ordinary apt client with a private state directory: no root, and the system's own lists and sources stay as they are. */
import { existsSync } from "node:fs";
import { mkdir, readdir, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { UserError } from "../../../base/errors.ts";
import { defaultKeyring, findDebianMirrors, type AptSource } from "./apt-sources.ts";
import { replaceDirectory } from "./cache.ts";
import { runProcess } from "./process.ts";
import type { Progress } from "./progress.ts";

/** The release whose kernel and firmware our guests are. */
const release = "bookworm";

/** The suites that a package is looked for in, and the architecture that it is for. */
export type AptChannel = "release" | "backports" | "release-i386";

interface ChannelContent {
  readonly title: string;
  readonly architecture: "amd64" | "i386";
  readonly suites: readonly string[];
  readonly hasSecurityUpdates: boolean;
}

const releaseSuites = [release, `${release}-updates`];
const channels: Readonly<Record<AptChannel, ChannelContent>> = {
  release: { title: `Debian ${release}`, architecture: "amd64", suites: releaseSuites, hasSecurityUpdates: true },
  backports: { title: `Debian ${release}-backports`, architecture: "amd64", suites: [`${release}-backports`], hasSecurityUpdates: false },
  // For a guest to compare with, the newest point release will do; mirrors are often behind with this part's security updates.
  "release-i386": { title: `Debian ${release} for i386`, architecture: "i386", suites: releaseSuites, hasSecurityUpdates: false },
};

/** A package in the cache, unpacked. */
export interface UnpackedPackage {
  readonly name: string;
  readonly version: string;
  readonly sha256: string;
  readonly directory: string;
}

interface UnpackOptions {
  /** The files wanted, by paths in the package. */
  readonly keep?: (path: string) => boolean;
  /** Tells apart directories of one package for which different files are wanted. */
  readonly variant?: string;
}

interface PackageRecord {
  readonly name: string;
  readonly version: string;
  readonly sha256: string;
  readonly sizeBytes: number;
  readonly depends: string;
}

interface AptCallOptions {
  readonly cwd?: string;
  readonly onStatusLine?: (line: string) => void;
  /** Settings of apt.conf for this call. */
  readonly overrides?: Readonly<Record<string, string>>;
}

const hint = "Pass a kernel of your own with --kernel <bzImage> (and --initrd <file>) instead.";

function stanza(source: AptSource, suites: readonly string[], architecture: string): string {
  const signedBy = source.signedBy ?? defaultKeyring();
  return [
    "Types: deb", `URIs: ${source.uri}`, `Suites: ${suites.join(" ")}`, "Components: main", `Architectures: ${architecture}`,
    ...(signedBy === undefined ? [] : [`Signed-By: ${signedBy}`]), "",
  ].join("\n");
}

function parseRecord(text: string): PackageRecord | undefined {
  const field = (name: string): string => new RegExp(`^${name}: (.*)$`, "mu").exec(text)?.[1] ?? "";
  const name = field("Package");
  if (name === "") return undefined;
  return { name, version: field("Version"), sha256: field("SHA256"), sizeBytes: Number(field("Size")), depends: field("Depends") };
}

/** Packages of one channel. Lists are fetched when the first package is. */
export class PackageSource {
  readonly #cacheDirectory: string;
  readonly #channel: AptChannel;
  readonly #progress: Progress;
  #isUpToDate = false;

  constructor(cacheDirectory: string, channel: AptChannel, progress: Progress) {
    this.#cacheDirectory = cacheDirectory;
    this.#channel = channel;
    this.#progress = progress;
  }

  /**
   * Fetches and unpacks `name`, unless this version is there already. A package that only names another by its
   * version, as `linux-image-cloud-amd64` does, stands for that one.
   * @throws UserError TOOL_MISSING without apt, GUEST_MISSING when the package cannot be had.
   */
  async unpack(name: string, options: UnpackOptions = {}): Promise<UnpackedPackage> {
    await this.#update();
    const record = await this.#resolve(name);
    const { architecture } = channels[this.#channel];
    const suffix = `${architecture === "amd64" ? "" : `_${architecture}`}${options.variant === undefined ? "" : `_${options.variant}`}`;
    const directory = join(this.#cacheDirectory, "packages", `${record.name}_${record.version.replaceAll(/[^\w.+~-]/gu, "_")}${suffix}`);
    if (!existsSync(directory)) await this.#fetch(record, directory, options.keep);
    return { name: record.name, version: record.version, sha256: record.sha256, directory };
  }

  /** Unpacks `names`, and those of their dependencies that this machine does not have installed, into one directory. */
  async unpackWithDependencies(names: readonly string[], directory: string): Promise<void> {
    await this.#update();
    const archives = `${directory}.archives`;
    await mkdir(join(archives, "partial"), { recursive: true });
    try {
      this.#progress.step(names.join(", "));
      await this.#apt("apt-get", [
        "-q", "-y", "install", ...names, "--no-install-recommends", "--reinstall", "--download-only",
      ], { overrides: { "Dir::State::status": "/var/lib/dpkg/status", "Dir::Cache::archives": archives, "Debug::NoLocking": "true" } });
      for (const file of await readdir(archives)) {
        if (file.endsWith(".deb")) await runProcess("dpkg-deb", ["-x", join(archives, file), directory]);
      }
    } finally {
      await rm(archives, { recursive: true, force: true });
    }
  }

  get #root(): string {
    return join(this.#cacheDirectory, "apt", this.#channel);
  }

  #options(overrides: Readonly<Record<string, string>>): string[] {
    const root = this.#root;
    const { architecture } = channels[this.#channel];
    const settings = {
      "Dir::Etc::sourcelist": join(root, "debian.sources"),
      "Dir::Etc::sourceparts": "/dev/null",
      "Dir::Etc::preferences": "/dev/null",
      "Dir::Etc::preferencesparts": "/dev/null",
      "Dir::State": join(root, "state"),
      "Dir::State::status": join(root, "state", "status"),
      "Dir::Cache": join(root, "cache"),
      "APT::Architecture": architecture,
      "APT::Architectures": architecture,
      "APT::Status-Fd": "3",
      "Acquire::Languages": "none",
      // Without this a mirror that cannot be reached is only a warning.
      "APT::Update::Error-Mode": "any",
      // Files land in the cache, which apt's own user may not read; the hashes are checked all the same.
      "APT::Sandbox::User": "root",
      ...overrides,
    };
    return Object.entries(settings).flatMap(([name, value]) => ["-o", `${name}=${value}`]);
  }

  async #update(): Promise<void> {
    if (this.#isUpToDate) return;
    const mirrors = findDebianMirrors();
    if (mirrors === undefined) {
      throw new UserError("TOOL_MISSING", `This machine's apt configuration names no Debian mirror, so Debian's packages cannot be fetched. ${hint}`);
    }
    const root = this.#root;
    await mkdir(join(root, "state", "lists", "partial"), { recursive: true });
    await mkdir(join(root, "cache", "archives", "partial"), { recursive: true });
    await writeFile(join(root, "state", "status"), "");
    const { title, architecture, suites, hasSecurityUpdates } = channels[this.#channel];
    const stanzas = [
      stanza(mirrors.main, suites, architecture),
      ...(hasSecurityUpdates && mirrors.security !== undefined ? [stanza(mirrors.security, [`${release}-security`], architecture)] : []),
    ];
    await writeFile(join(root, "debian.sources"), stanzas.join("\n"));
    this.#progress.step(`package lists of ${title}`);
    const stamp = join(root, "updated");
    try {
      await this.#apt("apt-get", ["-q", "update"]);
      await writeFile(stamp, "");
    } catch (error) {
      // Without a network the lists of last time do, as long as the packages are in the cache.
      if (!existsSync(stamp)) throw error;
      this.#progress.step("the mirror cannot be reached; going on with the package lists of last time");
    }
    this.#isUpToDate = true;
  }

  async #resolve(name: string): Promise<PackageRecord> {
    const record = parseRecord(await this.#apt("apt-cache", ["show", "--no-all-versions", name]));
    if (record === undefined) throw new UserError("GUEST_MISSING", `${channels[this.#channel].title} has no package ${name}. ${hint}`);
    const kernel = /^(?<name>linux-image-\S*\d\S*) \(= /u.exec(record.depends)?.groups?.["name"];
    return kernel === undefined ? record : this.#resolve(kernel);
  }

  async #fetch(record: PackageRecord, directory: string, keep: ((path: string) => boolean) | undefined): Promise<void> {
    const downloads = `${directory}.download-${process.pid}`;
    await rm(downloads, { recursive: true, force: true });
    await mkdir(downloads, { recursive: true });
    try {
      const label = `${record.name} ${record.version} (${(record.sizeBytes / 2 ** 20).toFixed(1)} MiB)`;
      this.#progress.step(label);
      await this.#apt("apt-get", ["-q", "download", `${record.name}=${record.version}`], {
        cwd: downloads,
        onStatusLine: (line) => {
          const percent = /^dlstatus:\d+:(?<percent>[\d.]+):/u.exec(line)?.groups?.["percent"];
          if (percent !== undefined) this.#progress.update(`${label} ${Math.round(Number(percent))} %`);
        },
      });
      const archive = (await readdir(downloads)).find((file) => file.endsWith(".deb"));
      if (archive === undefined) throw new UserError("GUEST_MISSING", `apt-get left no file for ${record.name}. ${hint}`);
      await replaceDirectory(directory, async (draft) => {
        await runProcess("dpkg-deb", ["-x", join(downloads, archive), draft]);
        if (keep !== undefined) await prune(draft, keep);
      });
    } finally {
      await rm(downloads, { recursive: true, force: true });
    }
  }

  async #apt(program: string, args: readonly string[], options: AptCallOptions = {}): Promise<string> {
    try {
      return (await runProcess(program, [...args, ...this.#options(options.overrides ?? {})], options)).toString("utf8");
    } catch (cause) {
      if (!(cause instanceof UserError)) throw cause;
      throw cause.code === "TOOL_MISSING"
        ? new UserError("TOOL_MISSING", `Debian's packages are fetched with apt, which this machine does not have. ${hint}`, { cause })
        : new UserError(cause.code, `Debian's packages could not be fetched: ${cause.message}\n${hint}`, { cause });
    }
  }
}

/** Removes the files that `keep` (given paths relative to `directory`) does not want: a kernel package holds 100 to 400 MiB of modules. */
async function prune(directory: string, keep: (path: string) => boolean): Promise<void> {
  const entries = await readdir(directory, { recursive: true, withFileTypes: true });
  for (const entry of entries) {
    if (entry.isDirectory()) continue;
    const path = join(entry.parentPath, entry.name);
    if (!keep(path.slice(directory.length + 1))) await rm(path);
  }
}
