// Every loss of the ledger that traffic alone does not show, provoked: each has to be named for what it is, counted to
// the packet, and leave a ledger that the far end agrees with. Needs root.
import assert from "node:assert/strict";
import { join } from "node:path";
import { after, afterEach, before, beforeEach, describe, test } from "node:test";

import { ADDRESS, Bed } from "../bed/bed.js";
import { run, until } from "../bed/command.js";
import { Daemon } from "../bed/daemon.js";
import { bpfObjectsOf } from "../bed/remains.js";
import { generate, type Load, type Sent, Sink, startLoad } from "../bed/tools.js";
import { type Piece, tunnelled, twoFragments, writePcap } from "./frames.js";
import { vxConstant, vxDirection, vxInterface } from "../../src/pipeline/abi.gen.js";
import { agreed, dropsOf, receivedIs, ROOT_ONLY, settled, sum } from "./ledger.js";
import { RawSender } from "./wire.js";

const RULE = { protocol: "udp", port: 31765, to: `${ADDRESS.target}:8081` };
const LOAD: Load = { destination: ADDRESS.beyond, cpu: 0 };

describe("a packet that is lost", ROOT_ONLY, () => {
  let bed: Bed;
  let daemon: Daemon;
  let sink: Sink;
  before(async () => {
    bed = await Bed.make({ staticNeighbours: true });
  });
  after(() => bed.remove());
  beforeEach(async () => {
    sink = await Sink.start(bed);
    daemon = await Daemon.start(bed, { nat: { destination: [RULE] } });
  });
  afterEach(async () => {
    const exit = await daemon.stop();
    await sink.stop();
    assert.equal(exit.code, 0, daemon.process.stderr);
  });

  /** A number of packets, received by the gateway. */
  async function send(load: Load): Promise<Sent> {
    const earlier = (await daemon.peek()).inside.received;
    const sent = await generate(bed, { ...LOAD, ...load });
    await receivedIs(daemon, earlier + sent.sent);
    return sent;
  }

  /** Packets leave again, after whatever the test did. */
  async function recovers(): Promise<void> {
    const { forwarded } = (await settled(daemon)).inside;
    const more = async (): Promise<true | null> => {
      await send({ count: 1 });
      return (await settled(daemon)).inside.forwarded > forwarded ? true : null;
    };
    await until("packets to leave again", more, 20_000);
    await agreed(daemon, sink);
  }

  const withoutCarrier = (): Promise<unknown> =>
    until("the gateway to know", async () => ((await daemon.status("/readyz")) === 503 ? true : null));

  test("because the far end is down is named carrier_down", async () => {
    await bed.ip("target", "link set dst0 down");
    try {
      await withoutCarrier();
      await send({ count: 5000, mix: { rule: 1, no_rule: 1 }, rate: 100_000 });
      assert.deepEqual(dropsOf((await agreed(daemon, sink)).stats), { carrier_down: 5000 });
    } finally {
      await bed.ip("target", "link set dst0 up", `route replace default via ${ADDRESS.outside}`);
    }
    await recovers();
  });

  test("because the outside interface is down is named, and nothing else is lost", async () => {
    await bed.ip("gateway", "link set out0 down");
    try {
      await withoutCarrier();
      await send({ count: 5000, mix: { rule: 1, no_rule: 1 }, rate: 100_000 });
      assert.deepEqual(dropsOf((await agreed(daemon, sink)).stats), { carrier_down: 5000 });
    } finally {
      await bed.ip("gateway", "link set out0 up", `route replace default via ${ADDRESS.target}`);
      await bed.ip("gateway", `neigh replace ${ADDRESS.target} lladdr 02:00:00:00:02:02 dev out0`);
    }
    await recovers();
  });

  test("while the far end goes down and up under load has one of the names of a link, and is in the ledger", async () => {
    const { process, ended } = startLoad(bed, { ...LOAD, duration: 2, rate: 200_000, flows: 100 });
    let downs = 0;
    for (; process.exit === null; downs++) {
      await bed.ip("target", "link set dst0 down");
      await bed.ip("target", "link set dst0 up");
    }
    await bed.ip("target", `route replace default via ${ADDRESS.outside}`);
    const sent = await ended;
    await receivedIs(daemon, sent.sent);
    const stats = await settled(daemon);
    assert.equal(stats.inside.received, sent.sent);
    const drops = dropsOf(stats);
    assert.deepEqual(
      Object.keys(drops).filter((reason) => reason !== "carrier_down" && reason !== "tx_refused"),
      [],
    );
    assert.ok(sum(drops) > 0, "nothing was lost, so nothing was tested");
    // What the driver had taken and the far end's ring still held went with the ring, which has 256 slots.
    const { packets } = await sink.report();
    const between = stats.inside.forwarded - packets;
    assert.ok(packets > 0 && between >= 0 && between <= 256 * downs, `${between} lost after ${downs} downs`);
  });

  test("because the far end's driver takes no redirected frames is named redirect_error", async () => {
    await sink.stop();
    await bed.exec("target", "ethtool", ["-K", "dst0", "gro", "off"]);
    const earlier = (await bed.traffic("target", "dst0")).received;
    await send({ count: 5000, mix: { rule: 1, no_rule: 1 }, rate: 100_000 });
    const stats = await settled(daemon);
    assert.deepEqual(dropsOf(stats), { redirect_error: 5000 });
    assert.equal((await bed.traffic("target", "dst0")).received, earlier);
    sink = await Sink.start(bed);
    await recovers();
  });

  test("because the far end's ring is full is named tx_refused, under the full rate of a core", async () => {
    const threaded = (value: number): Promise<string> =>
      bed.exec("target", "sh", ["-c", `echo ${value} > /sys/class/net/dst0/threaded`]);
    // With NAPI in a thread that has to share the sender's CPU, 256 slots are soon full.
    await threaded(1);
    const sent = await send({ duration: 1, flows: 1000 });
    const { stats, arrived } = await agreed(daemon, sink);
    await threaded(0);
    const drops = dropsOf(stats);
    assert.deepEqual(Object.keys(drops), ["tx_refused"]);
    assert.equal(arrived.packets + (drops["tx_refused"] ?? 0), sent.sent);
  });

  interface DumpedMap {
    id: number;
    name?: string;
  }

  async function mapOf(name: string): Promise<string> {
    const maps = JSON.parse(await run("bpftool", ["-j", "map", "show"])) as DumpedMap[];
    const ours = bpfObjectsOf(daemon.process.pid).maps;
    return String(maps.find((map) => map.name === name && ours.has(map.id))?.id);
  }

  interface Reports {
    overlook(): Promise<unknown>;
    see(): Promise<unknown>;
  }

  /** With another index in interface_map the tracepoint's program overlooks every report. */
  async function reports(): Promise<Reports> {
    const id = await mapOf("interface_map");
    const key = [vxDirection.outside, 0, 0, 0].map(String);
    const { value } = JSON.parse(await run("bpftool", ["-j", "map", "lookup", "id", id, "key", ...key])) as {
      value: string[];
    };
    const write = (bytes: readonly string[]): Promise<string> =>
      run("bpftool", ["map", "update", "id", id, "key", ...key, "value", ...bytes]);
    const another = value.map((byte, index) => (index === vxInterface.offset.ifindex + 1 ? "0x7f" : byte));
    return { overlook: () => write(another), see: () => write(value) };
  }

  test("is none because the kernel does not say what became of it: unreported packets are counted like the last", async () => {
    const { overlook, see } = await reports();
    await send({ count: 100 });
    await overlook();
    await send({ count: 5000, rate: 100_000 });
    const { stats } = await agreed(daemon, sink);
    assert.equal(stats.inside.unreported, 5000);
    await see();
    await send({ count: 100 });
    const later = (await agreed(daemon, sink)).stats;
    assert.equal(later.inside.unreported, 5000);
    assert.deepEqual(dropsOf(later), {});
    assert.equal((await daemon.get("/api/v1/events")).split('"fates_unreported"').length, 2, "said once");
  });

  test("is not said to be one by a takeover under load, when a killed daemon was owed reports", async () => {
    const { ended, process: sender } = startLoad(bed, { ...LOAD, duration: 60 });
    const lost: (number | undefined)[] = [];
    for (let takeover = 0; takeover < 5; takeover++) {
      const { overlook, see } = await reports();
      process.kill(daemon.process.pid, "SIGSTOP");
      const { packets } = await sink.report();
      await overlook();
      await until("packets to arrive", async () => ((await sink.report()).packets > packets + 20_000 ? true : null));
      await see();
      await daemon.kill();
      daemon = await Daemon.start(bed, { nat: { destination: [RULE] } });
      lost.push((await daemon.peek()).inside.dropped["crash_lost"]);
    }
    sender.kill("SIGTERM");
    const { sent } = await ended;
    assert.deepEqual(lost, [0, 0, 0, 0, 0]);
    await settled(daemon);
    await until("everything sent to arrive", async () => ((await sink.report()).packets === sent ? true : null));
  });

  /** Drivers may add queues at run time, and nobody has bound a socket to those: as if queue 0 were such a one. */
  async function takeSocketAway(): Promise<void> {
    await run("bpftool", ["map", "delete", "id", await mapOf("worker_sockets"), "key", "0", "0", "0", "0"]);
  }

  describe("on its way to a neighbour that does not answer", () => {
    const silent = "172.30.82.66";
    before(() => bed.sysctl("gateway", { "net.ipv4.neigh.out0.retrans_time_ms": 300 }));
    beforeEach(() => bed.ip("gateway", "neigh flush dev out0"));

    test("is named no_neighbour, ring_full or fill_empty, under the full rate of a core", async () => {
      const sent = await send({ duration: 1, destination: silent, ports: "9" });
      const { stats } = await agreed(daemon, sink);
      const { no_neighbour, ring_full, fill_empty, ...others } = dropsOf(stats);
      assert.deepEqual(others, {});
      assert.ok((no_neighbour ?? 0) >= 64, "nothing waited");
      assert.ok((ring_full ?? 0) + (fill_empty ?? 0) > 0, "the worker's queue never overflowed");
      assert.equal(sum(dropsOf(stats)), sent.sent);
      await recovers();
    });

    test("is named carrier_down when the far end goes while it waits", async () => {
      await bed.sysctl("gateway", { "net.ipv4.neigh.out0.retrans_time_ms": 10_000 });
      await send({ count: 60, destination: silent, ports: "9", rate: 10_000 });
      assert.equal((await daemon.peek()).inside.pending, 60);
      await bed.ip("target", "link set dst0 down");
      const { stats } = await agreed(daemon, sink);
      await bed.ip("target", "link set dst0 up", `route replace default via ${ADDRESS.outside}`);
      await bed.sysctl("gateway", { "net.ipv4.neigh.out0.retrans_time_ms": 300 });
      assert.deepEqual(dropsOf(stats), { carrier_down: 60 });
    });

    test("and comes by a receive queue that has no socket is named too, and none is lost while the ring has room", async () => {
      await takeSocketAway();
      await send({ count: 60, ports: "9", rate: 10_000 });
      assert.deepEqual(dropsOf((await agreed(daemon, sink)).stats), {});
      const sent = await send({ duration: 1, destination: silent, ports: "9" });
      const { stats } = await agreed(daemon, sink);
      const { no_neighbour, ring_full, fill_empty, ...others } = dropsOf(stats);
      assert.deepEqual(others, {});
      assert.ok((no_neighbour ?? 0) >= 64, "nothing waited");
      assert.ok((ring_full ?? 0) > 0, "the ring never overflowed");
      assert.equal((no_neighbour ?? 0) + (ring_full ?? 0) + (fill_empty ?? 0), sent.sent);
    });
  });

  describe("being a fragment", () => {
    let sender: RawSender;
    before(() => {
      sender = RawSender.start(bed);
    });

    async function sendPieces(pieces: readonly Piece[]): Promise<void> {
      const file = join(bed.directory, "pieces.pcap");
      writePcap(
        file,
        pieces.map((piece) => tunnelled(piece)),
      );
      const earlier = (await daemon.peek()).inside.received;
      await sender.send(file);
      await receivedIs(daemon, earlier + pieces.length);
    }
    const datagrams = (count: number): [Piece, Piece][] =>
      Array.from({ length: count }, (_, index) =>
        twoFragments(
          `10.${index >> 16}.${(index >> 8) & 255}.${index & 255}`,
          ADDRESS.beyond,
          index & 0xffff,
          RULE.port,
        ),
      );

    test("is named fragment_limit when 64 datagrams wait for their first already, and never half of one leaves", async () => {
      const pairs = datagrams(65);
      await sendPieces(pairs.map(([, later]) => later));
      // The oldest one was given up for the newest.
      const check = async (): Promise<true | null> => ((await daemon.peek()).inside.pending === 64 ? true : null);
      await until("64 fragments to wait", check);
      assert.deepEqual(dropsOf(await daemon.stats()), { fragment_limit: 1 });
      await sendPieces(pairs.map(([first]) => first));
      const { stats } = await agreed(daemon, sink);
      assert.deepEqual(dropsOf(stats), { fragment_limit: 2 });
      assert.equal(stats.inside.forwarded, 128);
    });

    test("is named fragment_limit when the table of datagrams is full, both of its halves", async () => {
      const pairs = datagrams(vxConstant.fragmentsMax + 500);
      await sendPieces(pairs.map(([first]) => first));
      await sendPieces([...pairs.slice(0, 500), ...pairs.slice(-500)].map(([, later]) => later));
      const { stats } = await agreed(daemon, sink);
      assert.deepEqual(dropsOf(stats), { fragment_limit: 1000 });
      assert.equal(stats.inside.forwarded, vxConstant.fragmentsMax + 500);
    });
  });
});
