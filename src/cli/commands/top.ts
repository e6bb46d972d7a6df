// `vxpipe top`: the running daemon's rates, once a second until Ctrl-C. Drawn in place on a terminal, a line a second
// elsewhere, an object a second as JSON. Main thread.
import { setTimeout } from "node:timers/promises";
import { exit, VxpipeError } from "../../pipeline/errors.js";
import type { Statistics } from "../../pipeline/statistics.js";
import type { Output } from "../../telemetry/live-line.js";
import { liveOf, liveRow, liveScreen, type Answer, type Live } from "../../telemetry/live-table.js";
import { ask } from "../client.js";
import type { Format } from "../output.js";

const everyMs = 1000;

export interface TopOptions {
  /** How many times; null: until stopped. */
  iterations: number | null;
}

export async function top(socket: string, format: Format, { iterations }: TopOptions): Promise<number> {
  const stop = new Stop();
  const draw = drawer(process.stdout, format);
  let before: Answer | null = await stop.unless(answer(socket));
  let next = performance.now() + everyMs;
  for (let done = 0; done !== iterations;) {
    if (before === null || !(await stop.sleepUntil(next))) break;
    next = Math.max(next + everyMs, performance.now());
    const now: Answer | null = await stop.unless(answer(socket).catch(leave(socket)));
    if (now === null) break;
    const live = liveOf(before, now);
    before = now;
    // Null: another daemon has taken the first one's place; its second is not over yet.
    if (live === null) continue;
    draw(live, new Date());
    done++;
  }
  return exit.ok;
}

export function iterationsOf(text: string): number {
  if (/^[1-9]\d{0,8}$/.test(text)) return Number(text);
  throw new VxpipeError("USAGE", `-n takes how many times, a whole number from 1 on, not "${text}"`);
}

async function answer(socket: string): Promise<Answer> {
  const stats = await ask<Statistics>(socket, "/api/v1/stats");
  return { stats, time: performance.now() };
}

/** Whoever has seen the daemon at work wants to hear that it went, not that it never was. */
function leave(socket: string): (error: unknown) => never {
  return (error) => {
    if (!(error instanceof VxpipeError) || error.code !== "DAEMON_UNREACHABLE") throw error;
    throw new VxpipeError("DAEMON_UNREACHABLE", `the daemon on ${socket} went away: ${error.message}`, {
      cause: error,
    });
  };
}

/** How each second is shown. */
export function drawer(output: Output & { rows?: number }, { json }: Format): (live: Live, time: Date) => void {
  if (json) return (live, time) => void output.write(`${JSON.stringify({ time: time.toISOString(), ...live })}\n`);
  if (output.isTTY !== true) return (live, time) => void output.write(`${liveRow(live, time)}\n`);
  let drawn = false;
  return (live, time) => {
    // A terminal that does not know its size says 0.
    const [rows, columns] = [output.rows || 24, output.columns || 80];
    const lines = liveScreen(live, time, rows - 1).slice(0, rows - 1);
    const text = lines.map((line) => `${line.slice(0, columns - 1)}\x1b[K\n`).join("");
    // Home and over the old lines, so that nothing flickers; what is left below them goes.
    output.write(`${drawn ? "" : "\x1b[2J"}\x1b[H${text}\x1b[J`);
    drawn = true;
  };
}

/** Ctrl-C, SIGTERM, or nobody reads any more: then both give null at once, whatever they were waiting for. */
class Stop {
  private readonly abort = new AbortController();
  private readonly stopped: Promise<null>;

  constructor() {
    this.stopped = new Promise((resolve) => this.abort.signal.addEventListener("abort", () => resolve(null)));
    const stop = (): void => this.abort.abort();
    for (const signal of ["SIGINT", "SIGTERM"] as const) process.once(signal, stop);
    process.stdout.on("error", stop);
  }

  unless<Result>(work: Promise<Result>): Promise<Result | null> {
    return Promise.race([this.stopped, work]);
  }

  sleepUntil(time: number): Promise<true | null> {
    const slept = setTimeout(Math.max(time - performance.now(), 0), true as const, { signal: this.abort.signal });
    return slept.catch(() => null);
  }
}
