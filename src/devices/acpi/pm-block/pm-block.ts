/**
 * ACPI fixed hardware of the ICH9 ("Power Management I/O Registers", "APM I/O Decode"): PM1 and GPE0 event
 * blocks, the PM timer, the APM ports and the SMI registers as far as firmware asks them whether to set up SMM.
 */
import { finite, list, object, type Shape, uint16, uint32, uint8 } from "../../../base/shape.ts";
import type { AccessSize, Clock, Device, IrqLine, RegisterBlock, Timer } from "../../contract.ts";
import { registerSlice } from "../../register-slice.ts";
import { nsOfTick, ticksAt } from "../../ticks.ts";

export const pmTimerHertz = 3_579_545;
export const pmBlockBytes = 128;

/** Offsets from PMBASE. */
export const PmRegister = { pm1Event: 0x00, pm1Control: 0x04, timer: 0x08, gpe0: 0x20, smiEnable: 0x30, smiStatus: 0x34 } as const;
export const gpe0Bytes = 16;
/** What FADT announces for the SMI command port 0xB2. */
export const ApmCommand = { acpiEnable: 2, acpiDisable: 3 } as const;

const Pm1Event = { timerMask: 0x0001, globalMask: 0x0020, powerButtonMask: 0x0100, sleepButtonMask: 0x0200, rtcMask: 0x0400 };
const pm1StatusMask = 0x8f31;
const pm1EnableMask =
  Pm1Event.timerMask | Pm1Event.globalMask | Pm1Event.powerButtonMask | Pm1Event.sleepButtonMask | Pm1Event.rtcMask;
const Pm1Control = { sciEnableMask: 0x0001, writableMask: 0x1c07, sleepTypeShift: 10, sleepEnableMask: 0x2000 };
/** S5 is 7 on the ICH9; firmware made for QEMU's boards writes 0. */
const powerOffSleepTypes: ReadonlySet<number> = new Set([0, 7]);
const smiApmEnableMask = 0x20;
const timerModulus = 2 ** 24;
/** TMR_STS is set whenever the timer's top bit changes. */
const timerCarryTicks = 2 ** 23;
const gpe0StatusBytes = gpe0Bytes / 2;

export interface PmPorts {
  readonly clock: Clock;
  /** The system control interrupt. */
  readonly sci: IrqLine;
  /** The guest has entered S5. */
  onPowerOff(): void;
}

export interface PmState {
  /** Without TMR_STS changes after `checkedNs`. */
  pm1Status: number;
  checkedNs: number;
  pm1Enable: number;
  pm1Control: number;
  /** Status bytes, then enable bytes. */
  gpe0: number[];
  smiEnable: number;
  apmControl: number;
  apmStatus: number;
}

export const pmStateShape: Shape<PmState> = object({
  pm1Status: uint16, checkedNs: finite, pm1Enable: uint16, pm1Control: uint16, gpe0: list(uint8, gpe0Bytes),
  smiEnable: uint32, apmControl: uint8, apmStatus: uint8,
});

export function resetPmState(nowNs: number): PmState {
  return {
    pm1Status: 0,
    checkedNs: nowNs,
    pm1Enable: 0,
    pm1Control: 0,
    gpe0: Array.from({ length: gpe0Bytes }, () => 0),
    // "SMI on APM writes" already on tells firmware that SMM is taken care of; there is none to set up here.
    smiEnable: smiApmEnableMask,
    apmControl: 0,
    apmStatus: 0,
  };
}

export class PmBlock implements RegisterBlock, Device<PmState> {
  readonly state: PmState;
  readonly #ports: PmPorts;
  #timer: Timer | undefined;

  constructor(ports: PmPorts, state: PmState = resetPmState(ports.clock.nowNs())) {
    this.#ports = ports;
    this.state = state;
    this.#update();
  }

