// One measurement: a load through a gateway, counted at the far end. Called by run.ts and ladder.ts, on Node's
// main thread.
//
// "One core" means that generator, gateway and far end share CPU 0: a veth runs its receive side on the CPU
// that sends, so pinning the generator pins them all. Two cores: the kernel moves packets on by RPS.
import { sleep } from "../test/bed/command.js";
import { ADDRESS } from "../test/bed/bed.js";
import { generate, type Load, pingPong, type Sent } from "../test/bed/tools.js";
import { type Gateway, RULE_PORT, SOURCES } from "./gateways.js";
import { CallCounter, secondsWaited } from "./threads.js";

export interface LoadShape {
  /** Bytes of the inner IP packet; the Ethernet frame on the inside wire is 64 longer. */
  innerBytes: number;
  flows: number;
}

export function loadName(shape: LoadShape): string {
  return `${shape.innerBytes}B-${shape.flows}flows`;
}

export interface Sample {
  mpps: number;
  sent: number;
  delivered: number;
  pingPongNs: number;
  /** Share of the time in which the sending CPU, or the worker's, ran something else. */
  disturbed: number;
  /** System calls of the gateway's own threads for each packet that arrived; null: it has none. */
  callsPerPacket: number | null;
}

const DISTURBED_SHARE = 0.02;
const REPEATS_WHEN_DISTURBED = 2;
/** In the whole bench, so that a busy host cannot make it endless. */
let repeatsLeft = 60;

/** However many, or for however long. */
export function toLoad(shape: LoadShape): Load {
  return {
    cpu: 0,
    flows: shape.flows,
    size: shape.innerBytes,
    vni: 1,
    sources: SOURCES,
    destination: ADDRESS.beyond,
    ports: String(RULE_PORT),
  };
}

/** Full speed for some seconds; what arrived, over the time it took to send. A run during which the CPU did
 * something else is repeated; when the host gives no peace, the least disturbed counts. */
export async function measureLoad(gateway: Gateway, shape: LoadShape, seconds: number): Promise<Sample> {
  let best = await measureOnce(gateway, shape, seconds);
  for (let again = 0; again < REPEATS_WHEN_DISTURBED && best.disturbed > DISTURBED_SHARE && repeatsLeft > 0; again++) {
    repeatsLeft--;
    const next = await measureOnce(gateway, shape, seconds);
    if (next.disturbed < best.disturbed) best = next;
  }
  return best;
}

/** The same once, as disturbed as it may be. */
export async function measureOnce(gateway: Gateway, shape: LoadShape, seconds: number): Promise<Sample> {
  const distance = await pingPong();
  await gateway.sink.reset();
  const threads = gateway.workerThreads ?? [];
  const calls = threads.length > 0 ? await CallCounter.start(threads) : null;
  const waitedBefore = secondsWaited(threads);
  const sent = await generate(gateway.bed, { ...toLoad(shape), duration: seconds });
  // On two cores the second may still be at work when the generator has ended.
  await sleep(gateway.cores > 1 ? 100 : 20);
  const disturbed = shareWaited(sent, secondsWaited(threads) - waitedBefore, threads.length);
  const called = await calls?.stop();
  const arrived = await gateway.sink.report();
  const wrong = Object.entries(arrived.wrong).filter(([, count]) => count > 0);
  if (wrong.length > 0) throw new Error(`${gateway.name}: wrong at the far end: ${JSON.stringify(arrived.wrong)}`);
  if (arrived.packets === 0) throw new Error(`${gateway.name}: nothing of ${sent.sent} packets arrived`);
  return {
    mpps: arrived.packets / sent.seconds / 1e6,
    sent: sent.sent,
    delivered: arrived.packets,
    pingPongNs: distance.medianNs,
    disturbed,
    callsPerPacket: called === undefined ? null : called / arrived.packets,
  };
}

export interface LatencySample {
  p50Us: number;
  p99Us: number;
  maxUs: number;
  lossPercent: number;
  disturbed: number;
}

/** Single packets at an even rate from CPU 0, stamped before the sending call, read at the far end's program. A slot that
 * the sending thread missed stays empty. */
export async function measureLatency(gateway: Gateway, kpps: number, seconds: number): Promise<LatencySample> {
  await gateway.sink.reset();
  const threads = gateway.workerThreads ?? [];
  const waitedBefore = secondsWaited(threads);
  const load: Load = { ...toLoad({ innerBytes: 64, flows: 10_000 }), latency: true, rate: kpps * 1000 };
  const sent = await generate(gateway.bed, { ...load, duration: seconds });
  const disturbed = shareWaited(sent, secondsWaited(threads) - waitedBefore, threads.length);
  const arrived = await gateway.sink.report();
  if (arrived.latency === null) throw new Error(`${gateway.name}: no stamped packet arrived`);
  const { p50Us, p99Us, maxUs, count } = arrived.latency;
  return { p50Us, p99Us, maxUs, lossPercent: (100 * (sent.sent - count)) / sent.sent, disturbed };
}

/** Of the sending thread, or of the worker's threads: the one that waited more. */
function shareWaited(sent: Sent, workersWaited: number, workers: number): number {
  return Math.max(sent.waitedSeconds, workers > 0 ? workersWaited / workers : 0) / sent.seconds;
}

/** The value below which `share` of the values lie, between two of them in proportion. */
export function quantile(values: readonly number[], share: number): number {
  const sorted = [...values].sort((a, b) => a - b);
  const place = (sorted.length - 1) * share;
  const below = sorted[Math.floor(place)] ?? Number.NaN;
  const above = sorted[Math.ceil(place)] ?? Number.NaN;
  return below + (above - below) * (place - Math.floor(place));
}

export function median(values: readonly number[]): number {
  return quantile(values, 0.5);
}

export interface Difference {
  median: number;
  /** Width of the middle half of the differences. */
  spread: number;
  runs: number;
  /** Whether the difference is larger than its spread. */
  certain: boolean;
}

/** What a packet took of the sending CPU, the time in which that ran something else left out. */
export function nsPerPacket(packets: number, seconds: number, waitedSeconds: number): number {
  return ((seconds - waitedSeconds) * 1e9) / packets;
}

/** Fewer say nothing about how far they spread. */
const RUNS_MIN = 4;

/** What `samples` are more than `base`, each with the one measured in the same pass: what drifts on the host from pass
 * to pass is in both. */
export function difference(samples: readonly number[], base: readonly number[]): Difference {
  const more = samples.slice(0, base.length).map((sample, index) => sample - (base[index] ?? Number.NaN));
  const spread = quantile(more, 0.75) - quantile(more, 0.25);
  const middle = median(more);
  return { median: middle, spread, runs: more.length, certain: more.length >= RUNS_MIN && Math.abs(middle) > spread };
}
