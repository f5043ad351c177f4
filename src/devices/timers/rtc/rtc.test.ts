import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { byteRegisterBlock } from "../../byte-registers.ts";
import { VirtualClock } from "../../clock.ts";
import { hammer, recordingLine, runUntil } from "../../testing/wires.ts";
import { decodeHour, encodeHour, fromSeconds, nextAlarm, toSeconds, weekday } from "./calendar.ts";
import { powerOnRtcState, Rtc, type RtcState } from "./rtc.ts";

const second = 1e9;

function build(options: { startEpochMs?: number; state?: RtcState; startNs?: number } = {}) {
  const clock = new VirtualClock({ startNs: options.startNs ?? 0 });
  const line = recordingLine();
  const startEpochMs = options.startEpochMs ?? Date.UTC(2024, 1, 28, 23, 59, 58);
  const rtc = new Rtc({ clock, interrupt: line }, options.state ?? powerOnRtcState({ startEpochMs, contents: { 0x34: 0x12 } }, 0));
  const read = (index: number): number => {
    rtc.write(0, index);
    return rtc.read(1);
  };
  const write = (index: number, value: number): void => {
    rtc.write(0, index);
    rtc.write(1, value);
  };
  const time = (): string => [0x32, 9, 8, 7, 4, 2, 0].map((index) => read(index).toString(16).padStart(2, "0")).join(" ");
  return { clock, line, rtc, read, write, time };
}

describe("Rtc time", () => {
  test("runs with the virtual clock, over a leap day", () => {
    const { time, clock, read } = build();
    expect(time()).toBe("20 24 02 28 23 59 58");
    expect(read(6)).toBe(4);
    clock.advanceTo(2 * second);
    expect(time()).toBe("20 24 02 29 00 00 00");
    clock.advanceTo(86_402 * second);
    expect(time()).toBe("20 24 03 01 00 00 00");
  });

  test("binary and twelve-hour encodings", () => {
    const { read, write } = build();
    write(0x0b, 0x06);
    expect([read(4), read(2), read(9)]).toEqual([23, 59, 24]);
    write(0x0b, 0x00);
    expect(read(4)).toBe(0x91);
    write(4, 0x12);
    write(0x0b, 0x02);
    expect(read(4)).toBe(0x00);
  });

  test("setting under SET and divider reset, as Linux does", () => {
    const { time, write, read, clock } = build();
    clock.advanceTo(0.25 * second);
    write(0x0b, 0x82);
    write(0x0a, 0x76);
    for (const [index, value] of [
      [0x32, 0x19],
      [9, 0x99],
      [8, 0x12],
      [7, 0x31],
      [4, 0x23],
      [2, 0x59],
      [0, 0x59],
    ]) {
      write(index, value);
    }
    clock.advanceTo(10 * second);
    expect(time()).toBe("19 99 12 31 23 59 59");
    write(0x0b, 0x02);
    write(0x0a, 0x26);
    clock.advanceTo(10.49 * second);
    expect(time()).toBe("19 99 12 31 23 59 59");
    clock.advanceTo(10.5 * second);
    expect(time()).toBe("20 00 01 01 00 00 00");
    expect(read(0x0d)).toBe(0x80);
  });

  test("writing a running field keeps the others and the phase", () => {
    const { time, write, clock, read } = build();
    clock.advanceTo(0.7 * second);
    write(7, 0x15);
    write(6, 0x01);
    expect(time()).toBe("20 24 02 15 23 59 58");
    clock.advanceTo(1 * second);
    expect(time()).toBe("20 24 02 15 23 59 59");
    expect(read(6)).toBe(1);
  });

  test("update in progress for the last 244 microseconds of a second", () => {
    const { read, clock } = build({ startEpochMs: 1500 });
    expect(read(0x0a)).toBe(0x26);
    clock.advanceTo(0.5 * second - 200_000);
    expect(read(0x0a)).toBe(0xa6);
    clock.advanceTo(0.5 * second);
    expect(read(0x0a)).toBe(0x26);
  });

  test("memory survives a reset, in both banks", () => {
    const { rtc, read, write } = build();
    write(0x7f, 0x55);
    rtc.write(2, 0x10);
    rtc.write(3, 0xaa);
    rtc.reset();
    expect([read(0x7f), read(0x34)]).toEqual([0x55, 0x12]);
    rtc.write(2, 0x10);
    expect(rtc.read(3)).toBe(0xaa);
  });
});

