// Those who watch: streams of /api/v1/events and, at log.level debug, the log. As long as there is one who wants drops,
// the datapath samples them in rounds of a tenth of a second (bpf/leave.h); with the last one it stops. Made by
// runtime.ts; main thread.
//
// Each sees so many drops of a reason in a second, and is told how many more there were: by the counters, so that drops
// nobody could sample (what a driver refused, for one) are among them.
import { drops, vxConstant, vxSample, vxSampleForm, type DropReason } from "./abi.gen.js";
import { decodedText, decodeFrame } from "./decode.js";
import { VxpipeError } from "./errors.js";
import { makeEvent, type Event, type EventLog } from "./events.js";
import { directions, type Direction } from "./observe.js";
import type { Wanted } from "./wanted.js";

/** The gateway, as far as it is watched. */
export interface Watched {
  running(): boolean;
  /** UDP port of tunnels; null: plain Ethernet. */
  vxlanPort(): number | null;
  drainEvents(): void;
  drainSamples(most: number): Uint8Array;
  dropped(): Counts;
}

export type Counts = Record<Direction, Record<DropReason, number>>;

export type Write = (event: Event) => void;

const roundMs = 100;
const secondMs = 1000;
/** Of a reason, on a CPU, in a round: more than this no reader keeps up with. */
const samplesMax = 64;
const watchersMax = 16;
const logWanted: Wanted = { events: false, drops: true, reasons: null, rate: 1 };

interface Watcher {
  wanted: Wanted;
  write: Write;
  /** Dropped when it came, and told of since, each shown or as a number. */
  accounted: Counts;
  /** Shown in the current second. */
  shown: Map<string, number>;
}

export class Watchers {
  private readonly streams = new Set<Watcher>();
  private log: Watcher | null = null;
  private timer: NodeJS.Timeout | null = null;
  private second = 0;
  /** Once a second, until the next round. */
  private counted: Counts | null = null;

  constructor(
    private readonly gateway: Watched,
    private readonly events: EventLog,
    private readonly now: () => number = () => performance.now(),
  ) {}

  /** How many streams there are. */
  get size(): number {
    return this.streams.size;
  }

  /** Until the function returned is called. */
  add(wanted: Wanted, write: Write): () => void {
    if (this.streams.size === watchersMax) {
      throw new VxpipeError("TOO_MANY_WATCHERS", `${watchersMax} watch already, and no more are served`);
    }
    const watcher = this.newWatcher(wanted, write);
    this.streams.add(watcher);
    const leave = wanted.events ? this.events.follow(write) : () => false;
    this.schedule();
    return () => {
      leave();
      this.streams.delete(watcher);
      this.schedule();
    };
  }

  /** At debug and below the log has drops, one a second of each reason. */
  setLogLevel(level: string): void {
    const wanted = level === "debug" || level === "trace";
    if (wanted === (this.log !== null)) return;
    this.log = wanted ? this.newWatcher(logWanted, (event) => this.events.writeLog(event)) : null;
    this.schedule();
  }

  /** Every tenth of a second while somebody watches. */
  poll(): void {
    if (!this.gateway.running()) return;
    if ([...this.streams].some(({ wanted }) => wanted.events)) this.gateway.drainEvents();
    const watchers = this.ofDrops();
    if (watchers.length === 0) return;
    this.takeSamples(watchers);
    // A drop is counted before its sample is there: the numbers told are those of a round ago.
    if (this.counted !== null) {
      for (const watcher of watchers) tellRest(watcher, this.counted);
      this.counted = null;
    }
    if (this.now() - this.second < secondMs) return;
    this.second = this.now();
    this.counted = this.gateway.dropped();
  }

  private newWatcher(wanted: Wanted, write: Write): Watcher {
    // The counters first: what is dropped from here on is shown to it, or told as a number. What was sampled before is
    // the others'. The round that this starts is the first with room for it.
    const accounted = this.gateway.dropped();
    if (wanted.drops && this.gateway.running()) this.takeSamples(this.ofDrops(), wanted.rate);
    return { wanted, write, accounted, shown: new Map() };
  }

