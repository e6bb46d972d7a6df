// New sessions beside live ones: 10,000 a second cost no packet of the flows that are there. Needs root.
import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";

import { ADDRESS, Bed } from "../bed/bed.js";
import { Daemon, WORKER_DATAPATHS } from "../bed/daemon.js";
import { generate, type Load, Sink, startLoad } from "../bed/tools.js";
import { agreed, assertNothingWrong, dropsOf, receivedIs, ROOT_ONLY } from "./ledger.js";

const POOL = "203.0.113.1-203.0.113.8";
const SUBSCRIBERS = "10.0.0.1-10.0.3.250";
const SECONDS = 2;

for (const datapath of WORKER_DATAPATHS)
  describe(`by ${datapath}, 10,000 new sessions a second`, ROOT_ONLY, () => {
    let bed: Bed;
    let daemon: Daemon;
    let sink: Sink;
    before(async () => {
      bed = await Bed.make({ staticNeighbours: true });
      sink = await Sink.start(bed, { noOrder: true });
      daemon = await Daemon.start(bed, {
        datapath,
        inside: { interface: "in0", vxlan: { port: 4789, vnis: [1] } },
        nat: { source: { pools: [{ addresses: [POOL] }], maxSessions: 100_000 } },
      });
    });
    after(async () => {
      await daemon.stop();
      await sink.stop();
      await bed.remove();
    });

    test("cost none of 1,000 live flows a packet, and none of the new ones its first", async () => {
      const load: Load = { cpu: 0, vni: 1, sources: SUBSCRIBERS, destination: ADDRESS.beyond };
      const live: Load = { ...load, ports: "53", flows: 1000, rate: 10_000, latency: true };
      const { sent: first } = await generate(bed, { ...live, count: 1000 });
      const flowing = startLoad(bed, { ...live, duration: SECONDS });
      await receivedIs(daemon, 2 * first);
      const fresh = startLoad(bed, { ...load, ports: "443", flows: 10_000 * SECONDS, rate: 10_000, duration: SECONDS });
      const [old, begun] = await Promise.all([flowing.ended, fresh.ended]);
      assert.ok(begun.sent >= 0.9 * 10_000 * SECONDS, `${begun.sent} new sessions`);
      const { stats, arrived } = await agreed(daemon, sink);
      assert.deepEqual(dropsOf(stats), {});
      assertNothingWrong(arrived);
      assert.equal(arrived.packets, first + old.sent + begun.sent);
      const gauges = await daemon.get("/metrics");
      const active = Number(/^cgnat_nat_sessions_active (\d+)/m.exec(gauges)?.[1]);
      assert.equal(active, 1000 + Math.min(begun.sent, 10_000 * SECONDS));
    });
  });
