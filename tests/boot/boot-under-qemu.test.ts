/**
 * Loaders, tables and guests, checked on QEMU's processor and board: whole boots of Debian. Skipped where QEMU is not
 * installed or the guests have not been fetched (`npm run guests`).
 */
import { copyFileSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, describe, expect, test, vi } from "vitest";
import { createAcpiFiles, layOutAcpiTables } from "../../src/boot/acpi/layout.ts";
import type { AcpiBoard } from "../../src/boot/acpi/board.ts";
import type { BootImage } from "../../src/boot/contract.ts";
import { loadKernel, type ProtocolChoice } from "../../src/boot/kernel.ts";
import { createMemoryMap } from "../../src/boot/memory-map.ts";
import { layOutSmbios } from "../../src/boot/smbios.ts";
import { exampleBoard } from "../../src/boot/testing/example-board.ts";
import { commandBeginMarker, commandExitPattern, commandInitramfs, commandKernelArgument, findCachedGuests } from "../../src/host/node/guests/index.ts";
import { hasQemu, runInQemu, runQemu } from "./qemu-board.ts";

const guests = await findCachedGuests(["cloud-6.1", "memtest86+", "seabios", "ovmf", "disk-bios", "disk-efi"]);
const { "cloud-6.1": cloud, "memtest86+": memtest, ovmf, "disk-bios": biosDisk, "disk-efi": efiDisk } = guests;
const memoryMib = 256;
/** Far more than a quiet host needs: a busy one may take its time. */
const timeoutSeconds = 300;
const memory = createMemoryMap(memoryMib * 0x10_0000);
const board: AcpiBoard = { ...exampleBoard, processors: [{ apicId: 0 }], serialPorts: [{ port: 0x3f8, interrupt: 4 }] };
const acpi = layOutAcpiTables(board);
const smbios = { uuid: new Uint8Array(16).fill(0x42), processorCount: 1, memory };
const scratch = mkdtempSync(join(tmpdir(), "boot-"));
afterAll(() => rmSync(scratch, { recursive: true, force: true }));

const hasGuests = hasQemu() && cloud !== undefined;
const command = "uname -s; echo RM-$((6*7)); dmesg | grep -E 'DMI:|ACPI.*(Error|BUG|Warning)'; exit 7";

function checkCommandOutput(output: string): void {
  const start = output.indexOf(commandBeginMarker);
  expect(start, output.slice(-2000)).toBeGreaterThanOrEqual(0);
  const text = output.slice(start + commandBeginMarker.length);
  expect(text.startsWith("Linux\nRM-42\n"), text).toBe(true);
  expect(text).not.toMatch(/ACPI/u);
  expect(commandExitPattern.exec(text)?.groups?.["status"]).toBe("7");
}

vi.setConfig({ testTimeout: timeoutSeconds * 1000 + 10_000 });

describe.skipIf(!hasGuests)("without firmware", () => {
  const boot = (protocol: ProtocolChoice): BootImage => {
    const kernel = readFileSync(cloud?.kernel ?? "");
    const initrd = Buffer.concat([readFileSync(cloud?.initramfs ?? ""), commandInitramfs(command)]);
    return loadKernel({ kernel, commandLine: "console=ttyS0 quiet", initrd, memory, protocol, rsdp: { address: acpi.rsdpAddress, bytes: acpi.writes[0].bytes } });
  };

  test.each<ProtocolChoice>(["linux", "pvh"])("Debian runs a command and powers off (%s)", async (protocol) => {
    const run = await runInQemu(boot(protocol), { memoryMib, timeoutSeconds, romWrites: [...acpi.writes, ...layOutSmbios(smbios)] });
    checkCommandOutput(run.output);
    expect(run.output).toContain("DMI: Ringmaster Virtual Machine");
    expect(run.status).toBe(0);
  });

  test.skipIf(memtest === undefined)("memtest86+ starts", async () => {
    const image = loadKernel({ kernel: readFileSync(memtest?.kernel ?? ""), commandLine: "console=ttyS0,115200", memory });
    const run = await runInQemu(image, { memoryMib, timeoutSeconds, romWrites: acpi.writes, until: /Memtest86\+ v/u });
    expect(run.output).toMatch(/Memtest86\+ v/u);
  });
});

describe.skipIf(!hasGuests)("with firmware", () => {
  const fwCfg = [...createAcpiFiles(board)].flatMap(([name, bytes], i) => {
    const file = join(scratch, `fw-cfg-${i}`);
    writeFileSync(file, bytes);
    return ["-fw_cfg", `name=${name},file=${file}`];
  });
  const boards = [["tables of ours", ["-machine", "acpi=off", ...fwCfg]], ["QEMU's own tables", []]] as const;

  test("SeaBIOS takes our tables, and Debian runs a command from the kernel's command line", async () => {
    const append = `console=ttyS0 quiet ${commandKernelArgument(command)}`;
    const run = await runQemu(
      [...boards[0][1], "-kernel", cloud?.kernel ?? "", "-initrd", cloud?.initramfs ?? "", "-append", append], { memoryMib, timeoutSeconds });
    checkCommandOutput(run.output);
    expect(run.status).toBe(0);
  });

  test.skipIf(biosDisk === undefined)("SeaBIOS starts GRUB, GRUB starts Debian from ext4", async () => {
    const disk = join(scratch, "bios.img");
    copyFileSync(biosDisk?.image ?? "", disk);
    const run = await runQemu(["-vga", "none", "-drive", `file=${disk},if=virtio,format=raw`], { memoryMib, timeoutSeconds, until: /\n\/ # /u });
    expect(run.output).toMatch(/EXT4-fs \(vda1\): mounted.*\n\/ # /su);
  });

  test.skipIf(ovmf === undefined || efiDisk === undefined).each(boards)("OVMF starts GRUB, GRUB starts Debian from ext4, with %s", async (_, args) => {
    const disk = join(scratch, "efi.img");
    const variables = join(scratch, "variables.fd");
    copyFileSync(efiDisk?.image ?? "", disk);
    copyFileSync(ovmf?.variables ?? "", variables);
    const run = await runQemu([
      ...args, "-vga", "none", "-drive", `if=pflash,unit=0,format=raw,readonly=on,file=${ovmf?.code ?? ""}`,
      "-drive", `if=pflash,unit=1,format=raw,file=${variables}`, "-drive", `file=${disk},if=virtio,format=raw`,
    ], { memoryMib, timeoutSeconds, until: /\n\/ # /u });
    expect(run.output).toMatch(/EXT4-fs \(vda2\): mounted.*\n\/ # /su);
    if (args.length > 0) expect(run.output).toMatch(/ACPI: (?:XSDT|RSDT) .*RINGMS/u);
  });
});
