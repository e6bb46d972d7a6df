// Every loss of the ledger that traffic alone does not show, provoked by each datapath: it has to be named for what it is,
// counted to the packet, and leave a ledger that the far end agrees with. What only redirects lose is in
// redirects.test.ts, what queues lose that are full in queues.test.ts. Needs root.
import assert from "node:assert/strict";
import { join } from "node:path";
import { before, beforeEach, describe, test } from "node:test";

import { ADDRESS } from "../bed/bed.js";
import { run, until } from "../bed/command.js";
import { DATAPATHS } from "../bed/daemon.js";
import { startLoad } from "../bed/tools.js";
import { type Piece, tunnelled, twoFragments, writePcap } from "./frames.js";
import { vxConstant } from "../../src/pipeline/abi.gen.js";
import { agreed, dropsOf, OVERLOAD, receivedIs, ROOT_ONLY, settled, sum } from "./ledger.js";
import { LOAD, makeScene } from "./scene.js";
import { RawSender } from "./wire.js";

const RULE = { protocol: "udp", port: 31765, to: `${ADDRESS.target}:8081` };
/** What a link that comes and goes costs: a worker's queues fill up meanwhile, and it tries both of its ways. */
const FLAPPING = {
  xdp: ["carrier_down", "tx_refused"],
  afxdp: ["carrier_down", "redirect_error", ...OVERLOAD.afxdp],
  ringbuf: ["carrier_down", "redirect_error", ...OVERLOAD.ringbuf],
};

