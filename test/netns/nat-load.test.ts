// New sessions beside live ones: 10,000 a second stand in nobody's way. Nor does who looks through a million sessions.
// Needs root.
import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";

import { ADDRESS, Bed } from "../bed/bed.js";
import { Daemon, WORKER_DATAPATHS } from "../bed/daemon.js";
import { generate, type Load, Sink, startLoad } from "../bed/tools.js";
import { agreed, assertNothingWrong, receivedIs, ROOT_ONLY, settled, tooMuchOf } from "./ledger.js";

const POOL = "203.0.113.1-203.0.113.8";
const SUBSCRIBERS = "10.0.0.1-10.0.3.250";
const SECONDS = 2;
const COUNT = 1_000_000;
/** Share of packets that the worker's queues may have had no room for, when the host took its CPU away. */
const LATE = 0.1;

async function sessionsActive(daemon: Daemon): Promise<number> {
  return Number(/^cgnat_nat_sessions_active (\d+)/m.exec(await daemon.get("/metrics"))?.[1]);
}

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

    test("are refused no packet, nor are 1,000 live flows beside them", async () => {
      const load: Load = { cpu: 0, vni: 1, sources: SUBSCRIBERS, destination: ADDRESS.beyond };
      const live: Load = { ...load, ports: "53", flows: 1000, rate: 10_000, latency: true };
      const { sent: first } = await generate(bed, { ...live, count: 1000 });
      const flowing = startLoad(bed, { ...live, duration: SECONDS });
      await receivedIs(daemon, 2 * first);
      const fresh = startLoad(bed, { ...load, ports: "443", flows: 10_000 * SECONDS, rate: 10_000, duration: SECONDS });
      const [old, begun] = await Promise.all([flowing.ended, fresh.ended]);
      assert.ok(begun.sent >= 0.9 * 10_000 * SECONDS, `${begun.sent} new sessions`);
      const { stats, arrived } = await agreed(daemon, sink);
      const total = first + old.sent + begun.sent;
      const late = tooMuchOf(stats, datapath);
      assert.ok(late <= LATE * total, `${late} of ${total} packets`);
      assertNothingWrong(arrived);
      assert.equal(arrived.packets + late, total);
      const most = 1000 + Math.min(begun.sent, 10_000 * SECONDS);
      const active = await sessionsActive(daemon);
      assert.ok(active <= most && active >= most - late, `${active} of ${most} sessions`);
    });
  });

describe("a list of a million sessions", ROOT_ONLY, () => {
  test("is looked through while live flows go on", async () => {
    const bed = await Bed.make({ staticNeighbours: true });
    try {
      const sink = await Sink.start(bed, { noOrder: true });
      const daemon = await Daemon.start(bed, {
        datapath: "afxdp",
        inside: { interface: "in0", vxlan: { port: 4789, vnis: [1] } },
        nat: {
          source: {
            pools: [{ addresses: ["198.18.0.1-198.18.0.40"], allowPrivate: true }],
            blocks: { size: 128, perSubscriber: 16 },
            limits: { sessionsPerSubscriber: 2000, newSessionsPerSecond: 2000 },
            maxSessions: 1_200_000,
          },
        },
      });
      const load: Load = { cpu: 0, vni: 1, sources: SUBSCRIBERS, destination: ADDRESS.beyond };
      const live: Load = { ...load, ports: "53", flows: 1000, rate: 10_000 };
      const { sent: first } = await generate(bed, { ...live, count: 1000 });
      const others: Load = { ...load, ports: "443", flows: COUNT, count: COUNT, rate: 200_000 };
      let offered = first;
      // A host that is busy with other things loses some of a million first packets.
      for (let round = 0; round < 10 && (await sessionsActive(daemon)) < 0.95 * COUNT; round++) {
        offered += (await generate(bed, others)).sent;
        await receivedIs(daemon, offered);
      }
      const earlier = await settled(daemon);
      const flowing = startLoad(bed, { ...live, duration: SECONDS });
      while (flowing.process.exit === null) {
        const listed = await daemon.cli("nat", "session", "list", "--remote", "192.0.2.99:1", "-o", "json");
        assert.deepEqual(JSON.parse(listed), { sessions: [], cursor: null });
      }
      const { sent } = await flowing.ended;
      await receivedIs(daemon, offered + sent);
      const afterwards = await settled(daemon);
      const active = await sessionsActive(daemon);
      assert.ok(active > 0.95 * COUNT, `${active} sessions`);
      const late = tooMuchOf(afterwards, "afxdp") - tooMuchOf(earlier, "afxdp");
      assert.ok(late <= LATE * sent, `${late} of ${sent} packets`);
      assert.equal(afterwards.inside.forwarded - earlier.inside.forwarded + late, sent);
      await daemon.stop();
      await sink.stop();
    } finally {
      await bed.remove();
    }
  });
});
