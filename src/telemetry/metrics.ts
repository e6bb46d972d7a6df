// Prometheus metrics, read from the counters when somebody scrapes; nothing is counted here. Names and help of the
// packet counters come from bpf/abi/counters.h. Used by the API; main thread.
import { collectDefaultMetrics, Counter, Gauge, Histogram, Registry, type MetricType } from "prom-client";
import { counters, drops, natCounters } from "../pipeline/abi.gen.js";
import { directions, natGauges, sumOf, type Reading } from "../pipeline/observe.js";
import type { FlowExport } from "../pipeline/flow-export.js";
import type { Runtime } from "../pipeline/runtime.js";

interface Sample {
  labels: Record<string, string | number>;
  value: number;
}

/** How often prom-client looks how late the event loop is: its own default wakes a gateway at rest a hundred times a second. */
const loopLookMs = 100;

export function makeMetrics(runtime: Runtime, version: string): Registry {
  const registry = new Registry();
  collectDefaultMetrics({ register: registry, eventLoopMonitoringPrecision: loopLookMs });
  const counter = (name: string, help: string, labelNames: string[], read: () => Sample[]): void => {
    registry.registerMetric(
      new Counter({
        name,
        help,
        labelNames,
        registers: [],
        collect() {
          this.reset();
          for (const { labels, value } of read()) this.inc(labels, value);
        },
      }),
    );
  };
  const gauge = (name: string, help: string, labelNames: string[], read: () => Sample[]): void => {
    registry.registerMetric(
      new Gauge({
        name,
        help,
        labelNames,
        registers: [],
        collect() {
          this.reset();
          for (const { labels, value } of read()) this.set(labels, value);
        },
      }),
    );
  };
  const reading = oncePerScrape(() => runtime.reading());
  packetMetrics(runtime, reading, counter, gauge);
  natMetrics(runtime, reading, counter, gauge);
  stateMetrics(runtime, version, gauge);
  registry.registerMetric(new LatencyHistogram(reading));
  return registry;
}

/** The ledger balances within one scrape: prom-client asks for all metrics in one turn, and they share one reading. */
function oncePerScrape(read: () => Reading): () => Reading {
  let shared: Reading | null = null;
  return () => {
    if (shared === null) setImmediate(() => (shared = null));
    return (shared ??= read());
  };
}

type Define = (name: string, help: string, labelNames: string[], read: () => Sample[]) => void;

function packetMetrics(runtime: Runtime, read: () => Reading, counter: Define, gauge: Define): void {
  counter(
    "cgnat_packets_processed_total",
    "Packets whose fate is known: forwarded, left to the kernel or dropped",
    [],
    () => {
      const reading = read();
      const value = directions.reduce((sum, side) => sum + reading[side].counts.received - reading[side].pending, 0);
      return [{ labels: {}, value }];
    },
  );
  counter("cgnat_errors_total", "Packets dropped, by reason, both directions together", ["reason"], () => {
    const { inside, outside } = read();
    return drops.map(({ name }) => ({ labels: { reason: name }, value: inside.dropped[name] + outside.dropped[name] }));
  });
  for (const { name, help } of counters) {
    counter(`vxpipe_${name}_total`, help, ["direction"], () => {
      const reading = read();
      return directions.map((direction) => ({ labels: { direction }, value: reading[direction].counts[name] }));
    });
  }
  counter("vxpipe_dropped_total", "Packets dropped", ["direction", "reason"], () => {
    const reading = read();
    return directions.flatMap((direction) =>
      drops.map(({ name }) => ({ labels: { direction, reason: name }, value: reading[direction].dropped[name] })),
    );
  });
  gauge("vxpipe_pending_packets", "Received, and not yet forwarded, passed or dropped", ["direction"], () => {
    const reading = read();
    return directions.map((direction) => ({ labels: { direction }, value: reading[direction].pending }));
  });
  const help = "Packets a CPU received (role xdp) or a worker finished (role worker)";
  counter("vxpipe_worker_packets_total", help, ["worker", "cpu", "role"], () =>
    runtime.stats().workers.map(({ id, cpu, role, packets }) => ({
      labels: { worker: id === undefined ? `xdp${cpu}` : String(id), cpu: String(cpu), role },
      value: packets,
    })),
  );
}

function natMetrics(runtime: Runtime, read: () => Reading, counter: Define, gauge: Define): void {
  gauge("cgnat_nat_sessions_active", "NAT sessions", [], () => [{ labels: {}, value: sumOf(read().nat).sessions }]);
  gauge("cgnat_port_pool_utilization", "Port blocks of a public address in use, 0 to 1", ["address"], () => {
    if (runtime.phase !== "running") return [];
    return runtime.nat.pool().map(({ address, utilization }) => ({ labels: { address }, value: utilization }));
  });
  const exported = (value: (one: FlowExport) => number) => (): Sample[] =>
    runtime.phase === "starting"
      ? []
      : runtime.nat.exports.map((one) => ({ labels: { protocol: one.protocol }, value: value(one) }));
  counter(
    "vxpipe_nat_exported_total",
    "NAT records sent to a collector",
    ["protocol"],
    exported(({ sent }) => sent),
  );
  counter(
    "vxpipe_nat_unexported_total",
    "NAT records without a way to the collector",
    ["protocol"],
    exported(({ failed }) => failed),
  );
  for (const { name, help } of natCounters) {
    const [define, suffix] = natGauges.has(name) ? [gauge, ""] : [counter, "_total"];
    define(`vxpipe_nat_${name}${suffix}`, help, ["worker"], () =>
      runtime.applier.placement.sourceNat === true
        ? read().nat.map((counts, worker) => ({ labels: { worker: String(worker) }, value: counts[name] }))
        : [],
    );
  }
}

