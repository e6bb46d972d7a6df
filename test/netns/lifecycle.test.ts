// A daemon's life: it stops without a trace, survives being killed, and is taken over. Under load, with the far end as
// judge. By each datapath, where a worker has something to empty, to give back or to lose; what goes on without a daemon
// is what xdp left running, and a bpffs is mounted for whatever comes. Needs root.
import assert from "node:assert/strict";
import { existsSync, rmSync } from "node:fs";
import { join } from "node:path";
import { after, afterEach, before, beforeEach, describe, test } from "node:test";

import { vxConstant, vxSlot } from "../../src/pipeline/abi.gen.js";
import { ADDRESS, Bed } from "../bed/bed.js";
import { Background, ROOT, run, sleep, until } from "../bed/command.js";
import { bedConfig, DATAPATHS, Daemon, writeConfig } from "../bed/daemon.js";
import { bpfObjectsOf, survivors } from "../bed/remains.js";
import { generate, type Load, Sink, startLoad } from "../bed/tools.js";
import { agreed, assertNothingWrong, dropsOf, OVERLOAD, receivedIs, ROOT_ONLY, settled } from "./ledger.js";
import { attachment, traces } from "./remaining.js";

const COMMAND = join(ROOT, "bin/vxpipe");
const LOAD: Load = { cpu: 0, destination: ADDRESS.beyond, ports: "9", flows: 100, rate: 100_000 };
/** Where a far end that is late for once would spoil the count: other tests run beside this one. */
const CALM = 5_000;

/** A row of the final statistics: inside and outside. */
function row(lines: readonly string[], name: string): number[] {
  const line = lines.find((one) => one.startsWith(`${name} `)) ?? "";
  return line
    .slice(name.length)
    .trim()
    .split(/\s+/)
    .map((number) => Number(number.replaceAll(",", "")));
}

