/** The inventory of Intel's VMX: what is offered comes from the tables of the product, what is left out stands here with the reason. */
import { createCpuModel } from "../../src/isa/models/index.ts";
import { VmxMsr, vmxCapabilities } from "../../src/virt/vmx/capabilities.ts";
import { controlChecks } from "../../src/virt/vmx/checks/controls.ts";
import { guestChecks } from "../../src/virt/vmx/checks/guest.ts";
import { hostChecks } from "../../src/virt/vmx/checks/host.ts";
import { controls, type ControlGroup } from "../../src/virt/vmx/controls.ts";
import { ExitReason, exitReasonName } from "../../src/virt/vmx/exit-reasons.ts";
import { vmcsFields } from "../../src/virt/vmx/fields.ts";
import { InstructionError } from "../../src/virt/vmx/instructions.ts";
import { leftOut, offered, registerRows, type Evidence, type Inventory, type InventoryRow } from "./inventory.ts";

const noPerformanceCounters = "there are no performance counters";
const noSgx = "there is no SGX", noTrace = "there is no processor trace", noMpx = "there is no MPX", noCet = "there is no CET";
const noPks = "there are no protection keys for supervisor pages", noSmm = "there is no system-management mode, and so no monitor of it";
const noTertiary = "none of the tertiary controls is offered";

const groupTitles: Readonly<Record<ControlGroup | "tertiary", string>> = {
  pin: "pin-based controls", primary: "primary controls", secondary: "secondary controls", tertiary: "tertiary controls",
  exit: "VM-exit controls", entry: "VM-entry controls", function: "VM functions",
};

const controlsLeftOut: readonly (readonly [group: ControlGroup | "tertiary", bit: number, name: string, reason: string])[] = [
  ["primary", 17, "activate tertiary controls", noTertiary],
  ["secondary", 15, "ENCLS exiting", noSgx],
  ["secondary", 19, "conceal VMX from PT", noTrace],
  ["secondary", 23, "sub-page write permissions for EPT", "no hypervisor of the inventory uses it, and later processors have dropped it"],
  ["secondary", 24, "PT uses guest physical addresses", noTrace],
  ["secondary", 26, "enable user wait and pause", "there is no WAITPKG"],
  ["secondary", 27, "enable PCONFIG", "there is no PCONFIG"],
  ["secondary", 28, "enable ENCLV exiting", noSgx],
  ["secondary", 30, "VMM bus-lock detection", "the bus is never locked: split accesses are one processor's matter"],
  ["secondary", 31, "instruction timeout", "no instruction takes so long that interrupts have to wait for it"],
  ["tertiary", 0, "LOADIWKEY exiting", "there is no Key Locker"],
  ["tertiary", 1, "enable HLAT", noTertiary], ["tertiary", 2, "EPT paging-write control", noTertiary],
  ["tertiary", 3, "guest-paging verification", noTertiary],
  ["tertiary", 4, "IPI virtualization", noTertiary],
  ["tertiary", 6, "enable MSR-list instructions", "there are no MSR-list instructions"],
  ["tertiary", 7, "virtualize IA32_SPEC_CTRL", "the processor does not speculate: IA32_SPEC_CTRL has no effect to preserve"],
  ["tertiary", 8, "APIC-timer virtualization", noTertiary],
  ["exit", 12, "load IA32_PERF_GLOBAL_CTRL", noPerformanceCounters], ["exit", 23, "clear IA32_BNDCFGS", noMpx],
  ["exit", 24, "conceal VMX from PT", noTrace], ["exit", 25, "clear IA32_RTIT_CTL", noTrace],
  ["exit", 28, "load CET state", noCet], ["exit", 29, "load PKRS", noPks],
  ["exit", 31, "activate secondary controls", "none of the secondary VM-exit controls is offered"],
  ["entry", 10, "entry to SMM", noSmm], ["entry", 11, "deactivate dual-monitor treatment", noSmm],
  ["entry", 13, "load IA32_PERF_GLOBAL_CTRL", noPerformanceCounters], ["entry", 16, "load IA32_BNDCFGS", noMpx],
  ["entry", 17, "conceal VMX from PT", noTrace], ["entry", 18, "load IA32_RTIT_CTL", noTrace],
  ["entry", 20, "load CET state", noCet], ["entry", 22, "load PKRS", noPks],
];

