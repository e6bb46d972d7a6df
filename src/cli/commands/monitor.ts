// `vxpipe monitor`: events and samples of dropped packets as they happen, a line each, until Ctrl-C; on request the packets
// as a capture too. Main thread.
import { closeSync, openSync, writeSync } from "node:fs";
import { drops } from "../../pipeline/abi.gen.js";
import { exit, systemReason, VxpipeError } from "../../pipeline/errors.js";
import type { Event } from "../../pipeline/events.js";
import { wantedOf } from "../../pipeline/wanted.js";
import { eventLine } from "../../telemetry/event-line.js";
import { captureForms, captureHead, capturePacket } from "../../telemetry/pcapng.js";
import { whole } from "../../telemetry/units.js";
import { follow } from "../client.js";
import { note, type Format } from "../output.js";

export interface MonitorOptions {
  events: boolean;
  drops: boolean;
  reason?: string[];
  rate?: string;
  count?: string;
  write?: string;
}

export async function monitor(socket: string, format: Format, options: MonitorOptions): Promise<number> {
  const query = queryOf(options);
  const most = options.count === undefined ? Infinity : countOf(options.count);
  const stop = stopSignal();
  const tally = { shown: 0, suppressed: 0, missed: 0 };
  let capture: Capture | null = null;
  const opened = (): void => {
    if (options.write !== undefined) capture = new Capture(options.write);
    note(format, "watching; Ctrl-C ends");
  };
  try {
    for await (const line of follow(socket, `/api/v1/events?${query}`, stop.signal, opened)) {
      const event = JSON.parse(line) as Event;
      (capture as Capture | null)?.add(event);
      if (options.write !== "-") process.stdout.write(`${format.json ? line : eventLine(event)}\n`);
      if (tallied(tally, event) === most) break;
    }
  } finally {
    stop.abort();
    (capture as Capture | null)?.close();
  }
  note(format, tallyText(tally));
  return exit.ok;
}

function queryOf({ events, drops: dropsAsked, reason = [], rate }: MonitorOptions): string {
  // Said here already: wrong usage needs no daemon to be found out.
  wantedOf({ events, drops: dropsAsked, reasons: reason, rate });
  const query = new URLSearchParams({ follow: "true", events: String(events), drops: String(dropsAsked) });
  for (const one of reason) query.append("reason", one);
  if (rate !== undefined) query.set("rate", rate);
  return query.toString();
}

function countOf(text: string): number {
  if (/^[1-9]\d{0,8}$/.test(text)) return Number(text);
  throw new VxpipeError("USAGE", `--count takes how many lines, a whole number from 1 on, not "${text}"`);
}

/** Ctrl-C, SIGTERM, or nobody reads any more. */
function stopSignal(): AbortController {
  const controller = new AbortController();
  for (const signal of ["SIGINT", "SIGTERM"] as const) process.once(signal, () => controller.abort());
  process.stdout.on("error", () => controller.abort());
  return controller;
}

interface Tally {
  shown: number;
  /** Dropped packets that were not shown. */
  suppressed: number;
  /** Lines this reader was too slow for. */
  missed: number;
}

/** How many lines were shown: what only says how many were not is none of them. */
function tallied(tally: Tally, { event, suppressed, missed }: Event): number {
  if (event === "drops_suppressed") tally.suppressed += Number(suppressed);
  else if (event === "lines_missed") tally.missed += Number(missed);
  else tally.shown++;
  return tally.shown;
}

function tallyText({ shown, suppressed, missed }: Tally): string {
  const more = suppressed === 0 ? "" : `; ${whole(suppressed)} more packets were dropped and not shown`;
  const slow = missed === 0 ? "" : `; ${whole(missed)} lines were left out, for this reader was too slow`;
  return `${whole(shown)} shown${more}${slow}`;
}

/** The file of --write; complete after every packet, and its maker's alone: it has what others sent. */
class Capture {
  /** null: standard output, which says itself when nobody reads any more. */
  private readonly file: number | null;

  constructor(private readonly path: string) {
    this.file = path === "-" ? null : this.trying(() => openSync(path, "w", 0o600));
    this.put(captureHead());
  }

  add(event: Event): void {
    if (event.event !== "drop_sample") return;
    const form = captureForms.find((name) => name === event["form"]) ?? "received";
    const help = drops.find(({ name }) => name === event["reason"])?.help ?? "";
    const packet = capturePacket({
      form,
      micros: microsOf(event.time),
      length: Number(event["length"]),
      bytes: Buffer.from(String(event["bytes"]), "hex"),
      comment: `${String(event["reason"])}: ${help}`,
    });
    this.put(packet);
  }

  close(): void {
    const { file } = this;
    if (file !== null) this.trying(() => closeSync(file));
  }

  private put(bytes: Buffer): void {
    const { file } = this;
    if (file === null) process.stdout.write(bytes);
    else this.trying(() => writeSync(file, bytes));
  }

  private trying<Result>(work: () => Result): Result {
    try {
      return work();
    } catch (error) {
      throw new VxpipeError("OUTPUT_UNWRITABLE", `${this.path}: ${systemReason(error)}`, { cause: error });
    }
  }
}

/** Of a time with six decimals. */
function microsOf(time: string): bigint {
  const fraction = /\.(\d{1,6})/.exec(time)?.[1] ?? "";
  return BigInt(Math.floor(Date.parse(time) / 1000)) * 1_000_000n + BigInt(fraction.padEnd(6, "0"));
}
