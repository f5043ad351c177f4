/** The command line: verbs, flags and their help. */
import { Command } from "commander";
import { cpuModelNames, guestNames } from "../api/choices.ts";
import { doctorReport, formatDoctorReport } from "./doctor.ts";
import type { RunFlags } from "./run-flags.ts";
import type { CreateFlags, RestoreFlags } from "./snapshot.ts";
import { drained, type Streams } from "./streams.ts";
import type { TraceFlags, VmcsFlags } from "./trace.ts";
import type { TopFlags } from "./top.ts";
import { versionReport } from "./version.ts";

const collect = (value: string, previous: readonly string[] | undefined): string[] => [...previous ?? [], value];

const snapshotExamples = `
Examples:
  ringmaster snapshot create debian.rmsnap --until '/ # '     boot the default guest, save it at its prompt
  ringmaster snapshot create now.rmsnap --of web              save the machine that was started with: run --name web
  ringmaster snapshot restore debian.rmsnap                   a shell, at once
  ringmaster snapshot restore debian.rmsnap --fork 3 --command uptime
  ringmaster snapshot diff debian.rmsnap later.rmsnap

During a run, Ctrl-A S saves the machine. docs/guides/snapshots.md has the rest.`;

const runExamples = `
Examples:
  ringmaster run                                            Debian's kernel with a BusyBox shell
  ringmaster run --command 'uname -sr'                      print a command's output, exit with its status
  ringmaster run generic-6.1 --memory 1G                    another guest (see below)
  ringmaster run --kernel vmlinuz --initrd initrd.img --append 'console=ttyS0 root=/dev/vda1' --disk debian.img,overlay
  ringmaster run --firmware seabios --disk debian.img       boot from a disk's own boot loader
  ringmaster run --kernel test.elf --timeout 10s            a multiboot program that ends through isa-debug-exit

Guests, fetched from Debian when they are needed: ${guestNames.filter((name) => name !== "seabios" && name !== "ovmf").join(", ")}
Standard output belongs to the guest; what Ringmaster has to say goes to standard error.
Ctrl-A X ends the machine, Ctrl-A H shows the other keys. Exit statuses: docs/guides/cli.md`;

const guestArgument = "a guest by name, instead of a kernel, firmware or disk of your own; default cloud-6.1";

/** What a machine is made of. */
function machineOptions(command: Command): Command {
  return command
    .option("--kernel <file>", "Linux bzImage, or ELF with a PVH entry or a multiboot header")
    .option("--initrd <file>", "initial RAM file system")
    .option("--append <text>", "the kernel's command line")
    .option("--module <file[,text]>", "a module for a PVH or multiboot kernel, with its command line; repeatable", collect)
    .option("--firmware <name|file>", "seabios, ovmf, or a flash image")
    .option("--disk <file[,option…]>", "raw disk image; options: readonly, overlay (keep the file as it is), serial=<text>; repeatable", collect)
    .option("--cdrom <file>", "ISO image")
    .option("--memory <size>", "such as 256M or 2G; default 512M")
    .option("--cpu <model>", `processor model: ${cpuModelNames.join(", ")}`)
    .option("--accel <name>", "auto, soft or kvm; default auto")
    .option("--jit <name>", "on, off, or forced, tiny, huge for tests; default on, or named with --profile")
    .option("--timeout <time>", "stop the machine after this time, such as 90s or 5m")
    .option("--vga", "add a VGA display to a machine that boots a kernel")
    .option("--debug-exit <port>", "port of isa-debug-exit, or none; default 0xf4")
    .option("--deterministic", "time and randomness depend on the instructions executed only");
}

