// Source NAT by several workers, whose packets arrive scattered over four queues on either side: each session has one owner,
// and what the workers say of themselves is together what the gateway says. Needs root.
import assert from "node:assert/strict";
import { describe, test } from "node:test";

import { WORKER_DATAPATHS, type Work } from "../bed/daemon.js";
import { NAT } from "../bed/nat-bed.js";
import { download, ftp, host, ping, upload } from "../bed/nat-hosts.js";
import { ROOT_ONLY, sum } from "./ledger.js";
import { dropsOf, makeNatScene } from "./nat-scene.js";

for (const datapath of WORKER_DATAPATHS)
  for (const count of [2, 4])
    describe(`${count} workers on four queues, by ${datapath},`, ROOT_ONLY, () => {
      const scene = makeNatScene({ queues: 4, config: { datapath, workers: { count } } });

      test("share 240 subscribers, break nobody's transfer, and their numbers add up to the gateway's", async () => {
        await Promise.all([
          download(scene.bed, "a", 5_000_000),
          upload(scene.bed, "b", 5_000_000),
          ftp(scene.bed, "c", 1_000_000),
          // Its fragments go by another hash than what they are of: one worker hands them to another.
          ping(scene.bed, "a", NAT.server, 20, "-s", "4000"),
          // The server's answers to these are translated back too.
          host(scene.bed, "c", "spoof", "10.0.0.", 5_000, NAT.server),
        ]);
        const stats = await scene.agreed();
        assert.equal(dropsOf(stats.inside)["handoff_full"], undefined);
        const workers = stats.workers.filter(({ role }) => role === "worker");
        assert.equal(workers.length, count);
        for (const { id, packets } of workers) assert.ok(packets > 100, `worker ${id} had ${packets}`);
        const together = (name: keyof Work): number => stats.workers.reduce((total, { work }) => total + work[name], 0);
        assert.equal(together("forwarded"), stats.inside.forwarded + stats.outside.forwarded);
        assert.equal(together("dropped"), sum(stats.inside.dropped) + sum(stats.outside.dropped));
      });
    });
