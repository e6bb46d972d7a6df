// The order of each flow where a worker changes between its two ways of sending, at 32 packets waiting: few go by AF_XDP,
// many by injection, and neither may pass what the other has not got rid of yet. The generator numbers its packets, the
// far end sees which of a flow's come too late. Needs root.
import assert from "node:assert/strict";
import { beforeEach, describe, test } from "node:test";

import { ADDRESS } from "../bed/bed.js";
import { sleep } from "../bed/command.js";
import { WORKER_DATAPATHS } from "../bed/daemon.js";
import { type Load, startLoad } from "../bed/tools.js";
import { agreed, assertNothingWrong, receivedIs, ROOT_ONLY, tooMuchOf } from "./ledger.js";
import { makeScene } from "./scene.js";

/** Few, so that packets that change places are likely to be of one; each from another address, by which workers share. */
const FLOWS = 8;
const LOAD: Load = { cpu: 0, flows: FLOWS, sources: "10.0.0.1-10.0.0.8", destination: ADDRESS.beyond, ports: "9" };
/** Packets a second. The generator sends what is due twice a millisecond: 64,000 are 32 at a time, more or less. */
const RATES = [4_000, 64_000, 300_000, 64_000, 100_000, 56_000];
/** That went either way, on a host that is busy with other things too. */
const AT_LEAST = 500;

for (const datapath of WORKER_DATAPATHS)
  describe(`by ${datapath}, each flow keeps its order`, ROOT_ONLY, () => {
    const scene = makeScene();
    let received = 0;
    beforeEach(() => {
      received = 0;
    });

    /** Every rate for a while, the daemon standing still now and then: what has come meanwhile waits all at once. */
    async function oscillate(): Promise<void> {
      for (const rate of RATES) {
        const { process, ended } = startLoad(scene.bed, { ...LOAD, rate, duration: 0.5, firstSequence: received + 1 });
        for (; process.exit === null; await sleep(30)) {
          global.process.kill(scene.daemon.process.pid, "SIGSTOP");
          await sleep(2);
          global.process.kill(scene.daemon.process.pid, "SIGCONT");
        }
        received += (await ended).sent;
        await receivedIs(scene.daemon, received);
      }
    }

    /** Everything that was not too much is there in order, and much of it went each way. */
    async function inOrder(): Promise<void> {
      const { stats, arrived } = await agreed(scene.daemon, scene.sink);
      assertNothingWrong(arrived);
      assert.equal(arrived.packets + tooMuchOf(stats, datapath), received);
      const { forwarded, injected } = stats.inside;
      const least = Math.min(injected, forwarded - injected);
      assert.ok(least >= AT_LEAST, `${injected} of ${forwarded} packets were injected`);
    }

    for (const [count, batch] of [
      [1, 64],
      [1, 1],
      [4, 64],
    ] as const)
      test(`while few and many wait in turns: workers ${count}, up to ${batch} received at once`, async () => {
        await scene.start({ datapath, workers: { count, batch } }, { flows: FLOWS });
        await oscillate();
        await inOrder();
      });

    // A veth's softirq runs where the last frame was sent that found it idle: what comes for the queue meanwhile, from
    // whichever CPU, it takes along. Network cards do so when an interrupt is moved.
    test("while its queue is served by two CPUs in turns", async () => {
      await scene.start({ datapath }, { flows: FLOWS });
      const { ended } = startLoad(scene.bed, { ...LOAD, rate: 300_000, duration: 2 });
      await scene.bed.exec("source", "taskset", ["-c", "1", "ping", "-q", "-f", "-w", "2", ADDRESS.inside]);
      const { sent } = await ended;
      const { stats, arrived } = await agreed(scene.daemon, scene.sink);
      assertNothingWrong(arrived);
      assert.equal(arrived.packets + tooMuchOf(stats, datapath), sent);
    });

    // A veth with a queueing discipline stops its queue when the far end's ring is full: AF_XDP is told to try again, and
    // what it holds then has waited longer than what would be injected.
    test("while few and many wait in turns behind a driver that lets it wait", async () => {
      await scene.start({ datapath }, { flows: FLOWS });
      await scene.bed.exec("target", "sh", ["-c", "echo 1 > /sys/class/net/dst0/threaded"]);
      await scene.bed.exec("gateway", "tc", ["qdisc", "replace", "dev", "out0", "root", "pfifo"]);
      await oscillate();
      await inOrder();
    });
  });
