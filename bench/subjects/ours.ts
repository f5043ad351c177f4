/** Ourselves: a fresh process with a machine made through the API. */
import { fileURLToPath } from "node:url";
import type { GuestJob, Subject, SubjectSource } from "../contract.ts";
import { bundledApi, compileCacheEnvironment, ownArguments } from "./node-start.ts";

/** x86-64-v2, as the peers' Nehalem is. */
const plainModel = "intel-v2";
const models = { svm: "epyc", vmx: "xeon" } as const;

type Extension = keyof typeof models;

export const ours: SubjectSource & { prepare(onProgress: unknown, extension?: Extension): Promise<Subject> } = {
  name: "ours",
  async prepare(_: unknown, extension?: Extension) {
    const cpuModel = extension === undefined ? plainModel : models[extension];
    const api = await bundledApi();
    return {
      name: "ours",
      architecture: "x86-64",
      description: `Ringmaster (soft, ${cpuModel}) on Node ${process.version}`,
      launch: (job: GuestJob) => ({
        program: process.execPath,
        args: [...ownArguments(), fileURLToPath(new URL("ours-process.ts", import.meta.url)), JSON.stringify({ ...job, cpuModel, api })],
        environment: compileCacheEnvironment(),
        isSampled: true,
      }),
    };
  },
};
