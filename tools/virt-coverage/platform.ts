/** The inventory of firmware, chipset and boot: what a hypervisor and its guests find around the processor. */
import { leftOut, offered, type Evidence, type Inventory, type InventoryRow } from "./inventory.ts";

const noIommu = "there is no IOMMU: no device of the host is given to guests, and hypervisors do without one";
const acpiTest = "src/boot/acpi/acpi.test.ts", pciTest = "src/devices/pci/pci.test.ts", bootTest = "src/boot/boot.test.ts", osTest = "tools/test-guests.ts";
const tables: Evidence = `test ${acpiTest}: a Q35 has the tables that systems look for`;

function section(name: string, rows: readonly (readonly [what: string, ...evidence: Evidence[]])[]): InventoryRow[] {
  return rows.map(([what, ...evidence]) => offered(name, "", what, ...evidence));
}

function absent(name: string, reason: string, whats: readonly string[]): InventoryRow[] {
  return whats.map((what) => leftOut(name, "", what, reason));
}

export const platformInventory: Inventory = {
  title: "Firmware, chipset, boot", guestPrefix: "",
  rows: [
    ...section("firmware's part", [
      ["virtualization=on: locked with VMX or SVM on", "covers virtualization=on"],
      ["virtualization=locked-off: CPUID tells of it, nothing switches it on", "covers virtualization=locked-off"],
      ["virtualization=unlocked: the operating system locks it", "covers virtualization=unlocked"],
      ["the option is checked, with the choices in the message", "test src/isa/models/models.test.ts: mistakes name the choices"],
      ["no SMX", "covers no SMX"],
      ["what inside a guest tells of it: ringmaster doctor", "test src/host/node/kvm/host-facts.test.ts: the lock of firmware"],
    ]),
    leftOut("firmware's part", "", "etc/msr_feature_control of fw_cfg", "the registers are as firmware leaves them before its first instruction: there is nothing to program"),
    ...absent("VT-d", noIommu, [
      "DRHD units", "address widths of 39 and 48 bits", "interrupt remapping", "extended interrupt mode and queued invalidation", "posting of device interrupts",
      "a PVH dom0 of Xen, which wants one",
    ]),
    ...absent("AMD-Vi", noIommu, ["IVRS and IVHD", "PCI capability", "EFR: PREF, PPR, GT, IA, GA, HE, XT"]),
    ...section("ACPI", [
      ["RSDP, revision 0 and 2", `test ${acpiTest}: add up to zero and point at each other`], ["RSDT and XSDT", tables], ["FADT, revision 3", tables],
      ["DSDT", tables, `test ${acpiTest}: the definition block names what the board has`], ["FACS", tables], ["MADT", tables], ["HPET", tables], ["MCFG", tables], ["WAET", tables],
    ]),
    leftOut("ACPI", "", "SRAT", "there is one memory node"), leftOut("ACPI", "", "DMAR, IVRS", noIommu),
    ...section("Q35", [
      ["host bridge 8086:29C0", `test ${pciTest}: finds the bridges and floats elsewhere`], ["power management at 0x600, timer at 0x608", tables, `test ${pciTest}: publishes the ACPI base while ACPI is on`],
      ["GPE at 0x620", tables, "test src/devices/acpi/pm-block/pm-block.test.ts: general-purpose events"],
      ["ECAM at B000_0000, and where firmware moves it", tables, `test ${pciTest}: opens the enhanced window where PCIEXBAR says`],
      ["AHCI at 1F.2", "test src/devices/sata/ahci/ahci.test.ts: says what it is"], ["PAM shadow memory", `test ${pciTest}: reports every shadow area at first and changes after that`],
    ]),
    leftOut("Q35", "", "SMBus at 0x700", "systems boot without one, and find out by its absence"),
    ...section("Debian's kernels", [
      ["cloud kernel 6.1 and 6.12 to a shell", `test ${osTest}: cloud-6.1`, `test ${osTest}: cloud-6.12`], ["full kernel", `test ${osTest}: generic-6.1`],
      ["kvm_intel with its modules, in order", "test tools/test-nested.ts: kvm_intel"], ["kvm_amd with its modules, in order", "test tools/test-nested.ts: kvm_amd"],
      ["Xen with a dom0 of the full kernel, and a PVH guest", "test tools/test-nested.ts: xen"],
      ["virtio_pci and virtio_blk", "test src/devices/virtio/blk/virtio-block.test.ts: negotiates and describes itself"],
    ]),
    leftOut("Debian's kernels", "", "virtio_net", "there is no network device"),
    ...section("CPUID and MSRs", [
      ["CPUID bits that 64-bit systems require", "covers CPUID required"], ["leaves read at boot", "covers CPUID leaves"], ["leaves of hypervisors, 4000_0000", "covers CPUID hypervisor"],
      ["MSRs touched up to a shell, of both vendors", "covers MSRs common"], ["Intel's: 34, 3A, CE, 140, 1A0", "covers MSRs of Intel"],
      ["AMD's: CSTAR, C001_0010, 15, 1F, 55, 58, C001_1020, 28, 29", "covers MSRs of AMD"],
    ]),
    leftOut("CPUID and MSRs", "", "64E", "productive performance count: read with a look at faults, and there are no performance counters"),
    leftOut("CPUID and MSRs", "", "C001_0000 to C001_0007", "performance counters: as 64E"),
    ...section("devices", [
      ["VGA", "test src/devices/display/vga/vga.test.ts: shows what was written to 0xB8000"], ["port 61 and the 8254", "test src/devices/timers/pit/pit.test.ts: channel 2 as calibration uses it"],
      ["local APIC", "covers CPUID apic", "covers CPUID x2apic"], ["CF8 and CFC", `test ${pciTest}: reaches bytes and words through the data port`],
      ["8250 to 16550A", "test src/devices/serial/uart16550/uart16550.test.ts: probes as a 16550A"], ["HPET", "test src/devices/timers/hpet/hpet.test.ts: identifies itself"],
      ["I/O APIC", "test src/devices/irq/ioapic/ioapic.test.ts: identifies itself"], ["real-time clock", "test src/devices/timers/rtc/rtc.test.ts: runs with the virtual clock, over a leap day"],
      ["power-management timer", "test src/devices/acpi/pm-block/pm-block.test.ts: the timer counts 3.579545 MHz in 24 bits"],
      ["i8042", "test src/devices/input/i8042/i8042.test.ts: self-test, interface tests, configuration byte"], ["port 92", "test src/devices/reset/reset-ports/reset-ports.test.ts: port 0x92: A20 and fast reset"],
      ["8259", "test src/devices/irq/pic/pic.test.ts: delivers by priority and nests"], ["fw_cfg with DMA", "test src/devices/firmware/fw-cfg/fw-cfg.test.ts: signature, version with DMA, DMA signature"],
      ["APM at B2", "test src/devices/acpi/pm-block/pm-block.test.ts: ACPI mode goes on and off by the APM port"],
      ["virtio over PCI", "test src/devices/virtio/blk/virtio-block.test.ts: is reachable through its configuration window alone"],
      ["TSC, 8254 and power-management timer of one clock", "covers one clock"],
    ]),
    ...section("entry states", [
      ["Linux, 64-bit entry", `test ${bootTest}: starts in 64-bit mode at 0x200 of the kernel, with the zero page filled in`], ["Linux, 32-bit entry", `test ${bootTest}: uses the 32-bit entry of kernels that have no other`],
      ["PVH by the ELF note", `test ${bootTest}: starts at the note's entry with the start information in EBX`], ["LZ4 in a bzImage", `test ${bootTest}: unpacks LZ4`],
      ["multiboot 1 with modules", `test ${bootTest}: loads ELF32 with modules, memory map, command line and loader name`], ["multiboot 2", `test ${bootTest}: loads ELF with every tag it tells`],
    ]),
    leftOut("entry states", "", "gzip around a multiboot kernel", "loaders unpack it, and so does what prepares Xen for our catalog"),
    leftOut("entry states", "", "XZ in a bzImage", "such kernels are entered by the Linux protocol, and unpack themselves"),
    ...section("firmware", [
      ["SeaBIOS: fw_cfg, PAM, e820, table loader", `test ${osTest}: disk-bios`, `test ${acpiTest}: the linker script makes of the files what direct placement gives`],
      ["OVMF: the same, and flash", `test ${osTest}: disk-efi`],
    ]),
  ],
};
