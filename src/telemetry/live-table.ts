// `vxpipe top` as a value and as text: what went on between two answers of the daemon. Rates are differences of its
// counters over the time between the answers, so all of them speak of the same second. Used by src/cli/commands/top.ts.
// Pure.
import type { DirectionStats, Statistics, WorkerStats } from "../pipeline/statistics.js";
import { bits, count, table, whole } from "./units.js";

export interface Answer {
  stats: Statistics;
  /** Monotonic, milliseconds. */
  time: number;
}

export interface DirectionRates {
  receivedPps: number;
  receivedBps: number;
  forwardedPps: number;
  forwardedBps: number;
  /** Of those forwarded: sent many a system call. */
  injectedPps: number;
  passedPps: number;
  /** Reasons with drops in this time only. */
  droppedPps: Record<string, number>;
  pending: number;
}

export interface Live {
  datapath: Statistics["datapath"];
  uptimeSeconds: number;
  seconds: number;
  inside: DirectionRates;
  outside: DirectionRates;
  workers: WorkerStats[];
}

/** Null: these are answers of two different runs, which have nothing in common. */
export function liveOf(before: Answer, now: Answer): Live | null {
  const { stats: earlier } = before;
  const { stats } = now;
  if (stats.uptimeSeconds < earlier.uptimeSeconds) return null;
  const seconds = Math.max((now.time - before.time) / 1000, 0.001);
  const packets = new Map(earlier.workers.map((worker) => [keyOf(worker), worker.packets]));
  return {
    datapath: stats.datapath,
    uptimeSeconds: stats.uptimeSeconds,
    seconds: Math.round(seconds * 1000) / 1000,
    inside: ratesOf(earlier.inside, stats.inside, seconds),
    outside: ratesOf(earlier.outside, stats.outside, seconds),
    workers: stats.workers.map((worker) => ({
      ...worker,
      pps: Math.round((worker.packets - (packets.get(keyOf(worker)) ?? 0)) / seconds),
    })),
  };
}

function keyOf({ role, id, cpu }: WorkerStats): string {
  return `${role} ${id ?? cpu}`;
}

function ratesOf(before: DirectionStats, now: DirectionStats, seconds: number): DirectionRates {
  const rate = (of: (direction: DirectionStats) => number): number => Math.round((of(now) - of(before)) / seconds);
  const reasons = Object.keys(now.dropped) as (keyof DirectionStats["dropped"])[];
  // A late second would round one drop to 0 per second; a drop is never shown as none.
  const dropped = reasons
    .filter((reason) => now.dropped[reason] > before.dropped[reason])
    .map((reason) => [
      reason,
      Math.max(
        rate((direction) => direction.dropped[reason]),
        1,
      ),
    ]);
  return {
    receivedPps: rate((direction) => direction.received),
    receivedBps: rate((direction) => direction.receivedBytes * 8),
    forwardedPps: rate((direction) => direction.forwarded),
    forwardedBps: rate((direction) => direction.forwardedBytes * 8),
    injectedPps: rate((direction) => direction.injected),
    passedPps: rate((direction) => direction.passed),
    droppedPps: Object.fromEntries(dropped) as Record<string, number>,
    pending: now.pending,
  };
}

/** One line, for a file or a pipe. */
export function liveRow(live: Live, time: Date): string {
  const { inside, outside } = live;
  const drops = Object.entries(allDrops(live)).map(([reason, pps]) => ` ${reason} ${rateOf(pps)}`);
  return [
    time.toISOString().slice(11, 19),
    `in ${rateOf(inside.receivedPps + outside.receivedPps)} ${bits(inside.receivedBps + outside.receivedBps)}`,
    `out ${rateOf(inside.forwardedPps + outside.forwardedPps)} ${bits(inside.forwardedBps + outside.forwardedBps)}`,
    `pending ${inside.pending + outside.pending}`,
    ...live.workers.map((worker) => `${nameOf(worker)} cpu ${worker.cpu} ${rateOf(worker.pps)}`),
    `dropped${drops.length === 0 ? " none" : drops.join(",")}`,
  ].join("  ");
}

/** Lines for a terminal that is drawn anew each second. */
export function liveScreen(live: Live, time: Date): string[] {
  const { inside, outside, datapath } = live;
  const rows: (readonly [string, (rates: DirectionRates) => number | string])[] = [
    ["received pps", (rates) => rates.receivedPps],
    ["received Mbps", (rates) => megabits(rates.receivedBps)],
    ["forwarded pps", (rates) => rates.forwardedPps],
    ["forwarded Mbps", (rates) => megabits(rates.forwardedBps)],
    ["of them injected", (rates) => rates.injectedPps],
    ["passed pps", (rates) => rates.passedPps],
    ["dropped pps", (rates) => Object.values(rates.droppedPps).reduce((total, pps) => total + pps, 0)],
    ["pending", (rates) => rates.pending],
  ];
  const drops = Object.keys(allDrops(live));
  return [
    `vxpipe  ${time.toISOString().slice(11, 19)}  datapath ${datapath.mode}, attached ${datapath.attach}, up ${live.uptimeSeconds.toFixed(0)} s`,
    "",
    table(
      ["packets", "inside", "outside"].map((name, column) => (column === 0 ? name : name.padStart(columnWidth))),
      rows.map(([name, of]) => [name, cell(of(inside)), cell(of(outside))]),
    ),
    "",
    table(
      ["thread", "cpu", "pps", "packets"],
      live.workers.map((worker) => [nameOf(worker), worker.cpu, worker.pps, worker.packets]),
    ),
    "",
    drops.length === 0
      ? "no drops in this second"
      : table(
          ["dropped because", "inside pps", "outside pps"],
          drops.map((reason) => [reason, inside.droppedPps[reason] ?? 0, outside.droppedPps[reason] ?? 0]),
        ),
  ].flatMap((block) => block.split("\n"));
}

/** Wide enough for ten million a second, so that columns stay where they are. */
const columnWidth = "10,000,000".length;

function cell(value: number | string): string {
  return (typeof value === "number" ? whole(value) : value).padStart(columnWidth);
}

/** With a tenth, which whole numbers have not. */
function megabits(perSecond: number): string {
  return (perSecond / 1e6).toFixed(1);
}

function allDrops({ inside, outside }: Live): Record<string, number> {
  const all: Record<string, number> = { ...inside.droppedPps };
  for (const [reason, pps] of Object.entries(outside.droppedPps)) all[reason] = (all[reason] ?? 0) + pps;
  return all;
}

function nameOf({ role, id }: WorkerStats): string {
  return id === undefined ? role : `${role} ${id}`;
}

function rateOf(pps: number): string {
  return `${count(pps)}pps`;
}
