// What the source NAT suites begin with: a bed of real hosts with servers, a gateway, and the ledger that has to agree with
// the far ends, both directions together, after each test. Called by the namespace tests, on Node's main thread.
import assert from "node:assert/strict";
import { after, afterEach, before } from "node:test";

import { sleep, until } from "../bed/command.js";
import { type Config, Daemon, type DirectionStats, type Stats } from "../bed/daemon.js";
import { NAT, NatBed, type NatBedOptions } from "../bed/nat-bed.js";
import { startServers } from "../bed/nat-hosts.js";
import { type Drops, sum } from "./ledger.js";

export const POOL = ["203.0.113.1", "203.0.113.2"] as const;

/** nat.source of these suites: limits that only a test of limits reaches. */
export function sourceNat(overrides: Config = {}): Config {
  return {
    pools: [{ addresses: ["203.0.113.1-203.0.113.2"] }],
    blocks: { size: 128, perSubscriber: 16 },
    limits: { sessionsPerSubscriber: 10_000, newSessionsPerSecond: 10_000 },
    gateways: [
      { vni: 100, address: NAT.gateway },
      { vni: 101, address: NAT.gateway },
    ],
    maxSessions: 100_000,
    ...overrides,
  };
}

/** Reasons with drops, of one direction. Hosts ask for their router whenever they like, so that is none here. */
export function dropsOf(direction: DirectionStats): Drops {
  return Object.fromEntries(
    Object.entries(direction.dropped).filter(([name, count]) => count > 0 && name !== "answered"),
  );
}

/** What became more. */
export function increase(now: Drops, earlier: Drops): Drops {
  const more = Object.entries(now).map(([name, count]) => [name, count - (earlier[name] ?? 0)] as const);
  return Object.fromEntries(more.filter(([, count]) => count !== 0));
}

export class NatScene {
  // Made by the hooks: before them nobody asks.
  bed!: NatBed;
  daemon!: Daemon;
  #before = 0;

  async start(config: Config, source: Config = {}): Promise<void> {
    this.#before = await this.bed.arrived();
    const inside = { interface: "in0", vxlan: { port: 4789, vnis: [100, 101] } };
    this.daemon = await Daemon.start(this.bed, { inside, nat: { source: sourceNat(source) }, ...config });
  }

  /** Once nothing is pending: each direction adds up. Asked over HTTP: a command's start is long beside these tests. */
  async settled(): Promise<Stats> {
    const quiet = async (): Promise<Stats | null> => {
      const stats = await this.daemon.peek();
      return stats.inside.pending === 0 && stats.outside.pending === 0 ? stats : null;
    };
    const stats = await until("every packet to have a fate", quiet, 15_000);
    for (const side of [stats.inside, stats.outside])
      assert.equal(side.received, side.forwarded + side.passed + sum(side.dropped));
    return stats;
  }

  /** Every packet has its fate, and the far ends have counted what left: no more, no less. */
  async agreed(): Promise<Stats> {
    let stats = await this.settled();
    let arrived = 0;
    const same = async (): Promise<true | null> => {
      stats = await this.settled();
      arrived = (await this.bed.arrived()) - this.#before;
      return arrived === leftBy(stats) ? true : null;
    };
    await until("the far ends to agree", same).catch(() => undefined);
    assert.equal(arrived, leftBy(stats), "the far ends counted something else than what left");
    return stats;
  }

  /** Drops that something costs, in each direction. */
  async dropsDuring(work: () => Promise<unknown>): Promise<{ inside: Drops; outside: Drops; stats: Stats }> {
    const earlier = await this.settled();
    await work();
    await sleep(50);
    const stats = await this.agreed();
    return {
      inside: increase(dropsOf(stats.inside), dropsOf(earlier.inside)),
      outside: increase(dropsOf(stats.outside), dropsOf(earlier.outside)),
      stats,
    };
  }

  async stop(): Promise<void> {
    const exit = await this.daemon.stop();
    assert.deepEqual(exit, { code: 0, signal: null }, this.daemon.process.stderr);
    assert.deepEqual(await this.daemon.leftovers(), []);
  }
}

/** What the ledger says has left by either interface. */
export function leftBy(stats: Stats): number {
  return stats.inside.forwarded + stats.outside.forwarded + stats.fragmentsExtra + stats.originated;
}

export interface NatSceneOptions extends NatBedOptions {
  config?: Config;
  source?: Config;
}

/** Registers the hooks: one bed for a suite; with a configuration one gateway too, else each test calls start(). After each
 * test the far ends have to agree. */
export function makeNatScene({ config, source, ...options }: NatSceneOptions = {}): NatScene {
  const scene = new NatScene();
  before(async () => {
    scene.bed = await NatBed.make(options);
    await startServers(scene.bed);
    if (config !== undefined) await scene.start(config, source);
  });
  after(async () => {
    try {
      if (config !== undefined) await scene.stop();
    } finally {
      await scene.bed.remove();
    }
  });
  afterEach(async () => {
    await scene.agreed();
    if (config === undefined) await scene.stop();
  });
  return scene;
}