for (const datapath of DATAPATHS)
  describe(`by ${datapath}, a packet that is lost`, ROOT_ONLY, () => {
    const scene = makeScene();
    beforeEach(() => scene.start({ datapath, nat: { destination: [RULE] } }));

    const withoutCarrier = (): Promise<unknown> =>
      until("the gateway to know", async () => ((await scene.daemon.status("/readyz")) === 503 ? true : null));

    // A thousand: as many as the worker's queue holds, when it does not get to run.
    test("because the far end is down is named carrier_down", async () => {
      await scene.bed.ip("target", "link set dst0 down");
      try {
        await withoutCarrier();
        await scene.send({ count: 1000, mix: { rule: 1, no_rule: 1 }, rate: 100_000 });
        assert.deepEqual(dropsOf((await agreed(scene.daemon, scene.sink)).stats), { carrier_down: 1000 });
      } finally {
        await scene.bed.ip("target", "link set dst0 up", `route replace default via ${ADDRESS.outside}`);
      }
      await scene.recovers();
    });

    test("because the outside interface is down is named, and nothing else is lost", async () => {
      await scene.bed.ip("gateway", "link set out0 down");
      try {
        await withoutCarrier();
        await scene.send({ count: 1000, mix: { rule: 1, no_rule: 1 }, rate: 100_000 });
        // Its routes are gone too, which the kernel does not announce: they are read a moment later.
        const { carrier_down = 0, no_route = 0, ...others } = dropsOf((await agreed(scene.daemon, scene.sink)).stats);
        assert.deepEqual([carrier_down + no_route, others], [1000, {}]);
      } finally {
        await scene.bed.ip("gateway", "link set out0 up", `route replace default via ${ADDRESS.target}`);
        await scene.bed.ip("gateway", `neigh replace ${ADDRESS.target} lladdr 02:00:00:00:02:02 dev out0`);
      }
      await scene.recovers();
    });

    test("while the far end goes down and up under load has one of the names of a link, and is in the ledger", async () => {
      const { process, ended } = startLoad(scene.bed, { ...LOAD, duration: 2, rate: 200_000, flows: 100 });
      let downs = 0;
      for (; process.exit === null; downs++) {
        await scene.bed.ip("target", "link set dst0 down");
        await scene.bed.ip("target", "link set dst0 up");
      }
      await scene.bed.ip("target", `route replace default via ${ADDRESS.outside}`);
      const sent = await ended;
      await receivedIs(scene.daemon, sent.sent);
      const stats = await settled(scene.daemon);
      assert.equal(stats.inside.received, sent.sent);
      const drops = dropsOf(stats);
      assert.deepEqual(
        Object.keys(drops).filter((reason) => !FLAPPING[datapath].includes(reason)),
        [],
      );
      assert.ok(sum(drops) > 0, "nothing was lost, so nothing was tested");
      // What the driver had taken and the far end's ring still held went with the ring, which has 256 slots.
      const { packets } = await scene.sink.report();
      const between = stats.inside.forwarded - packets;
      assert.ok(packets > 0 && between >= 0 && between <= 256 * downs, `${between} lost after ${downs} downs`);
    });

    /** Drivers may add queues at run time, and nobody has bound a socket to those: as if queue 0 were such a one. */
    async function takeSocketAway(): Promise<void> {
      await run("bpftool", [
        "map",
        "delete",
        "id",
        String(await scene.daemon.mapId("worker_sockets")),
        "key",
        "0",
        "0",
        "0",
        "0",
      ]);
    }

    describe("on its way to a neighbour that does not answer", () => {
      const silent = "172.30.82.66";
      before(() => scene.bed.sysctl("gateway", { "net.ipv4.neigh.out0.retrans_time_ms": 300 }));
      beforeEach(() => scene.bed.ip("gateway", "neigh flush dev out0"));

      test("is named no_neighbour, ring_full or fill_empty, under the full rate of a core", async () => {
        const sent = await scene.send({ duration: 1, destination: silent, ports: "9" });
        const { stats } = await agreed(scene.daemon, scene.sink);
        const { no_neighbour, ring_full, fill_empty, ...others } = dropsOf(stats);
        assert.deepEqual(others, {});
        assert.ok((no_neighbour ?? 0) >= 64, "nothing waited");
        assert.ok((ring_full ?? 0) + (fill_empty ?? 0) > 0, "the worker's queue never overflowed");
        assert.equal(sum(dropsOf(stats)), sent.sent);
        await scene.recovers();
      });

      test("is named carrier_down when the far end goes while it waits", async () => {
        await scene.bed.sysctl("gateway", { "net.ipv4.neigh.out0.retrans_time_ms": 10_000 });
        await scene.send({ count: 60, destination: silent, ports: "9", rate: 10_000 });
        assert.equal((await scene.daemon.peek()).inside.pending, 60);
        await scene.bed.ip("target", "link set dst0 down");
        const { stats } = await agreed(scene.daemon, scene.sink);
        await scene.bed.ip("target", "link set dst0 up", `route replace default via ${ADDRESS.outside}`);
        await scene.bed.sysctl("gateway", { "net.ipv4.neigh.out0.retrans_time_ms": 300 });
        assert.deepEqual(dropsOf(stats), { carrier_down: 60 });
      });

      // Sockets are not how packets come by ring buffer.
      if (datapath !== "ringbuf")
        test("and comes by a receive queue that has no socket is named too, and none is lost while the ring has room", async () => {
          await takeSocketAway();
          await scene.send({ count: 60, ports: "9", rate: 10_000 });
          assert.deepEqual(dropsOf((await agreed(scene.daemon, scene.sink)).stats), {});
          const sent = await scene.send({ duration: 1, destination: silent, ports: "9" });
          const { stats } = await agreed(scene.daemon, scene.sink);
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
        sender = RawSender.start(scene.bed);
      });

      async function sendPieces(pieces: readonly Piece[]): Promise<void> {
        const file = join(scene.bed.directory, "pieces.pcap");
        writePcap(
          file,
          pieces.map((piece) => tunnelled(piece)),
        );
        const earlier = (await scene.daemon.peek()).inside.received;
        await sender.send(file);
        await receivedIs(scene.daemon, earlier + pieces.length);
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
        const check = async (): Promise<true | null> =>
          (await scene.daemon.peek()).inside.pending === 64 ? true : null;
        await until("64 fragments to wait", check);
        assert.deepEqual(dropsOf(await scene.daemon.stats()), { fragment_limit: 1 });
        await sendPieces(pairs.map(([first]) => first));
        const { stats } = await agreed(scene.daemon, scene.sink);
        assert.deepEqual(dropsOf(stats), { fragment_limit: 2 });
        assert.equal(stats.inside.forwarded, 128);
      });

      // 132,000 packets one by one for a table that only XDP looks into.
      if (datapath === "xdp")
        test("is named fragment_limit when the table of datagrams is full, both of its halves", async () => {
          const pairs = datagrams(vxConstant.fragmentsMax + 500);
          await sendPieces(pairs.map(([first]) => first));
          await sendPieces([...pairs.slice(0, 500), ...pairs.slice(-500)].map(([, later]) => later));
          const { stats } = await agreed(scene.daemon, scene.sink);
          assert.deepEqual(dropsOf(stats), { fragment_limit: 1000 });
          assert.equal(stats.inside.forwarded, vxConstant.fragmentsMax + 500);
        });
    });
  });
