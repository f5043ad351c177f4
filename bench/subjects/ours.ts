/** Ourselves: a fresh process with a machine made through the API. */
import { fileURLToPath } from "node:url";
import type { GuestJob, SubjectSource } from "../contract.ts";

/** x86-64-v2, as the peers' Nehalem is. */
const plainModel = "intel-v2";
const models = { svm: "epyc" } as const;

export const ours: SubjectSource = {
  name: "ours",
  prepare(_, extension) {
    const cpuModel = extension === undefined ? plainModel : models[extension];
    return Promise.resolve({
      name: "ours",
      architecture: "x86-64",
      description: `Ringmaster (soft, ${cpuModel}) on Node ${process.version}`,
      launch: (job: GuestJob) => ({
        program: process.execPath,
        args: [fileURLToPath(new URL("ours-process.ts", import.meta.url)), JSON.stringify({ ...job, cpuModel })],
        environment: {},
        isSampled: true,
      }),
    });
  },
};
