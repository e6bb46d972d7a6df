// From samples to bench/results.json, a table for people, and the tables of docs/PERFORMANCE.md. Pure but for
// reading the host's description and rewriting that one file. Called by run.ts, on Node's main thread.
import { readFileSync, writeFileSync } from "node:fs";
import { cpus, release } from "node:os";

import type { Rung } from "./ladder.js";
import type { EngineResult } from "./engine.js";
import { type LatencySample, median, quantile, type Sample } from "./measure.js";
import { ALONE, BESIDE_MANY, NAT_PEER, type NatSample } from "./source-nat.js";

const PEER = "kernel-conntrack";
const CEILING = "bare-redirect";
const PLAIN = "plain-afxdp";
const CLOCK_TICKS = 100; // USER_HZ of every Linux that Node runs on

export interface Row {
  name: string;
  load: string;
  profile: "mirror" | "source-nat";
  cores: number;
  mpps: { median: number; min: number; max: number; runs: number };
  peer: string;
  ratio: number;
  lossPercent: number;
  /** Share of the bare redirect on one core, percent; null: it does something else. */
  ofBarePercent: number | null;
  /** Round trip of a cache line between the two CPUs beside these runs; null: not measured. */
  pingPongNs: { min: number; max: number } | null;
  /** Largest share of a run in which the sending CPU, or the worker's, ran something else, percent: a quiet host has none. */
  disturbedPercent: number;
  /** System calls of the gateway's own threads for each packet that arrived; null: it has no such threads. */
  callsPerPacket: number | null;
}

export interface LatencyRow {
  name: string;
  kpps: number;
  /** Medians of the runs. */
  p50Us: number;
  p99Us: number;
  /** A quarter of the runs lies below the first, a quarter above the second. */
  p99QuartersUs: [number, number];
  maxUs: number;
  runs: number;
}

export interface Results {
  host: { cpu: string; kernel: string; cores: number };
  date: string;
  rows: Row[];
  latency: LatencyRow[];
  ladder: Rung[];
  /** CPU time the daemon takes without traffic, percent of one core; null: not measured. */
  idleCpuPercent: number | null;
  engine: EngineResult;
}

export interface Measured {
  host: Results["host"];
  date: string;
  series: { name: string; cores: number; load: string; samples: Sample[] }[];
  latency: Map<string, LatencySample[]>;
  kpps: number;
  ladder: Rung[];
  idle: number | null;
  engine: EngineResult;
  sourceNat: Map<string, Map<string, NatSample[]>>;
}

const round = (value: number, digits: number): number => Number(value.toFixed(digits));

export function describeHost(): Results["host"] {
  const list = cpus();
  return { cpu: list[0]?.model.trim() ?? "unknown", kernel: release(), cores: list.length };
}

/** User and system time of a process with all its threads. */
export function cpuSecondsOf(pid: number): number {
  const stat = readFileSync(`/proc/${pid}/stat`, "utf8");
  const fields = stat.slice(stat.lastIndexOf(")") + 2).split(" ");
  return (Number(fields[11]) + Number(fields[12])) / CLOCK_TICKS;
}

function rangeOf(mpps: readonly number[]): Row["mpps"] {
  return {
    median: round(median(mpps), 3),
    min: round(Math.min(...mpps), 3),
    max: round(Math.max(...mpps), 3),
    runs: mpps.length,
  };
}

/** New sessions are packets too, each of a flow of its own. */
function sourceNatRows(samples: Measured["sourceNat"]): Row[] {
  const mppsOf = (name: string, load: string): number[] =>
    (samples.get(name)?.get(load) ?? []).map((sample) => sample.mpps);
  return [...samples].flatMap(([name, loads]) =>
    [...loads].flatMap(([load, runs]): Row[] => {
      if (runs.length === 0) return [];
      const [peer, peerLoad] = load === BESIDE_MANY ? [name, ALONE] : [NAT_PEER, load];
      const sent = runs.reduce((sum, sample) => sum + sample.sent, 0);
      const delivered = runs.reduce((sum, sample) => sum + sample.delivered, 0);
      const row: Row = {
        name,
        load,
        profile: "source-nat",
        cores: 2,
        mpps: rangeOf(mppsOf(name, load)),
        peer,
        ratio: round(median(mppsOf(name, load)) / median(mppsOf(peer, peerLoad)), 2),
        lossPercent: round((100 * (sent - delivered)) / sent, 3),
        ofBarePercent: null,
        pingPongNs: null,
        disturbedPercent: round(100 * Math.max(...runs.map((sample) => sample.disturbed)), 1),
        callsPerPacket: null,
      };
      return [row];
    }),
  );
}

