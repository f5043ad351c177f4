/** QEMU's translator (TCG) with a board and a processor like ours. */
import { PackageSource } from "../../src/host/node/guests/apt.ts";
import { BuildTools } from "../../src/host/node/guests/build-tools.ts";
import { defaultCacheDirectory, withCacheLock } from "../../src/host/node/guests/cache.ts";
import { Progress } from "../../src/host/node/guests/progress.ts";
import type { GuestJob, SubjectSource } from "../contract.ts";

const plainModel = "Nehalem";
const models = { svm: "EPYC,+svm" } as const;

export const qemu: SubjectSource = {
  name: "qemu",
  async prepare(onProgress, extension) {
    const machineArguments = ["-accel", "tcg", "-machine", "q35", "-cpu", extension === undefined ? plainModel : models[extension], "-smp", "1"];
    const progress = new Progress(onProgress);
    const cacheDirectory = defaultCacheDirectory();
    const tools = new BuildTools(cacheDirectory, new PackageSource(cacheDirectory, "release", progress));
    const tool = await withCacheLock(cacheDirectory, () => progress.step("another process is working on the cache; waiting for it"), () => tools.find("qemu-system-x86_64"));
    const version = /version (?<version>\S+)/u.exec((await tool.run(["--version"])).toString())?.groups?.["version"] ?? "of unknown version";
    progress.done("QEMU is there");
    return {
      name: "qemu",
      architecture: "x86-64",
      description: `QEMU ${version} (${machineArguments.join(" ")})`,
      launch: (job: GuestJob) => ({
        program: tool.path,
        args: [
          ...machineArguments, "-m", String(job.memoryMib), "-nodefaults", "-display", "none", "-serial", "stdio", "-no-reboot",
          "-kernel", job.kernel, ...(job.initramfs === undefined ? [] : ["-initrd", job.initramfs]), "-append", job.commandLine,
        ],
        environment: tool.environment,
        isSampled: false,
      }),
    };
  },
};
