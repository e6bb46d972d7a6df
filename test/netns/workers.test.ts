// The datapaths in which the worker sends everything: that it does, in order, and that what it cannot send has a name.
// Needs root.
import assert from "node:assert/strict";
import { after, afterEach, before, beforeEach, describe, test } from "node:test";

import { ADDRESS, Bed } from "../bed/bed.js";
import { sleep, until } from "../bed/command.js";
import { Daemon, type Stats } from "../bed/daemon.js";
import { generate, type Load, Sink, startLoad } from "../bed/tools.js";
import { agreed, assertNothingWrong, dropsOf, receivedIs, ROOT_ONLY, settled, sum } from "./ledger.js";

const RULE = { protocol: "udp", port: 31766, to: `${ADDRESS.target}:9000` };
const LOAD: Load = { cpu: 0, flows: 1000, destination: ADDRESS.beyond, ports: String(RULE.port) };
/** What the worker's queues may name when more comes than it can send. */
const OVERLOAD = ["ring_full", "fill_empty", "tx_refused"];

const only = (stats: Stats, names: readonly string[]): string[] =>
  Object.keys(dropsOf(stats)).filter((name) => !names.includes(name));

for (const datapath of ["afxdp", "ringbuf"] as const) {
  describe(`the worker, fed by ${datapath},`, ROOT_ONLY, () => {
    let bed: Bed;
    let daemon: Daemon;
    let sink: Sink;
    before(async () => {
      bed = await Bed.make({ staticNeighbours: true });
    });
    after(() => bed.remove());
    beforeEach(async () => {
      sink = await Sink.start(bed, { rule: `${RULE.port}=${RULE.to}`, flows: 1000 });
      daemon = await Daemon.start(bed, { datapath, nat: { destination: [RULE] } });
    });
    afterEach(async () => {
      const exit = await daemon.stop();
      await sink.stop();
      assert.equal(exit.code, 0, daemon.process.stderr);
      assert.deepEqual(await daemon.leftovers(), []);
    });

    test("says what it is, and counts what XDP handed to it as its own", async () => {
      await generate(bed, { ...LOAD, count: 100 });
      const { stats } = await agreed(daemon, sink);
      assert.equal(stats.datapath.mode, datapath);
      assert.equal(stats.inside.forwarded, 100);
      assert.equal(stats.workers.find(({ role }) => role === "worker")?.packets, 100);
    });

    test("keeps the order of each flow while it changes between its ways of sending", async () => {
      // The generator sends what is due twice a millisecond: more at once the higher the rate.
      const { process, ended } = startLoad(bed, { ...LOAD, duration: 3, rate: 500_000 });
      while (process.exit === null) {
        global.process.kill(daemon.process.pid, "SIGSTOP");
        await sleep(3);
        global.process.kill(daemon.process.pid, "SIGCONT");
        await sleep(30);
      }
      const { sent } = await ended;
      await receivedIs(daemon, sent);
      const { stats, arrived } = await agreed(daemon, sink);
      assertNothingWrong(arrived);
      assert.deepEqual(only(stats, OVERLOAD), []);
      const { forwarded, injected } = stats.inside;
      assert.ok(injected > 0 && injected < forwarded, `${injected} of ${forwarded} packets were injected`);
    });

    test("names what is too much for it, to the packet, and mixes nothing up under the full rate of a core", async () => {
      const { sent } = await generate(bed, { ...LOAD, count: 2_000_000 });
      await receivedIs(daemon, sent);
      const { stats, arrived } = await agreed(daemon, sink);
      assert.equal(stats.inside.received, sent);
      assert.deepEqual(only(stats, OVERLOAD), []);
      assertNothingWrong(arrived);
    });

    test("has emptied its rings when it ends under the full rate of a core, in steps as small as they get", async () => {
      await daemon.stop();
      daemon = await Daemon.start(bed, { datapath, workers: { batch: 1 } });
      const { process, ended } = startLoad(bed, { ...LOAD, duration: 60 });
      await until("packets to flow", async () => ((await daemon.peek()).inside.forwarded > 10_000 ? true : null));
      const exit = await daemon.stop();
      process.kill("SIGTERM");
      await ended.catch(() => undefined); // with the program gone its frames were refused
      assert.equal(exit.code, 0, daemon.process.stderr);
      daemon = await Daemon.start(bed, { datapath });
    });

    test("goes on one by one while the far end takes no redirected frames, and says so", async () => {
      await sink.stop();
      await bed.exec("target", "ethtool", ["-K", "dst0", "gro", "off"]);
      const earlier = (await bed.traffic("target", "dst0")).received;
      const { sent } = await generate(bed, { ...LOAD, count: 200_000 });
      await receivedIs(daemon, sent);
      const stats = await settled(daemon);
      const { redirect_error: tried = 0, ...others } = dropsOf(stats);
      assert.deepEqual(
        Object.keys(others).filter((name) => !OVERLOAD.includes(name)),
        [],
      );
      assert.ok(tried <= 8 * 32, `${tried} frames were tried the other way`);
      assert.equal((await bed.traffic("target", "dst0")).received - earlier, stats.inside.forwarded);
      const said = (): number => daemon.process.stderr.split("injection_unavailable").length - 1;
      await until("the event", async () => (said() > 0 ? true : null));
      assert.equal(said(), 1);
      sink = await Sink.start(bed);
      const injecting = async (): Promise<true | null> => {
        await generate(bed, { ...LOAD, count: 50_000 });
        return (await daemon.peek()).inside.injected > 0 ? true : null;
      };
      await until("it to try again", injecting, 30_000);
    });

    test("loses nothing unnamed while the far end goes down and up under load", async () => {
      const { process, ended } = startLoad(bed, { ...LOAD, duration: 2, rate: 200_000 });
      while (process.exit === null) {
        await bed.ip("target", "link set dst0 down");
        await bed.ip("target", "link set dst0 up");
      }
      await bed.ip("target", `route replace default via ${ADDRESS.outside}`);
      const { sent } = await ended;
      await receivedIs(daemon, sent);
      const stats = await settled(daemon);
      assert.equal(stats.inside.received, sent);
      assert.deepEqual(only(stats, [...OVERLOAD, "carrier_down", "redirect_error"]), []);
      assert.ok(sum(dropsOf(stats)) > 0, "nothing was lost, so nothing was tested");
    });

    test("names what comes while it stands still, and goes on in order", async () => {
      const { process, ended } = startLoad(bed, { ...LOAD, duration: 2, rate: 200_000 });
      const flowing = async (): Promise<true | null> => ((await daemon.peek()).inside.forwarded > 10_000 ? true : null);
      await until("packets to flow", flowing);
      global.process.kill(daemon.process.pid, "SIGSTOP");
      const { sent } = await ended;
      assert.equal(process.exit?.code, 0);
      global.process.kill(daemon.process.pid, "SIGCONT");
      await receivedIs(daemon, sent);
      const { stats, arrived } = await agreed(daemon, sink);
      assert.deepEqual(only(stats, OVERLOAD), []);
      assert.ok(sum(dropsOf(stats)) > 0, "its queues never overflowed");
      assertNothingWrong(arrived);
    });
  });
}
