// `datapath: auto`: what it takes on which interfaces, that it says why, and that packets flow by what it took. Needs root.
import assert from "node:assert/strict";
import { join } from "node:path";
import { after, afterEach, before, beforeEach, describe, test } from "node:test";

import { ADDRESS, Bed, MAC } from "../bed/bed.js";
import { type Background, ROOT, until } from "../bed/command.js";
import { Daemon } from "../bed/daemon.js";
import { generate, type Load, Sink } from "../bed/tools.js";
import { agreed, assertNothingWrong, dropsOf, receivedIs, ROOT_ONLY, settled, sum } from "./ledger.js";
import { occupyQueue } from "./occupied-queue.js";
import { PYTHON } from "./wire.js";

const LOAD: Load = { cpu: 0, flows: 100, destination: ADDRESS.beyond, ports: "9" };

interface Chosen {
  datapath: { mode: string; attach: string; zeroCopy: boolean };
  choice: { configured: string; best: boolean; why: string };
}

async function chosen(daemon: Daemon): Promise<Chosen> {
  const { datapath, choice } = (await daemon.stats()) as unknown as Chosen;
  const metrics = await daemon.get("/metrics");
  const labels = `datapath="${datapath.mode}",configured="${choice.configured}",attach="${datapath.attach}"`;
  assert.match(metrics, new RegExp(`^vxpipe_info\\{version="[^"]+",${labels}\\} 1$`, "m"));
  assert.match(metrics, new RegExp(`^vxpipe_datapath_degraded ${choice.best ? 0 : 1}$`, "m"));
  return { datapath, choice };
}

/** What the daemon told of one event, oldest first. */
async function told(daemon: Daemon, name: string): Promise<string[]> {
  const { events } = JSON.parse(await daemon.get("/api/v1/events")) as { events: { event: string; detail: string }[] };
  return events.filter(({ event }) => event === name).map(({ detail }) => detail);
}

