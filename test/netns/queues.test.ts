// The queues between XDP and the wire, full or starved on purpose, by each datapath: what they could not hold is named for
// the queue and counted to the packet, and what they held leaves in order. Needs root.
import assert from "node:assert/strict";
import { afterEach, beforeEach, describe, test } from "node:test";

import { ADDRESS, MAC } from "../bed/bed.js";
import { type Config, DATAPATHS } from "../bed/daemon.js";
import { generate } from "../bed/tools.js";
import { agreed, assertNothingWrong, dropsOf, receivedIs, ROOT_ONLY, settled } from "./ledger.js";
import { LOAD, makeScene } from "./scene.js";
import { Tap } from "./full-tap.js";
import { stopProcess } from "./thread-stop.js";

/** Nobody has that address: its packets are the worker's in all datapaths. */
const SILENT = "172.30.82.66";
const TAP_ROOM = 100;
const numbers = (first: number, count: number): number[] => Array.from({ length: count }, (_, index) => first + index);

for (const datapath of DATAPATHS)
  describe(`by ${datapath}, a packet that finds no room`, ROOT_ONLY, () => {
    const scene = makeScene();
    const tapped = (): Config => ({ datapath, outside: { interface: "tap0", nextHop: MAC.target } });

    /** Sends to a worker that stands still; it goes on when all are sent. */
    async function toNobody(destination: string, count: number): Promise<void> {
      await stopProcess(scene.daemon.process.pid);
      try {
        await generate(scene.bed, { ...LOAD, destination, count, rate: 500_000 });
      } finally {
        process.kill(scene.daemon.process.pid, "SIGCONT");
      }
      await receivedIs(scene.daemon, count);
    }

    describe("because the worker stands still", () => {
      const name = datapath === "ringbuf" ? "ring_full" : "fill_empty";
      beforeEach(async () => {
        await scene.bed.ip("gateway", `neigh flush dev out0 to ${SILENT}`);
        await scene.start({ datapath }, { flows: 1 });
      });

      test(`is named ${name}: its ${datapath === "ringbuf" ? "ring" : "fill ring"} has no more, and no other queue refuses any`, async () => {
        const count = 100_000;
        await toNobody(datapath === "xdp" ? SILENT : ADDRESS.beyond, count);
        const { stats, arrived } = await agreed(scene.daemon, scene.sink);
        const { [name]: refused = 0, no_neighbour = 0, ...others } = dropsOf(stats);
        assert.deepEqual(others, {});
        assert.ok(refused > 0 && refused < count, `${refused} refused`);
        assert.equal(refused + no_neighbour + arrived.packets, count);
        assert.equal(no_neighbour > 0, datapath === "xdp");
        assertNothingWrong(arrived);
        await scene.recovers();
      });
    });

    describe("in the outside interface's queue", () => {
      let tap: Tap;
      beforeEach(async () => {
        tap = await Tap.start(scene.bed, "tap0", TAP_ROOM);
        await scene.start(tapped());
      });
      afterEach(() => tap.stop());

      for (const [how, rate] of [
        ["one by one", 1000],
        ["many at once", 500_000],
      ] as const)
        test(`is named tx_refused, when they come ${how}: what the queue had room for is what leaves`, async () => {
          await scene.send({ count: 5 * TAP_ROOM, rate });
          const full = await settled(scene.daemon);
          assert.deepEqual(await tap.take(), numbers(1, TAP_ROOM));
          assert.equal(full.inside.forwarded, TAP_ROOM);
          assert.deepEqual(dropsOf(full), { tx_refused: 4 * TAP_ROOM });
          if (datapath !== "xdp" && rate > 1000) assert.ok(full.inside.injected > 0, "none was injected");
          // Room again: nothing of what was refused comes late.
          await scene.send({ count: TAP_ROOM / 2, rate, firstSequence: 10_000 });
          const later = await settled(scene.daemon);
          assert.deepEqual(await tap.take(), numbers(10_000, TAP_ROOM / 2));
          assert.equal(later.inside.forwarded, 1.5 * TAP_ROOM);
          assert.deepEqual(dropsOf(later), dropsOf(full));
        });
    });
  });
