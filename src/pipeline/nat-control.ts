// Source NAT as the control plane sees it: who has which ports, sessions, pools, and what goes wrong with them. Made by
// runtime.ts; asked by the API and the telemetry; main thread.
import type { Gateway, NatEndpoint, NatSessionFilter } from "xdp-socket";
import { vxNatRecord } from "./abi.gen.js";
import { BlockLog, type Holding } from "./block-log.js";
import { blocksOf } from "./config/check-source-nat.js";
import { formatIpv4, parseIpv4 } from "./config/formats.js";
import { VxpipeError } from "./errors.js";
import type { EventLog, EventName } from "./events.js";
import { FlowExport } from "./flow-export.js";
import { flowProtocols } from "./flow-messages.js";
import {
  endpointOf,
  protocolOf,
  protocolName,
  readNatRecords,
  readSessions,
  readSubscribers,
  timeOf,
  type NatRecord,
  type SessionView,
  type SubscriberUse,
} from "./nat-names.js";
import type { Native } from "./native.js";
import type { NatCounterName, Reading } from "./observe.js";
import type { Plan } from "./plan.js";

/** As people ask; null: any. */
export interface SessionQuestion {
  inside: string | null;
  outside: string | null;
  remote: string | null;
  protocol: string | null;
  vni: string | null;
  limit: string | null;
  cursor: string | null;
}

export interface Who {
  outside: string;
  protocol: string | null;
  vni: number | null;
  inside: string;
  from: string;
  to: string | null;
}

export interface PoolAddress {
  address: string;
  blocks: number;
  used: number;
  /** 0 to 1. */
  utilization: number;
}

/** Some ten milliseconds of this thread. */
const recordsAtOnce = 4096;
/** What a daemon that is killed has not written yet is lost. */
const recordsEveryMs = 100;
const limitDefault = 1000;
const limitMax = 10_000;
const repeatMs = 60_000;

export class NatControl {
  readonly log: BlockLog;
  readonly exports: readonly FlowExport[];
  private pumping: Promise<void> | null = null;
  private timer: NodeJS.Timeout | null = null;
  private question: Promise<unknown> = Promise.resolve();
  private readonly startedAt = Date.now();
  /** By address: blocks that can be granted. */
  private readonly blocks: ReadonlyMap<string, number>;
  private readonly troubles: Trouble[];

  constructor(
    private readonly plan: Plan,
    /** null: no packet path now. */
    private readonly gateway: () => Gateway | null,
    events: EventLog,
    native: Pick<Native, "lockFile">,
  ) {
    this.exports = flowProtocols.flatMap((protocol) => {
      const collector = plan.collectors[protocol];
      return collector === null ? [] : [new FlowExport(protocol, collector, events)];
    });
    const tell = (records: readonly NatRecord[]): void => this.exports.forEach((one) => one.send(records));
    this.log = new BlockLog(plan.recordsFile, events, native, Date.now, this.exports.length === 0 ? null : tell);
    this.blocks = blocksByAddress(plan);
    this.troubles = troublesOf(events, () => this.poolText());
  }

  get on(): boolean {
    return this.plan.datapath.sourceNat !== null;
  }

  /** Before packets flow. */
  async start(): Promise<void> {
    if (!this.on) return;
    await Promise.all(this.exports.map((one) => one.open()));
    await this.log.start();
    // A file that cannot be written is tried again by tick().
    this.timer = setInterval(() => {
      if (!this.log.lagging) void this.pump();
    }, recordsEveryMs).unref();
  }

  /** Once a second. */
  tick(reading: Reading): void {
    if (!this.on) return;
    void this.pump();
    for (const trouble of this.troubles) trouble.look(reading);
  }

  /** Takes what records there are; resolves when all of them are on the disk, or cannot be. */
  pump(): Promise<void> {
    this.pumping ??= this.takeAll().finally(() => (this.pumping = null));
    return this.pumping;
  }

  private async takeAll(): Promise<void> {
    for (;;) {
      const gateway = this.gateway();
      if (gateway === null || !this.on) return;
      const bytes = gateway.natRecords(recordsAtOnce);
      // Also when there are none: what failed is tried again.
      if (bytes.length === 0 && !this.log.lagging) return;
      const done = await this.log.add(readNatRecords(bytes, toWallNs()));
      if (!done) return;
      gateway.natRecordsDone();
      if (bytes.length < recordsAtOnce * vxNatRecord.bytes) return;
    }
  }

  /** The packet path has ended, and with it all sessions; `records`: what it had not told. Whoever ends it waits for `pump`
   * before, so that nothing is told twice. */
  async ended(records: Uint8Array | null): Promise<void> {
    if (this.on) await this.log.end(readNatRecords(records ?? new Uint8Array(), toWallNs()));
  }