for (const datapath of DATAPATHS)
  describe(`by ${datapath}, a daemon`, ROOT_ONLY, () => {
    let bed: Bed;
    let sink: Sink;
    before(async () => {
      bed = await Bed.make({ staticNeighbours: true });
      // The generator needs somebody to receive when the daemon's program has gone.
      await bed.exec("gateway", "ethtool", ["-K", "in0", "gro", "on"]);
    });
    after(() => bed.remove());
    beforeEach(async () => {
      sink = await Sink.start(bed);
    });
    afterEach(async () => {
      await sink.stop();
    });

    for (const signal of datapath === "xdp" ? (["SIGTERM", "SIGINT"] as const) : (["SIGTERM"] as const)) {
      test(`ends on ${signal} under load with exit code 0 and final statistics that agree with the far end`, async () => {
        const daemon = await Daemon.start(bed, { datapath });
        const { ended, process } = startLoad(bed, { ...LOAD, duration: 30 });
        await receivedIs(daemon, 50_000);
        const exit = await daemon.stop(signal);
        process.kill("SIGTERM");
        await ended;
        assert.deepEqual(exit, { code: 0, signal: null }, daemon.process.stderr);
        const [received = 0] = row(daemon.process.lines, "received");
        assert.ok(received >= 50_000);
        const tooMuch = OVERLOAD[datapath].reduce((sum, name) => sum + (row(daemon.process.lines, name)[0] ?? 0), 0);
        assert.deepEqual(row(daemon.process.lines, "forwarded"), [received - tooMuch, 0]);
        assert.deepEqual(row(daemon.process.lines, "pending"), [0, 0]);
        assert.equal((await sink.report()).packets, received - tooMuch);
        assert.deepEqual(await daemon.leftovers(), []);
        assert.deepEqual(await traces(bed), []);
      });
    }

    test("drops by name what still waits when it ends", async () => {
      const daemon = await Daemon.start(bed, { datapath });
      await generate(bed, { ...LOAD, destination: "172.30.82.66", count: 50, rate: 10_000 });
      await receivedIs(daemon, 50);
      assert.equal((await daemon.peek()).inside.pending, 50);
      const exit = await daemon.stop();
      assert.deepEqual(exit, { code: 0, signal: null }, daemon.process.stderr);
      assert.deepEqual(row(daemon.process.lines, "no_neighbour"), [50, 0]);
      assert.deepEqual(row(daemon.process.lines, "pending"), [0, 0]);
      assert.deepEqual(await traces(bed), []);
    });

    if (datapath === "xdp")
      describe("where there is no bpffs", () => {
        /** Not by `ip netns exec`, whose mounts nobody else sees. */
        async function start(): Promise<{ daemon: Background; bpffs: string }> {
          const bpffs = join(bed.directory, "elsewhere/bpf");
          const config = bedConfig(bed, { state: { directory: join(bed.directory, "state"), bpffs } });
          const file = writeConfig(bed, config, "elsewhere.yaml");
          const network = `--net=/run/netns/${bed.namespace("gateway")}`;
          const daemon = new Background("nsenter", [network, COMMAND, "run", "--config", file]);
          await until("readiness", async () => (daemon.stderr.includes('"event":"ready"') ? true : null));
          const mounted = await run("findmnt", ["-n", "-o", "FSTYPE", "--target", join(bpffs, "in0")]);
          assert.equal(mounted.trim(), "bpf");
          return { daemon, bpffs };
        }

        test("mounts one, and takes it away when it ends", async () => {
          const { daemon, bpffs } = await start();
          assert.deepEqual(await daemon.stop(), { code: 0, signal: null }, daemon.stderr);
          assert.equal(existsSync(bpffs), false);
          assert.deepEqual(await traces(bed), []);
        });

        test("and was killed, leaves a mount that the next one takes away when it ends", async () => {
          const killed = await start();
          await killed.daemon.stop("SIGKILL");
          const { daemon, bpffs } = await start();
          assert.match(daemon.stderr, /took_over/);
          assert.deepEqual(await daemon.stop(), { code: 0, signal: null }, daemon.stderr);
          assert.equal(existsSync(bpffs), false);
          assert.deepEqual(await traces(bed), []);
        });
      });

    test("told to end while it starts leaves nothing, whenever that is", async () => {
      for (let delay = 0; delay <= 700; delay += 70) {
        const daemon = Daemon.launch(bed, { datapath });
        await sleep(delay);
        const exit = await daemon.stop("SIGTERM");
        // Before it listens to signals it has made nothing yet and the default action ends it.
        assert.ok(exit.code === 0 || exit.signal === "SIGTERM", `after ${delay} ms: ${JSON.stringify(exit)}`);
        assert.deepEqual(await traces(bed), [], `after ${delay} ms`);
      }
    });

    describe("that was killed", () => {
      if (datapath === "xdp")
        test("is taken over without losing a packet: what it left running forwards meanwhile", async () => {
          const first = await Daemon.start(bed, { datapath });
          const { ended, process } = startLoad(bed, { ...LOAD, duration: 30, rate: CALM });
          await receivedIs(first, 2_000);
          await first.kill();
          assert.deepEqual(await attachment(bed, "in0"), "native");
          const orphaned = (await sink.report()).packets;
          const growth = async (): Promise<true | null> =>
            (await sink.report()).packets > orphaned + 2_000 ? true : null;
          await until("packets to leave while no daemon runs", growth);
          const second = await Daemon.start(bed, { datapath });
          await receivedIs(second, 2_000);
          process.kill("SIGTERM");
          const { sent } = await ended;
          const stats = await settled(second);
          const arrived = await sink.report();
          assert.equal(arrived.packets, sent);
          assertNothingWrong(arrived);
          assert.deepEqual(dropsOf(stats), {});
          assert.ok(stats.inside.received < sent, "a new daemon counts from 0");
          assert.match(second.process.stderr, /took_over/);
          assert.deepEqual(await second.stop(), { code: 0, signal: null });
          assert.deepEqual(await second.leftovers(), []);
          assert.deepEqual(await traces(bed), []);
        });

      test("has lost what it held in flight, and the next one says how many: crash_lost", async () => {
        const silent = { ...LOAD, destination: "172.30.82.66", rate: 10_000 };
        const first = await Daemon.start(bed, { datapath });
        await generate(bed, { ...silent, count: 50 });
        await generate(bed, { ...LOAD, count: 1000 });
        await receivedIs(first, 1050);
        // Received is counted before a worker sends.
        const held = async (): Promise<true | null> => ((await first.peek()).inside.pending === 50 ? true : null);
        await until("the others to leave", held);
        const { pid } = first.process;
        await first.kill();
        // Nobody reads these either.
        await generate(bed, { ...silent, count: 7 });
        const second = await Daemon.start(bed, { datapath });
        const stats = await settled(second);
        assert.deepEqual(dropsOf(stats), { crash_lost: 57 });
        assert.deepEqual([stats.inside.received, stats.inside.forwarded], [57, 0]);
        assert.match(second.process.stderr, new RegExp(`the run of pid ${pid}.*it lost 57 packets`));
        await generate(bed, { ...LOAD, count: 1000 });
        await receivedIs(second, 1057);
        assert.equal((await settled(second)).inside.forwarded, 1000);
        assert.equal((await sink.report()).packets, 2000);
        await second.stop();
        assert.deepEqual(await traces(bed), []);
        const third = await Daemon.start(bed, { datapath });
        assert.deepEqual(dropsOf((await agreed(third, await freshSink())).stats), {});
        assert.doesNotMatch(third.process.stderr, /previous_run_unclean/);
        await third.stop();
      });

      if (datapath === "xdp")
        test("and was of a build with other counters is taken over too, and what it lost is said to be unknown", async () => {
          const first = await Daemon.start(bed, { datapath });
          await generate(bed, { ...LOAD, destination: "172.30.82.66", count: 50, rate: 10_000 });
          await receivedIs(first, 50);
          await first.kill();
          const pin = join(bed.bpffs, "vxpipe/in0/stats_map");
          rmSync(pin);
          const size = ["key", "4", "value", String(vxSlot.bytes), "entries", String(vxConstant.slotsMax)];
          await run("bpftool", ["map", "create", pin, "type", "array", ...size, "name", "stats_map"]);
          const second = await Daemon.start(bed, { datapath });
          const unknown = "lost in flight is unknown, as it left no counters that this build can read";
          assert.match(second.process.stderr, new RegExp(`previous_run_unclean.*${unknown}`));
          assert.match(second.process.stderr, new RegExp(`took_over.*${unknown}`));
          await generate(bed, { ...LOAD, count: 1000 });
          await receivedIs(second, 1000);
          const stats = await settled(second);
          assert.deepEqual([dropsOf(stats), stats.inside.forwarded], [{}, 1000]);
          await second.stop();
          assert.deepEqual(await traces(bed), []);
        });

      if (datapath === "xdp")
        test("at any moment of its start or takeover is followed by one that works, and no packet is lost", async () => {
          const victim = await Daemon.start(bed, { datapath });
          const { ended, process } = startLoad(bed, { ...LOAD, duration: 60, rate: CALM });
          await receivedIs(victim, 1000);
          await victim.kill();
          for (let delay = 150; delay <= 750; delay += 50) {
            const next = Daemon.launch(bed, { datapath });
            await sleep(delay);
            await next.kill();
            assert.equal(await attachment(bed, "in0"), "native", `killed after ${delay} ms`);
          }
          const last = await Daemon.start(bed, { datapath });
          await receivedIs(last, 1000);
          process.kill("SIGTERM");
          const { sent } = await ended;
          const stats = await settled(last);
          const arrived = await sink.report();
          assert.equal(arrived.packets, sent);
          assertNothingWrong(arrived);
          assert.deepEqual(dropsOf(stats), {});
          await last.stop();
          assert.deepEqual(await traces(bed), []);
        });

      test("leaves programs and maps that the next one replaces and frees", async () => {
        const first = await Daemon.start(bed, { datapath });
        const objects = bpfObjectsOf(first.process.pid);
        await first.kill();
        const second = await Daemon.start(bed, { datapath });
        // The links that were pinned are taken over; everything else of the first is gone.
        const left = await survivors({ ...objects, links: new Set() });
        assert.deepEqual(left, []);
        await second.stop();
        assert.deepEqual(await survivors(objects), []);
        assert.deepEqual(await traces(bed), []);
      });
    });

    /** A far end that has counted nothing yet. */
    async function freshSink(): Promise<Sink> {
      await sink.reset();
      return sink;
    }
  });

