// Reads the counters that XDP and the native threads write: the only place that knows where they stand in memory.
// Called by runtime.ts and the API, on the main thread.
//
// A reading must never show more packets accounted for than received. Every packet's fate is counted after its arrival,
// so the fates are read first and `received` last: what arrives meanwhile is pending, never negative. Atomics keep the
// order on any CPU.
import { readFileSync } from "node:fs";
import {
  counters,
  drops,
  natCounters,
  vxCounters,
  vxDirection,
  vxDrop,
  vxConstant,
  vxSlot,
  vxWork,
  type CounterName,
  type DropReason,
} from "./abi.gen.js";

export interface DirectionReading {
  counts: Record<CounterName, number>;
  dropped: Record<DropReason, number>;
  droppedTotal: number;
  /** Received, and not yet forwarded, passed or dropped. */
  pending: number;
}

export interface SlotReading {
  slot: number;
  /** Packets this CPU received, or this worker finished. */
  packets: number;
  work: Work;
}

/** What a CPU or a worker had to do. */
export interface Work {
  /** Packets: a worker takes them from its sockets and rings. */
  received: number;
  /** By this one: of what XDP redirects as far as the kernel told. */
  forwarded: number;
  forwardedBytes: number;
  /** Of those forwarded: sent many a system call. */
  injected: number;
  dropped: number;
  /** Workers only: receives that brought packets, and how full the ring was at each, added up. */
  batches: number;
  ringPermille: number;
  /** Workers only: CPU time of the thread; null: it cannot be told. */
  cpuSeconds: number | null;
}

export type NatCounterName = (typeof natCounters)[number]["name"];
export type NatCounts = Record<NatCounterName, number>;

/** What an engine has now; the others only grow. */
export const natGauges: ReadonlySet<NatCounterName> = new Set(["sessions", "mappings", "subscribers"]);

export interface Reading {
  inside: DirectionReading;
  outside: DirectionReading;
  /** CPUs that saw packets, and workers that run or did. */
  slots: SlotReading[];
  /** What became of packets that XDP redirected, carrier and MTU aside. */
  fastPath: { forwarded: number; refused: number };
  /** The NAT engines, by their workers' numbers; of workers that run or did. */
  nat: NatCounts[];
  latency: number[];
  latencySumNs: number;
  /** Turns of each worker's loop, by the worker's number. */
  turns: number[];
}

export type Direction = "inside" | "outside";
export const directions: readonly Direction[] = ["inside", "outside"];

/** Where a thread does its work decides its slot: one for each CPU, one for each native worker, the control plane's. */
export const workerSlot = vxConstant.cpusMax;

export const slotsBytes = vxConstant.slotsMax * vxSlot.bytes;

type Load = (slot: number, offset: number) => bigint;

export function readCounters(memory: ArrayBufferLike): Reading {
  const words = new BigUint64Array(memory, 0, slotsBytes / 8);
  const load: Load = (slot, offset) => Atomics.load(words, (slot * vxSlot.bytes + offset) / 8);
  const base = (direction: Direction): number => vxSlot.offset.direction + vxDirection[direction] * vxCounters.bytes;
  const used = usedSlots((slot, direction) => load(slot, base(direction) + vxCounters.offset.received));
  const sum = (offset: number): number => Number(used.reduce((total, slot) => total + load(slot, offset), 0n));
  const fates = directions.map((direction) => readFates((offset) => sum(base(direction) + offset)));
  const slots: SlotReading[] = [];
  for (const slot of used) {
    const packets = directions.reduce((total, direction) => total + slotPackets(load, slot, base(direction)), 0n);
    const runs = slot >= workerSlot && load(slot, workOffset("thread")) > 0n;
    if ((packets > 0n || runs) && slot < vxConstant.controlSlot) {
      slots.push({ slot, packets: Number(packets), work: readWork(load, slot, base) });
    }
  }
  const fastPath = fastPathOf(load, base("inside"));
  const nat = readNat(load);
  const latency = Array.from({ length: vxConstant.latencyBuckets }, (_, index) =>
    sum(vxSlot.offset.latency + index * 8),
  );
  const latencySumNs = sum(vxSlot.offset.latencySumNs);
  const turns = Array.from({ length: vxConstant.controlSlot - workerSlot }, (_, worker) =>
    Number(load(workerSlot + worker, vxSlot.offset.heartbeat)),
  );
  const [inside, outside] = directions.map((direction, index) => {
    const received = sum(base(direction) + vxCounters.offset.received);
    return balance(fates[index] as Fates, received);
  }) as [DirectionReading, DirectionReading];
  return { inside, outside, slots, fastPath, nat, latency, latencySumNs, turns };
}

