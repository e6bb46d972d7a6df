// `vxpipe stats`, the live line and the final statistics as one value, made of two readings. Called once a second and for
// every request, on the main thread. Pure.
import type { Attach, Choice, Mode } from "../injector/datapath.js";
import { counters, type CounterName, type DropReason } from "./abi.gen.js";
import {
  sumOf,
  workerSlot,
  type DirectionReading,
  type NatCounterName,
  type NatCounts,
  type Reading,
  type Work,
} from "./observe.js";
import type { NatHandoff } from "xdp-socket";

/** fragments_extra as fragmentsExtra. */
type Camel<Name extends string> = Name extends `${infer First}_${infer Rest}`
  ? `${First}${Capitalize<Camel<Rest>>}`
  : Name;

/** Every counter of bpf/abi/counters.h under its name, and what follows from them. */
export type DirectionStats = Record<Camel<CounterName>, number> & {
  pending: number;
  /** Every reason, so that the shape is stable. */
  dropped: Record<DropReason, number>;
  forwardedBytes: number;
};

export interface WorkerStats {
  /** Native workers only. */
  id?: number;
  role: "xdp" | "worker";
  cpu: number;
  packets: number;
  pps: number;
  work: Work;
}

export interface Statistics {
  datapath: { mode: Mode; attach: Attach; zeroCopy: boolean };
  choice: { configured: Choice["configured"]; best: boolean; why: string };
  uptimeSeconds: number;
  inside: DirectionStats;
  outside: DirectionStats;
  originated: number;
  fragmentsExtra: number;
  workers: WorkerStats[];
  /** null: no source NAT. */
  nat: NatStats | null;
  rates: { receivedPps: number; forwardedPps: number; droppedPps: number; receivedBps: number; forwardedBps: number };
  /** Forwarded of what was for us to forward; 1 when nothing was. */
  successRate: number;
}

type NatNumbers = Record<Camel<NatCounterName>, number>;

/** Of all engines together, and of each. */
export type NatStats = NatNumbers & {
  workers: (NatNumbers & { id: number })[];
  /** Packets from worker to worker. */
  handoffs: NatHandoff[];
};

export interface Timed {
  reading: Reading;
  /** Monotonic, milliseconds. */
  time: number;
}

/** What runs, and where its workers do. */
export interface Placement {
  choice: Choice;
  /** By the worker's number. */
  workerCpus: readonly number[];
  sourceNat?: boolean;
}

/** Rates are those between the two readings. */
export function statisticsOf(
  now: Timed,
  before: Timed,
  started: number,
  { choice, workerCpus, sourceNat = false }: Placement,
): Statistics {
  const seconds = Math.max((now.time - before.time) / 1000, 0.001);
  const { inside, outside } = now.reading;
  const rate = (of: (direction: DirectionReading) => number): number =>
    (of(inside) + of(outside) - of(before.reading.inside) - of(before.reading.outside)) / seconds;
  const forwarded = inside.counts.forwarded + outside.counts.forwarded;
  // What was answered was not to be forwarded.
  const dropped = inside.droppedTotal + outside.droppedTotal - inside.dropped.answered - outside.dropped.answered;
  return {
    datapath: { mode: choice.mode, attach: attachOf(choice), zeroCopy: false },
    choice: { configured: choice.configured, best: choice.best, why: choice.why },
    uptimeSeconds: Math.round((now.time - started) / 100) / 10,
    inside: directionStats(inside),
    outside: directionStats(outside),
    originated: inside.counts.originated + outside.counts.originated,
    fragmentsExtra: inside.counts.fragments_extra + outside.counts.fragments_extra,
    workers: workersOf(now, before, seconds, workerCpus),
    nat: sourceNat ? natOf(now.reading.nat) : null,
    rates: {
      receivedPps: Math.round(rate((direction) => direction.counts.received)),
      forwardedPps: Math.round(rate((direction) => direction.counts.forwarded)),
      droppedPps: Math.round(rate((direction) => direction.droppedTotal)),
      receivedBps: Math.round(rate((direction) => direction.counts.received_bytes) * 8),
      forwardedBps: Math.round(rate(bytesOut) * 8),
    },
    successRate: forwarded + dropped === 0 ? 1 : forwarded / (forwarded + dropped),
  };
}

function natOf(engines: readonly NatCounts[]): NatStats {
  const numbers = (counts: NatCounts): NatNumbers =>
    Object.fromEntries(Object.entries(counts).map(([name, value]) => [camel(name), value])) as NatNumbers;
  const workers = engines.map((counts, id) => ({ id, ...numbers(counts) }));
  return { ...numbers(sumOf(engines)), workers, handoffs: [] };
}

function attachOf({ insideAttach, outsideAttach }: Choice): Attach {
  return insideAttach === "native" ? outsideAttach : insideAttach;
}

function bytesOut({ counts }: DirectionReading): number {
  return counts.redirected_bytes + counts.worker_bytes;
}

function directionStats(direction: DirectionReading): DirectionStats {
  const named = counters.map(({ name }) => [camel(name), direction.counts[name]]);
  const { pending, dropped } = direction;
  return {
    ...(Object.fromEntries(named) as Record<Camel<CounterName>, number>),
    forwardedBytes: bytesOut(direction),
    pending,
    dropped,
  };
}

export function camel<Name extends string>(name: Name): Camel<Name> {
  return name.replace(/_(.)/g, (_, letter: string) => letter.toUpperCase()) as Camel<Name>;
}

const noWork: Work = {
  received: 0,
  forwarded: 0,
  forwardedBytes: 0,
  injected: 0,
  dropped: 0,
  batches: 0,
  ringPermille: 0,
  cpuSeconds: null,
};

/** The native workers, then every CPU that saw packets. */
function workersOf(now: Timed, before: Timed, seconds: number, workerCpus: readonly number[]): WorkerStats[] {
  const earlier = new Map(before.reading.slots.map(({ slot, packets }) => [slot, packets]));
  const latest = new Map(now.reading.slots.map((reading) => [reading.slot, reading]));
  const shown = (slot: number): { packets: number; pps: number; work: Work } => {
    const { packets, work } = latest.get(slot) ?? { packets: 0, work: noWork };
    return { packets, pps: Math.round((packets - (earlier.get(slot) ?? 0)) / seconds), work };
  };
  const cpus = [...latest.keys()].filter((slot) => slot < workerSlot);
  return [
    ...workerCpus.map((cpu, id): WorkerStats => ({ id, role: "worker", cpu, ...shown(workerSlot + id) })),
    ...cpus.map((cpu): WorkerStats => ({ role: "xdp", cpu, ...shown(cpu) })),
  ];
}
