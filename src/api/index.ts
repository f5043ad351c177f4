/** Ringmaster for programs. */
export { Vm, endError, type BootReport, type CommandResult, type VmEnd, type VmEvents, type VmState } from "./vm.ts";
export type { AcceleratorChoice, DiskOptions, FileSource, JitChoice, ModuleOptions, VmOptions } from "./options.ts";
export { compareSnapshots, inspectSnapshot, listSnapshots, type SnapshotDifference, type SnapshotInfo } from "./inspect-snapshot.ts";
export type { RestoreOptions } from "./restore.ts";
export type { SnapshotOptions, SnapshotReport } from "./save.ts";
export type { SnapshotProgress } from "../host/node/snapshot/writer.ts";
export type { ChosenAccelerator } from "./accelerator.ts";
export { chooseAccelerator } from "./accelerator.ts";
export type { SerialPort } from "./serial-port.ts";
export type { Until } from "./console-watch.ts";
export { userspacePattern } from "./console-watch.ts";
export { CommandOutput } from "./command-output.ts";
export { parseDuration, parseSize } from "./sizes.ts";
export { UserError, type UserErrorCode } from "../base/errors.ts";
export { cpuModelNames } from "../isa/models/index.ts";
export { guestNames, type GuestName, type ProgressEvent } from "../host/node/guests/index.ts";
