// Full load for a long time while everything around a gateway changes (upheaval.ts): at each quiet point the ledger is exact and
// no pin has come or gone; at the end memory is what it was, and no descriptor, map or program is left over. Needs root.
// SOAK_SECONDS for all datapaths together: 15 in `make test`, 600 by `make soak`. VX_SEED repeats a run's choices.
import assert from "node:assert/strict";
import { readdirSync, readFileSync, readlinkSync } from "node:fs";
import { describe, test, type TestContext } from "node:test";

import { ADDRESS, Bed } from "../bed/bed.js";
import { until } from "../bed/command.js";
import { Daemon, DATAPATHS, type Stats } from "../bed/daemon.js";
import { type BpfObjects, bpfObjectsOf, survivors } from "../bed/remains.js";
import { type Load, type Sent, Sink, startLoad } from "../bed/tools.js";
import { deliveredOf } from "../demo/proof.js";
import { dropsOf, ROOT_ONLY, sentOf, settled } from "./ledger.js";
import { randomOf } from "./random.js";
import { traces } from "./remaining.js";
import { ALLOWED, RULE, Upheaval, VNI } from "./upheaval.js";

const SECONDS = Number(process.env["SOAK_SECONDS"] ?? 15) / DATAPATHS.length;
const SEED = Number(process.env["VX_SEED"] ?? Date.now() % 1_000_000);
/** Of a veth: what it holds when its interface goes down is lost there. */
const RING = 256;
/** What links, routes and neighbours that come and go may cost, at full load the rings of the worker who waits for them too;
 * nothing else may be lost. */
