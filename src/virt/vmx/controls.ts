/**
 * The VMX controls that are offered: the one table from which the capability registers, the checks of VM entry and the
 * inventory derive (SDM volume 3, "VM-Execution Control Fields", "VM-Exit Control Fields", "VM-Entry Control Fields").
 */

export type ControlGroup = "pin" | "primary" | "secondary" | "exit" | "entry" | "function";

/** Numbers of the groups. */
export const controlGroups: readonly ControlGroup[] = ["pin", "primary", "secondary", "exit", "entry", "function"];

export interface Control {
  readonly group: ControlGroup;
  /** The group's place in `controlGroups`. */
  readonly groupNumber: number;
  readonly bit: number;
  readonly mask: number;
  /** As the manual has it; those of the exit and entry controls with that word before it. */
  readonly name: string;
  /** Feature of the CPU model without which it is not offered. */
  readonly feature: string | undefined;
}

type Row = readonly [group: ControlGroup, bit: number, name: string, feature?: string];

const rows = {
  externalInterruptExiting: ["pin", 0, "external-interrupt exiting"],
  nmiExiting: ["pin", 3, "NMI exiting"],
  virtualNmis: ["pin", 5, "virtual NMIs", "vmx_vnmi"],
  preemptionTimer: ["pin", 6, "activate VMX-preemption timer", "preemption_timer"],
  postedInterrupts: ["pin", 7, "process posted interrupts", "posted_intr"],

  interruptWindowExiting: ["primary", 2, "interrupt-window exiting"],
  tscOffsetting: ["primary", 3, "use TSC offsetting"],
  hltExiting: ["primary", 7, "HLT exiting"],
  invlpgExiting: ["primary", 9, "INVLPG exiting"],
  mwaitExiting: ["primary", 10, "MWAIT exiting"],
  rdpmcExiting: ["primary", 11, "RDPMC exiting"],
  rdtscExiting: ["primary", 12, "RDTSC exiting"],
  cr3LoadExiting: ["primary", 15, "CR3-load exiting"],
  cr3StoreExiting: ["primary", 16, "CR3-store exiting"],
  cr8LoadExiting: ["primary", 19, "CR8-load exiting"],
  cr8StoreExiting: ["primary", 20, "CR8-store exiting"],
  tprShadow: ["primary", 21, "use TPR shadow", "vtpr"],
  nmiWindowExiting: ["primary", 22, "NMI-window exiting", "vmx_vnmi"],
  movDrExiting: ["primary", 23, "MOV-DR exiting"],
  unconditionalIoExiting: ["primary", 24, "unconditional I/O exiting"],
  ioBitmaps: ["primary", 25, "use I/O bitmaps"],
  monitorTrapFlag: ["primary", 27, "monitor trap flag", "mtf"],
  msrBitmaps: ["primary", 28, "use MSR bitmaps"],
  monitorExiting: ["primary", 29, "MONITOR exiting"],
  pauseExiting: ["primary", 30, "PAUSE exiting"],
  secondaryControls: ["primary", 31, "activate secondary controls"],

  apicAccesses: ["secondary", 0, "virtualize APIC accesses", "vapic"],
  ept: ["secondary", 1, "enable EPT", "ept"],
  descriptorTableExiting: ["secondary", 2, "descriptor-table exiting"],
  rdtscp: ["secondary", 3, "enable RDTSCP", "rdtscp"],
  x2ApicMode: ["secondary", 4, "virtualize x2APIC mode", "vapic_reg"],
  vpid: ["secondary", 5, "enable VPID", "vpid"],
  wbinvdExiting: ["secondary", 6, "WBINVD exiting"],
  unrestrictedGuest: ["secondary", 7, "unrestricted guest", "unrestricted_guest"],
  apicRegisters: ["secondary", 8, "APIC-register virtualization", "vapic_reg"],
  virtualInterruptDelivery: ["secondary", 9, "virtual-interrupt delivery", "vid"],
  pauseLoopExiting: ["secondary", 10, "PAUSE-loop exiting", "ple"],
  rdrandExiting: ["secondary", 11, "RDRAND exiting", "rdrand"],
  invpcid: ["secondary", 12, "enable INVPCID", "invpcid"],
  vmFunctions: ["secondary", 13, "enable VM functions", "vmfunc"],
  vmcsShadowing: ["secondary", 14, "VMCS shadowing", "shadow_vmcs"],
  rdseedExiting: ["secondary", 16, "RDSEED exiting", "rdseed"],
  pml: ["secondary", 17, "enable PML", "pml"],
  eptViolationVe: ["secondary", 18, "EPT-violation #VE", "ept_violation_ve"],
  xsaves: ["secondary", 20, "enable XSAVES/XRSTORS", "xsaves"],
  modeBasedExecute: ["secondary", 22, "mode-based execute control for EPT", "ept_mode_based_exec"],
  tscScaling: ["secondary", 25, "use TSC scaling", "tsc_scaling"],

  saveDebugControls: ["exit", 2, "exit: save debug controls"],
  hostAddressSpaceSize: ["exit", 9, "exit: host address-space size", "lm"],
  acknowledgeInterrupt: ["exit", 15, "exit: acknowledge interrupt on exit"],
  savePat: ["exit", 18, "exit: save IA32_PAT", "pat"],
  exitLoadPat: ["exit", 19, "exit: load IA32_PAT", "pat"],
  saveEfer: ["exit", 20, "exit: save IA32_EFER"],
  exitLoadEfer: ["exit", 21, "exit: load IA32_EFER"],
  savePreemptionTimer: ["exit", 22, "exit: save VMX-preemption timer value", "preemption_timer"],

  loadDebugControls: ["entry", 2, "entry: load debug controls"],
  ia32eModeGuest: ["entry", 9, "entry: IA-32e mode guest", "lm"],
  entryLoadPat: ["entry", 14, "entry: load IA32_PAT", "pat"],
  entryLoadEfer: ["entry", 15, "entry: load IA32_EFER"],

  eptpSwitching: ["function", 0, "EPTP switching", "vmfunc"],
} as const;

