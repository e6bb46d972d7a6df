// Several workers: on one receive queue, one on several queues, and as many as queues. A flow has one worker and keeps its
// order; together they account for every packet, also when one of them stands still. Needs root.
import assert from "node:assert/strict";
import { availableParallelism } from "node:os";
import { beforeEach, describe, test } from "node:test";

import { ADDRESS, type Bed, MAC } from "../bed/bed.js";
import { Capture, readPcap } from "../bed/capture.js";
import { until } from "../bed/command.js";
import { WORKER_DATAPATHS } from "../bed/daemon.js";
import { generate, type Load, Sink, startLoad, startPass } from "../bed/tools.js";
import {
  agreed,
  assertNothingWrong,
  dropsOf,
  OVERLOAD,
  receivedIs,
  ROOT_ONLY,
  settled,
  sum,
  tooMuchOf,
} from "./ledger.js";
import { makeScene } from "./scene.js";
import { stopWorker } from "./thread-stop.js";
import { RawSender } from "./wire.js";

const RULE = { protocol: "udp", port: 31766, to: `${ADDRESS.target}:9000` };
/** A thousand flows between a thousand pairs of addresses, by which packets are shared out. */
const LOAD: Load = {
  flows: 1000,
  sources: "10.9.0.1-10.9.3.232",
  destination: ADDRESS.beyond,
  ports: String(RULE.port),
};
/** A veth receives by the queue of the CPU that sends. */
const SENDERS = availableParallelism() > 1 ? 2 : 1;

/** From one CPU after the other, each with flows of its own. What all of them have sent. */
async function generateByAll(bed: Bed, { count, duration, ...load }: Load): Promise<number> {
  let total = 0;
  for (const cpu of Array(SENDERS).keys()) {
    const part: Load = { mix: cpu === 0 ? { rule: 1 } : { no_rule: 1 } };
    if (count !== undefined) part.count = count / SENDERS;
    if (duration !== undefined) part.duration = duration / SENDERS;
    total += (await generate(bed, { ...LOAD, ...load, ...part, cpu })).sent;
  }
  return total;
}

/** How many of its receive queues have given XDP packets. */
async function queuesUsed(bed: Bed, name: string): Promise<number> {
  const counters = await bed.exec("gateway", "ethtool", ["-S", name]);
  return [...counters.matchAll(/rx_queue_\d+_xdp_packets: (\d+)/g)].filter(([, packets]) => Number(packets) > 0).length;
}

/** The generator's packets in a capture, for others to send. */
async function recorded(bed: Bed, load: Load): Promise<string> {
  await bed.ip("source", "link add gen0 mtu 3400 type veth peer name gen1 mtu 3400");
  await bed.ip("source", "link set gen0 up", "link set gen1 up");
  const pass = await startPass(bed, "source", "gen1");
  await bed.exec("source", "ethtool", ["-K", "gen1", "gro", "off"]);
  const capture = await Capture.start(bed, "source", "gen1", "udp");
  const { sent } = await generate(bed, { ...load, interface: "gen0" });
  await until("the capture to have them", () => Promise.resolve(readPcap(capture.file).length >= sent ? true : null));
  await capture.stop();
  await pass.stop();
  await bed.ip("source", "link del gen0");
  return capture.file;
}

