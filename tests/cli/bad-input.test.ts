/** What a user can do wrong, as a table: each has a clear message and its own exit status, and shows no stack. */
import { chmodSync, mkdirSync, truncateSync, writeFileSync } from "node:fs";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { exitStatusOfError } from "../../src/cli/exit-status.ts";
import type { UserErrorCode } from "../../src/base/errors.ts";
import { ringmaster, TemporaryDirectory } from "./ringmaster.ts";
import { debugExit, endlessLoop, endlessSleep, greeting, partitionedDisk, reset, tripleFault, truncatedBzImage } from "./tiny-guest.ts";

interface Row {
  readonly name: string;
  /** `@` before a word stands for the directory with the files below. */
  readonly words: readonly string[];
  readonly code: UserErrorCode;
  readonly message: RegExp;
}

const files: Readonly<Record<string, Uint8Array | string>> = {
  exit: debugExit(3), loop: endlessLoop(), sleep: endlessSleep(), fault: tripleFault(), reset: reset(), says: greeting("hello"),
  empty: "", script: "#!/bin/sh\nexit 0\n", text: "no kernel\n", gzip: Uint8Array.of(0x1f, 0x8b, 8, 0), truncated: truncatedBzImage(),
  elf: Buffer.concat([Buffer.from("\x7fELF\x01\x01\x01"), Buffer.alloc(45)]), arm: Buffer.concat([Buffer.alloc(0x38), Buffer.from("ARM\x64"), Buffer.alloc(64)]),
  "tiny.img": "short", "odd.rom": Buffer.alloc(1000), "cut.img": partitionedDisk(4 << 20, 1 << 20),
};

