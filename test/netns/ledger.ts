// What every namespace test wants to know of the ledger: that it adds up when traffic has stopped, and that the far
// end agrees. Called by the namespace tests, on Node's main thread.
import assert from "node:assert/strict";

import { until } from "../bed/command.js";
import type { Daemon, Datapath, Stats } from "../bed/daemon.js";
import type { Arrived, Sink } from "../bed/tools.js";
import { deliveredOf } from "../demo/proof.js";

/** Needs root, like everything that makes a namespace. */
export const ROOT_ONLY = process.getuid?.() === 0 ? {} : { skip: "namespaces need root" };

export type Drops = Record<string, number>;

/** What queues may name when more comes than a worker can send; XDP by itself has none. */
const QUEUES = ["ring_full", "fill_empty", "tx_refused"];
export const OVERLOAD = { xdp: [] as string[], afxdp: QUEUES, ringbuf: QUEUES } as const;

/** Reasons with drops. */
export function dropsOf(stats: Stats): Drops {
  return Object.fromEntries(Object.entries(stats.inside.dropped).filter(([, count]) => count > 0));
}

export function sum(counts: Drops): number {
  return Object.values(counts).reduce((total, count) => total + count, 0);
}

/** What the ledger says has left towards the far end. */
export function sentOf(stats: Stats): number {
  return stats.inside.forwarded + stats.fragmentsExtra + stats.originated;
}

/** What was too much for a worker's queues, by their names, and the other drops. */
export function parted(drops: Drops, datapath: Datapath): { tooMuch: Drops; refusals: Drops } {
  const [tooMuch = {}, refusals = {}] = [true, false].map((full) =>
    Object.fromEntries(Object.entries(drops).filter(([name]) => OVERLOAD[datapath].includes(name) === full)),
  );
  return { tooMuch, refusals };
}

/** Nothing was lost but what was too much for a worker's queues; how much that was. */
export function tooMuchOf(stats: Stats, datapath: Datapath): number {
  const { tooMuch, refusals } = parted(dropsOf(stats), datapath);
  assert.deepEqual(refusals, {});
  return sum(tooMuch);
}

/** Once nothing is pending: received adds up in both directions. */
export async function settled(daemon: Daemon): Promise<Stats> {
  const quiet = async (): Promise<true | null> => {
    const { inside, outside } = await daemon.peek();
    return inside.pending === 0 && outside.pending === 0 ? true : null;
  };
  await until("every packet to have a fate", quiet, 15_000);
  const stats = await daemon.stats();
  for (const side of [stats.inside, stats.outside]) {
    assert.equal(side.pending, 0);
    assert.equal(side.received, side.forwarded + side.passed + sum(side.dropped));
  }
  return stats;
}

/** The ledger and the far end's own counter, settled and equal. `asked`: originated requests for neighbours, which are no
 * packets to the far end. */
export async function agreed(daemon: Daemon, sink: Sink, asked = 0): Promise<{ stats: Stats; arrived: Arrived }> {
  const stats = await settled(daemon);
  const report = async (): Promise<Arrived | null> => {
    const arrived = await sink.report();
    return deliveredOf(arrived) + asked >= sentOf(stats) ? arrived : null;
  };
  const arrived = await until("the far end to see what left", report).catch(() => sink.report());
  assert.equal(deliveredOf(arrived) + asked, sentOf(stats), "the far end counted something else than what left");
  return { stats, arrived };
}

/** Nothing that arrived was wrong in any way the far end checks. */
export function assertNothingWrong(arrived: Arrived): void {
  const wrong = Object.entries(arrived.wrong).filter(([, count]) => count > 0);
  assert.deepEqual(wrong, []);
}

/** Frames that have left an interface of the source, as its driver counts them. */
export async function receivedIs(daemon: Daemon, count: number): Promise<void> {
  const check = async (): Promise<true | null> => ((await daemon.peek()).inside.received >= count ? true : null);
  await until(`${count} packets to be received`, check, 15_000);
}
