// The way out while it changes under us: neighbours that are unknown, move, fall silent; routes that change or go; an
// MTU that shrinks. The kernel of the gateway is told with `ip`, as an operator or a routing daemon does. By each datapath:
// who sends has to be told of every change. Needs root.
import assert from "node:assert/strict";
import { after, afterEach, before, beforeEach, describe, test } from "node:test";

import { ADDRESS, Bed, MAC } from "../bed/bed.js";
import { until } from "../bed/command.js";
import { DATAPATHS, Daemon, type Stats } from "../bed/daemon.js";
import { generate, Sink, startLoad } from "../bed/tools.js";
import { agreed, assertNothingWrong, dropsOf, receivedIs, ROOT_ONLY, settled, tooMuchOf } from "./ledger.js";
import { Collector } from "./wire.js";

const SECOND_GATEWAY = { address: "172.30.82.96", mac: "02:00:00:00:02:96" };
const LOAD = { destination: ADDRESS.beyond, ports: "9" };

for (const datapath of DATAPATHS)
  describe(`the way out, by ${datapath},`, ROOT_ONLY, () => {
    let bed: Bed;
    let daemon: Daemon;
    before(async () => {
      bed = await Bed.make();
      // The kernel's patience with neighbours, shortened: what is tested is that we follow, not how long it waits.
      const patience = { retrans_time_ms: 100, locktime: 0, interval_probe_time_ms: 1000 };
      const settings = Object.entries(patience).map(([key, value]) => [`net.ipv4.neigh.out0.${key}`, value] as const);
      await bed.sysctl("gateway", Object.fromEntries(settings));
    });
    after(() => bed.remove());
    beforeEach(async () => {
      await answersArp(true);
      await bed.ip("gateway", "neigh flush dev out0");
      daemon = await Daemon.start(bed, { datapath });
    });
    afterEach(async () => {
      const exit = await daemon.stop();
      assert.equal(exit.code, 0, daemon.process.stderr);
    });

    const answersArp = (yes: boolean): Promise<void> =>
      bed.sysctl("target", { "net.ipv4.conf.dst0.arp_ignore": yes ? 0 : 8 });

    /** Sends one packet after the other until one meets the condition. */
    async function sendUntil(what: string, check: () => Promise<boolean>, size = 64): Promise<void> {
      await until(
        what,
        async () => {
          await generate(bed, { ...LOAD, count: 1, size });
          return (await check()) ? true : null;
        },
        20_000,
      );
    }

    const forwardedMore = async (earlier: Stats): Promise<boolean> =>
      (await settled(daemon)).inside.forwarded > earlier.inside.forwarded;

    describe("as the far end counts", () => {
      let sink: Sink;
      beforeEach(async () => {
        sink = await Sink.start(bed);
      });
      afterEach(async () => {
        await sink.stop();
      });

      test("to a neighbour that has yet to be found loses none of the packets that wait, and keeps their order", async () => {
        await answersArp(false);
        await bed.sysctl("gateway", { "net.ipv4.neigh.out0.retrans_time_ms": 1000 });
        await generate(bed, { ...LOAD, count: 60, rate: 10_000 });
        await receivedIs(daemon, 60);
        assert.deepEqual([(await daemon.peek()).inside.pending, (await sink.report()).packets], [60, 0]);
        await answersArp(true);
        await bed.sysctl("gateway", { "net.ipv4.neigh.out0.retrans_time_ms": 100 });
        const { stats, arrived } = await agreed(daemon, sink);
        assert.equal(arrived.packets, 60);
        assert.deepEqual(dropsOf(stats), {});
        assertNothingWrong(arrived);
      });

      test("keeps a flow in order, but for the moment of hand-over, while its neighbour is forgotten and found again", async () => {
        const { ended, process } = startLoad(bed, { ...LOAD, duration: 2, rate: 5000 });
        let turns = 0;
        for (; process.exit === null; turns++) await bed.ip("gateway", "neigh flush dev out0");
        const sent = await ended;
        await receivedIs(daemon, sent.sent);
        const { stats, arrived } = await agreed(daemon, sink);
        // By xdp, what XDP has handed to the worker within one NAPI batch is seen there only at the end of the batch;
        // packets that it sends itself later in the same batch may overtake it. Batches of a flow at this rate are
        // rarely that long. By a worker, a packet that has to wait for the neighbour is overtaken by one behind it in the
        // queue when the neighbour was known for just that moment.
        const { order, ...wrong } = arrived.wrong;
        assertNothingWrong({ ...arrived, wrong: { ...wrong, order: 0 } });
        assert.ok(order <= turns / 10, `${order} packets out of order after ${turns} hand-overs`);
        // What may be lost is what came when 64 were already waiting, or faster than the worker can look.
        const { no_neighbour, ring_full, fill_empty, ...others } = dropsOf(stats);
        assert.deepEqual(others, {});
        assert.equal(arrived.packets + (no_neighbour ?? 0) + (ring_full ?? 0) + (fill_empty ?? 0), sent.sent);
        assert.match(await daemon.get("/api/v1/events"), /neighbour_resolved/);
      });

      test("loses nothing while the route changes between two gateways under load", async () => {
        await bed.ip(
          "gateway",
          `neigh replace ${SECOND_GATEWAY.address} lladdr ${SECOND_GATEWAY.mac} dev out0`,
          `neigh replace ${ADDRESS.target} lladdr ${MAC.target} dev out0`,
        );
        const { ended, process } = startLoad(bed, { ...LOAD, duration: 2, rate: 10_000, flows: 100 });
        for (let turn = 0; process.exit === null; turn++) {
          await bed.ip("gateway", `route replace default via ${turn % 2 ? ADDRESS.target : SECOND_GATEWAY.address}`);
        }
        await bed.ip("gateway", `route replace default via ${ADDRESS.target}`, `neigh flush nud permanent dev out0`);
        const sent = await ended;
        await receivedIs(daemon, sent.sent);
        const { stats, arrived } = await agreed(daemon, sink);
        assert.equal(arrived.packets + tooMuchOf(stats, datapath), sent.sent);
        assertNothingWrong(arrived);
      });

      test("gets narrower at run time: from then on large packets leave in fragments, or are too big with DF", async () => {
        await sendUntil("the neighbour", async () => (await sink.report()).packets > 0);
        await bed.ip("gateway", "link set out0 mtu 600");
        try {
          await sendUntil("fragments", async () => (await sink.report()).fragments > 0, 1000);
          const earlier = (await agreed(daemon, sink)).stats;
          const sent = await generate(bed, { ...LOAD, count: 100, size: 1000, rate: 10_000 });
          await generate(bed, { ...LOAD, count: 50, size: 1000, rate: 10_000, dontFragment: true });
          await generate(bed, { ...LOAD, count: 25, size: 600, rate: 10_000, dontFragment: true });
          await receivedIs(daemon, earlier.inside.received + 175);
          const { stats } = await agreed(daemon, sink);
          assert.equal(stats.fragmentsExtra - earlier.fragmentsExtra, sent.sent);
          assert.equal(stats.inside.forwarded - earlier.inside.forwarded, sent.sent + 25);
          assert.equal((dropsOf(stats)["too_big"] ?? 0) - (dropsOf(earlier)["too_big"] ?? 0), 50);
        } finally {
          await bed.ip("gateway", "link set out0 mtu 3400");
        }
        const narrow = (await sink.report()).packets;
        await sendUntil("whole packets again", async () => (await sink.report()).packets > narrow, 1000);
      });

      test("is a named drop while there is no route, and opens again with the route", async () => {
        await sendUntil("the neighbour", async () => (await sink.report()).packets > 0);
        await bed.ip("gateway", "route del default");
        await sendUntil("no_route", async () => (dropsOf(await settled(daemon))["no_route"] ?? 0) > 0);
        const closed = (await agreed(daemon, sink)).stats;
        await generate(bed, { ...LOAD, count: 100, rate: 10_000 });
        await receivedIs(daemon, closed.inside.received + 100);
        const { stats } = await agreed(daemon, sink);
        assert.equal((dropsOf(stats)["no_route"] ?? 0) - (dropsOf(closed)["no_route"] ?? 0), 100);
        assert.equal(stats.inside.forwarded, closed.inside.forwarded);
        await bed.ip("gateway", `route add default via ${ADDRESS.target}`);
        await sendUntil("packets leaving again", () => forwardedMore(stats));
        await agreed(daemon, sink);
      });

      test("is a named drop while the neighbour is silent, and opens again when it answers", async () => {
        await sendUntil("the neighbour", async () => (await sink.report()).packets > 0);
        await answersArp(false);
        await bed.ip("gateway", `neigh change ${ADDRESS.target} dev out0 nud probe`);
        await sendUntil("no_neighbour", async () => (dropsOf(await settled(daemon))["no_neighbour"] ?? 0) > 0);
        const silent = (await agreed(daemon, sink)).stats;
        await answersArp(true);
        await sendUntil("packets leaving again", () => forwardedMore(silent));
        const { stats } = await agreed(daemon, sink);
        assert.deepEqual(Object.keys(dropsOf(stats)), ["no_neighbour"]);
      });
    });

    describe("as the frames' addresses show", () => {
      let collector: Collector;
      let destinations: string[] = [];
      before(async () => {
        collector = await Collector.start(bed);
      });
      const lastIs = async (mac: string): Promise<boolean> => {
        await settled(daemon);
        destinations.push(...(await collector.take()).map((frame) => frame.toString("hex", 0, 6)));
        return destinations.at(-1) === mac.replaceAll(":", "");
      };

      test("follows a neighbour to its new MAC", async () => {
        await sendUntil("the neighbour", () => lastIs(MAC.target));
        const moved = "02:00:00:00:02:aa";
        await bed.ip("target", `link set dst0 address ${moved}`);
        await bed.exec("target", "arping", ["-U", "-c", "1", "-I", "dst0", ADDRESS.target]);
        await sendUntil("packets to the new MAC", () => lastIs(moved));
        await bed.ip("target", `link set dst0 address ${MAC.target}`);
        assert.deepEqual(dropsOf(await settled(daemon)), {});
      });

      test("follows a route to another gateway, and back", async () => {
        destinations = [];
        await bed.ip("gateway", `neigh replace ${SECOND_GATEWAY.address} lladdr ${SECOND_GATEWAY.mac} dev out0`);
        await sendUntil("the first gateway", () => lastIs(MAC.target));
        await bed.ip("gateway", `route replace default via ${SECOND_GATEWAY.address}`);
        await sendUntil("packets to the second gateway", () => lastIs(SECOND_GATEWAY.mac));
        await bed.ip("gateway", `route replace default via ${ADDRESS.target}`);
        await sendUntil("packets to the first gateway", () => lastIs(MAC.target));
        const { inside } = await settled(daemon);
        assert.deepEqual(dropsOf(await settled(daemon)), {});
        assert.equal(destinations.length, inside.forwarded);
      });

      test("leaves the kernel's neighbours as it found them", async () => {
        await sendUntil("the neighbour", () => lastIs(MAC.target));
        const show = (): Promise<string> => bed.exec("gateway", "ip", ["neigh", "show", ADDRESS.target, "dev", "out0"]);
        await until("the kernel to look after the neighbour", async () =>
          (await show()).includes("managed") ? true : null,
        );
        await daemon.stop();
        assert.equal((await show()).includes("managed"), false);
        daemon = await Daemon.start(bed, { datapath });
      });
    });
  });
