// Several workers: on one receive queue, one on several queues, and as many as queues. A flow has one worker and keeps its
// order; together they account for every packet. Needs root.
import assert from "node:assert/strict";
import { after, afterEach, before, beforeEach, describe, test } from "node:test";

import { ADDRESS, Bed } from "../bed/bed.js";
import { Daemon, type Stats } from "../bed/daemon.js";
import { generate, type Load, Sink } from "../bed/tools.js";
import { agreed, assertNothingWrong, dropsOf, receivedIs, ROOT_ONLY, settled } from "./ledger.js";

const RULE = { protocol: "udp", port: 31766, to: `${ADDRESS.target}:9000` };
/** A thousand flows between a thousand pairs of addresses, by which packets are shared out. */
const LOAD: Load = {
  cpu: 0,
  flows: 1000,
  sources: "10.9.0.1-10.9.3.232",
  destination: ADDRESS.beyond,
  ports: String(RULE.port),
};
/** What the workers' queues may name when more comes than they can send. */
const OVERLOAD = new Set(["ring_full", "fill_empty", "tx_refused"]);

const others = (stats: Stats): string[] => Object.keys(dropsOf(stats)).filter((name) => !OVERLOAD.has(name));

for (const datapath of ["afxdp", "ringbuf"] as const)
  for (const [count, queues] of [
    [4, 1],
    [1, 4],
    [4, 4],
  ] as const)
    describe(`${count} workers on ${queues} queues, fed by ${datapath},`, ROOT_ONLY, () => {
      let bed: Bed;
      let daemon: Daemon;
      let sink: Sink;
      before(async () => {
        bed = await Bed.make({ staticNeighbours: true, queues });
      });
      after(() => bed.remove());
      beforeEach(async () => {
        sink = await Sink.start(bed, { rule: `${RULE.port}=${RULE.to}`, flows: 1000 });
        daemon = await Daemon.start(bed, { datapath, nat: { destination: [RULE] }, workers: { count } });
      });
      afterEach(async () => {
        const exit = await daemon.stop();
        await sink.stop();
        assert.equal(exit.code, 0, daemon.process.stderr);
        assert.deepEqual(await daemon.leftovers(), []);
      });

      test("share out flows, each of which keeps its order", async () => {
        const { sent } = await generate(bed, { ...LOAD, duration: 2, rate: 20_000 });
        await receivedIs(daemon, sent);
        const { stats, arrived } = await agreed(daemon, sink);
        assertNothingWrong(arrived);
        const workers = stats.workers.filter(({ role }) => role === "worker");
        assert.equal(workers.length, count);
        const share = sent / count;
        for (const { id, packets } of workers)
          assert.ok(packets > share / 2 && packets < share * 2, `worker ${id} had ${packets} of ${sent}`);
        assert.deepEqual(others(stats), []);
      });

      test("name what is too much for them, to the packet, and mix nothing up", async () => {
        const { sent } = await generate(bed, { ...LOAD, count: 1_000_000 });
        await receivedIs(daemon, sent);
        const { stats, arrived } = await agreed(daemon, sink);
        assert.equal(stats.inside.received, sent);
        assert.deepEqual(others(stats), []);
        assertNothingWrong(arrived);
        assert.ok(stats.inside.injected > 0);
      });

      test("account for every packet when all have to send one by one, by one outside queue or several", async () => {
        await sink.stop();
        await bed.exec("target", "ethtool", ["-K", "dst0", "gro", "off"]);
        const earlier = (await bed.traffic("target", "dst0")).received;
        const { sent } = await generate(bed, { ...LOAD, count: 500_000 });
        await receivedIs(daemon, sent);
        const stats = await settled(daemon);
        assert.deepEqual(
          others(stats).filter((name) => name !== "redirect_error"),
          [],
        );
        assert.equal((await bed.traffic("target", "dst0")).received - earlier, stats.inside.forwarded);
        sink = await Sink.start(bed);
      });
    });