  reset(): void {
    Object.assign(this.state, resetPmState(this.#ports.clock.nowNs()));
    this.#update();
  }

  /** The user presses the power button. Whether the guest is set up to notice. */
  pressPowerButton(): boolean {
    this.#collectTimerStatus();
    this.state.pm1Status |= Pm1Event.powerButtonMask;
    this.#update();
    return this.#isAcpiMode() && (this.state.pm1Enable & Pm1Event.powerButtonMask) !== 0;
  }

  /** A general-purpose event, 0 to 63, happens. */
  raiseGpe(event: number): void {
    this.#collectTimerStatus();
    this.state.gpe0[event >> 3] |= 1 << (event & 7);
    this.#update();
  }

  read(offset: number, sizeBytes: AccessSize): number {
    // The timer in one piece: composed of bytes it could change underway.
    if ((offset & 3) + sizeBytes <= 4) return registerSlice(this.#readWord(offset & ~3), offset, sizeBytes);
    let value = 0;
    for (let byte = 0; byte < sizeBytes; byte++) value |= this.read(offset + byte, 1) << (8 * byte);
    return value >>> 0;
  }

  write(offset: number, sizeBytes: AccessSize, value: number): void {
    this.#collectTimerStatus();
    for (let byte = 0; byte < sizeBytes; byte++) this.#writeByte(offset + byte, (value >>> (8 * byte)) & 0xff);
    this.#update();
  }

  /** Ports 0xB2 and 0xB3. */
  readApm(offset: number): number {
    return offset & 1 ? this.state.apmStatus : this.state.apmControl;
  }

  writeApm(offset: number, value: number): void {
    const { state } = this;
    if (offset & 1) {
      state.apmStatus = value;
      return;
    }
    state.apmControl = value;
    this.#collectTimerStatus();
    if (value === ApmCommand.acpiEnable) state.pm1Control |= Pm1Control.sciEnableMask;
    else if (value === ApmCommand.acpiDisable) state.pm1Control &= ~Pm1Control.sciEnableMask;
    this.#update();
  }

  #readWord(offset: number): number {
    const { state } = this;
    switch (offset) {
      case PmRegister.pm1Event:
        this.#collectTimerStatus();
        return (state.pm1Status | (state.pm1Enable << 16)) >>> 0;
      case PmRegister.pm1Control:
        return state.pm1Control;
      case PmRegister.timer:
        return ticksAt(this.#ports.clock.nowNs(), pmTimerHertz) % timerModulus;
      case PmRegister.smiEnable:
        return state.smiEnable;
      default: {
        const index = offset - PmRegister.gpe0;
        if (index < 0 || index >= gpe0Bytes) return 0;
        const { gpe0 } = state;
        return (gpe0[index] | (gpe0[index + 1] << 8) | (gpe0[index + 2] << 16) | (gpe0[index + 3] << 24)) >>> 0;
      }
    }
  }

  #writeByte(offset: number, value: number): void {
    const { state } = this;
    const shift = 8 * (offset & 1);
    const byteMask = 0xff << shift;
    const bits = value << shift;
    switch (offset & ~1) {
      case PmRegister.pm1Event:
        state.pm1Status &= ~(bits & pm1StatusMask);
        return;
      case PmRegister.pm1Event + 2:
        state.pm1Enable = ((state.pm1Enable & ~byteMask) | bits) & pm1EnableMask;
        return;
      case PmRegister.pm1Control:
        state.pm1Control = ((state.pm1Control & ~byteMask) | bits) & Pm1Control.writableMask;
        if (bits & Pm1Control.sleepEnableMask) this.#sleep();
        return;
      default: {
        const index = offset - PmRegister.gpe0;
        if (index >= 0 && index < gpe0StatusBytes) state.gpe0[index] &= ~value;
        else if (index >= gpe0StatusBytes && index < gpe0Bytes) state.gpe0[index] = value;
        else if (offset >= PmRegister.smiEnable && offset < PmRegister.smiEnable + 4) this.#writeSmiEnable(offset, value);
      }
    }
  }

  #writeSmiEnable(offset: number, value: number): void {
    const wordShift = 8 * (offset & 3);
    const { state } = this;
    state.smiEnable = ((state.smiEnable & ~(0xff << wordShift)) | (value << wordShift)) >>> 0;
  }

  #sleep(): void {
    const sleepType = (this.state.pm1Control >> Pm1Control.sleepTypeShift) & 7;
    if (powerOffSleepTypes.has(sleepType)) this.#ports.onPowerOff();
  }

  #isAcpiMode(): boolean {
    return (this.state.pm1Control & Pm1Control.sciEnableMask) !== 0;
  }

  #collectTimerStatus(): void {
    const { state } = this;
    const nowNs = this.#ports.clock.nowNs();
    if (carriesAt(nowNs) !== carriesAt(state.checkedNs)) state.pm1Status |= Pm1Event.timerMask;
    state.checkedNs = nowNs;
  }

  /** Drives the SCI and arms one timer for the carry that would raise it. */
  #update(): void {
    const { state } = this;
    this.#timer?.cancel();
    this.#timer = undefined;
    let isEventPending = (state.pm1Status & state.pm1Enable) !== 0;
    for (let index = 0; index < gpe0StatusBytes; index++) {
      if (state.gpe0[index] & state.gpe0[index + gpe0StatusBytes]) isEventPending = true;
    }
    this.#ports.sci.set(isEventPending && this.#isAcpiMode());
    if (!this.#isAcpiMode() || !(state.pm1Enable & ~state.pm1Status & Pm1Event.timerMask)) return;
    const carryTick = (carriesAt(state.checkedNs) + 1) * timerCarryTicks;
    this.#timer = this.#ports.clock.at(nsOfTick(carryTick, pmTimerHertz), () => {
      this.#collectTimerStatus();
      this.#update();
    });
  }
}

function carriesAt(ns: number): number {
  return Math.floor(ticksAt(ns, pmTimerHertz) / timerCarryTicks);
}