for (const datapath of DATAPATHS)
  describe(`by ${datapath}, a daemon whose interface is deleted`, ROOT_ONLY, () => {
    for (const [name, side] of [
      ["in0", "inside"],
      ["out0", "outside"],
    ] as const) {
      test(`${name}: says that it is not ready, names every drop, and ends without a trace`, async () => {
        const bed = await Bed.make({ staticNeighbours: true });
        try {
          const sink = await Sink.start(bed);
          const daemon = await Daemon.start(bed, { datapath });
          await generate(bed, { ...LOAD, count: 1000 });
          await receivedIs(daemon, 1000);
          await agreed(daemon, sink);
          await bed.ip("gateway", `link del ${name}`);
          await until("unreadiness", async () => ((await daemon.status("/readyz")) === 503 ? true : null));
          // Down comes first, then the routes go, then it.
          const gone = async (): Promise<true | null> =>
            daemon.process.stderr.includes(`${side} interface is gone`) ? true : null;
          await until("its end", gone);
          if (side === "outside") {
            await generate(bed, { ...LOAD, count: 1000 });
            await receivedIs(daemon, 2000);
            const stats = await settled(daemon);
            assert.deepEqual([stats.inside.forwarded, dropsOf(stats)], [1000, { no_route: 1000 }]);
          }
          assert.deepEqual(await daemon.stop(), { code: 0, signal: null }, daemon.process.stderr);
          assert.deepEqual(await daemon.leftovers(), []);
        } finally {
          await bed.remove();
        }
      });
    }
  });
