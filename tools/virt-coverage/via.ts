/** The inventory of VIA's VT-x: Intel's as the first processors had it. */
import { createCpuModel } from "../../src/isa/models/index.ts";
import { vmxCapabilities } from "../../src/virt/vmx/capabilities.ts";
import { controls } from "../../src/virt/vmx/controls.ts";
import { leftOut, offered, type Inventory } from "./inventory.ts";

const model = createCpuModel("via-vt", { tscFrequencyHz: 1_000_000_000, apicId: 0, processors: 1 });
const capabilities = vmxCapabilities(model, 0x27ff);

export const viaInventory: Inventory = {
  title: "VIA VT-x", guestPrefix: "via-",
  rows: [
    offered("identity", "0", "CentaurHauls, family 6", "covers identity"),
    offered("capability registers", "", `${capabilities.registers.size} registers`, "covers capability registers"),
    ...controls.map((control) => {
      const { group, bit, name, feature, mask } = control;
      const plain = name.replace(/^(?:exit|entry): /u, "");
      return (capabilities.controls[group].mayBeOne & mask) === 0
        ? leftOut(`${group} controls`, String(bit), plain, feature === "invpcid" || feature === "xsaves" || feature === "rdrand" || feature === "rdseed" ? `the model has no ${feature}` : "later than VIA's processors: Intel's first with VT-x did not have it")
        : offered(`${group} controls`, String(bit), plain, `control ${group} ${bit}`);
    }),
    offered("checks of VM entry", "", "controls, host state, guest state; the rules are Intel's", "covers checks", "error 7", "error 8", "exit 33"),
  ],
};