/** The program; verbs give their exit status to `onStatus`. */
export function createProgram(streams: Streams, onStatus: (status: number) => void): Command {
  const { stdout, stderr } = streams;
  const program = new Command("ringmaster")
    .description("Runs unmodified operating systems in isolated virtual machines.")
    .exitOverride()
    .showSuggestionAfterError(true)
    .configureOutput({
      writeOut: (text) => void stdout.write(text),
      writeErr: (text) => void stderr.write(text),
      // Errors are printed at one place, in main.
      outputError: () => {},
    });

  machineOptions(program.command("run")
    .description("start a machine")
    .argument("[guest]", guestArgument))
    .option("--serial <target>", "where COM1 goes: stdio, none or file:<path>; given again: COM2", collect)
    .option("--command <text>", "run a shell command instead of a shell; print its output, exit with its status")
    .option("--debug-console <file>", "write what the guest sends to port 0x402, firmware's log, to a file")
    .option("--record-boot-time [file]", "write seconds and instructions until userspace as a line of JSON; default: to standard error")
    .option("--profile <file>", "write where the time goes, for speedscope or Chrome's Performance panel, and print a short table")
    .option("--exit-report <file>", "write what the guest was left for, and for how long: .svg a picture, .json data, .txt a table")
    .option("--symbols <file>", "with --profile: the guest's symbols, a System.map or the output of nm (with nokaslr)")
    .option("--verbose", "with --command: show the guest's console on standard error")
    .option("--name <name>", "lets other commands reach the machine by this name")
    .option("--snapshot-file <file>", "where Ctrl-A S saves the machine; default: a new file in this directory")
    .addHelpText("after", runExamples)
    .action(async (guest: string | undefined, flags: RunFlags) => {
      const { run } = await import("./run.ts");
      onStatus(await run(guest, flags, streams));
    });

  addTraceVerbs(program, streams, onStatus);
  addSnapshotVerbs(program.command("snapshot").description("save machines, go on from what was saved, and see what is in it"), streams, onStatus);

  program.command("top")
    .description("watch what a running machine is left for: how often, and for how long")
    .argument("[name]", "of the machine, which was started with: ringmaster run --name <name>; when there is only one, it is meant")
    .option("--interval <time>", "how often; default 1s")
    .option("--samples <number>", "end after so many")
    .option("--json", "each as a line of JSON, with histograms")
    .action(async (name: string | undefined, flags: TopFlags) => {
      onStatus(await (await import("./top.ts")).top(name, flags, streams));
    });

  program.command("doctor")
    .description("tell what of this host can be used")
    .option("--json", "as JSON")
    .action(async ({ json }: { readonly json?: boolean }) => {
      const report = doctorReport();
      stdout.write(json === true ? `${JSON.stringify(report, null, 2)}\n` : formatDoctorReport(report, stdout.isTTY === true));
      await drained(stdout);
      onStatus(report.checks.some(({ state }) => state === "failed") ? 1 : 0);
    });

  program.command("version")
    .description("print versions")
    .option("--json", "as JSON")
    .action(({ json }: { readonly json?: boolean }) => {
      const report = versionReport();
      stdout.write(json === true ? `${JSON.stringify(report)}\n` : `ringmaster ${report.version} (Node.js ${report.node}, V8 ${report.v8})\n`);
      onStatus(0);
    });
  return program;
}

const traceExamples = `
Examples:
  ringmaster trace nested-6.1 --cpu epyc --command 'insmod …; /virt/kvm-client'      the distribution per reason, when the command is done
  ringmaster trace nested-6.1 --cpu epyc --output exits.svg --output exits.json      the picture, and a trace for Perfetto
  ringmaster trace --of lab --for 5s --kind exit --at-least 20us --output slow.txt   a machine that was started with: run --name lab
  ringmaster vmcs --of lab                                                           its current VMCB or VMCS

docs/guides/hypervisors.md has the rest.`;