const rows: readonly Row[] = [
  { name: "an unknown verb", words: ["rum"], code: "BAD_ARGUMENT", message: /unknown command 'rum'[^]*Did you mean run/u },
  { name: "no verb", words: [], code: "BAD_ARGUMENT", message: /Usage: ringmaster/u },
  { name: "an unknown flag", words: ["run", "--kernal", "x"], code: "BAD_ARGUMENT", message: /unknown option '--kernal'[^]*Did you mean --kernel/u },
  { name: "a flag without its value", words: ["run", "--memory"], code: "BAD_ARGUMENT", message: /--memory <size>' argument missing/u },
  { name: "a word too many", words: ["run", "cloud-6.1", "cloud-6.12"], code: "BAD_ARGUMENT", message: /too many arguments/u },
  { name: "an unknown guest", words: ["run", "windows-3.1"], code: "BAD_ARGUMENT", message: /no guest "windows-3\.1": choose one of cloud-6\.1/u },
  { name: "an unknown disk option", words: ["run", "--disk", "a.img,fast"], code: "BAD_ARGUMENT", message: /no disk option "fast"/u },
  { name: "an unknown serial target", words: ["run", "--serial", "tcp:1"], code: "BAD_ARGUMENT", message: /--serial tcp:1: use stdio/u },
  { name: "a timeout that is none", words: ["run", "--timeout", "soon"], code: "BAD_ARGUMENT", message: /"soon" is no duration/u },
  { name: "kernel and firmware", words: ["run", "--kernel", "@exit", "--firmware", "seabios"], code: "BAD_ARGUMENT", message: /either a kernel or firmware/u },
  { name: "an initrd without a kernel", words: ["run", "--firmware", "seabios", "--initrd", "x"], code: "BAD_ARGUMENT", message: /"initrd" belongs to a kernel/u },
  { name: "a command for a kernel that is not Linux", words: ["run", "--kernel", "@exit", "--command", "true"], code: "BAD_ARGUMENT", message: /needs a Linux kernel/u },
  { name: "an unknown JIT setting", words: ["run", "--accel", "soft", "--jit", "fast", "--kernel", "@exit"], code: "BAD_ARGUMENT", message: /no JIT setting "fast": use one of on, off/u },
  { name: "an unknown accelerator", words: ["run", "--accel", "warp", "--kernel", "@exit"], code: "BAD_ARGUMENT", message: /no accelerator "warp"/u },
  { name: "KVM for a deterministic machine", words: ["run", "--accel", "kvm", "--deterministic", "--kernel", "@exit"], code: "ACCELERATOR_UNAVAILABLE", message: /deterministic machines count instructions, which KVM does not: take away --deterministic/u },
  { name: "an unknown CPU model", words: ["run", "--cpu", "z80", "--kernel", "@exit"], code: "BAD_CONFIG", message: /CPU model "z80" is unknown; use one of/u },
  { name: "a missing kernel", words: ["run", "--kernel", "@none"], code: "FILE_NOT_FOUND", message: /no kernel file .*none/u },
  { name: "a directory as kernel", words: ["run", "--kernel", "@directory"], code: "FILE_NOT_READABLE", message: /is a directory/u },
  { name: "a missing initrd", words: ["run", "--kernel", "@exit", "--initrd", "@none"], code: "FILE_NOT_FOUND", message: /no initrd file/u },
  { name: "an empty kernel", words: ["run", "--kernel", "@empty"], code: "BAD_IMAGE", message: /the file is empty/u },
  { name: "a script as kernel", words: ["run", "--kernel", "@script"], code: "BAD_IMAGE", message: /it is a script/u },
  { name: "a text as kernel", words: ["run", "--kernel", "@text"], code: "BAD_IMAGE", message: /no kernel that can be booted/u },
  { name: "a compressed kernel", words: ["run", "--kernel", "@gzip"], code: "BAD_IMAGE", message: /compressed with gzip/u },
  { name: "a kernel for another processor", words: ["run", "--kernel", "@arm"], code: "BAD_IMAGE", message: /64-bit ARM/u },
  { name: "a truncated bzImage", words: ["run", "--kernel", "@truncated"], code: "BAD_IMAGE", message: /truncated: .*cut off/u },
  { name: "a truncated ELF file", words: ["run", "--kernel", "@elf"], code: "BAD_IMAGE", message: /ELF file/u },
  { name: "firmware of an odd size", words: ["run", "--firmware", "@odd.rom"], code: "BAD_IMAGE", message: /multiple of 64 KiB/u },
  { name: "1 MiB of memory", words: ["run", "--kernel", "@exit", "--memory", "1M"], code: "BAD_MEMORY_SIZE", message: /needs at least \d+ MiB of memory/u },
  { name: "64 GiB of memory", words: ["run", "--kernel", "@exit", "--memory", "64G"], code: "BAD_MEMORY_SIZE", message: /65536 MiB of memory is more than the soft accelerator can give: at most \d+ MiB/u },
  { name: "memory that is no size", words: ["run", "--kernel", "@exit", "--memory", "lots"], code: "BAD_MEMORY_SIZE", message: /"lots" is no size of memory/u },
  { name: "a fraction of a MiB", words: ["run", "--kernel", "@exit", "--memory", "1500K"], code: "BAD_MEMORY_SIZE", message: /whole number of MiB/u },
  { name: "a missing disk", words: ["run", "--kernel", "@exit", "--disk", "@none"], code: "FILE_NOT_FOUND", message: /no disk image/u },
  { name: "a directory as disk", words: ["run", "--kernel", "@exit", "--disk", "@directory"], code: "BAD_IMAGE", message: /is not a file/u },
  { name: "a disk of less than a sector", words: ["run", "--kernel", "@exit", "--disk", "@tiny.img"], code: "BAD_IMAGE", message: /at least one sector/u },
  { name: "a disk that is shorter than it says", words: ["run", "--kernel", "@exit", "--disk", "@cut.img"], code: "DISK_SHORT", message: /partition 1 on it ends at 537919488/u },
  { name: "a missing CD-ROM", words: ["run", "--cdrom", "@none"], code: "FILE_NOT_FOUND", message: /no disk image/u },
  { name: "a log file in no directory", words: ["run", "--kernel", "@loop", "--serial", "file:@none/log"], code: "FILE_NOT_WRITABLE", message: /cannot be written \(ENOENT\)/u },
  { name: "a log file on a full disk", words: ["run", "--kernel", "@says", "--serial", "file:/dev/full"], code: "FILE_NOT_WRITABLE", message: /cannot be written \(ENOSPC\)/u },
  { name: "a triple fault", words: ["run", "--kernel", "@fault"], code: "TRIPLE_FAULT", message: /triple fault.*#UD, then .*CS:RIP/u },
  { name: "a reset without firmware", words: ["run", "--kernel", "@reset"], code: "GUEST_RESET", message: /has no firmware to start again/u },
  { name: "a guest that loops for ever", words: ["run", "--kernel", "@loop", "--timeout", "500ms"], code: "TIMEOUT", message: /did not end within 0\.5 s/u },
  { name: "a guest that sleeps for ever", words: ["run", "--kernel", "@sleep", "--timeout", "500ms"], code: "TIMEOUT", message: /did not end within 0\.5 s/u },
];

let directory: TemporaryDirectory;

beforeAll(() => {
  directory = new TemporaryDirectory();
  for (const [name, contents] of Object.entries(files)) writeFileSync(directory.file(name), contents);
  mkdirSync(directory.file("directory"));
});

afterAll(() => directory[Symbol.dispose]());

function expectNoStack(stderr: string): void {
  expect(stderr).not.toMatch(/^\s+at /mu);
  expect(stderr).not.toContain("bug in Ringmaster");
}

describe("bad input", () => {
  it.each(rows)("$name", async ({ words, code, message }) => {
    const { status, stderr, stdout } = await ringmaster(words.map((word) => word.replace("@", `${directory.path}/`)), { input: "" });
    expect(stderr).toMatch(message);
    expect(status).toBe(exitStatusOfError[code]);
    expect(stdout).toBe("");
    expectNoStack(stderr);
  });

  it("a disk that this user may only read", async () => {
    const image = directory.file("readonly.img");
    writeFileSync(image, "");
    truncateSync(image, 1 << 20);
    chmodSync(image, 0o444);
    chmodSync(directory.path, 0o755);
    chmodSync(directory.file("exit"), 0o644);
    // Permissions do not bind root.
    const user = process.getuid?.() === 0 ? { userId: 65_534 } : {};
    const refused = await ringmaster(["run", "--kernel", directory.file("exit"), "--disk", image], user);
    expect(refused.stderr).toMatch(/cannot be written \(EACCES\): .*attach it read-only/u);
    expect(refused.status).toBe(exitStatusOfError.DISK_READ_ONLY);
    expectNoStack(refused.stderr);
    for (const option of ["readonly", "overlay"]) {
      const { status } = await ringmaster(["run", "--kernel", directory.file("exit"), "--disk", `${image},${option}`], user);
      expect(status).toBe(7);
    }
  });

  it("Ctrl-C twice ends a guest that never does, once does not", async () => {
    let interrupts = 0;
    const { status, stderr } = await ringmaster(["run", "--kernel", directory.file("sleep"), "--timeout", "60s"], {
      onOutput: (text, child) => {
        if (!/accelerator|again/u.test(text) || interrupts === 2) return;
        interrupts++;
        setTimeout(() => child.kill("SIGINT"), interrupts === 1 ? 2500 : 100);
      },
    });
    expect(stderr).toMatch(/Ctrl-C again within 2 seconds/u);
    expect(stderr).toMatch(/interrupted; the machine was stopped/u);
    expect(status).toBe(exitStatusOfError.ABORTED);
    expectNoStack(stderr);
  });

  it("SIGTERM ends the machine", async () => {
    const { status, stderr } = await ringmaster(["run", "--kernel", directory.file("sleep"), "--timeout", "60s"], {
      onOutput: (text, child) => {
        if (text.includes("accelerator")) setTimeout(() => child.kill("SIGTERM"), 2500);
      },
    });
    expect(status).toBe(143);
    expectNoStack(stderr);
  });
});
