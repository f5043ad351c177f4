/** `ringmaster version`. */
import { programVersion } from "../host/node/program-version.ts";

export interface VersionReport {
  readonly version: string;
  readonly node: string;
  readonly v8: string;
}

export function versionReport(): VersionReport {
  return { version: programVersion(), node: process.versions.node, v8: process.versions.v8 };
}