const exitsLeftOut: readonly (readonly [reason: number, name: string, why: string])[] = [
  [5, "I/O SMI", noSmm], [6, "other SMI", noSmm], [11, "GETSEC", "there is no SMX"], [17, "RSM", noSmm],
  [41, "entry failure: machine check", "there are no machine checks"], [60, "ENCLS", noSgx],
  [63, "XSAVES", "no supervisor state component exists that an XSS-exiting bitmap could select"], [64, "XRSTORS", "as XSAVES"],
  [66, "SPP", "there are no sub-page write permissions"], [67, "UMWAIT", "there is no WAITPKG"], [68, "TPAUSE", "there is no WAITPKG"],
  [74, "bus lock", "the bus is never locked"], [75, "notify", "no instruction takes so long"],
];

const errorNames: Readonly<Record<number, string>> = {
  1: "VMCALL in root operation", 2: "VMCLEAR with an invalid address", 3: "VMCLEAR with the VMXON pointer", 4: "VMLAUNCH with a VMCS that is not clear",
  5: "VMRESUME with a VMCS that is not launched", 7: "entry with invalid controls", 8: "entry with an invalid host state", 9: "VMPTRLD with an invalid address",
  10: "VMPTRLD with the VMXON pointer", 11: "VMPTRLD with another revision", 12: "VMREAD or VMWRITE of a field that does not exist",
  15: "VMXON in root operation", 26: "entry while MOV SS blocks events", 28: "invalid operand of INVEPT or INVVPID",
};
const errorsLeftOut: readonly (readonly [number: number, name: string, why: string])[] = [
  [6, "VMRESUME after VMXOFF", "VMXOFF leaves launch states alone, as processors do"],
  [13, "VMWRITE of a read-only field", "IA32_VMX_MISC bit 29: they can be written"],
  ...[16, 17, 18, 19, 20, 22, 23, 24, 25].map((number) => [number, "entries and VMCALL with an executive or SMM-transfer VMCS", noSmm] as const),
];

const eptNames: Readonly<Record<number, string>> = {
  0: "execute-only translations", 6: "page walks of 4 levels", 8: "uncacheable paging structures", 14: "write-back paging structures", 16: "2-MiB pages",
  17: "1-GiB pages", 20: "INVEPT", 21: "accessed and dirty flags", 22: "advanced VM-exit information", 25: "INVEPT single-context", 26: "INVEPT all-context",
  32: "INVVPID", 40: "INVVPID individual address", 41: "INVVPID single-context", 42: "INVVPID all-context", 43: "INVVPID retaining globals",
};
const miscNames: Readonly<Record<number, string>> = {
  5: "VM exits store EFER.LMA", 6: "HLT activity state", 7: "shutdown activity state", 8: "wait-for-SIPI activity state", 18: "four CR3 targets",
  29: "VMWRITE to read-only fields", 30: "injection with an instruction length of 0",
};
const basicNames: Readonly<Record<number, string>> = {
  44: "VMCS regions of 4 KiB", 51: "VMCSs in write-back memory", 52: "VMCSs in write-back memory", 54: "INS and OUTS are described", 55: "TRUE capability registers",
};

const instructions = [
  "vmxon", "vmxoff", "vmclear", "vmptrld", "vmptrst", "vmread", "vmwrite", "vmlaunch", "vmresume", "vmcall", "invept", "invvpid", "vmfunc",
] as const;

/** CR4 as the model with all of VMX has it. */
const supportedCr4 = 0x3727ff;
const model = createCpuModel("xeon", { tscFrequencyHz: 1_000_000_000, apicId: 0, processors: 1 });
const { registers } = vmxCapabilities(model, supportedCr4);

/** What the controls themselves say, beyond those in the table: a bit that may be 1 and is neither known nor always 1. */
function unknownControls(): InventoryRow[] {
  const pairs = [
    ["pin", VmxMsr.TRUE_PINBASED_CTLS], ["primary", VmxMsr.TRUE_PROCBASED_CTLS], ["secondary", VmxMsr.PROCBASED_CTLS2], ["exit", VmxMsr.TRUE_EXIT_CTLS],
    ["entry", VmxMsr.TRUE_ENTRY_CTLS],
  ] as const;
  return pairs.flatMap(([group, index]) => {
    const value = registers.get(index) ?? 0n;
    const known = controls.filter((control) => control.group === group).reduce((mask, { mask: bit }) => mask | BigInt(bit), 0n);
    const optional = (value >> 32n) & ~(value & 0xffff_ffffn) & ~known;
    return registerRows(groupTitles[group], optional, {}, {}, () => []);
  });
}