function latencyRow(name: string, kpps: number, samples: readonly LatencySample[]): LatencyRow {
  const p99s = samples.map((sample) => sample.p99Us);
  return {
    name,
    kpps,
    p50Us: round(median(samples.map((sample) => sample.p50Us)), 2),
    p99Us: round(median(p99s), 2),
    p99QuartersUs: [round(quantile(p99s, 0.25), 2), round(quantile(p99s, 0.75), 2)],
    maxUs: round(Math.max(...samples.map((sample) => sample.maxUs)), 1),
    runs: samples.length,
  };
}

export function summarize(measured: Measured): Results {
  const medianOf = (name: string, load: string, cores: number): number => {
    const found = measured.series.find((one) => one.name === name && one.load === load && one.cores === cores);
    return median(found?.samples.map((sample) => sample.mpps) ?? []);
  };
  const rows = measured.series.map(({ name, cores, load, samples }): Row => {
    const mpps = samples.map((sample) => sample.mpps);
    const sent = samples.reduce((sum, sample) => sum + sample.sent, 0);
    const delivered = samples.reduce((sum, sample) => sum + sample.delivered, 0);
    const distances = samples.map((sample) => sample.pingPongNs);
    const calls = samples.map((sample) => sample.callsPerPacket).filter((value) => value !== null);
    return {
      name,
      load,
      profile: "mirror",
      cores,
      mpps: rangeOf(mpps),
      peer: PEER,
      ratio: round(median(mpps) / medianOf(PEER, load, cores), 2),
      lossPercent: round((100 * (sent - delivered)) / sent, 3),
      ofBarePercent: round((100 * median(mpps)) / medianOf(CEILING, load, 1), 1),
      pingPongNs: { min: round(Math.min(...distances), 0), max: round(Math.max(...distances), 0) },
      disturbedPercent: round(100 * Math.max(...samples.map((sample) => sample.disturbed)), 1),
      callsPerPacket: calls.length > 0 ? round(median(calls), 4) : null,
    };
  });
  rows.push(...sourceNatRows(measured.sourceNat));
  const latency = [...measured.latency].map(([name, samples]) => latencyRow(name, measured.kpps, samples));
  const ladder = measured.ladder.map((rung) => ({
    ...rung,
    nsPerPacket: {
      median: round(rung.nsPerPacket.median, 1),
      min: round(rung.nsPerPacket.min, 1),
      max: round(rung.nsPerPacket.max, 1),
    },
    more: rung.more && {
      ...rung.more,
      median: round(rung.more.median, 1),
      spread: round(rung.more.spread, 1),
    },
  }));
  const idleCpuPercent = measured.idle === null ? null : round(measured.idle * 100, 2);
  return { host: measured.host, date: measured.date, rows, latency, ladder, idleCpuPercent, engine: measured.engine };
}

/** A table in Markdown, columns aligned so that it reads in a terminal too. */
export function table(header: string[], body: string[][]): string {
  const widths = header.map((name, column) => Math.max(name.length, 3, ...body.map((row) => row[column]?.length ?? 0)));
  const line = (row: string[]): string =>
    `| ${row.map((cell, column) => (column === 0 ? cell.padEnd(widths[column] ?? 0) : cell.padStart(widths[column] ?? 0))).join(" | ")} |`;
  const rule = `| ${widths.map((width, column) => (column === 0 ? "-".repeat(width) : `${"-".repeat(width - 1)}:`)).join(" | ")} |`;
  return [line(header), rule, ...body.map(line)].join("\n");
}

