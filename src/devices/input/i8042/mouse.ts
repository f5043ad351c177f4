/** PS/2 mouse with the IntelliMouse wheel (IBM PS/2 Hardware Interface Technical Reference, "Auxiliary Device"). */
import { boolean, finite, integer, list, object, oneOf, optional, type Shape, uint8 } from "../../../base/shape.ts";

const Response = { acknowledge: 0xfa, resend: 0xfe, selfTestPassed: 0xaa } as const;

const Command = {
  setScalingOne: 0xe6,
  setScalingTwo: 0xe7,
  setResolution: 0xe8,
  status: 0xe9,
  setStream: 0xea,
  readData: 0xeb,
  resetWrap: 0xec,
  setWrap: 0xee,
  setRemote: 0xf0,
  identify: 0xf2,
  setSampleRate: 0xf3,
  enable: 0xf4,
  disable: 0xf5,
  setDefaults: 0xf6,
  resend: 0xfe,
  reset: 0xff,
} as const;

/** Setting these sample rates in a row turns the wheel on. */
const wheelKnock = [200, 100, 80];
const wheelDeviceId = 3;
/** Movements wait here, merged, while the guest has not fetched a packet of this many bytes. */
const packetCapacity = 16;
const largestStep = 255;

export interface MouseMovement {
  /** Counts to the right and upwards. */
  readonly deltaX: number;
  readonly deltaY: number;
  /** Left, right and middle button in bits 0 to 2. */
  readonly buttons: number;
  /** Wheel steps towards the user. */
  readonly deltaWheel?: number;
}

export interface MouseState {
  isReporting: boolean;
  isRemote: boolean;
  isWrapping: boolean;
  scaling: number;
  resolution: number;
  sampleRate: number;
  recentRates: number[];
  deviceId: number;
  command: number | undefined;
  lastSent: number;
  deltaX: number;
  deltaY: number;
  deltaWheel: number;
  buttons: number;
  replies: number[];
  packets: number[];
}

export const mouseStateShape: Shape<MouseState> = object({
  isReporting: boolean, isRemote: boolean, isWrapping: boolean, scaling: integer(1, 2), resolution: integer(0, 3),
  sampleRate: uint8, recentRates: list(uint8, { maximum: wheelKnock.length }), deviceId: oneOf(0, wheelDeviceId),
  command: optional(uint8), lastSent: uint8, deltaX: finite, deltaY: finite, deltaWheel: finite, buttons: integer(0, 7),
  replies: list(uint8, { maximum: 8 }), packets: list(uint8, { maximum: packetCapacity + 4 }),
});

export function resetMouseState(): MouseState {
  return {
    isReporting: false,
    isRemote: false,
    isWrapping: false,
    scaling: 1,
    resolution: 2,
    sampleRate: 100,
    recentRates: [],
    deviceId: 0,
    command: undefined,
    lastSent: 0,
    deltaX: 0,
    deltaY: 0,
    deltaWheel: 0,
    buttons: 0,
    replies: [],
    packets: [],
  };
}

export class Mouse {
  readonly state: MouseState;

  constructor(state: MouseState) {
    this.state = state;
  }

  move(movement: MouseMovement): void {
    const { state } = this;
    const hasButtonsChanged = movement.buttons !== state.buttons;
    state.deltaX += movement.deltaX;
    state.deltaY += movement.deltaY;
    state.deltaWheel += movement.deltaWheel ?? 0;
    state.buttons = movement.buttons & 7;
    if (!state.isReporting || state.isRemote || state.packets.length >= packetCapacity) return;
    if (hasButtonsChanged || state.deltaX !== 0 || state.deltaY !== 0 || state.deltaWheel !== 0) state.packets.push(...this.#packet());
  }

  hasData(): boolean {
    return this.state.replies.length > 0 || this.state.packets.length > 0;
  }

  take(): number {
    const { state } = this;
    state.lastSent = state.replies.shift() ?? state.packets.shift() ?? 0;
    return state.lastSent;
  }

  /** A byte from the host, by way of the controller. */
  receive(byte: number): void {
    const { state } = this;
    if (state.isWrapping && byte !== Command.reset && byte !== Command.resetWrap) {
      this.#reply(byte);
      return;
    }
    const { command } = state;
    state.command = undefined;
    if (command === Command.setSampleRate) {
      state.sampleRate = byte;
      state.recentRates = [...state.recentRates, byte].slice(-wheelKnock.length);
      if (wheelKnock.every((rate, index) => state.recentRates[index] === rate)) state.deviceId = wheelDeviceId;
      this.#reply(Response.acknowledge);
    } else if (command === Command.setResolution) {
      state.resolution = byte & 3;
      this.#reply(Response.acknowledge);
    } else {
      this.#receiveCommand(byte);
    }
  }

  #receiveCommand(byte: number): void {
    const { state } = this;
    switch (byte) {
      case Command.setScalingOne:
      case Command.setScalingTwo:
        state.scaling = byte === Command.setScalingTwo ? 2 : 1;
        break;
      case Command.setResolution:
      case Command.setSampleRate:
        state.command = byte;
        break;
      case Command.status:
        this.#reply(Response.acknowledge, this.#statusByte(), state.resolution, state.sampleRate);
        return;
      case Command.setStream:
      case Command.setRemote:
        state.isRemote = byte === Command.setRemote;
        break;
      case Command.readData:
        this.#reply(Response.acknowledge, ...this.#packet());
        return;
      case Command.setWrap:
      case Command.resetWrap:
        state.isWrapping = byte === Command.setWrap;
        break;
      case Command.identify:
        this.#reply(Response.acknowledge, state.deviceId);
        return;
      case Command.enable:
      case Command.disable:
        state.isReporting = byte === Command.enable;
        state.packets.length = 0;
        break;
      case Command.setDefaults:
        Object.assign(state, resetMouseState(), { deviceId: state.deviceId, buttons: state.buttons });
        break;
      case Command.resend:
        this.#reply(state.lastSent);
        return;
      case Command.reset:
        Object.assign(state, resetMouseState(), { buttons: state.buttons });
        this.#reply(Response.acknowledge, Response.selfTestPassed, 0);
        return;
      default:
        this.#reply(Response.resend);
        return;
    }
    this.#reply(Response.acknowledge);
  }

  #statusByte(): number {
    const { state } = this;
    return (
      (state.isRemote ? 0x40 : 0) |
      (state.isReporting ? 0x20 : 0) |
      (state.scaling === 2 ? 0x10 : 0) |
      ((state.buttons & 1) << 2) |
      ((state.buttons & 4) >> 1) |
      ((state.buttons & 2) >> 1)
    );
  }

  /** A report of what has moved since the last; what does not fit stays for the next. */
  #packet(): number[] {
    const { state } = this;
    const stepX = Math.max(-largestStep, Math.min(largestStep, state.deltaX));
    const stepY = Math.max(-largestStep, Math.min(largestStep, state.deltaY));
    state.deltaX -= stepX;
    state.deltaY -= stepY;
    const flags = 0x08 | state.buttons | (stepX < 0 ? 0x10 : 0) | (stepY < 0 ? 0x20 : 0);
    const packet = [flags, stepX & 0xff, stepY & 0xff];
    const stepWheel = Math.max(-8, Math.min(7, state.deltaWheel));
    state.deltaWheel = state.deviceId === wheelDeviceId ? state.deltaWheel - stepWheel : 0;
    if (state.deviceId === wheelDeviceId) packet.push(stepWheel & 0xff);
    return packet;
  }

  #reply(...bytes: number[]): void {
    this.state.replies = bytes;
  }
}
