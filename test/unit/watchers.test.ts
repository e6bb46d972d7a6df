// Those who watch: who sees what, how much of it, and that nobody means no work. A simulated gateway, the test's clock.
import assert from "node:assert/strict";
import { test } from "node:test";
import { drops, vxDrop, vxSampleForm } from "../../src/pipeline/abi.gen.js";
import { VxpipeError } from "../../src/pipeline/errors.js";
import { type Event, EventLog } from "../../src/pipeline/events.js";
import { type Asked, wantedOf } from "../../src/pipeline/wanted.js";
import { type Counts, Watchers } from "../../src/pipeline/watchers.js";
import { sampleOf, tunnelled } from "./samples.js";

const asked: Asked = { events: false, drops: false, reasons: [], rate: undefined };
const all = wantedOf(asked);

function noDrops(): Counts {
  const none = (): Counts["inside"] => Object.fromEntries(drops.map(({ name }) => [name, 0])) as Counts["inside"];
  return { inside: none(), outside: none() };
}

/** A gateway that drops when the test says so, and samples as it was asked to. */
class Dropping {
  up = true;
  counts = noDrops();
  samples: Uint8Array[] = [];
  asked: number[] = [];
  eventsDrained = 0;

  drop(reason: keyof Counts["inside"], times = 1, sampled = times): void {
    this.counts.inside[reason] += times;
    const drop = drops.findIndex(({ name }) => name === reason);
    for (let i = 0; i < sampled; i++) this.samples.push(sampleOf({ drop }));
  }
  running(): boolean {
    return this.up;
  }
  vxlanPort(): number {
    return 4789;
  }
  drainEvents(): void {
    this.eventsDrained++;
  }
  drainSamples(most: number): Uint8Array {
    this.asked.push(most);
    return Buffer.concat(this.samples.splice(0));
  }
  dropped(): Counts {
    return structuredClone(this.counts);
  }
}

interface Watching {
  gateway: Dropping;
  events: EventLog;
  watchers: Watchers;
  logged: [string, object][];
  /** Lets time pass, and polls. */
  after(ms: number): void;
  /** A second, and what is said at its end. */
  second(): void;
}

function watching(): Watching {
  let now = 1_000_000;
  const gateway = new Dropping();
  const logged: [string, object][] = [];
  const events = new EventLog((_level, event, _detail, fields) => logged.push([event, fields]));
  const watchers = new Watchers(gateway, events, () => now);
  watchers.poll();
  const after = (ms: number): void => {
    now += ms;
    watchers.poll();
  };
  const second = (): void => {
    after(1000);
    after(100);
  };
  return { gateway, events, watchers, logged, after, second };
}

const short = (events: Event[]): string[] =>
  events.map(({ event, reason, suppressed }) => [event, reason, suppressed].filter(Boolean).join(" "));

test("while nobody watches nothing is asked of the gateway, and when the last one leaves sampling ends", () => {
  const { gateway, watchers, after, second } = watching();
  gateway.drop("not_allowed", 10);
  second();
  assert.deepEqual([gateway.asked, gateway.eventsDrained], [[], 0]);
  const more = wantedOf({ ...asked, drops: true, rate: "50" });
  const leave = [watchers.add(all, () => undefined), watchers.add(more, () => undefined)];
  assert.deepEqual(gateway.asked, [20, 50]);
  after(100);
  assert.equal(gateway.asked.at(-1), 50);
  assert.equal(gateway.eventsDrained, 1);
  for (const one of leave) one();
  assert.equal(gateway.asked.at(-1), 0);
  const before = gateway.asked.length;
  second();
  assert.equal(gateway.asked.length, before);
  assert.equal(watchers.size, 0);
});

test("who wants events only has no packet sampled", () => {
  const { gateway, watchers, events, second } = watching();
  const seen: Event[] = [];
  const leave = watchers.add(wantedOf({ ...asked, events: true }), (event) => seen.push(event));
  gateway.drop("not_allowed");
  events.emit("ready", "forwarding");
  second();
  leave();
  assert.deepEqual(short(seen), ["ready"]);
  assert.deepEqual([...new Set(gateway.asked)], [0]);
});