function throughputTable(results: Results): string {
  const body = results.rows.map((row) => [
    row.name,
    row.load,
    String(row.cores),
    row.mpps.median.toFixed(3),
    `${row.mpps.min.toFixed(3)}-${row.mpps.max.toFixed(3)}`,
    `${row.ratio.toFixed(2)}x`,
    row.ofBarePercent === null ? "" : `${row.ofBarePercent.toFixed(0)} %`,
    `${row.lossPercent} %`,
    row.pingPongNs === null ? "" : `${row.pingPongNs.min}-${row.pingPongNs.max}`,
    `${row.disturbedPercent} %`,
    row.callsPerPacket?.toFixed(4) ?? "",
  ]);
  const header = [
    "gateway",
    "load",
    "cores",
    "Mpps",
    "min-max",
    "to peer",
    "of bare",
    "loss",
    "ping-pong ns",
    "disturbed",
    "calls",
  ];
  return table(header, body);
}

function latencyTable(results: Results): string {
  const plain = results.latency.find((row) => row.name === PLAIN);
  const body = results.latency.map((row) => [
    row.name,
    String(row.kpps),
    row.p50Us.toFixed(2),
    row.p99Us.toFixed(2),
    row.p99QuartersUs.map((value) => value.toFixed(2)).join("-"),
    row.maxUs.toFixed(1),
    plain ? `${(row.p50Us / plain.p50Us).toFixed(2)}x` : "",
  ]);
  return table(["gateway", "kpps", "p50 us", "p99 us", "middle half", "max us", `p50 to ${PLAIN}`], body);
}

/** What a rung costs over the one before it, or that it cannot be told from here. */
export function costOf(more: Rung["more"]): string {
  if (more === null) return "";
  if (!more.certain) return "below the spread";
  return `${more.median >= 0 ? "+" : ""}${more.median.toFixed(1)}`;
}

function ladderTable(results: Results): string {
  const body = results.ladder.map((rung) => [
    rung.name,
    rung.nsPerPacket.median.toFixed(1),
    `${rung.nsPerPacket.min.toFixed(1)}-${rung.nsPerPacket.max.toFixed(1)}`,
    costOf(rung.more),
    rung.more?.spread.toFixed(1) ?? "",
    rung.against ?? "",
  ]);
  return table(["what runs", "ns", "min-max", "more", "spread", "than"], body);
}

function hostLine(results: Results): string {
  const { cpu, cores, kernel } = results.host;
  return `${results.date.slice(0, 10)}, ${cores} x ${cpu} (virtual), Linux ${kernel}, veth in namespaces.`;
}

function idleLine(results: Results): string {
  return results.idleCpuPercent === null
    ? "Not measured."
    : `The daemon without traffic takes ${results.idleCpuPercent} % of one core.`;
}

function engineTable(engine: EngineResult): string {
  const million = (value: number): string => (value / 1e6).toFixed(2);
  return [
    "| | reached | goal |",
    "| --- | ---: | ---: |",
    `| packets of ${million(engine.sessions)} M sessions at random, M/s | ${engine.hitMpps} | 10 |`,
    `| of them from inside, M/s | ${engine.outMpps} | |`,
    `| of them from outside, M/s | ${engine.inMpps} | |`,
    `| sessions created and expired, M/s | ${million(engine.createsPerSecond)} | 1 |`,
    `| memory a session, all-in, bytes | ${engine.bytesPerSession} | 192 |`,
    `| until 10 M sessions are ready, s | ${engine.readySeconds} | 3 |`,
  ].join("\n");
}

/** Replaces what stands between `<!-- bench:NAME -->` and `<!-- /bench:NAME -->`. */
export function replaceSections(text: string, sections: Record<string, string>): string {
  let result = text;
  for (const [name, content] of Object.entries(sections)) {
    const [open, close] = [`<!-- bench:${name} -->`, `<!-- /bench:${name} -->`];
    const from = result.indexOf(open);
    const to = result.indexOf(close);
    if (from < 0 || to < from) throw new Error(`docs/PERFORMANCE.md has no section ${open} ... ${close}`);
    result = `${result.slice(0, from + open.length)}\n\n${content}\n\n${result.slice(to)}`;
  }
  return result;
}

/** Rewrites the document's tables; returns them for the terminal. */
export function writeTables(results: Results, document: string): string {
  const sections = {
    host: hostLine(results),
    throughput: throughputTable(results),
    latency: latencyTable(results),
    ladder: results.ladder.length > 0 ? ladderTable(results) : "Not measured.",
    idle: idleLine(results),
    engine: engineTable(results.engine),
  };
  writeFileSync(document, replaceSections(readFileSync(document, "utf8"), sections));
  return `${Object.values(sections).join("\n\n")}\n`;
}
