// Source NAT by several workers, whose packets arrive by any of four queues on either side, flow by flow or as chance will
// have it: each session has one owner, and what the workers say of themselves is together what the gateway says. Needs root.
import assert from "node:assert/strict";
import { join } from "node:path";
import { before, describe, test } from "node:test";

import { ROOT } from "../bed/command.js";
import { WORKER_DATAPATHS, type Work } from "../bed/daemon.js";
import { NAT } from "../bed/nat-bed.js";
import { download, ftp, host, ping, upload } from "../bed/nat-hosts.js";
import { ROOT_ONLY, sum } from "./ledger.js";
import { dropsOf, makeNatScene } from "./nat-scene.js";

const SCATTER = join(ROOT, "build/native/gen/scatter.bpf.o");

for (const datapath of WORKER_DATAPATHS)
  for (const [count, scattered] of [
    [2, false],
    [4, false],
    [4, true],
  ] as const)
    describe(`${count} workers on four queues${scattered ? " by chance" : ""}, by ${datapath},`, ROOT_ONLY, () => {
      const scene = makeNatScene({ queues: 4, config: { datapath, workers: { count } } });
      if (scattered)
        before(async () => {
          for (const [place, name] of [
            ["access", "acc0"],
            ["router", "rt0"],
          ] as const) {
            const tc = (...args: string[]): Promise<string> => scene.bed.exec(place, "tc", args);
            await tc("qdisc", "add", "dev", name, "clsact");
            await tc("filter", "add", "dev", name, "egress", "bpf", "da", "obj", SCATTER, "sec", "tc");
          }
        });

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
        assert.equal(dropsOf(stats.outside)["no_session"], undefined);
        if (scattered) await assertScattered();
        const workers = stats.workers.filter(({ role }) => role === "worker");
        assert.equal(workers.length, count);
        for (const { id, packets } of workers) assert.ok(packets > 100, `worker ${id} had ${packets}`);
        const together = (name: keyof Work): number => stats.workers.reduce((total, { work }) => total + work[name], 0);
        assert.equal(together("forwarded"), stats.inside.forwarded + stats.outside.forwarded);
        assert.equal(together("dropped"), sum(stats.inside.dropped) + sum(stats.outside.dropped));
      });

      /** Chance gave every queue its part. */
      async function assertScattered(): Promise<void> {
        for (const name of ["in0", "out0"]) {
          const text = await scene.bed.exec("gateway", "ethtool", ["-S", name]);
          const packets = [...text.matchAll(/rx_queue_\d_xdp_packets: (\d+)/g)].map((match) => Number(match[1]));
          assert.equal(packets.length, 4, text);
          assert.ok(Math.min(...packets) > 0.5 * Math.max(...packets), `${name}: ${packets}`);
        }
      }
    });
