import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { VirtualClock } from "./clock.ts";
import { nsOfTick, ticksAt } from "./ticks.ts";

describe("VirtualClock", () => {
  test("runs due timers in deadline order, ties in arming order", () => {
    fc.assert(
      fc.property(fc.array(fc.nat(50)), fc.nat(60), (deadlines, target) => {
        const clock = new VirtualClock();
        const ran: [number, number][] = [];
        deadlines.forEach((deadline, index) => clock.at(deadline, () => ran.push([deadline, index])));
        clock.advanceTo(target);
        const expected = deadlines
          .map((deadline, index): [number, number] => [deadline, index])
          .filter(([deadline]) => deadline <= target)
          .sort((left, right) => left[0] - right[0] || left[1] - right[1]);
        expect(ran).toEqual(expected);
        const later = deadlines.filter((deadline) => deadline > target);
        expect(clock.nextDeadlineNs()).toBe(later.length === 0 ? undefined : Math.min(...later));
      }),
    );
  });

  test("cancelled timers neither run nor accumulate", () => {
    const clock = new VirtualClock();
    for (let index = 0; index < 10_000; index++) clock.at(5, () => expect.unreachable()).cancel();
    expect(clock.nextDeadlineNs()).toBeUndefined();
    clock.advanceTo(10);
    expect(clock.nowNs()).toBe(10);
  });

  test("a timer armed in the past by an action waits for the next advance", () => {
    const clock = new VirtualClock();
    let runs = 0;
    const rearm = (): void => {
      runs++;
      clock.at(0, rearm);
    };
    clock.at(0, rearm);
    clock.advanceTo(1);
    expect(runs).toBe(1);
    expect(clock.nextDeadlineNs()).toBe(0);
    clock.advanceTo(1);
    expect(runs).toBe(2);
  });

  test("an action may cancel another due timer", () => {
    const clock = new VirtualClock();
    clock.at(1, () => second.cancel());
    const second = clock.at(2, () => expect.unreachable());
    clock.advanceTo(3);
  });

  test("time follows its source and never runs backwards", () => {
    let hostNs = 5;
    const clock = new VirtualClock({ source: () => hostNs });
    expect(clock.nowNs()).toBe(5);
    hostNs = 3;
    expect(clock.nowNs()).toBe(5);
    clock.advanceTo(4);
    expect(clock.nowNs()).toBe(5);
  });
});

test("ticks and nanoseconds convert exactly", () => {
  fc.assert(
    fc.property(fc.nat({ max: 2 ** 50 }), fc.constantFrom(32_768, 1_193_182, 3_579_545), (ticks, hertz) => {
      const bounded = ticks % (hertz * 1e6);
      const ns = nsOfTick(bounded, hertz);
      expect(ticksAt(ns, hertz)).toBe(bounded);
      if (ns > 0) expect(ticksAt(ns - 1, hertz)).toBe(bounded - 1);
    }),
  );
});