const UPHEAVAL = new Set(
  "not_allowed no_route no_neighbour carrier_down tx_refused redirect_error ring_full fill_empty".split(" "),
);
/** A thread of Node has some of these, and threads for lists start and end as lists come. */
const NODES = /^anon_inode:\[event|^pipe:/;
const NODES_MOST = 40;
/** Growth that is none: a heap between two collections, lists of different lengths. */
const SLACK_KIB = 64 << 10;

const LOAD: Load = {
  destination: ADDRESS.beyond,
  ports: "31765",
  otherPorts: "9",
  sources: ALLOWED,
  deniedSources: "10.9.0.7",
  flows: 10_000,
  size: 100,
  vni: VNI,
  cpu: 0,
  mix: { rule: 20, no_rule: 20, denied: 1 },
};

interface Held {
  descriptors: number;
  maps: number;
  programs: number;
  links: number;
}

/** What each descriptor is of. */
function descriptorsOf(pid: number): string[] {
  return readdirSync(`/proc/${pid}/fd`).flatMap((fd) => {
    try {
      return [readlinkSync(`/proc/${pid}/fd/${fd}`)];
    } catch {
      return []; // closed meanwhile
    }
  });
}

function heldBy(pid: number): Held {
  const { maps, programs, links } = bpfObjectsOf(pid);
  const descriptors = descriptorsOf(pid).filter((target) => !NODES.test(target)).length;
  return { descriptors, maps: maps.size, programs: programs.size, links: links.size };
}

function residentKib(pid: number): number {
  return Number(/^VmRSS:\s+(\d+) kB$/m.exec(readFileSync(`/proc/${pid}/status`, "utf8"))?.[1]);
}

class Soak {
  /** Everything sent so far. */
  private offered = 0;
  private denied = 0;
  private readonly objects: BpfObjects = { programs: new Set(), maps: new Set(), links: new Set() };
  readonly resident: number[] = [];

  constructor(
    private readonly daemon: Daemon,
    private readonly sink: Sink,
    private readonly upheaval: Upheaval,
  ) {}

  /** Full load and one change after another; then a quiet point. */
  async round(bed: Bed, end: number): Promise<void> {
    const { process, ended } = startLoad(bed, { ...LOAD, duration: 600, firstSequence: this.offered + 1 });
    try {
      while (performance.now() < end) await this.upheaval.next();
    } finally {
      process.kill("SIGTERM");
    }
    await this.quiet(await ended);
  }

  private async quiet({ sent, classes }: Sent): Promise<void> {
    this.offered += sent;
    this.denied += classes.denied;
    await this.upheaval.ready();
    const stats = await this.arrivedAll();
    const { received } = stats.inside;
    const { in0, dst0 } = this.upheaval.downs;
    between(this.offered - received, RING * in0, "lost in front of the gateway");
    const drops = dropsOf(stats);
    between(this.denied - (drops["not_allowed"] ?? 0), RING * in0, "denied, and not dropped for it");
    const strange = Object.keys(drops).filter((name) => !UPHEAVAL.has(name));
    assert.deepEqual(strange, []);
    const arrived = await this.sink.report();
    between(sentOf(stats) - deliveredOf(arrived), RING * dst0, "lost behind the gateway");
    // Neighbours that change may let packets overtake others.
    const { order, duplicate, ...wrong } = arrived.wrong;
    assert.deepEqual(
      Object.entries(wrong).filter(([, count]) => count > 0),
      [],
      `besides ${order} and ${duplicate}`,
    );
    this.note();
  }

  /** The counters once they stand still. */
  private async arrivedAll(): Promise<Stats> {
    let last = -1;
    await until("the last packets", async () => {
      const { received } = (await this.daemon.peek()).inside;
      const still = received === last;
      last = received;
      return still ? true : null;
    });
    return settled(this.daemon);
  }

  note(): void {
    const now = bpfObjectsOf(this.daemon.process.pid);
    for (const kind of ["programs", "maps", "links"] as const) for (const id of now[kind]) this.objects[kind].add(id);
    this.resident.push(residentKib(this.daemon.process.pid));
  }

  /** Of all it ever had when somebody looked. */
  leftovers(): Promise<string[]> {
    return survivors(this.objects);
  }
}

function between(lost: number, most: number, what: string): void {
  assert.ok(lost >= 0 && lost <= most, `${lost} packets ${what}, at most ${most} can be`);
}

/** The least of the second half is hardly above the least of the first: what is collected now and then does not count. */
function assertFlat(resident: readonly number[]): void {
  const half = Math.ceil(resident.length / 2);
  const [before, after] = [Math.min(...resident.slice(0, half)), Math.min(...resident.slice(half))];
  assert.ok(after <= before + SLACK_KIB, `resident memory grew: ${resident.join(", ")} KiB`);
}

describe(`a gateway in upheaval for ${(SECONDS * DATAPATHS.length).toFixed(0)} s (VX_SEED=${SEED})`, ROOT_ONLY, () => {
  for (const datapath of DATAPATHS)
    test(`by ${datapath}, under full load, accounts for every packet and leaks nothing`, async (t: TestContext) => {
      const bed = await Bed.make({ staticNeighbours: true });
      Upheaval.prepare(bed);
      const random = randomOf(SEED);
      let done: string[] = [];
      try {
        const sink = await Sink.start(bed, { rule: RULE, unchanged: ADDRESS.beyond, noOrder: true });
        const daemon = await Daemon.start(bed, Upheaval.config(datapath));
        const upheaval = new Upheaval(bed, daemon, datapath, random);
        ({ done } = upheaval);
        const soak = new Soak(daemon, sink, upheaval);
        const pins = await traces(bed);
        // What is made when it is first needed is there from now on.
        await upheaval.restore();
        const { pid } = daemon.process;
        const held = heldBy(pid);
        const end = performance.now() + SECONDS * 1000;
        while (performance.now() < end) {
          const round = Math.min(SECONDS / 2, 5 + random() * 15) * 1000;
          await soak.round(bed, Math.min(end, performance.now() + round));
          assert.deepEqual(await traces(bed), pins);
        }
        await upheaval.restore();
        // Connections of those who asked last go a little later.
        const same = async (): Promise<true | null> =>
          JSON.stringify(heldBy(pid)) === JSON.stringify(held) ? true : null;
        await until("what it holds to be what it was", same).catch(() => assert.deepEqual(heldBy(pid), held));
        assert.ok(descriptorsOf(pid).length < held.descriptors + NODES_MOST, descriptorsOf(pid).join(" "));
        t.diagnostic(`${done.length} changes, resident ${soak.resident.map((kib) => kib >> 10).join(" ")} MiB`);
        assertFlat(soak.resident);
        soak.note();
        assert.deepEqual(await daemon.stop(), { code: 0, signal: null }, daemon.process.stderr);
        assert.deepEqual([...(await daemon.leftovers()), ...(await soak.leftovers()), ...(await traces(bed))], []);
        await sink.stop();
      } catch (error) {
        t.diagnostic(`VX_SEED=${SEED} SOAK_SECONDS=${SECONDS * DATAPATHS.length}; last: ${done.slice(-12).join(", ")}`);
        throw error;
      } finally {
        await bed.remove();
      }
    });
});
