// A worker that stands still while everything else goes on: who says so, and what becomes of the packets. Needs root.
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { availableParallelism } from "node:os";
import { after, before, describe, test } from "node:test";

import { ADDRESS, Bed } from "../bed/bed.js";
import { until } from "../bed/command.js";
import { Daemon } from "../bed/daemon.js";
import { generate, type Load, Sink } from "../bed/tools.js";
import { agreed, assertNothingWrong, dropsOf, receivedIs, ROOT_ONLY } from "./ledger.js";
import { stopWorker, workerThread } from "./thread-stop.js";

const LOAD: Load = { cpu: 0, flows: 100, destination: ADDRESS.beyond, ports: "9" };

test("a worker has the real-time priority that is configured, and none by default", ROOT_ONLY, async () => {
  const bed = await Bed.make();
  try {
    for (const [priority, expected] of [
      [10, ["10", "1"]],
      ["off", ["0", "0"]],
    ] as const) {
      const daemon = await Daemon.start(bed, { datapath: "afxdp", workers: { priority } });
      const { pid } = daemon.process;
      const fields =
        readFileSync(`/proc/${pid}/task/${workerThread(daemon)}/stat`, "utf8")
          .split(") ")[1]
          ?.split(" ") ?? [];
      // proc_pid_stat(5): rt_priority and policy, of which the first two fields are cut off here.
      assert.deepEqual(fields.slice(37, 39), expected);
      assert.equal((await daemon.stop()).code, 0, daemon.process.stderr);
    }
  } finally {
    await bed.remove();
  }
});

test("workers that spin at a real-time priority on one CPU take turns there", ROOT_ONLY, async () => {
  const bed = await Bed.make({ staticNeighbours: true });
  try {
    const workers = { count: 2, cpus: [availableParallelism() - 1], polling: "busy", priority: 10 };
    const sink = await Sink.start(bed, { flows: 100 });
    const daemon = await Daemon.start(bed, { datapath: "afxdp", workers });
    const { sent } = await generate(bed, { ...LOAD, sources: "10.9.0.1-10.9.0.100", count: 1000, rate: 10_000 });
    await receivedIs(daemon, sent);
    const { stats, arrived } = await agreed(daemon, sink);
    assertNothingWrong(arrived);
    assert.equal(stats.inside.forwarded, sent);
    for (const { id, role, packets } of stats.workers) assert.ok(role !== "worker" || packets > 0, `worker ${id}`);
    assert.equal((await daemon.stop()).code, 0, daemon.process.stderr);
    await sink.stop();
  } finally {
    await bed.remove();
  }
});

for (const datapath of ["afxdp", "ringbuf"]) {
  describe(`a worker of ${datapath} that stands still`, ROOT_ONLY, () => {
    let bed: Bed;
    before(async () => {
      bed = await Bed.make({ staticNeighbours: true });
    });
    after(() => bed.remove());

    test("is named with its CPU by readyz, an event and a metric, and no longer when it goes on, in order", async () => {
      const sink = await Sink.start(bed, { flows: 100 });
      const daemon = await Daemon.start(bed, { datapath });
      const named = async (name: string): Promise<string | null> => {
        const { events } = JSON.parse(await daemon.get("/api/v1/events")) as {
          events: { event: string; detail: string }[];
        };
        return events.find(({ event }) => event === name)?.detail ?? null;
      };
      const gauge = async (): Promise<string | undefined> =>
        (await daemon.get("/metrics")).split("\n").find((line) => line.startsWith("vxpipe_worker_stalled{"));
      const { cpu } = (await daemon.peek()).workers.find(({ id }) => id === 0) ?? assert.fail();
      assert.equal(await gauge(), `vxpipe_worker_stalled{worker="0",cpu="${cpu}"} 0`);
      const first = await generate(bed, { ...LOAD, count: 500 });
      await receivedIs(daemon, first.sent);

      const goOn = await stopWorker(daemon);
      const detail = await until("the event", () => named("worker_stalled"), 20_000);
      assert.match(detail, new RegExp(`^worker 0 on CPU ${cpu} has made no progress for 5 s: `));
      assert.equal(await daemon.status("/readyz"), 503);
      assert.equal(await gauge(), `vxpipe_worker_stalled{worker="0",cpu="${cpu}"} 1`);
      const { sent } = await generate(bed, { ...LOAD, count: 20_000, firstSequence: 500 });
      await receivedIs(daemon, first.sent + sent);
      const { inside } = await daemon.peek();
      assert.ok(inside.forwarded <= first.sent && inside.pending > 0, `${inside.forwarded} forwarded`);

      await goOn();
      await until("the end of it", () => named("worker_recovered"), 20_000);
      await daemon.ready();
      assert.equal(await gauge(), `vxpipe_worker_stalled{worker="0",cpu="${cpu}"} 0`);
      const { stats, arrived } = await agreed(daemon, sink);
      assertNothingWrong(arrived);
      const unexpected = Object.keys(dropsOf(stats)).filter((reason) => !["ring_full", "fill_empty"].includes(reason));
      assert.deepEqual(unexpected, []);
      assert.equal((await daemon.stop()).code, 0, daemon.process.stderr);
      await sink.stop();
    });
  });
}
