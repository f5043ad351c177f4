/** Intel 8254 programmable interval timer and the PC's system control port B (0x61), which gates channel 2. */
import { boolean, count, integer, object, optional, type Shape, triple } from "../../../base/shape.ts";
import type { ByteRegisters } from "../../byte-registers.ts";
import type { Clock, Device, IrqLine, Timer } from "../../contract.ts";
import { nsOfTick, ticksAt } from "../../ticks.ts";
import { PitChannel, type PitChannelState, pitChannelStateShape, pitHertz, resetPitChannelState } from "./channel.ts";

const speakerChannel = 2;
/** Channel 1 requested a DRAM refresh every 18 ticks, and port 0x61 still shows the toggle. */
const refreshTicks = 18;

const ControlB = { gateMask: 0x01, writableMask: 0x0f, refreshMask: 0x10, outputMask: 0x20 };
const ReadBack = { notCountMask: 0x20, notStatusMask: 0x10 };

export interface PitPorts {
  readonly clock: Clock;
  /** OUT of channel 0. Falling edges may come late: only the rise interrupts. */
  readonly interrupt: IrqLine;
}

export interface PitState {
  channels: [PitChannelState, PitChannelState, PitChannelState];
  /** Port 0x61 bits 0 to 3. */
  controlB: number;
  interruptLevel: boolean;
  /** Tick at which channel 0 interrupts next. */
  interruptAtTick: number | undefined;
}

export const pitStateShape: Shape<PitState> = object<PitState>({
  channels: triple(pitChannelStateShape), controlB: integer(0, 15), interruptLevel: boolean, interruptAtTick: optional(count),
});

export function resetPitState(): PitState {
  return {
    channels: [resetPitChannelState(), resetPitChannelState(), { ...resetPitChannelState(), gate: false }],
    controlB: 0,
    interruptLevel: false,
    interruptAtTick: undefined,
  };
}

export class Pit implements ByteRegisters, Device<PitState> {
  readonly state: PitState;
  readonly #ports: PitPorts;
  readonly #channels: PitChannel[];
  #timer: Timer | undefined;

  constructor(ports: PitPorts, state: PitState = resetPitState()) {
    this.#ports = ports;
    this.state = state;
    this.#channels = state.channels.map((channel) => new PitChannel(channel));
    ports.interrupt.set(state.interruptLevel);
    this.#arm();
  }

  reset(): void {
    const fresh = resetPitState();
    for (const [index, channel] of this.state.channels.entries()) Object.assign(channel, fresh.channels[index]);
    this.state.controlB = 0;
    this.state.interruptAtTick = undefined;
    this.#setInterrupt(false);
    this.#arm();
  }

  /** Ports 0x40 to 0x43. */
  read(offset: number): number {
    return (offset & 3) === 3 ? 0xff : this.#channels[offset & 3].read(this.#tick());
  }

  write(offset: number, value: number): void {
    const tick = this.#tick();
    const index = offset & 3;
    if (index === 3) {
      this.#writeControl(tick, value);
      return;
    }
    this.#channels[index].writeCount(tick, value);
    if (index === 0) this.#channelZeroChanged(tick);
  }

  /** Port 0x61. */
  readControlB(): number {
    const tick = this.#tick();
    return (
      this.state.controlB |
      (Math.floor(tick / refreshTicks) % 2 === 1 ? ControlB.refreshMask : 0) |
      (this.#channels[speakerChannel].output(tick) ? ControlB.outputMask : 0)
    );
  }

  writeControlB(value: number): void {
    this.state.controlB = value & ControlB.writableMask;
    this.#channels[speakerChannel].setGate(this.#tick(), (value & ControlB.gateMask) !== 0);
  }

  #tick(): number {
    return ticksAt(this.#ports.clock.nowNs(), pitHertz);
  }

  #writeControl(tick: number, value: number): void {
    const select = value >> 6;
    const access = (value >> 4) & 3;
    if (select === 3) {
      for (const [index, channel] of this.#channels.entries()) {
        if (!(value & (2 << index))) continue;
        if (!(value & ReadBack.notCountMask)) channel.latchCount(tick);
        if (!(value & ReadBack.notStatusMask)) channel.latchStatus(tick);
      }
    } else if (access === 0) {
      this.#channels[select].latchCount(tick);
    } else {
      this.#channels[select].writeControl(access, (value >> 1) & 7, (value & 1) !== 0);
      if (select === 0) this.#channelZeroChanged(tick);
    }
  }

  #channelZeroChanged(tick: number): void {
    this.#setInterrupt(this.#channels[0].output(tick));
    this.state.interruptAtTick = this.#channels[0].nextRise(tick);
    this.#arm();
  }

  #setInterrupt(level: boolean): void {
    this.state.interruptLevel = level;
    this.#ports.interrupt.set(level);
  }

  #arm(): void {
    this.#timer?.cancel();
    this.#timer = undefined;
    const { interruptAtTick } = this.state;
    if (interruptAtTick === undefined) return;
    this.#timer = this.#ports.clock.at(nsOfTick(interruptAtTick, pitHertz), () => this.#interrupt());
  }

  /** However many periods a late host has missed, the guest sees one edge, as it would with interrupts off. */
  #interrupt(): void {
    const tick = this.#tick();
    this.#setInterrupt(false);
    this.#setInterrupt(true);
    this.state.interruptAtTick = this.#channels[0].nextRise(tick);
    this.#arm();
  }
}
