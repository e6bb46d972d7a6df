// An event, or a dropped packet, as a line of `vxpipe monitor`. Pure.
import { printable } from "../pipeline/errors.js";
import type { Event } from "../pipeline/events.js";

export function eventLine({ time, level, event, detail, reason }: Event): string {
  const drop = typeof reason === "string";
  const kind = drop ? "drop" : level;
  return `${clockText(time)}  ${kind.padEnd(5)}  ${(drop ? reason : event).padEnd(16)}  ${printable(detail)}`;
}

/** Of the reader's time zone, with the fraction as it came. */
function clockText(time: string): string {
  const at = new Date(time);
  const clock = [at.getHours(), at.getMinutes(), at.getSeconds()].map((part) => String(part).padStart(2, "0"));
  return `${clock.join(":")}${/\.(\d+)/.exec(time)?.[0].padEnd(7, "0") ?? ""}`;
}
