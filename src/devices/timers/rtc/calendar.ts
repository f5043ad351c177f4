/** The RTC's encodings of time: BCD or binary, 12 or 24 hours, and the alarm's wildcards (MC146818 data sheet). */

export interface Encoding {
  readonly isBinary: boolean;
  readonly is24Hour: boolean;
}

const pmMask = 0x80;
const secondsPerDay = 86_400;

export function encodeNumber(value: number, encoding: Encoding): number {
  return encoding.isBinary ? value & 0xff : (Math.floor(value / 10) << 4) | (value % 10);
}

export function decodeNumber(value: number, encoding: Encoding): number {
  return encoding.isBinary ? value : (value >> 4) * 10 + (value & 0x0f);
}

export function encodeHour(hour: number, encoding: Encoding): number {
  if (encoding.is24Hour) return encodeNumber(hour, encoding);
  return encodeNumber(hour % 12 === 0 ? 12 : hour % 12, encoding) | (hour >= 12 ? pmMask : 0);
}

export function decodeHour(value: number, encoding: Encoding): number {
  if (encoding.is24Hour) return decodeNumber(value, encoding);
  const hour = decodeNumber(value & ~pmMask, encoding);
  return (hour % 12) + (value & pmMask ? 12 : 0) + (hour > 12 ? 24 : 0);
}

export interface CalendarTime {
  year: number;
  /** 1 to 12. */
  month: number;
  day: number;
  hour: number;
  minute: number;
  second: number;
}

/** Seconds since 1970; fields beyond their range carry over. */
export function toSeconds(time: CalendarTime): number {
  const date = new Date(0);
  // Not Date.UTC, which reads the years 0 to 99 as 1900 to 1999.
  date.setUTCFullYear(time.year, time.month - 1, time.day);
  date.setUTCHours(time.hour, time.minute, time.second);
  return date.getTime() / 1000;
}

export function fromSeconds(seconds: number): CalendarTime {
  const date = new Date(seconds * 1000);
  return {
    year: date.getUTCFullYear(),
    month: date.getUTCMonth() + 1,
    day: date.getUTCDate(),
    hour: date.getUTCHours(),
    minute: date.getUTCMinutes(),
    second: date.getUTCSeconds(),
  };
}

/** 0 is Sunday. */
export function weekday(seconds: number): number {
  return (((Math.floor(seconds / secondsPerDay) + 4) % 7) + 7) % 7;
}

/** Undefined fields match always. */
export interface Alarm {
  readonly hour: number | undefined;
  readonly minute: number | undefined;
  readonly second: number | undefined;
}

/** The first second after `seconds` at which the alarm goes off; undefined if it never does. */
export function nextAlarm(seconds: number, alarm: Alarm): number | undefined {
  if ((alarm.hour ?? 0) > 23 || (alarm.minute ?? 0) > 59 || (alarm.second ?? 0) > 59) return undefined;
  let candidate = seconds + 1;
  for (;;) {
    const { hour, minute, second } = fromSeconds(candidate);
    if (alarm.hour !== undefined && alarm.hour !== hour) candidate += 3600 - minute * 60 - second;
    else if (alarm.minute !== undefined && alarm.minute !== minute) candidate += 60 - second;
    else if (alarm.second !== undefined && alarm.second !== second) candidate += 1;
    else return candidate;
  }
}
