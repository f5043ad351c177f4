/** The command line: verbs, flags and their help. */
import { Command } from "commander";
import { cpuModelNames, guestNames } from "../api/choices.ts";
import { doctorReport, formatDoctorReport } from "./doctor.ts";
import type { RunFlags } from "./run-flags.ts";
import { drained, type Streams } from "./streams.ts";
import { versionReport } from "./version.ts";

const collect = (value: string, previous: readonly string[] | undefined): string[] => [...previous ?? [], value];

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

  program.command("run")
    .description("start a machine")
    .argument("[guest]", "a guest by name, instead of a kernel, firmware or disk of your own; default cloud-6.1")
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
    .option("--serial <target>", "where COM1 goes: stdio, none or file:<path>; given again: COM2", collect)
    .option("--command <text>", "run a shell command instead of a shell; print its output, exit with its status")
    .option("--timeout <time>", "stop the machine after this time, such as 90s or 5m")
    .option("--vga", "add a VGA display to a machine that boots a kernel")
    .option("--debug-exit <port>", "port of isa-debug-exit, or none; default 0xf4")
    .option("--debug-console <file>", "write what the guest sends to port 0x402, firmware's log, to a file")
    .option("--deterministic", "time and randomness depend on the instructions executed only")
    .option("--record-boot-time [file]", "write seconds and instructions until userspace as a line of JSON; default: to standard error")
    .option("--verbose", "with --command: show the guest's console on standard error")
    .addHelpText("after", runExamples)
    .action(async (guest: string | undefined, flags: RunFlags) => {
      const { run } = await import("./run.ts");
      onStatus(await run(guest, flags, streams));
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
