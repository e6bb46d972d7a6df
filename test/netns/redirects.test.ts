// What only redirects can lose, and so the datapath xdp: to a driver that takes none, in reports of what became of them.
// Injection redirects too: its part of the latter is here for the workers' datapaths. Needs root.
import assert from "node:assert/strict";
import { beforeEach, describe, test } from "node:test";

import { ADDRESS } from "../bed/bed.js";
import { run, until } from "../bed/command.js";
import { Daemon, WORKER_DATAPATHS } from "../bed/daemon.js";
import { Sink, startLoad } from "../bed/tools.js";
import { vxDirection, vxInterface } from "../../src/pipeline/abi.gen.js";
import { agreed, dropsOf, ROOT_ONLY, settled } from "./ledger.js";
import { LOAD, makeScene } from "./scene.js";
import { stopProcess } from "./thread-stop.js";

const CONFIG = { nat: { destination: [{ protocol: "udp", port: 31765, to: `${ADDRESS.target}:8081` }] } };

interface Reports {
  overlook(): Promise<unknown>;
  see(): Promise<unknown>;
}

/** With another index in interface_map the tracepoint's program overlooks every report. */
async function reportsOf(daemon: Daemon): Promise<Reports> {
  const id = String(await daemon.mapId("interface_map"));
  const key = [vxDirection.outside, 0, 0, 0].map(String);
  const { value } = JSON.parse(await run("bpftool", ["-j", "map", "lookup", "id", id, "key", ...key])) as {
    value: string[];
  };
  const write = (bytes: readonly string[]): Promise<string> =>
    run("bpftool", ["map", "update", "id", id, "key", ...key, "value", ...bytes]);
  const another = value.map((byte, index) => (index === vxInterface.offset.ifindex + 1 ? "0x7f" : byte));
  return { overlook: () => write(another), see: () => write(value) };
}

describe("a redirected packet that is lost", ROOT_ONLY, () => {
  const scene = makeScene();
  beforeEach(() => scene.start(CONFIG));

  test("because the far end's driver takes no redirected frames is named redirect_error", async () => {
    await scene.sink.stop();
    await scene.bed.exec("target", "ethtool", ["-K", "dst0", "gro", "off"]);
    const earlier = (await scene.bed.traffic("target", "dst0")).received;
    await scene.send({ count: 5000, mix: { rule: 1, no_rule: 1 }, rate: 100_000 });
    const stats = await settled(scene.daemon);
    assert.deepEqual(dropsOf(stats), { redirect_error: 5000 });
    assert.equal((await scene.bed.traffic("target", "dst0")).received, earlier);
    scene.sink = await Sink.start(scene.bed);
    await scene.recovers();
  });

  test("because the far end's ring is full is named tx_refused, under the full rate of a core", async () => {
    const threaded = (value: number): Promise<string> =>
      scene.bed.exec("target", "sh", ["-c", `echo ${value} > /sys/class/net/dst0/threaded`]);
    // With NAPI in a thread that has to share the sender's CPU, 256 slots are soon full.
    await threaded(1);
    const sent = await scene.send({ duration: 1, flows: 1000 });
    const { stats, arrived } = await agreed(scene.daemon, scene.sink);
    await threaded(0);
    const drops = dropsOf(stats);
    assert.deepEqual(Object.keys(drops), ["tx_refused"]);
    assert.equal(arrived.packets + (drops["tx_refused"] ?? 0), sent.sent);
  });

  test("is none because the kernel does not say what became of it: unreported packets are counted like the last", async () => {
    const { overlook, see } = await reportsOf(scene.daemon);
    await scene.send({ count: 100 });
    await overlook();
    await scene.send({ count: 5000, rate: 100_000 });
    const { stats } = await agreed(scene.daemon, scene.sink);
    assert.equal(stats.inside.unreported, 5000);
    await see();
    await scene.send({ count: 100 });
    const later = (await agreed(scene.daemon, scene.sink)).stats;
    assert.equal(later.inside.unreported, 5000);
    assert.deepEqual(dropsOf(later), {});
    assert.equal((await scene.daemon.get("/api/v1/events")).split('"fates_unreported"').length, 2, "said once");
  });

  test("is not said to be one by a takeover under load, when a killed daemon was owed reports", async () => {
    const { ended, process: sender } = startLoad(scene.bed, { ...LOAD, duration: 60 });
    const lost: (number | undefined)[] = [];
    for (let takeover = 0; takeover < 5; takeover++) {
      const { overlook, see } = await reportsOf(scene.daemon);
      await stopProcess(scene.daemon.process.pid);
      const { packets } = await scene.sink.report();
      await overlook();
      await until("packets to arrive", async () =>
        (await scene.sink.report()).packets > packets + 20_000 ? true : null,
      );
      await see();
      await scene.daemon.kill();
      scene.daemon = await Daemon.start(scene.bed, CONFIG);
      lost.push((await scene.daemon.peek()).inside.dropped["crash_lost"]);
    }
    sender.kill("SIGTERM");
    const { sent } = await ended;
    assert.deepEqual(lost, [0, 0, 0, 0, 0]);
    await settled(scene.daemon);
    await until("everything sent to arrive", async () => ((await scene.sink.report()).packets === sent ? true : null));
  });
});

for (const datapath of WORKER_DATAPATHS)
  describe(`a packet that the worker injects, fed by ${datapath},`, ROOT_ONLY, () => {
    const scene = makeScene();
    beforeEach(() => scene.start({ datapath }));

    test("is not lost because the kernel does not say what became of it: it is counted as sent, and as unreported", async () => {
      const { overlook, see } = await reportsOf(scene.daemon);
      await overlook();
      // Two hundred and fifty at a time: too many to go one by one.
      await scene.send({ count: 50_000, rate: 500_000 });
      const { inside } = (await agreed(scene.daemon, scene.sink)).stats;
      assert.ok(inside.injected > 0, "none was injected");
      assert.equal(inside.unreported, inside.injected);
      await see();
      await scene.send({ count: 50_000, rate: 500_000 });
      const later = (await agreed(scene.daemon, scene.sink)).stats.inside;
      assert.ok(later.injected > inside.injected, "none was injected any more");
      assert.equal(later.unreported, inside.unreported);
    });
  });
