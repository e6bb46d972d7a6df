// kill -9 in every phase of a daemon's life: whatever it had got to, the next start works, counts exactly, and its stop leaves
// nothing. Phases are recognised from outside: by what the daemon has made so far, and by chance. Needs root.
import assert from "node:assert/strict";
import { existsSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { after, afterEach, before, beforeEach, describe, test } from "node:test";

import { ADDRESS, Bed } from "../bed/bed.js";
import { sleep } from "../bed/command.js";
import { type Config, Daemon, DATAPATHS } from "../bed/daemon.js";
import { generate, Sink } from "../bed/tools.js";
import { agreed, assertNothingWrong, dropsOf, receivedIs, ROOT_ONLY } from "./ledger.js";
import { randomOf } from "./random.js";
import { traces } from "./remaining.js";

const SEED = Number(process.env["VX_SEED"] ?? 4711);
/** What differs between datapaths is the worker, which is there in the last phases. */
const RUNS = { xdp: 6, afxdp: 2, ringbuf: 2 };

for (const datapath of DATAPATHS) {
  describe(`a daemon of ${datapath} that is killed`, ROOT_ONLY, () => {
    let bed: Bed;
    let sink: Sink;
    let pins: string;
    const overrides: Config = { datapath, allowlist: { file: "list.txt", match: "source" } };
    before(async () => {
      bed = await Bed.make({ staticNeighbours: true });
      pins = join(bed.bpffs, "vxpipe/in0");
      const others = Array.from(
        { length: 20_000 },
        (_, index) => `11.${index >> 16}.${(index >> 8) & 255}.${index & 255}`,
      );
      writeFileSync(join(bed.directory, "list.txt"), `10.0.0.1\n${others.join("\n")}\n`);
    });
    after(() => bed.remove());
    beforeEach(async () => {
      sink = await Sink.start(bed);
    });
    afterEach(() => sink.stop());

    /** The next start is one like any other, but for what it says of the one before. */
    async function nextIsClean(): Promise<Daemon> {
      await sink.reset();
      const next = await Daemon.start(bed, overrides);
      const { received, dropped } = (await next.peek()).inside;
      assert.equal(received, dropped["crash_lost"], "it begins with what the killed one lost");
      await generate(bed, { destination: ADDRESS.beyond, ports: "9", sources: "10.0.0.1", count: 1000, rate: 100_000 });
      await receivedIs(next, received + 1000);
      const { stats, arrived } = await agreed(next, sink);
      assertNothingWrong(arrived);
      assert.equal(stats.inside.forwarded, 1000);
      const { crash_lost: _lost, ...others } = dropsOf(stats);
      assert.deepEqual(others, {});
      return next;
    }

    async function leavesNothing(): Promise<void> {
      const next = await nextIsClean();
      assert.deepEqual(await next.stop(), { code: 0, signal: null }, next.process.stderr);
      assert.deepEqual(await next.leftovers(), []);
      assert.deepEqual(await traces(bed), []);
    }

    /** Waits without giving anybody else a turn: phases are shorter than a timer. */
    function spinUntil(holds: () => boolean): void {
      for (const end = Date.now() + 20_000; !holds();) assert.ok(Date.now() < end, "the phase never came");
    }
    const pinned = (name: string) => (): boolean => existsSync(join(pins, name));

    const all: [string, () => boolean][] = [
      ["when its socket is there", () => existsSync(join(bed.directory, "vxpipe.sock"))],
      ["when its pin directory is there", () => existsSync(pins)],
      ["when its first map is pinned", pinned("stats_map")],
      ["when its last map is pinned", pinned("neighbours")],
      ["when its first link is pinned", pinned("link_ingress")],
      ["when its last link is pinned", pinned("link_redirect_err")],
    ];
    for (const [phase, holds] of datapath === "xdp" ? all : all.slice(-1)) {
      test(`${phase} is followed by a clean start`, async () => {
        const victim = Daemon.launch(bed, overrides);
        spinUntil(holds);
        await victim.kill();
        await leavesNothing();
      });
    }

    test("when the first of its links has gone while it stops is followed by a clean start", async () => {
      const victim = await Daemon.start(bed, overrides);
      victim.process.kill("SIGTERM");
      spinUntil(() => !pinned("link_ingress")());
      await victim.kill();
      await leavesNothing();
    });

    test("when its pins have gone while it stops is followed by a clean start", async () => {
      const victim = await Daemon.start(bed, overrides);
      victim.process.kill("SIGTERM");
      spinUntil(() => !pinned("link_redirect_err")());
      await victim.kill();
      await leavesNothing();
    });

    test(`at ${RUNS[datapath]} moments of a reload, by chance, is followed by a start that says so (VX_SEED=${SEED})`, async () => {
      const random = randomOf(SEED);
      for (let run = 0; run < RUNS[datapath]; run++) {
        const victim = await Daemon.start(bed, overrides);
        const delay = Math.round(random() * 250);
        victim.process.kill("SIGHUP");
        await sleep(delay);
        await victim.kill();
        const next = await nextIsClean();
        const said = new RegExp(`the run of pid ${victim.process.pid}.*did not end cleanly`);
        assert.match(next.process.stderr, said, `after ${delay} ms`);
        await next.stop();
        assert.deepEqual(await traces(bed), [], `after ${delay} ms`);
      }
    });

    test(`at ${RUNS[datapath]} moments of its stop, by chance, is followed by a clean start (VX_SEED=${SEED})`, async () => {
      const random = randomOf(SEED + 1);
      for (let run = 0; run < RUNS[datapath]; run++) {
        const victim = await Daemon.start(bed, overrides);
        victim.process.kill("SIGTERM");
        await sleep(Math.round(random() * 150));
        await victim.kill();
        await leavesNothing();
      }
    });
  });
}
