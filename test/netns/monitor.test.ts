// `vxpipe monitor` beside a gateway that drops real packets: what it shows is what was sent and why it was dropped, to the
// packet; watching costs when somebody watches. Needs root.
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { after, afterEach, before, beforeEach, describe, test, type TestContext } from "node:test";

import type { Event } from "../../src/pipeline/events.js";
import { ADDRESS, Bed } from "../bed/bed.js";
import { Background, ROOT, until } from "../bed/command.js";
import { bedConfig, Daemon, DATAPATHS, type Stats, writeConfig } from "../bed/daemon.js";
import { generate, type Load, Sink, startLoad } from "../bed/tools.js";
import { receivedIs, ROOT_ONLY, settled } from "./ledger.js";

const VXPIPE = join(ROOT, "bin/vxpipe");

/** Packets that nobody forwards: not on the list. */
const DENIED: Load = { destination: ADDRESS.beyond, ports: "9", sources: "10.9.0.7", vni: 100 };
const MIX: Load = {
  ...DENIED,
  sources: "10.0.0.1",
  deniedSources: "10.9.0.7",
  count: 60,
  rate: 1000,
  mix: { no_rule: 2, denied: 1, no_flag: 1, truncated: 1, ipv6: 1 },
};
const LIST = { allowlist: { file: "list.txt", match: "source" } };

const sampledOf = (stats: Stats): number => (stats.inside as unknown as { sampled: number }).sampled;

/** Drops by reason, shown or told as a number. */
function total(events: readonly Event[], reason: string): number {
  return events
    .filter((event) => event["reason"] === reason)
    .reduce((sum, { event, suppressed }) => sum + (event === "drop_sample" ? 1 : Number(suppressed)), 0);
}