  async stop(): Promise<void> {
    if (this.timer !== null) clearInterval(this.timer);
    if (!this.on) return;
    await this.log.stop();
    await Promise.all(this.exports.map((one) => one.close()));
  }

  /** SIGHUP: logrotate may have moved the file. */
  async reopen(): Promise<void> {
    if (this.on) await this.log.reopen();
  }

  async who(outside: string, protocol: string | null, at: string | null): Promise<Who> {
    const { address, port } = endpointOf(outside);
    const number = protocol === null ? null : protocolOf(protocol);
    const time = at === null ? null : timeOf(at);
    await this.pump();
    const text = `${address}:${port}`;
    const named = number === null ? null : protocolName(number);
    const holding =
      this.forward(text, named, time) ??
      (await this.log.who(address, port, time === null || time >= Date.now() ? null : time));
    if (holding === null) throw new VxpipeError("ENDPOINT_UNKNOWN", `nobody ${time === null ? "has" : "had"} ${text}`);
    const { vni, inside, from, to } = holding;
    const iso = (one: number): string => new Date(one).toISOString();
    return { outside: text, protocol: named, vni, inside, from: iso(from), to: to === null ? null : iso(to) };
  }

  /** Static: for as long as this run. */
  private forward(
    outside: string,
    protocol: string | null,
    at: number | null,
  ): Omit<Holding, "firstPort" | "lastPort"> | null {
    if (at !== null && at < this.startedAt) return null;
    const found = this.plan.datapath.sourceNat?.forwards.find(
      (one) =>
        `${bytesText(one.address)}:${one.port}` === outside &&
        (protocol === null || protocolName(one.protocol) === protocol),
    );
    if (found === undefined) return null;
    return { vni: found.vni, inside: bytesText(found.inside), outside, from: this.startedAt, to: null };
  }

  async sessions(asked: SessionQuestion): Promise<{ sessions: SessionView[]; cursor: string | null }> {
    const [filter, limit, cursor] = [filterOf(asked), limitOf(asked.limit), cursorOf(asked.cursor)];
    return this.ask(async (gateway) => {
      if (gateway === null) return { sessions: [], cursor: null };
      const page = await gateway.natSessions(filter, cursor, limit);
      return { sessions: readSessions(page.sessions), cursor: page.cursor };
    });
  }

  async subscribers(limit: string | null): Promise<{ subscribers: SubscriberUse[] }> {
    const most = limit === null ? 20 : limitOf(limit);
    return this.ask(async (gateway) => ({
      subscribers: gateway === null ? [] : readSubscribers(await gateway.natTop(most)),
    }));
  }

  /** The packet path takes one question at a time. */
  private ask<Answer>(work: (gateway: Gateway | null) => Promise<Answer>): Promise<Answer> {
    const next = this.question.then(() => work(this.on ? this.gateway() : null));
    this.question = next.catch(() => undefined);
    return next;
  }

  pool(): PoolAddress[] {
    const gateway = this.on ? this.gateway() : null;
    if (gateway === null) return [];
    const { addresses, freeBlocks } = gateway.natPool();
    return Array.from(freeBlocks, (free, index) => {
      const address = bytesText(addresses.subarray(index * 4, index * 4 + 4));
      const blocks = this.blocks.get(address) ?? 0;
      const used = Math.max(blocks - free, 0);
      return { address, blocks, used, utilization: blocks === 0 ? 0 : used / blocks };
    });
  }

  private poolText(): string {
    const pool = this.pool();
    const full = pool.filter(({ used, blocks }) => used === blocks).length;
    return `${full} of ${pool.length} addresses have no free block`;
  }
}

/** To add to CLOCK_MONOTONIC. */
function toWallNs(): bigint {
  return BigInt(Date.now()) * 1_000_000n - process.hrtime.bigint();
}

function bytesText(bytes: Uint8Array): string {
  return formatIpv4(new DataView(bytes.buffer, bytes.byteOffset, 4).getUint32(0));
}

/** An address may be in several pools, which then share its blocks. */
function blocksByAddress({ datapath: { sourceNat } }: Plan): Map<string, number> {
  const all = new Map<string, Set<string>>();
  const ranges = new Map<string, { first: number; end: number }[]>();
  for (const { addresses, firstPort, lastPort } of sourceNat?.pools ?? []) {
    const range = blocksOf({ first: firstPort, last: lastPort }, sourceNat?.blockSize ?? 1);
    for (let at = 0; at < addresses.length; at += 4) {
      const address = bytesText(addresses.subarray(at, at + 4));
      const known = all.get(address) ?? new Set<string>();
      const key = `${range.first}-${range.end}`;
      if (!known.has(key)) ranges.set(address, [...(ranges.get(address) ?? []), range]);
      all.set(address, known.add(key));
    }
  }
  return new Map([...ranges].map(([address, list]) => [address, countOf(list)]));
}