describe("Rtc interrupts", () => {
  test("periodic at the chosen rate, one at a time until acknowledged", () => {
    const { line, write, read, clock } = build();
    expect(clock.nextDeadlineNs()).toBeUndefined();
    write(0x0b, 0x42);
    runUntil(clock, second);
    expect(line.risingEdges).toBe(1);
    expect(clock.nextDeadlineNs()).toBeUndefined();
    for (let edge = 0; edge < 1024; edge++) {
      expect(read(0x0c) & 0xc0).toBe(0xc0);
      runUntil(clock, clock.nextDeadlineNs() ?? 0);
    }
    expect(clock.nowNs()).toBe(2 * second);
  });

  test("update-ended every second", () => {
    const { line, write, read, clock } = build({ startEpochMs: 250 });
    write(0x0b, 0x12);
    runUntil(clock, 0.75 * second - 1);
    expect(line.level).toBe(false);
    runUntil(clock, 0.75 * second);
    expect(line.level).toBe(true);
    expect(read(0x0c) & 0x90).toBe(0x90);
    expect(line.level).toBe(false);
    expect(clock.nextDeadlineNs()).toBe(1.75 * second);
  });

  test("alarm, exact and with wildcards", () => {
    const { line, write, read, clock } = build();
    write(1, 0x05);
    write(3, 0x00);
    write(5, 0xff);
    write(0x0b, 0x22);
    expect(clock.nextDeadlineNs()).toBe(7 * second);
    runUntil(clock, 7 * second);
    expect(line.level).toBe(true);
    expect(read(0x0c)).toBe(0xf0);
    expect(clock.nextDeadlineNs()).toBe(3607 * second);
  });

  test("flags are raised without enables", () => {
    const { read, clock, line } = build();
    clock.advanceTo(5 * second);
    expect(read(0x0c)).toBe(0x70);
    expect(read(0x0c)).toBe(0x00);
    expect(line.risingEdges).toBe(0);
  });

  test("a restored clock interrupts at the same time", () => {
    const before = build();
    before.write(0x0b, 0x12);
    before.clock.advanceTo(123_456_789);
    const after = build({ state: JSON.parse(JSON.stringify(before.rtc.state)), startNs: 123_456_789 });
    expect(after.clock.nextDeadlineNs()).toBe(before.clock.nextDeadlineNs());
    expect(after.time()).toBe(before.time());
  });
});

describe("calendar", () => {
  const seconds = fc.integer({ min: 0, max: 4e9 });
  test("seconds and fields convert both ways", () => {
    fc.assert(
      fc.property(seconds, (at) => {
        expect(toSeconds(fromSeconds(at))).toBe(at);
        expect(weekday(at)).toBe(new Date(at * 1000).getUTCDay());
      }),
    );
  });

  test("hours convert both ways in every encoding", () => {
    for (const isBinary of [true, false]) {
      for (const is24Hour of [true, false]) {
        for (let hour = 0; hour < 24; hour++) {
          expect(decodeHour(encodeHour(hour, { isBinary, is24Hour }), { isBinary, is24Hour })).toBe(hour);
        }
      }
    }
  });

  test("the next alarm is the first match", () => {
    const field = (max: number) => fc.option(fc.nat(max), { nil: undefined });
    fc.assert(
      fc.property(fc.nat(200_000), field(25), field(61), field(61), (start, hour, minute, second_) => {
        const found = nextAlarm(start, { hour, minute, second: second_ });
        const matches = (at: number): boolean => {
          const time = fromSeconds(at);
          return (hour ?? time.hour) === time.hour && (minute ?? time.minute) === time.minute && (second_ ?? time.second) === time.second;
        };
        if (found === undefined) {
          expect((hour ?? 0) > 23 || (minute ?? 0) > 59 || (second_ ?? 0) > 59).toBe(true);
          return;
        }
        expect(found).toBeGreaterThan(start);
        expect(matches(found)).toBe(true);
        for (let at = Math.max(start + 1, found - 200); at < found; at++) expect(matches(at)).toBe(false);
      }),
    );
  });
});

test("random accesses", () => {
  hammer(() => {
    const { rtc, clock } = build();
    return { registers: byteRegisterBlock(rtc), clock, sizeBytes: 4 };
  });
});

test("any byte in any register", () => {
  fc.assert(
    fc.property(fc.array(fc.tuple(fc.nat(0x33), fc.nat(255), fc.nat(2e9))), (writes) => {
      const { rtc, read, write, clock } = build();
      for (const [index, value, passed] of writes) {
        write(index, value);
        clock.advanceTo(clock.nowNs() + passed);
        for (const at of [0, 4, 9, 0x0a, 0x0c, 0x32]) expect(read(at)).toBeLessThan(256);
      }
      expect(Number.isFinite(rtc.state.baseSeconds)).toBe(true);
    }),
  );
});