test("a dropped packet is shown with reason, direction, headers and bytes", () => {
  const { gateway, watchers, after } = watching();
  const seen: Event[] = [];
  const leave = watchers.add(all, (event) => seen.push(event));
  gateway.counts.inside.not_allowed++;
  gateway.samples.push(sampleOf({ timeNs: process.hrtime.bigint() }));
  after(100);
  leave();
  const { time = "", ...rest } = seen[0] ?? {};
  assert.match(time, /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z$/);
  assert.ok(Math.abs(Date.parse(time) - Date.now()) < 60_000);
  assert.deepEqual(rest, {
    level: "debug",
    event: "drop_sample",
    detail: "vni 100 from 192.0.2.1: 10.0.0.1:5000 > 203.0.113.9:9 udp, 96 bytes",
    direction: "inside",
    reason: "not_allowed",
    form: "received",
    length: 96,
    outer: { vlans: [], peer: "192.0.2.1", local: "192.0.2.2", vni: 100 },
    inner: {
      vlans: [],
      source: "10.0.0.1",
      destination: "203.0.113.9",
      protocol: "udp",
      sourcePort: 5000,
      destinationPort: 9,
      flags: null,
      icmp: null,
      fragment: null,
    },
    bytes: tunnelled.toString("hex"),
  });
});

test("a packet that is decapsulated already is not taken for a tunnel, even when it goes to the tunnels' port", () => {
  const { gateway, watchers, after } = watching();
  const seen: Event[] = [];
  const leave = watchers.add(all, (event) => seen.push(event));
  gateway.counts.inside.no_neighbour++;
  gateway.samples.push(sampleOf({ drop: vxDrop.noNeighbour, form: vxSampleForm.leaving }));
  after(100);
  leave();
  assert.deepEqual([seen[0]?.["outer"], seen[0]?.["form"]], [null, "leaving"]);
  assert.match(seen[0]?.detail ?? "", /^192\.0\.2\.1:49152 > 192\.0\.2\.2:4789 udp, 96 bytes as it would leave$/);
});

test("in a second so many of a reason are shown, and the number of the others is told by the counters", () => {
  const { gateway, watchers, after, second } = watching();
  const seen: Event[] = [];
  const leave = watchers.add(wantedOf({ ...asked, drops: true, rate: "3" }), (event) => seen.push(event));
  second();
  for (let round = 0; round < 5; round++) {
    gateway.drop("not_allowed", 1000, 2);
    gateway.drop("truncated");
    after(100);
  }
  gateway.counts.inside.tx_refused += 7;
  assert.deepEqual(short(seen).sort(), [
    ...Array.from({ length: 3 }, () => "drop_sample not_allowed"),
    ...Array.from({ length: 3 }, () => "drop_sample truncated"),
  ]);
  seen.length = 0;
  after(500);
  after(100);
  assert.deepEqual(short(seen), [
    "drops_suppressed truncated 2",
    "drops_suppressed not_allowed 4997",
    "drops_suppressed tx_refused 7",
  ]);
  seen.length = 0;
  gateway.drop("not_allowed");
  second();
  leave();
  assert.deepEqual(short(seen), ["drop_sample not_allowed"]);
});

test("everything dropped since somebody came is shown or told, whatever was sampled for others before", () => {
  const { gateway, watchers, second } = watching();
  const early: Event[] = [];
  const late: Event[] = [];
  const leave = [watchers.add(wantedOf({ ...asked, drops: true, rate: "1000" }), (event) => early.push(event))];
  gateway.drop("not_allowed", 50, 8);
  leave.push(watchers.add(wantedOf({ ...asked, drops: true, rate: "5" }), (event) => late.push(event)));
  gateway.drop("not_allowed", 30, 8);
  second();
  gateway.drop("not_allowed", 4, 4);
  second();
  for (const one of leave) one();
  const total = (events: Event[]): number =>
    events.reduce((sum, { event, suppressed }) => sum + (event === "drop_sample" ? 1 : Number(suppressed)), 0);
  assert.deepEqual([total(early), total(late)], [84, 34]);
  assert.equal(early.filter(({ event }) => event === "drop_sample").length, 20);
});