function controlRows(): InventoryRow[] {
  const known = controls.map(({ group, bit, name }) => offered(groupTitles[group], String(bit), name.replace(/^(?:exit|entry): /u, ""), `control ${group} ${bit}`));
  const absent = controlsLeftOut.map(([group, bit, name, reason]) => leftOut(groupTitles[group], String(bit), name, reason));
  const all = [...known, ...absent, ...unknownControls()];
  return Object.values(groupTitles).flatMap((title) => all.filter(({ section }) => section === title).toSorted((a, b) => Number(a.place) - Number(b.place)));
}

function capabilityRows(): InventoryRow[] {
  const names = Object.entries(VmxMsr).filter(([, index]) => registers.has(index));
  const section = "capability registers";
  const rows = names.map(([name, index]) => offered(section, `0x${index.toString(16)}`, `IA32_VMX_${name}`, `covers MSR 0x${index.toString(16)}`));
  const noTimerOrTargets = ~0x1ff_001fn;
  return [
    ...rows, leftOut(section, "0x492", "IA32_VMX_PROCBASED_CTLS3", noTertiary),
    offered(section, "0x3a", "IA32_FEATURE_CONTROL", "covers MSR 0x3a"),
    // The revision and the size and type of the region are numbers: their bits are no features.
    ...registerRows("IA32_VMX_BASIC", ((registers.get(VmxMsr.BASIC) ?? 0n) & ~0x7fff_ffffn), basicNames, {
      49: ["dual-monitor treatment of SMIs and SMM", noSmm], 56: ["hardware exceptions without error code", "events are injected as processors up to Skylake do"],
    }, (bit) => [`covers BASIC ${bit}`]),
    offered("IA32_VMX_MISC", "4:0", "VMX-preemption timer: a tick every 32 of the TSC", "control pin 6", "covers MISC 4:0"),
    ...registerRows("IA32_VMX_MISC", ((registers.get(VmxMsr.MISC) ?? 0n) & noTimerOrTargets) | (1n << 18n), miscNames, {
      14: ["PT in VMX operation", noTrace], 15: ["RDMSR of IA32_SMBASE", noSmm], 28: ["IA32_SMM_MONITOR_CTL bit 2", noSmm],
    }, (bit) => [`covers MISC ${bit}`]),
    ...registerRows("IA32_VMX_EPT_VPID_CAP", registers.get(VmxMsr.EPT_VPID_CAP) ?? 0n, eptNames, {
      7: ["page walks of 5 levels", "the model has no 5-level paging"], 23: ["supervisor shadow-stack control", noCet],
    }, (bit) => [`covers EPT_VPID_CAP ${bit}`]),
  ];
}

/** Nothing lets these stay in the guest. */
const alwaysExits: ReadonlySet<number> = new Set([
  ExitReason.tripleFault, ExitReason.init, ExitReason.taskSwitch, ExitReason.cpuid, ExitReason.invd, ExitReason.vmcall, ExitReason.vmclear,
  ExitReason.vmlaunch, ExitReason.vmptrld, ExitReason.vmptrst, ExitReason.vmresume, ExitReason.vmxoff, ExitReason.vmxon, ExitReason.invept,
  ExitReason.invvpid, ExitReason.xsetbv, ExitReason.apicAccess,
]);

/** What shows that a guest stays where nothing asks for the exit. */
const admittedBy: Readonly<Record<number, Evidence>> = {
  [ExitReason.exceptionOrNmi]: "delivered 6", [ExitReason.externalInterrupt]: "admitted interrupt", [ExitReason.rdtsc]: "admitted rdtsc",
  [ExitReason.rdtscp]: "admitted rdtscp", [ExitReason.hlt]: "admitted hlt", [ExitReason.invlpg]: "admitted invlpg", [ExitReason.rdpmc]: "admitted rdpmc",
  [ExitReason.vmread]: "admitted vmread", [ExitReason.vmwrite]: "admitted vmwrite", [ExitReason.crAccess]: "admitted write cr 0",
  [ExitReason.drAccess]: "admitted mov dr", [ExitReason.io]: "admitted out", [ExitReason.rdmsr]: "admitted rdmsr", [ExitReason.wrmsr]: "admitted wrmsr",
  [ExitReason.mwait]: "admitted mwait", [ExitReason.monitor]: "admitted monitor", [ExitReason.pause]: "admitted pause", [ExitReason.gdtrIdtr]: "admitted sgdt",
  [ExitReason.ldtrTr]: "admitted sldt", [ExitReason.wbinvd]: "admitted wbinvd", [ExitReason.rdrand]: "admitted rdrand", [ExitReason.rdseed]: "admitted rdseed",
  [ExitReason.invpcid]: "admitted invpcid", [ExitReason.vmfunc]: "admitted vmfunc", [ExitReason.invalidGuestState]: "control entry 9",
};