describe("vxpipe monitor", ROOT_ONLY, () => {
  let bed: Bed;
  let daemon: Daemon;
  let sink: Sink;
  before(async () => {
    bed = await Bed.make({ staticNeighbours: true });
    await bed.exec("gateway", "sh", ["-c", `echo 10.0.0.1 > ${join(bed.directory, "list.txt")}`]);
  });
  after(() => bed.remove());
  beforeEach(async () => {
    sink = await Sink.start(bed);
  });
  afterEach(async () => {
    const exit = await daemon.stop();
    await sink.stop();
    assert.equal(exit.code ?? exit.signal, exit.signal === null ? 0 : "SIGKILL", daemon.process.stderr);
  });

  /** The command line, once the daemon serves it. */
  async function watch(t: TestContext, ...args: string[]): Promise<Background> {
    const monitor = new Background(VXPIPE, ["--socket", daemon.socket, "monitor", ...args]);
    t.after(() => monitor.stop("SIGKILL"));
    await watchers(1);
    return monitor;
  }

  /** The gauge that says how many watch. */
  async function watchers(count: number): Promise<void> {
    await until(`${count} watchers`, async () =>
      (await daemon.get("/metrics")).split("\n").includes(`vxpipe_watchers ${count}`) ? true : null,
    );
  }

  const eventsOf = (monitor: Background): Event[] => monitor.lines.map((line) => JSON.parse(line) as Event);

  for (const datapath of DATAPATHS) {
    test(`shows why packets were dropped and their headers, by ${datapath}`, async (t) => {
      daemon = await Daemon.start(bed, { ...LIST, datapath });
      const monitor = await watch(t, "-o", "json", "--drops", "--rate", "1000");
      await generate(bed, MIX);
      await receivedIs(daemon, 60);
      await until("forty drops", async () =>
        eventsOf(monitor).filter(({ event }) => event === "drop_sample").length >= 40 ? true : null,
      );
      const { inside } = await settled(daemon);
      const events = eventsOf(monitor);
      for (const reason of ["not_allowed", "vxlan_flags", "truncated", "ipv6"]) {
        assert.deepEqual([inside.dropped[reason], total(events, reason)], [10, 10], reason);
      }
      for (const event of events) {
        const outer = event["outer"] as { peer: string; local: string; vni: number };
        const inner = event["inner"] as { source: string; destination: string; destinationPort: number };
        assert.deepEqual([outer.peer, outer.local, outer.vni], [ADDRESS.source, ADDRESS.inside, 100]);
        if (event["reason"] === "ipv6") continue;
        const source = event["reason"] === "not_allowed" ? "10.9.0.7" : "10.0.0.1";
        assert.deepEqual([inner.source, inner.destination, inner.destinationPort], [source, ADDRESS.beyond, 9]);
      }
      assert.deepEqual(await monitor.stop("SIGINT"), { code: 0, signal: null });
      await watchers(0);
    });
  }

  test("copies no packet while nobody watches, nor for one who wants events only", async (t) => {
    daemon = await Daemon.start(bed, LIST);
    const drop = async (): Promise<number> => {
      const { inside } = await daemon.peek();
      await generate(bed, { ...DENIED, count: 100, rate: 10_000 });
      await receivedIs(daemon, inside.received + 100);
      return sampledOf(await settled(daemon));
    };
    assert.equal(await drop(), 0);
    const events = await watch(t, "--events");
    assert.equal(await drop(), 0);
    await events.stop("SIGINT");
    await watchers(0);
    const drops = await watch(t, "--drops");
    const sampled = await drop();
    assert.ok(sampled > 0);
    await drops.stop("SIGINT");
    await watchers(0);
    assert.equal(await drop(), sampled);
  });

  test("shows what the worker drops, as it would have left", async (t) => {
    daemon = await Daemon.start(bed);
    const monitor = await watch(t, "-o", "json", "--reason", "no_neighbour", "-n", "1");
    await generate(bed, { destination: "172.30.82.200", ports: "9", sources: "10.0.0.1", count: 1 });
    assert.equal((await monitor.exited).code, 0, monitor.stderr);
    const [{ form, outer, inner } = { form: "", outer: 0, inner: {} }] = eventsOf(monitor);
    const { source, destination, destinationPort } = inner as Record<string, unknown>;
    assert.deepEqual(
      [form, outer, source, destination, destinationPort],
      ["leaving", null, "10.0.0.1", "172.30.82.200", 9],
    );
  });

  test("accounts for every drop of a flood, and shows no more of them a second than asked for", async (t) => {
    daemon = await Daemon.start(bed, LIST);
    const monitor = await watch(t, "-o", "json", "--drops", "--rate", "5");
    await generate(bed, { ...DENIED, duration: 3, rate: 200_000 });
    const { inside } = await settled(daemon);
    const dropped = inside.dropped["not_allowed"] ?? 0;
    assert.ok(dropped > 1000);
    await until("all of them", async () => (total(eventsOf(monitor), "not_allowed") >= dropped ? true : null));
    const events = eventsOf(monitor);
    assert.equal(total(events, "not_allowed"), dropped);
    const numbers = events
      .map(({ event }, index) => (event === "drops_suppressed" ? index : -1))
      .filter((at) => at >= 0);
    let from = 0;
    for (const at of numbers) {
      // The flood may have begun in a second that had nothing else to tell of.
      const most = from === 0 ? 10 : 5;
      assert.ok(at - from <= most, `${at - from} shown in a second`);
      from = at + 1;
    }
    assert.ok(numbers.length >= 2);
    assert.deepEqual(await monitor.stop("SIGINT"), { code: 0, signal: null });
  });

  test("that stands still costs the daemon no memory, and says how much it missed when it goes on", async (t) => {
    daemon = await Daemon.start(bed, LIST);
    const mix = { denied: 1, no_flag: 1, truncated: 1, ipv6: 1 };
    const load = startLoad(bed, { ...MIX, mix, count: 5_000_000, rate: 100_000 });
    const monitor = await watch(t, "-o", "json", "--rate", "1000");
    await monitor.nextLine();
    const residentMb = (): number =>
      Number(/VmRSS:\s+(\d+) kB/.exec(readFileSync(`/proc/${daemon.process.pid}/status`, "utf8"))?.[1]) / 1024;
    monitor.kill("SIGSTOP");
    const started = sampledOf(await daemon.peek());
    // Four reasons, 1,000 a second of each, 0.7 KB a line: the buffer is full after a second.
    await until(
      "samples for seconds",
      async () => (sampledOf(await daemon.peek()) > started + 6000 ? true : null),
      30_000,
    );
    const resident = residentMb();
    const middle = sampledOf(await daemon.peek());
    await until(
      "samples for more",
      async () => (sampledOf(await daemon.peek()) > middle + 12_000 ? true : null),
      30_000,
    );
    const grown = residentMb() - resident;
    assert.ok(grown < 32, `${grown} MB for ${12_000} lines`);
    monitor.kill("SIGCONT");
    await until("what it missed", async () =>
      monitor.lines.some((line) => line.includes('"lines_missed"')) ? true : null,
    );
    load.process.kill("SIGTERM");
    await load.ended;
    assert.deepEqual(await monitor.stop("SIGINT"), { code: 0, signal: null });
  });

  test("tells of the daemon's end, and ends with 4 when it has ended and when it was killed", async (t) => {
    for (const signal of ["SIGTERM", "SIGKILL"] as const) {
      daemon = await Daemon.start(bed);
      const monitor = await watch(t, "--events");
      const seen = monitor.lines.length;
      await daemon.stop(signal);
      assert.equal((await monitor.exited).code, 4);
      const told = monitor.lines.slice(seen).map((line) => line.split(/ +/)[2]);
      assert.deepEqual(told.slice(-2), signal === "SIGTERM" ? ["stopping", "stopped"] : []);
      assert.match(monitor.stderr, /\nvxpipe: the daemon on \S+ (has ended|went away)/);
    }
  });

  test("is not needed where the log shows drops: from SIGHUP with log.level debug on, until another one", async () => {
    daemon = await Daemon.start(bed, LIST);
    const reloads = (): number => daemon.process.stderr.split('"reloaded"').length;
    const level = async (name: string): Promise<void> => {
      const earlier = reloads();
      writeConfig(bed, bedConfig(bed, { ...LIST, log: { level: name } }));
      daemon.process.kill("SIGHUP");
      await until("the reload", async () => (reloads() > earlier ? true : null));
    };
    const drop = async (): Promise<void> => {
      const { inside } = await daemon.peek();
      await generate(bed, { ...DENIED, count: 50, rate: 10_000 });
      await receivedIs(daemon, inside.received + 50);
    };
    const logged = (): Event[] =>
      daemon.process.stderr
        .split("\n")
        .filter((line) => line.startsWith("{"))
        .map((line) => JSON.parse(line) as Event)
        .filter((line) => "reason" in line);
    await drop();
    await level("debug");
    await drop();
    await until("fifty drops in the log", async () => (total(logged(), "not_allowed") >= 50 ? true : null));
    assert.equal(total(logged(), "not_allowed"), 50);
    const shown = logged().filter(({ event }) => event === "drop_sample");
    assert.ok(shown.length >= 1 && shown.length <= 2);
    assert.match(
      String(shown[0]?.["msg"]),
      /^vni 100 from 192\.0\.2\.1: 10\.9\.0\.7:\d+ > 203\.0\.113\.9:9 udp, \d+ bytes$/,
    );
    await level("info");
    const sampled = sampledOf(await settled(daemon));
    await drop();
    assert.equal(sampledOf(await settled(daemon)), sampled);
  });
});
