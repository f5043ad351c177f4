/** Reset Control Register 0xCF9 and port 0x92 of the ICH9 ("Reset Control Register", "Init and A20 Register"). */
import { object, type Shape, uint8 } from "../../../base/shape.ts";
import type { Device, IrqLine } from "../../contract.ts";

const ResetControl = { platformMask: 0x02, triggerMask: 0x04, writableMask: 0x0e };
const Port92 = { initMask: 0x01, a20Mask: 0x02 };

export interface ResetPortsWires {
  /** A `platform` reset reaches every device, a `processor` reset is an INIT. */
  onReset(kind: "platform" | "processor"): void;
  /** High opens address line 20. */
  readonly a20: IrqLine;
}

export interface ResetPortsState {
  resetControl: number;
  port92: number;
}

export const resetPortsStateShape: Shape<ResetPortsState> = object({ resetControl: uint8, port92: uint8 });

export class ResetPorts implements Device<ResetPortsState> {
  readonly state: ResetPortsState;
  readonly #wires: ResetPortsWires;

  constructor(wires: ResetPortsWires, state: ResetPortsState = { resetControl: 0, port92: 0 }) {
    this.#wires = wires;
    this.state = state;
    this.#driveA20();
  }

  reset(): void {
    Object.assign(this.state, { resetControl: 0, port92: 0 });
    this.#driveA20();
  }

  readResetControl(): number {
    return this.state.resetControl;
  }

  /** The trigger bit's rise resets; the bits beside it say what. */
  writeResetControl(value: number): void {
    const isRising = (value & ~this.state.resetControl & ResetControl.triggerMask) !== 0;
    this.state.resetControl = value & ResetControl.writableMask;
    if (isRising) this.#wires.onReset(value & ResetControl.platformMask ? "platform" : "processor");
  }

  readPort92(): number {
    return this.state.port92;
  }

  writePort92(value: number): void {
    const isRising = (value & ~this.state.port92 & Port92.initMask) !== 0;
    this.state.port92 = value & (Port92.initMask | Port92.a20Mask);
    this.#driveA20();
    if (isRising) this.#wires.onReset("processor");
  }

  #driveA20(): void {
    this.#wires.a20.set((this.state.port92 & Port92.a20Mask) !== 0);
  }
}
