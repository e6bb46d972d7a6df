// `make bench`: the gateway beside the kernel's own way and a bare XDP redirect, interleaved in one run.
//
//   node dist/bench/run.js [--repeats N] [--seconds S] [--peers-only]
//
// Every round visits every gateway with every load; medians of the rounds with their spread. Writes
// bench/results.json, the tables of docs/PERFORMANCE.md, and prints a table. Runs on Node's main thread;
// needs root; all traffic stays in namespaces of its own.
import { writeFileSync } from "node:fs";
import { cpus } from "node:os";
import { join } from "node:path";
import { parseArgs } from "node:util";

import { ROOT, sleep } from "../test/bed/command.js";
import { measureEngine } from "./engine.js";
import {
  BareGateway,
  ClassicGateway,
  during,
  type Gateway,
  KernelGateway,
  PlainGateway,
  ProductGateway,
} from "./gateways.js";
import { Ladder } from "./ladder.js";
import { type LatencySample, type LoadShape, loadName, measureLatency, measureLoad, type Sample } from "./measure.js";
import { cpuSecondsOf, describeHost, type Results, summarize, writeTables } from "./report.js";
import { SourceNatBench } from "./source-nat.js";
import { type Visit, visitAll } from "./visits.js";

const SHAPES: LoadShape[] = [
  { innerBytes: 64, flows: 1 },
  { innerBytes: 64, flows: 10_000 },
  { innerBytes: 1400, flows: 1 },
  { innerBytes: 1400, flows: 10_000 },
];
const LATENCY_KPPS = 100;
/** Many short ones: a host that stops a CPU for milliseconds spoils a few of them, and would spoil every long one. */
const LATENCY_RUNS = 5;
const LATENCY_SECONDS = 0.3;
const IDLE_SECONDS = 5;

export interface Series {
  gateway: Gateway;
  shape: LoadShape;
  samples: Sample[];
}

function loadVisits(gateways: Gateway[], series: Series[], seconds: number, round: number): Visit[] {
  // Another order each round: whatever drifts on this host does not always hit the same one.
  const turned = gateways.map((_, index) => gateways[(index + round) % gateways.length] as Gateway);
  const measure = async (gateway: Gateway): Promise<void> => {
    for (const one of series.filter((entry) => entry.gateway === gateway)) {
      one.samples.push(await measureLoad(gateway, one.shape, seconds));
    }
  };
  return turned.map((gateway) => ({ cores: gateway.cores, run: () => during(gateway, () => measure(gateway)) }));
}

function latencyVisits(gateways: Gateway[], samples: Map<string, LatencySample[]>): Visit[] {
  const measure = async (gateway: Gateway): Promise<void> => {
    const list = samples.get(gateway.name) ?? [];
    for (let run = 0; run < LATENCY_RUNS; run++) {
      list.push(await measureLatency(gateway, LATENCY_KPPS, LATENCY_SECONDS));
    }
    samples.set(gateway.name, list);
  };
  return gateways.map((gateway) => ({
    cores: gateway.cores,
    run: () => during(gateway, () => measure(gateway), "latency"),
  }));
}

/** CPU seconds the daemon uses in a second without traffic. */
async function idleCost(product: ProductGateway): Promise<number> {
  await product.begin("load");
  try {
    const pid = product.daemon?.process.pid ?? -1;
    await sleep(2_000); // what starting it costs is not idling
    const before = cpuSecondsOf(pid);
    await sleep(IDLE_SECONDS * 1000);
    return (cpuSecondsOf(pid) - before) / IDLE_SECONDS;
  } finally {
    await product.end();
  }
}

async function main(): Promise<void> {
  const { values } = parseArgs({
    options: {
      repeats: { type: "string", default: "5" },
      seconds: { type: "string", default: "0.9" },
      "peers-only": { type: "boolean", default: false },
    },
  });
  if (process.getuid?.() !== 0) throw new Error("the bench makes network namespaces and needs root");
  if (cpus().length < 2) throw new Error("the bench compares one core with two and needs two");
  // Each bed listens to signals and to the exit.
  process.setMaxListeners(20);
  const repeats = Number(values.repeats);
  const seconds = Number(values.seconds);
  const started = new Date();
  const conntrack = await KernelGateway.make("conntrack");
  const stateless = await KernelGateway.make("stateless");
  const forward = await KernelGateway.make("forward");
  const classic = await ClassicGateway.make();
  const plain = await PlainGateway.make();
  const bare = await BareGateway.make("redirect");
  const product = values["peers-only"] ? null : await ProductGateway.make();
  const ours = product
    ? [product, await ProductGateway.makeWorker("afxdp"), await ProductGateway.makeWorker("ringbuf")]
    : [];
  const gateways: Gateway[] = [...conntrack, ...stateless, forward[0], classic, bare, ...ours];
  const series = gateways.flatMap((gateway) => SHAPES.map((shape): Series => ({ gateway, shape, samples: [] })));
  const latency = new Map<string, LatencySample[]>();
  const sourceNat = await SourceNatBench.make(product !== null);
  const engine = await measureEngine();
  const ladder = product ? await Ladder.make(product) : null;
  try {
    for (let round = 0; round < repeats; round++) {
      process.stderr.write(
        `round ${round + 1} of ${repeats}, ${Math.round((Date.now() - started.getTime()) / 1000)} s\n`,
      );
      await visitAll([
        ...loadVisits(gateways, series, seconds, round),
        ...latencyVisits([conntrack[0], plain, ...ours], latency),
        ...(ladder ? [{ cores: 1, run: () => ladder.round(seconds) }] : []),
        // What takes ten minutes is run by nobody.
        ...(round % 2 === 0 ? sourceNat.visits(seconds) : []),
      ]);
    }
    const idle = product ? await idleCost(product) : null;
    const results: Results = summarize({
      host: describeHost(),
      date: started.toISOString(),
      series: series.map(({ gateway, shape, samples }) => ({
        name: gateway.name,
        cores: gateway.cores,
        load: loadName(shape),
        samples,
      })),
      latency,
      kpps: LATENCY_KPPS,
      ladder: ladder?.result() ?? [],
      idle,
      engine,
      sourceNat: sourceNat.samples,
    });
    writeFileSync(join(ROOT, "bench/results.json"), `${JSON.stringify(results, null, 2)}\n`);
    process.stdout.write(writeTables(results, join(ROOT, "docs/PERFORMANCE.md")));
  } finally {
    const beds = new Set([plain.bed, ...gateways.map((gateway) => gateway.bed), ...(ladder?.beds ?? [])]);
    for (const bed of beds) await bed.remove();
    await sourceNat.remove();
  }
}

try {
  await main();
} catch (error) {
  process.stderr.write(`${error instanceof Error ? error.message : String(error)}\n`);
  process.exitCode = 1;
}