function countOf(ranges: readonly { first: number; end: number }[]): number {
  if (ranges.length === 1) return (ranges[0]?.end ?? 0) - (ranges[0]?.first ?? 0);
  const blocks = new Set(
    ranges.flatMap(({ first, end }) => Array.from({ length: end - first }, (_, at) => first + at)),
  );
  return blocks.size;
}

function filterOf({ inside, outside, remote, protocol, vni }: SessionQuestion): NatSessionFilter {
  const filter: NatSessionFilter = {};
  if (inside !== null) filter.inside = hostOf(inside);
  if (outside !== null) filter.outside = hostOf(outside);
  if (remote !== null) filter.remote = hostOf(remote);
  if (protocol !== null) filter.protocol = protocolOf(protocol);
  if (vni !== null) filter.vni = vniOf(vni);
  return filter;
}

/** An address, or an address and a port. */
function hostOf(text: string): NatEndpoint {
  const alone = parseIpv4(text);
  const { address, port } = alone === null ? endpointOf(text) : { address: formatIpv4(alone), port: null };
  const bytes = Uint8Array.from(address.split("."), Number);
  return port === null ? { address: bytes } : { address: bytes, port };
}

function vniOf(text: string): number {
  if (/^\d{1,8}$/.test(text) && Number(text) <= 0xff_ffff) return Number(text);
  throw new VxpipeError("USAGE", `"${text}" is no VNI: a number from 0 to 16777215`);
}

function limitOf(text: string | null): number {
  if (text === null) return limitDefault;
  if (/^[1-9]\d{0,4}$/.test(text) && Number(text) <= limitMax) return Number(text);
  throw new VxpipeError("USAGE", `the limit is a whole number from 1 to ${limitMax}, not "${text}"`);
}

function cursorOf(text: string | null): string {
  if (text === null || /^\d{1,20}$/.test(text)) return text ?? "";
  throw new VxpipeError("USAGE", `"${text}" is no cursor: give what the page before ended with`);
}

/** What grows while something is wrong; said when it begins, and once a minute while it goes on. */
class Trouble {
  private last = 0;
  private saidAt = -Infinity;

  constructor(
    private readonly read: (reading: Reading) => number,
    private readonly say: (more: number) => void,
  ) {}

  look(reading: Reading): void {
    const count = this.read(reading);
    // A packet path that was made anew counts from 0.
    if (count < this.last) this.last = 0;
    const more = count - this.last;
    const now = performance.now();
    if (more === 0 || now - this.saidAt < repeatMs) return;
    this.saidAt = now;
    this.last = count;
    this.say(more);
  }
}

function troublesOf(events: EventLog, pool: () => string): Trouble[] {
  const dropped =
    (...reasons: readonly (keyof Reading["inside"]["dropped"])[]) =>
    ({ inside, outside }: Reading): number =>
      reasons.reduce((sum, reason) => sum + inside.dropped[reason] + outside.dropped[reason], 0);
  const counted =
    (name: NatCounterName) =>
    ({ nat }: Reading): number =>
      nat.reduce((sum, counts) => sum + counts[name], 0);
  const one = (event: EventName, read: (reading: Reading) => number, text: (more: number) => string): Trouble =>
    new Trouble(read, (more) => events.emit(event, text(more), { packets: more }));
  return [
    one(
      "nat_pool_exhausted",
      (reading) => Math.max(dropped("no_block")(reading) - counted("records_full")(reading), 0),
      (more) => `${more} packets found no free port block; ${pool()}`,
    ),
    one(
      "nat_records_lag",
      (reading) => counted("records_full")(reading) + counted("sessions_unrecorded")(reading),
      (more) => `${more} port blocks were not granted, or sessions not created: records lag behind`,
    ),
    one(
      "nat_sessions_full",
      (reading) => Math.max(dropped("session_table_full")(reading) - counted("sessions_unrecorded")(reading), 0),
      (more) => `${more} packets found no room for a session: nat.source.maxSessions`,
    ),
    one(
      "nat_subscriber_limited",
      dropped("no_port", "subscriber_limit", "session_rate"),
      (more) =>
        `${more} packets of subscribers at their limits were dropped; vxpipe nat subscriber list shows the largest`,
    ),
  ];
}