export type ControlKey = keyof typeof rows;

function controlOf([group, bit, name, feature]: Row): Control {
  return { group, groupNumber: controlGroups.indexOf(group), bit, mask: (1 << bit) >>> 0, name, feature };
}

/** Every control by the name that our code has for it. */
export const Control: Readonly<Record<ControlKey, Control>> = Object.fromEntries(
  Object.entries(rows).map(([key, row]) => [key, controlOf(row)]),
) as Record<ControlKey, Control>;

export const controls: readonly Control[] = Object.values(Control);

/** Bits that are reserved and read as 1 ("default1 class"); what the TRUE registers allow to be 0 of them stands in `flexibleMasks`. */
const defaultMasks: Readonly<Record<ControlGroup, number>> = {
  pin: 0x0000_0016, primary: 0x0401_e172, secondary: 0, exit: 0x0003_6dff, entry: 0x0000_11ff, function: 0,
};
const flexibleMasks: Readonly<Record<ControlGroup, number>> = {
  pin: 0,
  primary: Control.cr3LoadExiting.mask | Control.cr3StoreExiting.mask,
  secondary: 0, exit: Control.saveDebugControls.mask, entry: Control.loadDebugControls.mask, function: 0,
};

/** What software may set in one word of controls. */
export interface AllowedControls {
  /** Bits that must be 1, as the capability registers of the first processors tell. */
  readonly mustBeOne: number;
  /** The same by the TRUE registers: these are what VM entry checks. */
  readonly trulyMustBeOne: number;
  readonly mayBeOne: number;
}

/** What a CPU model's controls allow, by group. */
export function allowedControls(hasFeature: (name: string) => boolean): Readonly<Record<ControlGroup, AllowedControls>> {
  const offered = controls.filter(({ feature }) => feature === undefined || hasFeature(feature));
  const groups = Object.keys(defaultMasks) as ControlGroup[];
  return Object.fromEntries(groups.map((group) => {
    const mustBeOne = defaultMasks[group] >>> 0;
    const mayBeOne = offered.filter((control) => control.group === group).reduce((mask, control) => mask | control.mask, mustBeOne) >>> 0;
    return [group, { mustBeOne, trulyMustBeOne: (mustBeOne & ~flexibleMasks[group]) >>> 0, mayBeOne }];
  })) as Record<ControlGroup, AllowedControls>;
}
