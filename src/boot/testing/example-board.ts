/** A complete board for tests: one processor, PCI, every legacy device. */
import { defaultPowerManagement, type AcpiBoard } from "../acpi/board.ts";

export const exampleBoard: AcpiBoard = {
  processors: [{ apicId: 0 }, { apicId: 1 }],
  localApicBase: 0xfee0_0000,
  ioApic: { id: 0, base: 0xfec0_0000 },
  pci: {
    ecamBase: 0xb000_0000,
    busCount: 256,
    ioWindows: [{ minimum: 0, maximum: 0x0cf7 }, { minimum: 0x0d00, maximum: 0xffff }],
    memoryWindows: [{ minimum: 0xa_0000, maximum: 0xb_ffff }, { minimum: 0xc000_0000, maximum: 0xfebf_ffff }],
    memoryWindow64: { minimum: 0x1_8000_0000, maximum: 0x1_ffff_ffff },
    interruptRoutes: Array.from({ length: 32 * 4 }, (_, i) => ({ device: i >> 2, pin: i & 3, globalInterrupt: 16 + (((i >> 2) + i) & 7) })),
    hasLpcBridge: true,
  },
  powerManagement: defaultPowerManagement,
  serialPorts: [{ port: 0x3f8, interrupt: 4 }, { port: 0x2f8, interrupt: 3 }],
  hasKeyboardController: true,
  hasRtc: true,
  hasVga: false,
  hpetBase: 0xfed0_0000,
  generationId: { address: 0xfef0_0000, event: 5 },
};