for (const datapath of WORKER_DATAPATHS)
  for (const [count, queues] of [
    [4, 1],
    [1, 4],
    [4, 4],
  ] as const)
    describe(`${count} workers on ${queues} queues, fed by ${datapath},`, ROOT_ONLY, () => {
      const scene = makeScene({ queues });
      beforeEach(() =>
        scene.start(
          { datapath, nat: { destination: [RULE] }, workers: { count } },
          { rule: `${RULE.port}=${RULE.to}`, flows: 1000 },
        ),
      );

      test("share out flows, each of which keeps its order", async () => {
        const sent = await generateByAll(scene.bed, { duration: 2, rate: 20_000 });
        await receivedIs(scene.daemon, sent);
        const { stats, arrived } = await agreed(scene.daemon, scene.sink);
        assertNothingWrong(arrived);
        const workers = stats.workers.filter(({ role }) => role === "worker");
        assert.equal(workers.length, count);
        const share = sent / count;
        for (const { id, packets } of workers)
          assert.ok(packets > share / 2 && packets < share * 2, `worker ${id} had ${packets} of ${sent}`);
        assert.equal(arrived.packets + tooMuchOf(stats, datapath), sent);
        assert.equal(await queuesUsed(scene.bed, "in0"), Math.min(queues, SENDERS));
      });

      // A kernel's stack chooses the queue by the flow, whatever CPU sends.
      if (queues > 1)
        test("share out flows that come by all of the queues, and each keeps its order", async () => {
          const file = await recorded(scene.bed, { ...LOAD, cpu: 0, count: 5000, rate: 20_000 });
          const sender = RawSender.start(scene.bed);
          const sent = await sender.send(file);
          assert.equal(sent, 5000);
          await receivedIs(scene.daemon, sent);
          const { stats, arrived } = await agreed(scene.daemon, scene.sink);
          assertNothingWrong(arrived);
          assert.equal(arrived.packets + tooMuchOf(stats, datapath), sent);
          for (const { id, role, packets } of stats.workers)
            assert.ok(role !== "worker" || packets > 0, `worker ${id} had none`);
          assert.equal(await queuesUsed(scene.bed, "in0"), queues);
        });

      test("name what is too much for them, to the packet, and mix nothing up", async () => {
        const sent = await generateByAll(scene.bed, { count: 1_000_000 });
        await receivedIs(scene.daemon, sent);
        const { stats, arrived } = await agreed(scene.daemon, scene.sink);
        assert.equal(stats.inside.received, sent);
        assert.equal(arrived.packets + tooMuchOf(stats, datapath), sent);
        assertNothingWrong(arrived);
        assert.ok(stats.inside.injected > 0);
      });

      if (count > 1)
        test("go on when one of them stands still, and so does it, in order and with what it lost named", async () => {
          const stopped = 1;
          const goOn = await stopWorker(scene.daemon, stopped);
          const sent = await generateByAll(scene.bed, { duration: 3, rate: 20_000 });
          await receivedIs(scene.daemon, sent);
          const share = sent / count;
          const served = async (): Promise<true | null> => {
            const { workers } = await scene.daemon.peek();
            const idle = workers.filter(({ role, packets }) => role === "worker" && packets < share / 2);
            return idle.length === 1 && idle[0]?.id === stopped && idle[0].packets === 0 ? true : null;
          };
          await until("all workers but one to have done their share", served);
          assert.ok((await scene.daemon.peek()).inside.pending > 0, "nothing waited for it");
          await goOn();
          const { stats, arrived } = await agreed(scene.daemon, scene.sink);
          assertNothingWrong(arrived);
          assert.equal(arrived.packets + tooMuchOf(stats, datapath), sent);
          const { packets = 0 } = stats.workers.find(({ role, id }) => role === "worker" && id === stopped) ?? {};
          assert.ok(packets > 0, "it did not go on");
        });

      // That no frame of theirs is lost or used twice they check themselves when they end.
      if (count > 1)
        test("name what they lose while the far end goes down and up under load, and all of them send again", async () => {
          const { process, ended } = startLoad(scene.bed, { ...LOAD, cpu: 0, duration: 2, rate: 100_000 });
          for (; process.exit === null; await scene.bed.ip("target", "link set dst0 up"))
            await scene.bed.ip("target", "link set dst0 down");
          // What it forgot; asked anew, it would be one frame more at the far end.
          const neighbour = `neigh replace ${ADDRESS.outside} lladdr ${MAC.outside} dev dst0`;
          await scene.bed.ip("target", `route replace default via ${ADDRESS.outside}`, neighbour);
          const { sent } = await ended;
          await receivedIs(scene.daemon, sent);
          const during = await settled(scene.daemon);
          assert.equal(during.inside.received, sent);
          const names = new Set(["carrier_down", "redirect_error", ...OVERLOAD[datapath]]);
          assert.deepEqual(
            Object.keys(dropsOf(during)).filter((name) => !names.has(name)),
            [],
          );
          assert.ok(sum(dropsOf(during)) > 0, "nothing was lost, so nothing was tested");
          await scene.daemon.ready();
          await scene.sink.reset();
          const more = await generateByAll(scene.bed, { count: 10_000, rate: 10_000 });
          await receivedIs(scene.daemon, sent + more);
          const after = await settled(scene.daemon);
          assert.equal(after.inside.forwarded - during.inside.forwarded, more);
          await until("the far end to see them", async () =>
            (await scene.sink.report()).packets === more ? true : null,
          );
          assertNothingWrong(await scene.sink.report());
          for (const [at, { packets }] of after.workers.entries())
            assert.ok(packets > (during.workers[at]?.packets ?? 0));
        });

      test("account for every packet when all have to send one by one, by one outside queue or several", async () => {
        await scene.sink.stop();
        await scene.bed.exec("target", "ethtool", ["-K", "dst0", "gro", "off"]);
        const earlier = (await scene.bed.traffic("target", "dst0")).received;
        const sent = await generateByAll(scene.bed, { count: 500_000 });
        await receivedIs(scene.daemon, sent);
        const stats = await settled(scene.daemon);
        const { redirect_error: _, ...dropped } = stats.inside.dropped;
        tooMuchOf({ ...stats, inside: { ...stats.inside, dropped } }, datapath);
        assert.equal((await scene.bed.traffic("target", "dst0")).received - earlier, stats.inside.forwarded);
        scene.sink = await Sink.start(scene.bed);
      });
    });
