// `datapath: auto`: what it takes on which interfaces, that it says why, and that packets flow by what it took. Needs root.
import assert from "node:assert/strict";
import { join } from "node:path";
import { after, afterEach, before, beforeEach, describe, test } from "node:test";

import { ADDRESS, Bed, MAC } from "../bed/bed.js";
import { type Background, ROOT, until } from "../bed/command.js";
import { Daemon } from "../bed/daemon.js";
import { NAT } from "../bed/nat-bed.js";
import { download } from "../bed/nat-hosts.js";
import { generate, type Load, Sink } from "../bed/tools.js";
import { agreed, assertNothingWrong, dropsOf, receivedIs, ROOT_ONLY, settled, sum } from "./ledger.js";
import { makeNatScene } from "./nat-scene.js";
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

describe("auto with source NAT", ROOT_ONLY, () => {
  const scene = makeNatScene({ config: { datapath: "auto" } });

  test("tries both ways its workers send by, and the far ends have counted the requests", async () => {
    const { datapath, choice } = await chosen(scene.daemon);
    assert.deepEqual([datapath.mode, choice.best], ["afxdp", true]);
    const hop = `the next hop ${NAT.router} answered a`;
    assert.ok(choice.why.endsWith(`; ${hop} redirected frame; ${hop} frame sent by AF_XDP TX`), choice.why);
    assert.equal((await scene.agreed()).originated, 2);
    await download(scene.bed, "a", 1_000_000);
  });
});

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
    // A request by each way, and both were answered.
    const { stats, arrived: far } = await agreed(daemon, sink, 2);
    assert.deepEqual([stats.inside.forwarded, stats.originated, far.neighbour], [1000, 2, 2]);
    const hop = `the next hop ${ADDRESS.target} answered a`;
    assert.ok(choice.why.endsWith(`: ${hop} redirected frame; ${hop} frame sent by AF_XDP TX`), choice.why);
    await sink.stop();
  });

  test("gives the sending to a worker where the far end takes none, and loses none to finding out", async () => {
    daemon = await Daemon.start(bed, { datapath: "auto" });
    const { datapath, choice } = await chosen(daemon);
    assert.deepEqual([datapath.mode, datapath.attach, choice.best], ["afxdp", "native", false]);
    assert.match(choice.why, /XDP cannot: the far end of the veth has neither an XDP program nor GRO; the next hop/);
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
          /^workers send, fed by ring buffers, for no AF_XDP socket can be bound \(another program's AF_XDP socket is bound to queue 0 of in0\); (.*); the next hop/;
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
    assert.match((await chosen(daemon)).choice.why, /took none of the first 1000 redirected packets; the next hop/);
    assert.equal((await told(daemon, "redirect_refused")).length, 1);
    const earlier = await arrived();
    await generate(bed, { ...LOAD, count: 100, rate: 1000, firstSequence: 1000 });
    await receivedIs(daemon, 1100);
    const stats = await settled(daemon);
    assert.deepEqual([stats.inside.received, stats.inside.forwarded], [1100, 100]);
    assert.deepEqual(dropsOf(stats), { redirect_error: 1000 });
    assert.equal((await arrived()) - earlier, 100);
  });

  test("says so where the next hop hears only what takes the kernel's ordinary way", async () => {
    const sent = "02:00:00:00:02:aa";
    // A port that takes frames from one MAC, and a host whose kernel is told to use it.
    const gateway = `table netdev t { chain c { type filter hook egress device out0 priority 0; ether saddr set ${sent}; }; }`;
    const far = `table netdev t { chain c { type filter hook ingress device dst0 priority 0; ether saddr != ${sent} drop; }; }`;
    await gro(true);
    await bed.exec("gateway", "nft", [gateway]);
    await bed.exec("target", "nft", [far]);
    try {
      await bed.exec("gateway", "ping", ["-c", "1", "-W", "2", ADDRESS.target]);
      daemon = await Daemon.start(bed, { datapath: "auto" });
      const { datapath, choice } = await chosen(daemon);
      assert.deepEqual([datapath.mode, choice.best], ["afxdp", false]);
      const none = `the next hop ${ADDRESS.target} answers a request sent the ordinary way, and none that was`;
      assert.ok(
        choice.why.includes(`XDP cannot: ${none} redirected; ${none} sent by AF_XDP TX: it is used all the same`),
      );
      // What the driver took, and the far end has counted as a frame.
      assert.equal((await daemon.peek()).originated, 5);
    } finally {
      await bed.exec("gateway", "nft", ["delete table netdev t"]);
      await bed.exec("target", "nft", ["delete table netdev t"]);
      await gro(false);
    }
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
      assert.match(choice.why, /XDP cannot: the driver of br0 has no native XDP; the next hop/);
      await generate(bed, { ...LOAD, count: 20_000, mix: { no_rule: 3, no_flag: 1 } });
      await receivedIs(daemon, 20_000);
      const { stats, arrived: far } = await agreed(daemon, sink, 2);
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
    async function start(how: "answer" | "mute" | "kernel-only" | "no-afxdp"): Promise<Daemon> {
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

    test("sends a request to the next hop by each way, which it answers, and counts them as originated", async () => {
      daemon = await start("answer");
      const { datapath, choice } = await chosen(daemon);
      assert.deepEqual([datapath.mode, choice.best], ["xdp", true]);
      const hop = `the next hop ${HOP} answered a`;
      assert.ok(choice.why.endsWith(`: ${hop} redirected frame; ${hop} frame sent by AF_XDP TX`), choice.why);
      assert.deepEqual([(await daemon.peek()).originated, requests()], [2, 2]);
    });

    test("believes the driver where the next hop answers nobody", async () => {
      daemon = await start("mute");
      const { datapath, choice } = await chosen(daemon);
      assert.equal(datapath.mode, "xdp");
      const taken = (sent: string): string =>
        `the driver took a ${sent}; the next hop ${HOP} answers no request, however sent`;
      assert.ok(choice.why.endsWith(`: ${taken("redirected frame")}; ${taken("frame sent by AF_XDP TX")}`), choice.why);
      assert.deepEqual([(await daemon.peek()).originated, requests()], [4, 4]);
    });

    test("does not believe it where the next hop answers all but redirected frames", async () => {
      daemon = await start("kernel-only");
      const { datapath, choice } = await chosen(daemon);
      assert.equal(datapath.mode, "afxdp");
      assert.match(choice.why, /answers a request sent the ordinary way, and none that was redirected; the next hop/);
      assert.match(choice.why, /answered a frame sent by AF_XDP TX$/);
      assert.deepEqual([(await daemon.peek()).originated, requests()], [4, 4]);
      // Nor is injection, which redirects.
      await generate(bed, { ...LOAD, destination: "203.0.113.200", count: 10_000 });
      await receivedIs(daemon, 10_000);
      const { inside } = await settled(daemon);
      assert.ok(inside.forwarded > 0);
      assert.equal(inside.injected, 0);
    });

    test("sends nothing by AF_XDP TX where that is lost, also what XDP cannot send", async () => {
      daemon = await start("no-afxdp");
      const { datapath, choice } = await chosen(daemon);
      assert.deepEqual([datapath.mode, choice.best], ["xdp", false]);
      const hop = `the next hop ${HOP} answered a redirected frame`;
      const refused =
        "the driver refused a frame sent by AF_XDP TX: Device or resource busy: packets leave by injection";
      assert.ok(choice.why.includes(`${hop}; ${refused} instead`), choice.why);
      assert.deepEqual(await told(daemon, "datapath_degraded"), [`the datapath is xdp: ${choice.why}`]);
      assert.deepEqual([(await daemon.peek()).originated, requests()], [1, 1]);
      await generate(bed, { ...LOAD, destination: "203.0.113.200", count: 100, rate: 1000 });
      await receivedIs(daemon, 100);
      const { inside } = await settled(daemon);
      assert.equal(inside.forwarded, 100);
      assert.ok(inside.injected > 0, "the first packets wait for the next hop, and are the worker's");
      const packets = (): number => tap.lines.filter((line) => line.includes('"type": 2048')).length;
      await until("every packet to leave", () => Promise.resolve(packets() === 100 ? true : null));
    });
  });
});
