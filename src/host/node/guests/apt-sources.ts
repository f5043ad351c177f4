/** Finds the Debian mirror that this machine's own apt configuration names (sources.list(5): one-line and deb822 forms). */
import { existsSync, readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";

/** One mirror, with the keyring that its Release file must be signed by. */
export interface AptSource {
  readonly uri: string;
  readonly suites: readonly string[];
  readonly components: readonly string[];
  readonly signedBy: string | undefined;
}

/** The mirrors that Debian's packages and its security updates come from. */
export interface DebianMirrors {
  readonly main: AptSource;
  readonly security: AptSource | undefined;
}

const debianSuite = /^(?:bullseye|bookworm|trixie|forky|sid|unstable|testing|stable|oldstable)(?:$|-|\/)/u;
const keyrings = ["/usr/share/keyrings/debian-archive-keyring.gpg", "/usr/share/keyrings/debian-archive-keyring.pgp"];

/** Entries of a `.list` file. */
export function parseOneLineSources(text: string): AptSource[] {
  const sources: AptSource[] = [];
  for (const line of text.split("\n")) {
    const match = /^\s*deb\s+(?:\[(?<options>[^\]]*)\]\s+)?(?<uri>\S+)\s+(?<suite>\S+)(?<components>[^#]*)/u.exec(line);
    if (match?.groups === undefined) continue;
    const { options = "", uri, suite, components } = match.groups;
    const signedBy = /(?:^|\s)signed-by=(?<path>\S+)/u.exec(options)?.groups?.["path"];
    sources.push({ uri, suites: [suite], components: components.split(/\s+/u).filter(Boolean), signedBy });
  }
  return sources;
}

/** Entries of a `.sources` file. */
export function parseDeb822Sources(text: string): AptSource[] {
  const sources: AptSource[] = [];
  for (const paragraph of text.split(/\n\s*\n/u)) {
    const fields = new Map<string, string>();
    let name = "";
    for (const line of paragraph.split("\n")) {
      if (line.startsWith("#")) continue;
      const field = /^(?<name>[A-Za-z-]+):\s*(?<value>.*)$/u.exec(line)?.groups;
      if (field !== undefined) {
        name = field["name"].toLowerCase();
        fields.set(name, field["value"].trim());
      } else if (/^\s/u.test(line)) {
        fields.set(name, `${fields.get(name) ?? ""}\n${line.trim()}`);
      }
    }
    const words = (field: string): string[] => (fields.get(field) ?? "").split(/\s+/u).filter(Boolean);
    if (!words("types").includes("deb") || fields.get("enabled") === "no") continue;
    const signedBy = fields.get("signed-by");
    for (const uri of words("uris")) {
      sources.push({
        uri,
        suites: words("suites"),
        components: words("components"),
        signedBy: signedBy?.startsWith("/") === true ? signedBy : undefined,
      });
    }
  }
  return sources;
}

function isDebian(source: AptSource): boolean {
  return source.components.includes("main") && source.suites.some((suite) => debianSuite.test(suite)) && /^(?:https?|file|mirror\+\S+):/u.test(source.uri);
}

function isSecurity(source: AptSource): boolean {
  return /debian-security(?:\/|$)/u.test(source.uri);
}

/** Chooses among all sources; undefined when none of them is Debian. */
export function chooseDebianMirrors(sources: readonly AptSource[]): DebianMirrors | undefined {
  const debian = sources.filter(isDebian);
  const main = debian.find((source) => /\/debian(?:\/|$)/u.test(source.uri) && !isSecurity(source));
  return main === undefined ? undefined : { main, security: debian.find(isSecurity) };
}

/** Reads the machine's configuration; undefined when it names no Debian mirror. */
export function findDebianMirrors(aptDirectory = "/etc/apt"): DebianMirrors | undefined {
  const parts = join(aptDirectory, "sources.list.d");
  const files = [join(aptDirectory, "sources.list"), ...(existsSync(parts) ? readdirSync(parts).toSorted().map((file) => join(parts, file)) : [])];
  const sources = files.filter((file) => existsSync(file)).flatMap((file) => {
    const text = readFileSync(file, "utf8");
    if (file.endsWith(".sources")) return parseDeb822Sources(text);
    return file.endsWith(".list") ? parseOneLineSources(text) : [];
  });
  return chooseDebianMirrors(sources);
}

/** The keyring for a source that names none. */
export function defaultKeyring(): string | undefined {
  return keyrings.find((path) => existsSync(path));
}