/** Slots that have counted anything, which starts with a packet received, and all but CPUs'. Most CPUs' never do. */
function usedSlots(received: (slot: number, direction: Direction) => bigint): number[] {
  return Array.from({ length: vxConstant.slotsMax }, (_, slot) => slot).filter(
    (slot) => slot >= workerSlot || directions.some((direction) => received(slot, direction) > 0n),
  );
}

interface Fates {
  counts: Record<CounterName, number>;
  dropped: Record<DropReason, number>;
}

function readFates(sum: (offset: number) => number): Fates {
  const counts = Object.fromEntries(
    counters.filter(({ name }) => name !== "received").map(({ name, offset }) => [name, sum(offset)]),
  ) as Record<CounterName, number>;
  const dropped = Object.fromEntries(
    drops.map(({ name }, index) => [name, sum(vxCounters.offset.dropped + index * 8)]),
  ) as Record<DropReason, number>;
  return { counts, dropped };
}

function balance({ counts, dropped }: Fates, received: number): DirectionReading {
  const droppedTotal = Object.values(dropped).reduce((total, count) => total + count, 0);
  const pending = received - counts.forwarded - counts.passed - droppedTotal;
  return { counts: { ...counts, received }, dropped, droppedTotal, pending };
}

function slotPackets(load: (slot: number, offset: number) => bigint, slot: number, base: number): bigint {
  if (slot < workerSlot) return load(slot, base + vxCounters.offset.received);
  return drops.reduce(
    (total, _, index) => total + load(slot, base + vxCounters.offset.dropped + index * 8),
    load(slot, base + vxCounters.offset.forwarded),
  );
}

/** Without what the workers sent; what nobody reported stands in the control plane's slot. */
function fastPathOf(load: (slot: number, offset: number) => bigint, base: number): Reading["fastPath"] {
  const slots = Array.from({ length: workerSlot + 1 }, (_, slot) =>
    slot < workerSlot ? slot : vxConstant.controlSlot,
  );
  const sum = (offset: number): number => Number(slots.reduce((total, slot) => total + load(slot, base + offset), 0n));
  const refused = (["redirectError", "txRefused"] as const).map((drop) =>
    sum(vxCounters.offset.dropped + vxDrop[drop] * 8),
  );
  return { forwarded: sum(vxCounters.offset.forwarded), refused: refused.reduce((total, count) => total + count, 0) };
}

function workOffset(field: keyof typeof vxWork.offset): number {
  return vxSlot.offset.work + vxWork.offset[field];
}

function readWork(load: Load, slot: number, base: (direction: Direction) => number): Work {
  const both = (offset: number): number =>
    Number(directions.reduce((total, direction) => total + load(slot, base(direction) + offset), 0n));
  const own = (field: keyof typeof vxWork.offset): number => Number(load(slot, workOffset(field)));
  const worker = slot >= workerSlot;
  return {
    received: worker ? own("taken") : both(vxCounters.offset.received),
    forwarded: both(vxCounters.offset.forwarded),
    forwardedBytes: both(vxCounters.offset.redirectedBytes) + both(vxCounters.offset.workerBytes),
    injected: both(vxCounters.offset.injected),
    dropped: drops.reduce((total, _, index) => total + both(vxCounters.offset.dropped + index * 8), 0),
    batches: own("batches"),
    ringPermille: own("ringPermille"),
    cpuSeconds: worker ? threadSeconds(own("thread")) : null,
  };
}

function readNat(load: Load): NatCounts[] {
  const counts: NatCounts[] = [];
  for (let slot = workerSlot; slot < vxConstant.controlSlot && load(slot, workOffset("thread")) > 0n; slot++) {
    const named = natCounters.map(({ name, offset }) => [name, Number(load(slot, vxSlot.offset.nat + offset))]);
    counts.push(Object.fromEntries(named) as NatCounts);
  }
  return counts;
}

export function sumOf(counts: readonly NatCounts[]): NatCounts {
  const sums = natCounters.map(({ name }) => [name, counts.reduce((sum, one) => sum + one[name], 0)]);
  return Object.fromEntries(sums) as NatCounts;
}

/** CPU time of a thread of this process. */
function threadSeconds(thread: number): number | null {
  try {
    const text = thread === 0 ? "" : readFileSync(`/proc/self/task/${thread}/schedstat`, "utf8");
    const nanoseconds = /^(\d+) /.exec(text)?.[1];
    return nanoseconds === undefined ? null : Number(nanoseconds) / 1e9;
  } catch {
    return null;
  }
}

/** What a ledger that must be settled still owes, in words; empty: it balances to the packet. */
export function ledgerFaults(memory: ArrayBufferLike): string[] {
  const reading = readCounters(memory);
  return directions
    .filter((direction) => reading[direction].pending !== 0)
    .map((direction) => `${direction}: ${reading[direction].pending} packets are unaccounted for`);
}