describe("auto", ROOT_ONLY, () => {
  let bed: Bed;
  let daemon: Daemon | null;
  before(async () => {
    bed = await Bed.make({ staticNeighbours: true });
  });
  after(() => bed.remove());
  beforeEach(() => {
    daemon = null;
  });
  afterEach(async () => {
    if (daemon === null) return;
    assert.equal((await daemon.stop()).code, 0, daemon.process.stderr);
    assert.deepEqual(await daemon.leftovers(), []);
  });

  const gro = (on: boolean): Promise<string> => bed.exec("target", "ethtool", ["-K", "dst0", "gro", on ? "on" : "off"]);
  const arrived = async (): Promise<number> => (await bed.traffic("target", "dst0")).received;

  test("is xdp where the far end takes redirected frames", async () => {
    const sink = await Sink.start(bed);
    daemon = await Daemon.start(bed, { datapath: "auto" });
    const { datapath, choice } = await chosen(daemon);
    assert.deepEqual(datapath, { mode: "xdp", attach: "native", zeroCopy: false });
    assert.deepEqual([choice.configured, choice.best], ["auto", true]);
    assert.equal((await told(daemon, "datapath_chosen")).length, 1);
    await generate(bed, { ...LOAD, count: 1000 });
    await receivedIs(daemon, 1000);
    const { stats } = await agreed(daemon, sink);
    assert.deepEqual([stats.inside.forwarded, stats.originated], [1000, 0]);
    await sink.stop();
  });

  test("gives the sending to a worker where the far end takes none, and loses none to finding out", async () => {
    daemon = await Daemon.start(bed, { datapath: "auto" });
    const { datapath, choice } = await chosen(daemon);
    assert.deepEqual([datapath.mode, datapath.attach, choice.best], ["afxdp", "native", false]);
    assert.match(choice.why, /XDP cannot: the far end of the veth has neither an XDP program nor GRO$/);
    assert.deepEqual(await told(daemon, "datapath_degraded"), [`the datapath is afxdp: ${choice.why}`]);
    assert.match(await daemon.cli("stats"), /^datapath afxdp \(auto\), .*\nless than the best: workers send/);
    const earlier = await arrived();
    await generate(bed, { ...LOAD, count: 100, rate: 1000 });
    await receivedIs(daemon, 100);
    const stats = await settled(daemon);
    assert.equal(stats.inside.forwarded, 100);
    assert.equal((await arrived()) - earlier, 100);
  });

  for (const [far, cannot] of [
    [false, "XDP cannot: the far end of the veth has neither an XDP program nor GRO"],
    [true, "XDP needs one for its exceptions"],
  ] as const)
    test(`feeds a worker by ring buffers where no socket can be bound inside, redirects ${far ? "" : "not "}taken outside`, async () => {
      await gro(far);
      const leave = await occupyQueue(bed, "in0");
      try {
        daemon = await Daemon.start(bed, { datapath: "auto" });
        const { datapath, choice } = await chosen(daemon);
        assert.deepEqual([datapath.mode, choice.best], ["ringbuf", false]);
        const why =
          /^workers send, fed by ring buffers, for no AF_XDP socket can be bound \(interface \d+ queue 0\); (.*)$/;
        assert.equal(why.exec(choice.why)?.[1], cannot, choice.why);
        const earlier = await arrived();
        await generate(bed, { ...LOAD, count: 100, rate: 1000 });
        await receivedIs(daemon, 100);
        assert.equal((await settled(daemon)).inside.forwarded, 100);
        assert.equal((await arrived()) - earlier, 100);
      } finally {
        await leave();
        await gro(false);
      }
    });

  test("changes to a worker when the first packets are refused, with one ledger before and after", async () => {
    await gro(true);
    daemon = await Daemon.start(bed, { datapath: "auto" });
    assert.equal((await chosen(daemon)).datapath.mode, "xdp");
    await gro(false);
    await generate(bed, { ...LOAD, count: 1000 });
    await receivedIs(daemon, 1000);
    const running = daemon;
    const isAfxdp = async (): Promise<true | null> => ((await running.peek()).datapath.mode === "afxdp" ? true : null);
    await until("the change", isAfxdp);
    await daemon.ready();
    assert.match((await chosen(daemon)).choice.why, /took none of the first 1000 redirected packets$/);
    assert.equal((await told(daemon, "redirect_refused")).length, 1);
    const earlier = await arrived();
    await generate(bed, { ...LOAD, count: 100, rate: 1000, firstSequence: 1000 });
    await receivedIs(daemon, 1100);
    const stats = await settled(daemon);
    assert.deepEqual([stats.inside.received, stats.inside.forwarded], [1100, 100]);
    assert.deepEqual(dropsOf(stats), { redirect_error: 1000 });
    assert.equal((await arrived()) - earlier, 100);
  });

  test("is not changed where xdp is configured, which says what would help", async () => {
    daemon = await Daemon.start(bed, { datapath: "xdp" });
    await generate(bed, { ...LOAD, count: 1000 });
    const running = daemon;
    const said = async (): Promise<string | null> => (await told(running, "redirect_refused"))[0] ?? null;
    assert.match(await until("the event", said), /with `datapath: auto` or `afxdp` a worker would send$/);
    assert.equal((await chosen(daemon)).datapath.mode, "xdp");
    assert.deepEqual(dropsOf(await settled(daemon)), { redirect_error: 1000 });
  });

  test("goes back to nothing when it stops amid the change", async () => {
    await gro(true);
    daemon = await Daemon.start(bed, { datapath: "auto" });
    await gro(false);
    await generate(bed, { ...LOAD, count: 1000 });
    await until("the event", async () => ((await told(daemon as Daemon, "redirect_refused")).length > 0 ? true : null));
  });

  /** in0 below a bridge of its name and address, as the inside interface. */
  async function bridged(): Promise<() => Promise<void>> {
    await bed.exec("gateway", "ethtool", ["-K", "in0", "gro", "on"]); // else it takes no redirected frames of the generator
    await bed.ip(
      "gateway",
      `link add br0 address ${MAC.inside} type bridge`,
      "link set in0 master br0",
      "link set br0 mtu 3400 up",
    );
    return async () => {
      await bed.ip("gateway", "link del br0");
      await bed.exec("gateway", "ethtool", ["-K", "in0", "gro", "off"]);
    };
  }

  test("feeds a worker by generic XDP where the inside has no native XDP, and the ledger holds", async () => {
    const undo = await bridged();
    const sink = await Sink.start(bed, { flows: 100 });
    try {
      daemon = await Daemon.start(bed, { datapath: "auto", inside: { interface: "br0", vxlan: {} } });
      const { datapath, choice } = await chosen(daemon);
      assert.deepEqual([datapath.mode, datapath.attach, choice.best], ["afxdp", "generic", false]);
      assert.match(choice.why, /XDP cannot: the driver of br0 has no native XDP$/);
      await generate(bed, { ...LOAD, count: 20_000, mix: { no_rule: 3, no_flag: 1 } });
      await receivedIs(daemon, 20_000);
      const { stats, arrived: far } = await agreed(daemon, sink);
      assertNothingWrong(far);
      const { vxlan_flags: flagless, ...queues } = dropsOf(stats);
      assert.equal(flagless, 5000);
      assert.deepEqual(
        Object.keys(queues).filter((name) => !["ring_full", "fill_empty"].includes(name)),
        [],
      );
      assert.equal(stats.inside.forwarded, 15_000 - sum(queues));
      assert.equal((await daemon.stop()).code, 0);
      await assert.rejects(
        Daemon.start(bed, { datapath: "xdp", inside: { interface: "br0", vxlan: {} } }),
        /native XDP/,
      );
      daemon = null;
    } finally {
      await daemon?.stop();
      daemon = null;
      await sink.stop();
      await undo();
    }
  });

  test("sends one by one where the outside has no native XDP, says so, and loses none to finding out", async () => {
    const below = ["addr flush dev out0", "link set out0 master br1", "link set br1 mtu 3400 up"];
    const ways = (name: string): string[] => [
      `addr add ${ADDRESS.outside}/24 dev ${name}`,
      `route replace default via ${ADDRESS.target} dev ${name}`,
      `neigh replace ${ADDRESS.target} lladdr ${MAC.target} dev ${name}`,
    ];
    await bed.ip("gateway", `link add br1 address ${MAC.outside} type bridge`, ...below, ...ways("br1"));
    const sink = await Sink.start(bed, { flows: 100 });
    try {
      daemon = await Daemon.start(bed, { datapath: "auto", outside: { interface: "br1" } });
      assert.deepEqual((await chosen(daemon)).datapath.attach, "generic");
      await generate(bed, { ...LOAD, count: 20_000, rate: 40_000 });
      await receivedIs(daemon, 20_000);
      const stats = await settled(daemon);
      // The bridge's own are others.
      const arrive = async (): Promise<true | null> =>
        (await sink.report()).packets === stats.inside.forwarded ? true : null;
      await until("the far end to see what left", arrive);
      assert.deepEqual(
        Object.keys(dropsOf(stats)).filter((name) => !["ring_full", "fill_empty", "tx_refused"].includes(name)),
        [],
      );
      assert.equal(stats.inside.injected, 0);
      assert.equal((await told(daemon, "injection_unavailable")).length, 1);
    } finally {
      await daemon?.stop();
      daemon = null;
      await sink.stop();
      await bed.ip("gateway", "link del br1", ...ways("out0"));
    }
  });

  describe("on a device other than a veth", () => {
    let tap: Background;
    const HOP = "198.51.100.2";
    async function start(how: "answer" | "mute" | "kernel-only"): Promise<Daemon> {
      const script = join(ROOT, "test/netns/tap.py");
      tap = bed.start("gateway", PYTHON, [script, "tap0", HOP, "02:00:00:00:03:02", how]);
      await tap.nextLine();
      await bed.ip(
        "gateway",
        "addr add 198.51.100.1/24 dev tap0",
        "link set tap0 up",
        `route add 203.0.113.128/25 via ${HOP}`,
      );
      return Daemon.start(bed, { datapath: "auto", outside: { interface: "tap0" } });
    }
    /** Frames that came out of it, of the kinds the gateway originates. */
    const requests = (): number => tap.lines.filter((line) => line.includes(`"for": "${HOP}"`)).length;
    afterEach(async () => {
      const exit = await daemon?.stop();
      if (exit !== undefined) assert.equal(exit.code, 0, daemon?.process.stderr);
      daemon = null;
      tap.closeInput();
      await tap.exited;
    });

    test("redirects a request to the next hop, which answers, and counts it as originated", async () => {
      daemon = await start("answer");
      const { datapath, choice } = await chosen(daemon);
      assert.deepEqual([datapath.mode, choice.best], ["xdp", true]);
      assert.match(choice.why, /: the next hop 198\.51\.100\.2 answered a redirected frame$/);
      assert.deepEqual([(await daemon.peek()).originated, requests()], [1, 1]);
    });

    test("believes the driver where the next hop answers nobody", async () => {
      daemon = await start("mute");
      const { datapath, choice } = await chosen(daemon);
      assert.equal(datapath.mode, "xdp");
      assert.match(choice.why, /the driver took a redirected frame; the next hop .* answers no request, however sent$/);
      assert.deepEqual([(await daemon.peek()).originated, requests()], [3, 3]);
    });

    test("does not believe it where the next hop answers all but redirected frames", async () => {
      daemon = await start("kernel-only");
      const { datapath, choice } = await chosen(daemon);
      assert.equal(datapath.mode, "afxdp");
      assert.match(choice.why, /answers a request sent the ordinary way, and none that was redirected$/);
      assert.deepEqual([(await daemon.peek()).originated, requests()], [3, 3]);
    });
  });
});