test("who comes sees nothing that was dropped before", () => {
  const { gateway, watchers, second } = watching();
  const seen: Event[] = [];
  const leave = [watchers.add(all, () => undefined)];
  gateway.drop("not_allowed", 50, 8);
  leave.push(watchers.add(all, (event) => seen.push(event)));
  second();
  for (const one of leave) one();
  assert.deepEqual(seen, []);
});

test("who asks for some reasons sees those only, and no others' numbers", () => {
  const { gateway, watchers, events, second } = watching();
  const seen: Event[] = [];
  const leave = watchers.add(wantedOf({ ...asked, reasons: ["truncated", "ipv6"] }), (event) => seen.push(event));
  gateway.drop("not_allowed", 100, 2);
  gateway.drop("ipv6");
  gateway.drop("truncated", 2, 1);
  events.emit("ready", "forwarding");
  second();
  leave();
  assert.deepEqual(short(seen), ["drop_sample ipv6", "drop_sample truncated", "drops_suppressed truncated 1"]);
});

test("the log has one drop a second of each reason and the number of the others, at debug only", () => {
  const { gateway, watchers, logged, second } = watching();
  watchers.setLogLevel("info");
  assert.deepEqual(gateway.asked, []);
  watchers.setLogLevel("debug");
  watchers.setLogLevel("trace");
  gateway.drop("not_allowed", 10);
  gateway.drop("ipv6", 1);
  second();
  assert.deepEqual(
    logged.map(([event, fields]) => [event, (fields as { reason: string }).reason]),
    [
      ["drop_sample", "not_allowed"],
      ["drop_sample", "ipv6"],
      ["drops_suppressed", "not_allowed"],
    ],
  );
  assert.deepEqual([gateway.asked.at(-1), gateway.eventsDrained], [1, 0]);
  watchers.setLogLevel("warn");
  assert.equal(gateway.asked.at(-1), 0);
});

test("a gateway that does not run yet, or no more, is not asked", () => {
  const { gateway, watchers, second } = watching();
  gateway.up = false;
  const leave = watchers.add(all, () => undefined);
  second();
  leave();
  assert.deepEqual([gateway.asked, gateway.eventsDrained], [[], 0]);
});

test("the seventeenth is told that there are too many", () => {
  const { watchers } = watching();
  const leave = Array.from({ length: 16 }, () => watchers.add(all, () => undefined));
  const tooMany = (error: unknown): boolean => error instanceof VxpipeError && error.code === "TOO_MANY_WATCHERS";
  assert.throws(() => watchers.add(all, () => undefined), tooMany);
  leave[0]?.();
  leave.push(watchers.add(all, () => undefined));
  for (const one of leave) one();
});

test("options mean what an operator expects", () => {
  const reasons = new Set(["ipv6"]);
  assert.deepEqual(all, { events: true, drops: true, reasons: null, rate: 20 });
  assert.deepEqual(wantedOf({ ...asked, drops: true, rate: "1000" }), {
    events: false,
    drops: true,
    reasons: null,
    rate: 1000,
  });
  assert.deepEqual(wantedOf({ ...asked, reasons: ["ipv6"] }), { events: false, drops: true, reasons, rate: 20 });
  assert.deepEqual(wantedOf({ ...asked, events: true, reasons: ["ipv6"] }), {
    events: true,
    drops: true,
    reasons,
    rate: 20,
  });
  for (const wrong of [{ rate: "0" }, { rate: "1001" }, { rate: "x" }, { reasons: ["nope"] }, { reasons: [""] }]) {
    const usage = (error: unknown): boolean => error instanceof VxpipeError && error.code === "USAGE";
    assert.throws(() => wantedOf({ ...asked, ...wrong }), usage, JSON.stringify(wrong));
  }
});
