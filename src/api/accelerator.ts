/** Chooses what executes the guest's instructions, and says why. */
import type { Accelerator } from "../accel/contract.ts";
import { softAccelerator } from "../accel/soft/index.ts";
import { UserError } from "../base/errors.ts";
import type { AcceleratorChoice } from "./options.ts";

export interface ChosenAccelerator {
  readonly name: "soft" | "kvm";
  /** For people: why this one. */
  readonly reason: string;
}

/** @throws UserError ACCELERATOR_UNAVAILABLE, BAD_ARGUMENT. */
export function chooseAccelerator(choice: AcceleratorChoice): { readonly accelerator: Accelerator; readonly chosen: ChosenAccelerator } {
  switch (choice) {
    case "auto":
      return { accelerator: softAccelerator, chosen: { name: "soft", reason: "this version has no kvm accelerator yet" } };
    case "soft":
      return { accelerator: softAccelerator, chosen: { name: "soft", reason: "asked for" } };
    case "kvm":
      throw new UserError("ACCELERATOR_UNAVAILABLE", "This version has no kvm accelerator yet: use soft, or auto.");
    default:
      throw new UserError("BAD_ARGUMENT", `There is no accelerator "${String(choice)}": use auto, soft or kvm.`);
  }
}
