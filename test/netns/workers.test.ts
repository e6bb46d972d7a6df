// The datapaths in which workers send everything: that they do, and go on doing it. Their order is in order.test.ts, what
// their queues cannot hold in queues.test.ts and load.test.ts, a link that comes and goes in losses.test.ts. Needs root.
import assert from "node:assert/strict";
import { beforeEach, describe, test } from "node:test";

import { ADDRESS } from "../bed/bed.js";
import { until } from "../bed/command.js";
import { Daemon, WORKER_DATAPATHS } from "../bed/daemon.js";
import { generate, type Load, Sink, startLoad } from "../bed/tools.js";
import { agreed, assertNothingWrong, dropsOf, parted, receivedIs, ROOT_ONLY, settled, tooMuchOf } from "./ledger.js";
import { occupyQueue } from "./occupied-queue.js";
import { makeScene } from "./scene.js";
import { stopProcess } from "./thread-stop.js";

const RULE = { protocol: "udp", port: 31766, to: `${ADDRESS.target}:9000` };
const LOAD: Load = { cpu: 0, flows: 1000, destination: ADDRESS.beyond, ports: String(RULE.port) };
for (const datapath of WORKER_DATAPATHS) {
  describe(`the worker, fed by ${datapath},`, ROOT_ONLY, () => {
    const scene = makeScene();
    beforeEach(() =>
      scene.start({ datapath, nat: { destination: [RULE] } }, { rule: `${RULE.port}=${RULE.to}`, flows: 1000 }),
    );

    test("says what it is, and counts what XDP handed to it as its own", async () => {
      await generate(scene.bed, { ...LOAD, count: 100 });
      const { stats } = await agreed(scene.daemon, scene.sink);
      assert.equal(stats.datapath.mode, datapath);
      assert.equal(stats.inside.forwarded, 100);
      assert.equal(stats.workers.find(({ role }) => role === "worker")?.packets, 100);
    });

    if (datapath === "afxdp")
      test("has bound a socket to the inside queue, where another program's finds no room", async () => {
        await assert.rejects(occupyQueue(scene.bed, "in0"), /Device or resource busy|Errno 16/);
      });
    else
      test("has bound no socket to the inside queue, where another program's may be", async () => {
        const leave = await occupyQueue(scene.bed, "in0");
        await generate(scene.bed, { ...LOAD, count: 1000 });
        await receivedIs(scene.daemon, 1000);
        const { stats, arrived } = await agreed(scene.daemon, scene.sink);
        await leave();
        assert.equal(stats.inside.forwarded, 1000);
        assertNothingWrong(arrived);
      });

    test("has emptied its rings when it ends under the full rate of a core, in steps as small as they get", async () => {
      await scene.daemon.stop();
      scene.daemon = await Daemon.start(scene.bed, { datapath, workers: { batch: 1 } });
      const { process, ended } = startLoad(scene.bed, { ...LOAD, duration: 60 });
      await until("packets to flow", async () => ((await scene.daemon.peek()).inside.forwarded > 10_000 ? true : null));
      const exit = await scene.daemon.stop();
      process.kill("SIGTERM");
      await ended.catch(() => undefined); // with the program gone its frames were refused
      assert.equal(exit.code, 0, scene.daemon.process.stderr);
      scene.daemon = await Daemon.start(scene.bed, { datapath });
    });

    test("goes on one by one while the far end takes no redirected frames, and says so", async () => {
      await scene.sink.stop();
      await scene.bed.exec("target", "ethtool", ["-K", "dst0", "gro", "off"]);
      const earlier = (await scene.bed.traffic("target", "dst0")).received;
      const { sent } = await generate(scene.bed, { ...LOAD, count: 200_000 });
      await receivedIs(scene.daemon, sent);
      const stats = await settled(scene.daemon);
      const { redirect_error: tried = 0, ...others } = dropsOf(stats);
      assert.deepEqual(parted(others, datapath).refusals, {});
      assert.ok(tried <= 8, `${tried} frames were tried the other way`);
      assert.equal((await scene.bed.traffic("target", "dst0")).received - earlier, stats.inside.forwarded);
      const said = (): number => scene.daemon.process.stderr.split("injection_unavailable").length - 1;
      await until("the event", async () => (said() > 0 ? true : null));
      assert.equal(said(), 1);
      scene.sink = await Sink.start(scene.bed);
      const injecting = async (): Promise<true | null> => {
        await generate(scene.bed, { ...LOAD, count: 50_000 });
        return (await scene.daemon.peek()).inside.injected > 0 ? true : null;
      };
      await until("it to try again", injecting, 30_000);
    });

    test("names what comes while it stands still, and goes on in order", async () => {
      const { process, ended } = startLoad(scene.bed, { ...LOAD, duration: 2, rate: 200_000 });
      const flowing = async (): Promise<true | null> =>
        (await scene.daemon.peek()).inside.forwarded > 10_000 ? true : null;
      await until("packets to flow", flowing);
      await stopProcess(scene.daemon.process.pid);
      const { sent } = await ended;
      assert.equal(process.exit?.code, 0);
      global.process.kill(scene.daemon.process.pid, "SIGCONT");
      await receivedIs(scene.daemon, sent);
      const { stats, arrived } = await agreed(scene.daemon, scene.sink);
      assert.ok(tooMuchOf(stats, datapath) > 0, "its queues never overflowed");
      assertNothingWrong(arrived);
    });
  });
}
