// Statistics as people read them: `vxpipe stats` and what the daemon prints when it ends. Pure.
import { counters } from "../pipeline/abi.gen.js";
import { camel, type DirectionStats, type NatStats, type Statistics } from "../pipeline/statistics.js";
import { bits, count, table, whole } from "./units.js";

const ledger = new Set<string>(["received", "forwarded", "passed"]);

export function statisticsText(stats: Statistics): string {
  const { inside, outside, rates } = stats;
  const rows: (readonly [string, (direction: DirectionStats) => number])[] = [
    ["received", (direction) => direction.received],
    ["forwarded", (direction) => direction.forwarded],
    ["passed", (direction) => direction.passed],
    ["dropped", (direction) => sum(direction.dropped)],
    ["pending", (direction) => direction.pending],
    ...counters
      .filter(({ name }) => !ledger.has(name))
      .map(({ name }) => [name, (direction: DirectionStats) => direction[camel(name)]] as const),
  ];
  const drops = Object.keys(inside.dropped) as (keyof DirectionStats["dropped"])[];
  const seen = drops.filter((reason) => inside.dropped[reason] + outside.dropped[reason] > 0);
  const { mode, attach } = stats.datapath;
  const { configured, best, why } = stats.choice;
  return [
    `datapath ${mode}${configured === "auto" ? " (auto)" : ""}, attached ${attach}, up ${stats.uptimeSeconds.toFixed(1)} s`,
    ...(best ? [] : [`less than the best: ${why}`]),
    `rates: in ${count(rates.receivedPps)}pps ${bits(rates.receivedBps)}, out ${count(rates.forwardedPps)}pps ${bits(rates.forwardedBps)}, drop ${count(rates.droppedPps)}pps`,
    `success rate ${(stats.successRate * 100).toFixed(3)} %, frames originated ${whole(stats.originated)}, extra fragments ${whole(stats.fragmentsExtra)}`,
    "",
    table(
      ["packets", "inside", "outside"],
      rows.map(([name, of]) => [name, of(inside), of(outside)]),
    ),
    ...(seen.length === 0
      ? []
      : [
          "",
          table(
            ["dropped because", "inside", "outside"],
            seen.map((reason) => [reason, inside.dropped[reason], outside.dropped[reason]]),
          ),
        ]),
    ...(stats.nat === null ? [] : ["", natText(stats.nat)]),
    "",
    table(
      ["thread", "cpu", "packets", "pps"],
      stats.workers.map(({ role, cpu, packets, pps }) => [role, cpu, packets, pps]),
    ),
  ].join("\n");
}

export function natText({ workers, handoffs, ...all }: NatStats): string {
  const names = Object.keys(all) as (keyof typeof all)[];
  const each = workers.length > 1 ? workers : [];
  const rows = names.map((name) => [name, all[name], ...each.map((worker) => worker[name])]);
  const engines = table(["source NAT", "all", ...each.map(({ id }) => `worker ${id}`)], rows);
  if (handoffs.length === 0) return engines;
  const pairs = handoffs.map(({ from, to, enqueued, dequeued, dropped }) => [
    `${from} to ${to}`,
    enqueued,
    dequeued,
    dropped,
  ]);
  return `${engines}\n\n${table(["handed over", "given", "taken", "dropped"], pairs)}`;
}

function sum(counts: Record<string, number>): number {
  return Object.values(counts).reduce((total, value) => total + value, 0);
}