  private ofDrops(): Watcher[] {
    const all = this.log === null ? [...this.streams] : [...this.streams, this.log];
    return all.filter(({ wanted }) => wanted.drops);
  }

  private schedule(): void {
    if (this.streams.size > 0 || this.log !== null) {
      this.timer ??= setInterval(() => this.poll(), roundMs).unref();
    } else if (this.timer !== null) {
      clearInterval(this.timer);
      this.timer = null;
    }
    if (this.ofDrops().length === 0 && this.gateway.running()) this.gateway.drainSamples(0);
  }

  private takeSamples(watchers: readonly Watcher[], atLeast = 0): void {
    const rate = Math.max(atLeast, ...watchers.map(({ wanted }) => wanted.rate));
    const records = this.gateway.drainSamples(Math.min(rate, samplesMax));
    const toWallNs = BigInt(Date.now()) * 1_000_000n - process.hrtime.bigint();
    for (let at = 0; at + vxSample.bytes <= records.byteLength; at += vxSample.bytes) {
      this.show(records.subarray(at, at + vxSample.bytes), toWallNs, watchers);
    }
  }

  private show(record: Uint8Array, toWallNs: bigint, watchers: readonly Watcher[]): void {
    const direction = directions[record[vxSample.offset.direction] ?? 0] ?? "inside";
    const reason = drops[record[vxSample.offset.drop] ?? 0]?.name ?? "crash_lost";
    let event: Event | null = null;
    for (const { wanted, write, accounted, shown } of watchers) {
      if (!(wanted.reasons?.has(reason) ?? true)) continue;
      const key = `${direction} ${reason}`;
      const count = shown.get(key) ?? 0;
      if (count >= wanted.rate) continue;
      shown.set(key, count + 1);
      accounted[direction][reason]++;
      event ??= dropEvent(record, direction, reason, toWallNs, this.gateway.vxlanPort());
      write(event);
    }
  }
}

function tellRest({ wanted, write, accounted, shown }: Watcher, counts: Counts): void {
  shown.clear();
  for (const direction of directions) {
    for (const { name: reason } of drops) {
      if (!(wanted.reasons?.has(reason) ?? true)) continue;
      const suppressed = counts[direction][reason] - accounted[direction][reason];
      if (suppressed <= 0) continue;
      accounted[direction][reason] += suppressed;
      const fields = { direction, reason, suppressed };
      const detail = `${suppressed.toLocaleString("en-US")} more not shown`;
      write(makeEvent("drops_suppressed", new Date().toISOString(), detail, fields));
    }
  }
}

/** A vx_sample record as an event. */
export function dropEvent(
  record: Uint8Array,
  direction: Direction,
  reason: DropReason,
  toWallNs: bigint,
  vxlanPort: number | null,
): Event {
  const view = new DataView(record.buffer, record.byteOffset, record.byteLength);
  const captured = Math.min(view.getUint8(vxSample.offset.captured), vxConstant.sampleBytes);
  const bytes = record.subarray(vxSample.offset.bytes, vxSample.offset.bytes + captured);
  const leaving = view.getUint8(vxSample.offset.form) === vxSampleForm.leaving;
  const decoded = decodeFrame(bytes, leaving ? null : vxlanPort);
  const length = view.getUint32(vxSample.offset.length, true);
  const time = timeText(view.getBigUint64(vxSample.offset.timeNs, true) + toWallNs);
  const detail = `${decodedText(decoded)}, ${length} bytes${leaving ? " as it would leave" : ""}`;
  const form = leaving ? "leaving" : "received";
  const fields = { direction, reason, form, length, ...decoded, bytes: Buffer.from(bytes).toString("hex") };
  return makeEvent("drop_sample", time, detail, fields);
}

/** RFC 3339 with microseconds. */
function timeText(wallNs: bigint): string {
  const micros = wallNs / 1000n;
  const text = new Date(Number(micros / 1000n)).toISOString();
  return `${text.slice(0, -1)}${String(micros % 1000n).padStart(3, "0")}Z`;
}