function stateMetrics(runtime: Runtime, version: string, gauge: Define): void {
  gauge("vxpipe_info", "Always 1; what runs here", ["version", "datapath", "configured", "attach"], () => {
    const { datapath, choice } = runtime.stats();
    const labels = { version, datapath: datapath.mode, configured: choice.configured, attach: datapath.attach };
    return [{ labels, value: 1 }];
  });
  gauge("vxpipe_datapath_degraded", "1 when the datapath, or how it is attached, is less than the best", [], () => [
    { labels: {}, value: runtime.applier.placement.choice.best ? 0 : 1 },
  ]);
  gauge("vxpipe_ready", "1 when packets can flow", [], () => [
    { labels: {}, value: runtime.missing().length === 0 ? 1 : 0 },
  ]);
  gauge("vxpipe_worker_stalled", "1 while a worker makes no progress", ["worker", "cpu"], () => {
    const stalled = runtime.stalledWorkers();
    return runtime.applier.placement.workerCpus.map((cpu, worker) => ({
      labels: { worker: String(worker), cpu: String(cpu) },
      value: stalled.includes(worker) ? 1 : 0,
    }));
  });
  const snapshotGauge = (
    name: string,
    text: string,
    read: (shot: NonNullable<ReturnType<Runtime["snapshot"]>>) => Sample[],
  ) =>
    gauge(name, text, ["direction", "state"], () => {
      const snapshot = runtime.snapshot();
      return snapshot === null ? [] : read(snapshot);
    });
  snapshotGauge("vxpipe_carrier", "1 when the interface has carrier", ({ insideCarrier, outsideCarrier }) => [
    { labels: { direction: "inside" }, value: insideCarrier ? 1 : 0 },
    { labels: { direction: "outside" }, value: outsideCarrier ? 1 : 0 },
  ]);
  snapshotGauge("vxpipe_outside_mtu_bytes", "MTU of the outside interface", ({ outsideMtu }) => [
    { labels: {}, value: outsideMtu },
  ]);
  snapshotGauge("vxpipe_waiting_packets", "Packets that wait for a neighbour or a first fragment", ({ waiting }) => [
    { labels: {}, value: waiting },
  ]);
  snapshotGauge("vxpipe_routes", "Routes followed", ({ routes }) => [{ labels: {}, value: routes }]);
  snapshotGauge("vxpipe_next_hops", "Next hops in use", ({ nextHops }) =>
    (["resolving", "valid", "failed"] as const).map((state) => ({
      labels: { state },
      value: nextHops.filter((hop) => hop.state === state).length,
    })),
  );
  gauge("vxpipe_watchers", "Streams of events and sampled drops that are open", [], () => [
    { labels: {}, value: runtime.watchers.size },
  ]);
  gauge("vxpipe_allowlist_entries", "Entries of the allowlist; no sample: every address is allowed", [], () => {
    const allowlist = runtime.phase === "running" ? runtime.plan.allowlist : null;
    return allowlist === null ? [] : [{ labels: {}, value: allowlist.count }];
  });
  gauge("vxpipe_rules", "Static destination rules", [], () =>
    runtime.phase === "running" ? [{ labels: {}, value: runtime.plan.rules.length }] : [],
  );
}

const latencyHelp =
  "From arrival in XDP until the outside driver took the packet, microseconds; one packet in 1,024 is timed";

/** prom-client's histogram counts for itself; this one shows buckets that XDP counted. */
class LatencyHistogram extends Histogram {
  constructor(private readonly read: () => Reading) {
    super({ name: "cgnat_packet_latency_us", help: latencyHelp, registers: [] });
  }

  override async get(): ReturnType<Histogram["get"]> {
    const { latency, latencySumNs } = this.read();
    const name = "cgnat_packet_latency_us";
    let total = 0;
    const values: { metricName: string; labels: { le?: number | string }; value: number }[] = latency.map(
      (samples, index) => {
        total += samples;
        // The last bucket also has everything slower.
        const le = index === latency.length - 1 ? "+Inf" : (2 ** index * 128) / 1000;
        return { metricName: `${name}_bucket`, labels: { le }, value: total };
      },
    );
    values.push({ metricName: `${name}_sum`, labels: {}, value: latencySumNs / 1000 });
    values.push({ metricName: `${name}_count`, labels: {}, value: total });
    const type = "histogram" as unknown as MetricType;
    return { name, help: latencyHelp, type, aggregator: "sum", collect: () => undefined, values };
  }

  /** What the registry calls for its text form. */
  getForPromString(): ReturnType<Histogram["get"]> {
    return this.get();
  }
}