function exitRows(): InventoryRow[] {
  const rows = Object.values(ExitReason).map((reason) => {
    const isAlways = alwaysExits.has(reason), name = exitReasonName(reason);
    const admitted = admittedBy[reason] ?? `covers staying instead of exit ${reason}`;
    return offered("exit reasons", String(reason), isAlways ? `${name}, whatever the controls` : name, `exit ${reason}`, ...isAlways ? [] : [admitted]);
  });
  return [...rows, ...exitsLeftOut.map(([reason, name, why]) => leftOut("exit reasons", String(reason), name, why))]
    .toSorted((a, b) => Number(a.place) - Number(b.place));
}

function errorRows(): InventoryRow[] {
  const rows = Object.values(InstructionError).map((number) =>
    offered("instruction errors", String(number), errorNames[number] ?? "not in the inventory", `error ${number}`));
  return [...rows, ...errorsLeftOut.map(([number, name, why]) => leftOut("instruction errors", String(number), name, why))]
    .toSorted((a, b) => Number(a.place) - Number(b.place));
}

/** Each rule has to hold in one case, and to be the one that refuses an entry in another. */
function checkRows(): InventoryRow[] {
  return [...controlChecks, ...hostChecks, ...guestChecks].map(({ section, rule }) => offered(section, "", rule, `passed ${rule}`, `failed ${rule}`));
}

/** What KVM and Xen ask for beyond single bits, and trip over. */
const demands: readonly InventoryRow[] = ([
  ["VMCS regions of at most 4 KiB in write-back memory, addresses not limited to 32 bits", "covers BASIC 44", "covers BASIC 51"],
  ["TRUE registers: CR3 and INVLPG exiting can be 0 under EPT", "covers BASIC 55", "control secondary 1"],
  ["controls of entry and exit in pairs: PAT and EFER", "control entry 14", "control exit 19", "control entry 15", "control exit 21"],
  ["EPT with 4 levels, write-back, INVEPT of one and all contexts", "covers EPT_VPID_CAP 6", "covers EPT_VPID_CAP 14", "covers EPT_VPID_CAP 25", "covers EPT_VPID_CAP 26"],
  ["INVVPID of one and all contexts", "covers EPT_VPID_CAP 41", "covers EPT_VPID_CAP 42"],
  ["an EPT entry that may be written and executed, and not read, is a misconfiguration", "exit 49", "covers EPT_VPID_CAP 0"],
  ["a preemption timer that is slow enough for KVM", "covers MISC 4:0", "exit 52"],
  ["TPR shadow, register virtualization, interrupt delivery and posted interrupts together", "control primary 21", "control secondary 8", "control secondary 9", "control pin 7"],
  ["unrestricted guests", "control secondary 7"],
  ["KVM with EPT and without, a second kernel, a third level", "test tools/test-nested.ts: kvm_intel", "test tools/test-nested.ts: third"],
] as const).map(([what, ...evidence]) => offered("what hypervisors ask for", "", what, ...evidence));

export const vmxInventory: Inventory = {
  title: "Intel VMX",
  guestPrefix: "vmx-",
  rows: [
    ...controlRows(), ...capabilityRows(),
    offered("VMCS", "", `fields: ${vmcsFields.length}`, "covers fields"),
    ...instructions.map((name) => offered("instructions", "", name.toUpperCase(), `instruction ${name}`)),
    ...errorRows(), ...exitRows(),
    ...([[1, "saving of guest MSRs"], [2, "page-directory pointers of the host"], [4, "loading of host MSRs"]] as const)
      .map(([number, name]) => offered("VMX aborts", String(number), name, `covers abort ${number}`)),
    ...checkRows(), ...demands,
  ],
};
