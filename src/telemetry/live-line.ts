// The line that shows the gateway at work, once a second on standard error. On a terminal it stays in place and log
// lines scroll above it. Used by the run command; main thread.
import type { Statistics } from "../pipeline/statistics.js";
import { bits, count } from "./units.js";

export interface Output {
  isTTY?: boolean;
  columns?: number;
  /** Bytes that wait for a reader. */
  writableLength?: number;
  write(text: string): unknown;
}

/** Bytes that may wait for who reads the log: a pager that was stopped, a pipe into nowhere. */
const waitingMax = 1024 * 1024;

export class LiveLine {
  private shown = false;
  private missed = 0;

  constructor(private readonly output: Output) {}

  show(text: string): void {
    if (this.output.isTTY !== true) {
      this.write(`${text}\n`);
      return;
    }
    this.output.write(`\r\x1b[K${text.slice(0, (this.output.columns ?? 80) - 1)}`);
    this.shown = true;
  }

  /** Log lines go through here, so that they don't run into the live line. */
  write(text: string): void {
    if (this.isFull()) {
      this.missed++;
      return;
    }
    this.output.write(this.shown ? `\r\x1b[K${text}` : text);
    this.shown = false;
  }

  /** Lines that were left out because nobody read those before them; told when there is room again, once. */
  takeMissed(): number {
    if (this.isFull()) return 0;
    const { missed } = this;
    this.missed = 0;
    return missed;
  }

  private isFull(): boolean {
    return (this.output.writableLength ?? 0) > waitingMax;
  }

  end(): void {
    if (this.shown) this.output.write("\n");
    this.shown = false;
  }
}

export function liveText(stats: Statistics, time: Date): string {
  const { rates, inside, outside } = stats;
  const dropped = [inside, outside].flatMap(({ dropped: reasons }) => Object.entries(reasons));
  const most = dropped.reduce((best, next) => (next[1] > best[1] ? next : best), ["", 0]);
  const total = dropped.reduce((sum, [, packets]) => sum + packets, 0);
  return [
    time.toISOString().slice(11, 19),
    `in ${count(rates.receivedPps)}pps ${bits(rates.receivedBps)}`,
    `out ${count(rates.forwardedPps)}pps ${bits(rates.forwardedBps)}`,
    `drop ${count(rates.droppedPps)}pps`,
    `| total in ${count(inside.received).trim()}  out ${count(inside.forwarded).trim()}`,
    `drop ${count(total).trim()}${most[1] > 0 ? ` (most: ${most[0]})` : ""}`,
    `pending ${inside.pending + outside.pending}`,
  ].join("  ");
}
