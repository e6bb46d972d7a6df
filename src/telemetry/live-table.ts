// `vxpipe top` as a value and as text: what went on between two answers of the daemon. Rates are differences of its
// counters over the time between the answers, so all of them speak of the same second. Used by src/cli/commands/top.ts.
// Pure.
import type { Work } from "../pipeline/observe.js";
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
  workers: WorkerRates[];
}

/** A CPU or a worker in this time; null: nothing was there to tell it by. */
export interface WorkerRates {
  id?: number;
  role: WorkerStats["role"];
  cpu: number;
  packets: number;
  pps: number;
  receivedPps: number;
  forwardedPps: number;
  forwardedBps: number;
  droppedPps: number;
  /** Packets a receive, of those that brought any. */
  batch: number | null;
  /** How full its ring was at these, 0 to 1. */
  ringFill: number | null;
  /** Of what it forwarded: sent many a system call, 0 to 1; the rest went one by one. */
  injected: number | null;
  /** Of its CPU's time, 0 to 1. */
  busy: number | null;
}

/** Null: these are answers of two different runs, which have nothing in common. */
export function liveOf(before: Answer, now: Answer): Live | null {
  const { stats: earlier } = before;
  const { stats } = now;
  if (stats.uptimeSeconds < earlier.uptimeSeconds) return null;
  const seconds = Math.max((now.time - before.time) / 1000, 0.001);
  const previous = new Map(earlier.workers.map((worker) => [keyOf(worker), worker]));
  return {
    datapath: stats.datapath,
    uptimeSeconds: stats.uptimeSeconds,
    seconds: Math.round(seconds * 1000) / 1000,
    inside: ratesOf(earlier.inside, stats.inside, seconds),
    outside: ratesOf(earlier.outside, stats.outside, seconds),
    workers: stats.workers.map((worker) => workerRatesOf(previous.get(keyOf(worker)) ?? null, worker, seconds)),
  };
}

function workerRatesOf(before: WorkerStats | null, now: WorkerStats, seconds: number): WorkerRates {
  const { work: _, ...rest } = now;
  const grown = (field: NumberOf<Work>): number => now.work[field] - (before?.work[field] ?? 0);
  const rate = (field: NumberOf<Work>): number => Math.round(grown(field) / seconds);
  const share = (part: number, all: number): number | null => (all > 0 ? part / all : null);
  const batches = grown("batches");
  const cpuSeconds = [before?.work.cpuSeconds ?? null, now.work.cpuSeconds] as const;
  const busy = cpuSeconds[0] === null || cpuSeconds[1] === null ? null : (cpuSeconds[1] - cpuSeconds[0]) / seconds;
  return {
    ...rest,
    pps: Math.round((now.packets - (before?.packets ?? 0)) / seconds),
    receivedPps: rate("received"),
    forwardedPps: rate("forwarded"),
    forwardedBps: rate("forwardedBytes") * 8,
    droppedPps: rate("dropped"),
    batch: share(grown("received"), batches),
    ringFill: share(grown("ringPermille") / 1000, batches),
    injected: now.role === "worker" ? share(grown("injected"), grown("forwarded")) : null,
    busy: busy === null ? null : Math.min(Math.max(busy, 0), 1),
  };
}

type NumberOf<Type> = { [Key in keyof Type]: Type[Key] extends number ? Key : never }[keyof Type];

type Named = Pick<WorkerStats, "role" | "id" | "cpu">;

function keyOf({ role, id, cpu }: Named): string {
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

/** Lines for a terminal that is drawn anew each second. Of more threads than fit into `most` lines the last are left out, so
 * that the drops are seen. */
export function liveScreen(live: Live, time: Date, most = Infinity): string[] {
  const { datapath } = live;
  const head = [
    `vxpipe  ${time.toISOString().slice(11, 19)}  datapath ${datapath.mode}, attached ${datapath.attach}, up ${live.uptimeSeconds.toFixed(0)} s`,
    "",
    ...packetLines(live),
    "",
  ];
  const threads = threadLines(live);
  const drops = ["", ...dropLines(live)];
  const room = Math.max(most - head.length - drops.length, 2);
  const hidden = threads.length - room + 1;
  const shown = hidden > 1 ? [...threads.slice(0, room - 1), `and ${hidden} more threads`] : threads;
  return [...head, ...shown, ...drops];
}

function packetLines({ inside, outside }: Live): string[] {
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
  return table(
    ["packets", "inside", "outside"].map((name, column) => (column === 0 ? name : name.padStart(columnWidth))),
    rows.map(([name, of]) => [name, cell(of(inside)), cell(of(outside))]),
  ).split("\n");
}

function threadLines({ workers }: Live): string[] {
  return table(
    ["thread", "cpu", "in pps", "out pps", "out Mbps", "drop pps", "batch", "ring", "inj", "busy"].map(
      (name, column) => (column < 2 ? name : name.padStart(5)),
    ),
    workers.map((worker) => [
      nameOf(worker),
      worker.cpu,
      short(worker.receivedPps),
      short(worker.forwardedPps),
      megabits(worker.forwardedBps).padStart(8),
      short(worker.droppedPps),
      (worker.batch === null ? "-" : worker.batch.toFixed(0)).padStart(5),
      percent(worker.ringFill),
      percent(worker.injected),
      percent(worker.busy),
    ]),
  ).split("\n");
}

function dropLines(live: Live): string[] {
  const { inside, outside } = live;
  const drops = Object.keys(allDrops(live));
  if (drops.length === 0) return ["no drops in this second"];
  return table(
    ["dropped because", "inside pps", "outside pps"],
    drops.map((reason) => [reason, inside.droppedPps[reason] ?? 0, outside.droppedPps[reason] ?? 0]),
  ).split("\n");
}

/** Wide enough for ten million a second, so that columns stay where they are. */
const columnWidth = "10,000,000".length;

function short(pps: number): string {
  return count(pps).trimEnd().padStart(6);
}

function percent(share: number | null): string {
  return (share === null ? "-" : `${(share * 100).toFixed(0)} %`).padStart(5);
}

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

function nameOf({ role, id }: Named): string {
  return id === undefined ? role : `${role} ${id}`;
}

function rateOf(pps: number): string {
  return `${count(pps)}pps`;
}