function addTraceVerbs(program: Command, streams: Streams, onStatus: (status: number) => void): void {
  machineOptions(program.command("trace")
    .description("record entries and exits of the guest's own hypervisor, and print their distribution")
    .argument("[guest]", guestArgument))
    .option("--of <name>", "watch a machine that was started with: ringmaster run --name <name>")
    .option("--for <time>", "with --of: for so long; default 10s")
    .option("--output <file>", "write the trace: .txt a table, .jsonl JSON lines, .json for Perfetto, .svg a picture; repeatable", collect)
    .option("--format <name>", "what standard output gets: summary (default), table, jsonl, perfetto or svg")
    .option("--reason <names>", "only these reasons, such as NPF,IOIO")
    .option("--kind <name>", "entry or exit only")
    .option("--level <numbers>", "only these levels: 2 is a guest of the hypervisor in the machine, 3 a guest in that")
    .option("--processor <numbers>", "only these processors")
    .option("--rip <first-last>", "only where the guest's RIP lies within")
    .option("--at-least <time>", "only what took so long, such as 20us")
    .option("--limit <number>", "list so many, count the rest; default 250000")
    .option("--serial <target>", "where COM1 goes: stdio, none or file:<path>; given again: COM2", collect)
    .option("--command <text>", "run a shell command instead of a shell, and exit with its status")
    .option("--verbose", "with --command: show the guest's console on standard error")
    .option("--name <name>", "lets other commands reach the machine by this name")
    .addHelpText("after", traceExamples)
    .action(async (guest: string | undefined, flags: TraceFlags) => {
      const { trace } = await import("./trace.ts");
      onStatus(await trace(guest, flags, streams));
    });

  program.command("vmcs")
    .description("show the VMCB or VMCS that is current in a running machine, with what is invalid in it")
    .requiredOption("--of <name>", "the machine that was started with: ringmaster run --name <name>")
    .option("--processor <number>", "default 0")
    .option("--json", "as JSON")
    .action(async (flags: VmcsFlags) => {
      const { printControlBlock } = await import("./trace.ts");
      onStatus(await printControlBlock(flags, streams));
    });
}

function addSnapshotVerbs(snapshot: Command, streams: Streams, onStatus: (status: number) => void): void {
  const verbs = (): Promise<typeof import("./snapshot.ts")> => import("./snapshot.ts");
  snapshot.addHelpText("after", snapshotExamples);

  machineOptions(snapshot.command("create")
    .description("save a running machine, or boot one and save it")
    .argument("<file>", "such as debian.rmsnap; replaced when it is there")
    .argument("[guest]", `with --until: ${guestArgument}`)
    .option("--of <name>", "the machine that was started with: ringmaster run --name <name>")
    .option("--until <text>", "start a machine, and save it when its console shows this")
    .option("--parent <file>", "an earlier snapshot of the machine: hold only what has changed since"))
    .option("--verbose", "with --until: show the guest's console on standard error")
    .action(async (file: string, guest: string | undefined, flags: CreateFlags) => {
      onStatus(await (await verbs()).createSnapshot(file, guest, flags, streams));
    });

  snapshot.command("restore")
    .description("go on from a snapshot")
    .argument("<file>")
    .option("--accel <name>", "auto, soft or kvm; default auto")
    .option("--command <text>", "run a command in the shell that the console shows; print its output, exit with its status")
    .option("--fork <number>", "so many machines at once that know nothing of each other; with --command")
    .option("--disk <file>", "where a disk image is now, when they have been moved; once for each disk", collect)
    .option("--exit-report <file>", "write what the guest was left for, and for how long: .svg a picture, .json data, .txt a table")
    .option("--keep-generation-id", "the machine was moved and not copied: the guest is not told")
    .option("--serial <target>", "where COM1 goes: stdio, none or file:<path>; given again: COM2", collect)
    .option("--timeout <time>", "stop the machine after this time, such as 90s or 5m")
    .option("--name <name>", "lets other commands reach the machine by this name")
    .option("--snapshot-file <file>", "where Ctrl-A S saves the machine; default: a new file in this directory")
    .option("--verbose", "with --command: show the guest's console on standard error")
    .action(async (file: string, flags: RestoreFlags) => {
      onStatus(await (await verbs()).restoreSnapshot(file, flags, streams));
    });

  snapshot.command("ls")
    .description("list the snapshots (*.rmsnap) of a directory")
    .argument("[directory]", "default: this one", ".")
    .option("--json", "as JSON")
    .action(async (directory: string, flags: { readonly json?: boolean }) => (await verbs()).printSnapshots(directory, flags, streams));

  snapshot.command("show")
    .description("show what is in a snapshot")
    .argument("<file>")
    .option("--verify", "read all of its memory, so that damage is found")
    .option("--json", "as JSON, with the state of every component")
    .action(async (file: string, flags: { readonly json?: boolean; readonly verify?: boolean }) => (await verbs()).printSnapshot(file, flags, streams));

  snapshot.command("diff")
    .description("show what is different between two snapshots: machine, devices, processors, memory; exit with 1 if anything is")
    .argument("<file>")
    .argument("<other>")
    .option("--json", "as JSON")
    .action(async (left: string, right: string, flags: { readonly json?: boolean }) => {
      onStatus(await (await verbs()).printDifference(left, right, flags, streams));
    });
}
