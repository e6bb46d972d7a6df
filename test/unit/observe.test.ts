// Counters as the native side writes them, read back: the ledger's arithmetic and its order of reading.
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";
import {
  counters,
  drops,
  natCounters,
  vxConstant,
  vxCounters,
  vxDirection,
  vxDrop,
  vxSlot,
  type CounterName,
} from "../../src/pipeline/abi.gen.js";
import { chooseDatapath, nothingKnown } from "../../src/injector/datapath.js";
import { ledgerFaults, readCounters, slotsBytes, workerSlot } from "../../src/pipeline/observe.js";
import { statisticsOf } from "../../src/pipeline/statistics.js";
import { liveText } from "../../src/telemetry/live-line.js";
import { statisticsText } from "../../src/telemetry/report.js";
import { bits, count, table } from "../../src/telemetry/units.js";

const root = new URL("../../../", import.meta.url).pathname;

class Memory {
  readonly bytes = new ArrayBuffer(slotsBytes);
  private readonly view = new DataView(this.bytes);

  add(slot: number, direction: "inside" | "outside", name: CounterName | keyof typeof vxDrop, value: number): this {
    const counter = counters.find((one) => one.name === name);
    const within = counter?.offset ?? vxCounters.offset.dropped + vxDrop[name as keyof typeof vxDrop] * 8;
    const at = slot * vxSlot.bytes + vxSlot.offset.direction + vxDirection[direction] * vxCounters.bytes + within;
    this.view.setBigUint64(at, this.view.getBigUint64(at, true) + BigInt(value), true);
    return this;
  }
}

test("slots are summed and what has no fate yet is pending", () => {
  const memory = new Memory().add(0, "inside", "received", 10).add(3, "inside", "received", 5);
  memory.add(0, "inside", "forwarded", 8).add(3, "inside", "notAllowed", 2).add(workerSlot, "inside", "forwarded", 1);
  const { inside, slots } = readCounters(memory.bytes);
  assert.equal(inside.counts.received, 15);
  assert.equal(inside.dropped.not_allowed, 2);
  assert.equal(inside.pending, 15 - 9 - 2);
  const shown = slots.map(({ slot, packets }) => ({ slot, packets }));
  assert.deepEqual(shown, [
    { slot: 0, packets: 10 },
    { slot: 3, packets: 5 },
    { slot: workerSlot, packets: 1 },
  ]);
});

test("received is read after every fate, so that pending is never negative", () => {
  const order: number[] = [];
  const memory = new Memory();
  for (let slot = 0; slot < workerSlot; slot++) memory.add(slot, "inside", "received", 1);
  const { load } = Atomics;
  const received = vxCounters.offset.received / 8;
  const words = vxCounters.bytes / 8;
  try {
    Atomics.load = ((array: BigUint64Array, index: number) => {
      const within = index % (vxSlot.bytes / 8);
      if (within < 2 * words) order.push(within % words);
      return load(array, index);
    }) as typeof Atomics.load;
    readCounters(memory.bytes);
  } finally {
    Atomics.load = load;
  }
  // Packets by CPU are shown, not balanced: they are received counts too, and may be read at any time.
  const fates = order.findLastIndex(
    (word) => word === vxCounters.offset.forwarded / 8 || word >= vxCounters.offset.dropped / 8,
  );
  const balanced = order.lastIndexOf(received);
  assert.ok(fates >= 0 && fates < balanced);
  assert.ok(order.slice(fates + 1).filter((word) => word === received).length >= 2 * (workerSlot + 1));
});

test("a settled ledger has no faults; one packet missing is one", () => {
  const memory = new Memory().add(0, "inside", "received", 10).add(0, "inside", "redirected", 7);
  memory.add(0, "inside", "forwarded", 6).add(0, "inside", "txRefused", 1).add(0, "inside", "passed", 1);
  memory
    .add(0, "inside", "to_worker", 2)
    .add(workerSlot, "inside", "noNeighbour", 1)
    .add(workerSlot, "inside", "forwarded", 1);
  assert.deepEqual(ledgerFaults(memory.bytes), []);
  memory.add(0, "inside", "received", 1);
  assert.deepEqual(ledgerFaults(memory.bytes), ["inside: 1 packets are unaccounted for"]);
});

test("packets lost in a crash balance on both sides", () => {
  const memory = new Memory();
  memory.add(vxConstant.controlSlot, "inside", "received", 3).add(vxConstant.controlSlot, "inside", "crashLost", 3);
  assert.deepEqual(ledgerFaults(memory.bytes), []);
  // No worker finished them.
  assert.deepEqual(readCounters(memory.bytes).slots, []);
});

test("counters above 2^32 are read whole", () => {
  const memory = new Memory().add(1, "outside", "received", 2 ** 40 + 1);
  assert.equal(readCounters(memory.bytes).outside.counts.received, 2 ** 40 + 1);
});

test("statistics list every drop reason and the worker before the CPUs, with rates between two readings", () => {
  const before = { reading: readCounters(new Memory().bytes), time: 1000 };
  const memory = new Memory().add(1, "inside", "received", 3000).add(1, "inside", "received_bytes", 300000);
  memory.add(1, "inside", "forwarded", 2000).add(1, "inside", "notAllowed", 1000);
  const stats = statisticsOf({ reading: readCounters(memory.bytes), time: 3000 }, before, 0, {
    choice: chooseDatapath("afxdp", nothingKnown),
    workerCpus: [7],
  });
  assert.deepEqual(
    Object.keys(stats.inside.dropped),
    drops.map(({ name }) => name),
  );
  const shown = stats.workers.map((worker) => ({ ...worker, work: undefined }));
  assert.deepEqual(shown, [
    { id: 0, role: "worker", cpu: 7, packets: 0, pps: 0, work: undefined },
    { role: "xdp", cpu: 1, packets: 3000, pps: 1500, work: undefined },
  ]);
  assert.equal(stats.rates.receivedBps, 1_200_000);
  assert.equal(stats.successRate, 2 / 3);
  assert.match(liveText(stats, new Date(0)), /^00:00:00  in 1.50 kpps 1.2 Mbps  out 1.00 kpps/);
  assert.match(statisticsText(stats), /not_allowed {2,}1,000 +0/);
});

test("an idle gateway has a success rate of 1, not NaN", () => {
  const idle = { reading: readCounters(new Memory().bytes), time: 0 };
  assert.equal(
    statisticsOf(idle, idle, 0, { choice: chooseDatapath("xdp", nothingKnown), workerCpus: [0] }).successRate,
    1,
  );
});

test("numbers round to three digits and never to 1000", () => {
  assert.deepEqual([0, 999, 999.6, 1000, 9_994, 999_499, 999_500, 4_090_000].map(count), [
    "0 ",
    "999 ",
    "1.00 k",
    "1.00 k",
    "9.99 k",
    "999 k",
    "1.00 M",
    "4.09 M",
  ]);
  assert.equal(bits(1_500_000), "1.5 Mbps");
  assert.equal(table(["a", "n"], [["x", 1000]]), "a      n\nx  1,000");
});

test("the generated ABI has every counter and reason of the contract", () => {
  const header = readFileSync(`${root}bpf/abi/counters.h`, "utf8");
  const names = [...header.matchAll(/\bX\((\w+), "/g)].map((match) => match[1]);
  assert.deepEqual(
    names,
    [...counters, ...natCounters, ...drops].map(({ name }) => name),
  );
});
