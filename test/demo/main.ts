// `make demo`: the gateway at work between namespaces, and the proof that it lost nothing unsaid.
//
// Real senders (UDP, a mirrored TCP conversation, ping) behind the kernel's own vxlan device, then seconds of
// generated load of known composition, through each datapath. What arrived is counted by a program at the far end that knows
// nothing of the gateway. Then subscribers that share public addresses (subscribers.ts). The last line of output is one
// JSON object; exit 0 only if every check holds.
import { writeFileSync } from "node:fs";
import { join } from "node:path";

import { ADDRESS, Bed } from "../bed/bed.js";
import { Daemon, type DATAPATHS, type Stats, WORKER_DATAPATHS } from "../bed/daemon.js";
import { type Arrived, type Load, Sink, startLoad } from "../bed/tools.js";
import { type Background, sleep } from "../bed/command.js";
import { deliveredOf, type Evidence, judge } from "./proof.js";
import { realTraffic, SENDER, TCP_RULE, UDP_RULE } from "./senders.js";
import { conclude, say, sayRates, type Shown } from "./shown.js";
import { showSubscribers } from "./subscribers.js";

const VNI = 100;

interface Scenario {
  name: string;
  datapath: (typeof DATAPATHS)[number];
  seconds: number;
  /** Packets a second; absent: as many as one core makes. */
  rate?: number;
}

/** XDP by itself at full speed, then the same with a worker that sends everything, at a rate it holds anywhere. */
const SCENARIOS: Scenario[] = [
  { name: "mirror", datapath: "xdp", seconds: 10 },
  { name: "mirror", datapath: "afxdp", seconds: 3, rate: 50_000 },
  { name: "mirror", datapath: "ringbuf", seconds: 3, rate: 50_000 },
];
const LOAD_RULE = { port: 31766, to: `${ADDRESS.target}:9000` };

const LOAD: Load = {
  cpu: 0,
  vni: VNI,
  otherVni: 4000,
  flows: 10_000,
  size: 64,
  sources: "10.0.0.1-10.0.0.254,10.0.1.1-10.0.1.70",
  deniedSources: "198.51.100.0/24",
  destination: ADDRESS.beyond,
  ports: String(LOAD_RULE.port),
  otherPorts: "4000,5000,6000",
  mix: { rule: 60, no_rule: 20, denied: 10, no_flag: 2, truncated: 2, ipv6: 2, other_vni: 4 },
};

/** 324 addresses in the format allowlists come in. */
function writeAllowlist(file: string): void {
  const organizations = [
    { name: "Example One", ips: Array.from({ length: 254 }, (_, index) => `10.0.0.${index + 1}`) },
    { name: "Example Two", ips: Array.from({ length: 70 }, (_, index) => `10.0.1.${index + 1}`) },
  ];
  const all = organizations.flatMap((organization) => organization.ips);
  writeFileSync(file, JSON.stringify({ version: "1.0", total_ips: all.length, organizations, flat_ip_list: all }));
}

async function startGateway(bed: Bed, datapath: string): Promise<Daemon> {
  writeAllowlist(join(bed.directory, "allowlist.json"));
  return Daemon.start(bed, {
    datapath,
    inside: { interface: "in0", vxlan: { port: 4789, vnis: [VNI] } },
    allowlist: { file: "allowlist.json", match: "either" },
    nat: {
      destination: [
        { protocol: "udp", ...UDP_RULE },
        { protocol: "udp", ...LOAD_RULE },
        { protocol: "tcp", ...TCP_RULE },
      ],
    },
  });
}

const dropsOf = (stats: Stats): number => Object.values(stats.inside.dropped).reduce((sum, count) => sum + count, 0);

/** Prints rates once a second while the load runs. */
async function showRates(daemon: Daemon, sink: Sink, load: Background): Promise<void> {
  let before: { at: number; stats: Stats; arrived: Arrived } | null = null;
  say("  received/s   forwarded/s   delivered/s     dropped/s      Mbit/s at the far end");
  while (load.exit === null) {
    const now = { at: performance.now(), stats: await daemon.peek(), arrived: await sink.report() };
    if (before) {
      const seconds = (now.at - before.at) / 1000;
      sayRates([
        (now.stats.inside.received - before.stats.inside.received) / seconds,
        (now.stats.inside.forwarded - before.stats.inside.forwarded) / seconds,
        (deliveredOf(now.arrived) - deliveredOf(before.arrived)) / seconds,
        (dropsOf(now.stats) - dropsOf(before.stats)) / seconds,
        ((now.arrived.bytes - before.arrived.bytes) * 8) / 1e6 / seconds,
      ]);
    }
    before = now;
    await Promise.race([load.exited, sleep(1000)]);
  }
}

async function gather(
  bed: Bed,
  daemon: Daemon,
  sink: Sink,
  offeredBefore: number,
  { seconds, rate }: Scenario,
): Promise<Evidence> {
  say("Real senders behind the kernel's vxlan device: UDP, UDP that must be fragmented, mirrored TCP, ping");
  const realPart = await realTraffic(bed);
  say(
    `Generated load for ${seconds} s: ${LOAD.flows} flows, ${LOAD.size}-byte inner packets, ` +
      (rate === undefined ? "full speed from one core" : `${rate.toLocaleString("en")} a second`),
  );
  const { process: sender, ended } = startLoad(bed, { ...LOAD, duration: seconds, ...(rate && { rate }) });
  await showRates(daemon, sink, sender);
  const load = await ended;
  await sleep(300);
  const stats = await daemon.settledStats();
  return {
    load,
    offered: (await bed.traffic("source", "src0")).sent - offeredBefore,
    stats,
    arrived: await sink.report(),
    ...realPart,
  };
}

function report(name: string, evidence: Evidence, leftovers: string[]): Shown {
  const checks = judge(evidence);
  checks.push({ what: "left behind by the daemon", expected: "", found: leftovers.join(", ") });
  const { stats, load, arrived, offered } = evidence;
  const counted = { offered, delivered: deliveredOf(arrived), pps: arrived.packets / load.seconds };
  return conclude(name, checks, stats, stats.inside, counted);
}

async function show(scenario: Scenario): Promise<Shown> {
  say(`\nDatapath ${scenario.datapath}. Making three network namespaces: source - gateway - target`);
  const bed = await Bed.make({
    outsideMtu: 1500,
    offloads: true,
    vxlan: { vni: VNI, address: SENDER, mtu: 2500 },
  });
  try {
    // Without path MTU discovery the kernel leaves DF clear, so that big datagrams may be fragmented.
    await bed.sysctl("source", { "net.ipv4.ip_no_pmtu_disc": 1 });
    const sink = await Sink.start(bed, {
      rule: `${LOAD_RULE.port}=${LOAD_RULE.to}`,
      unchanged: ADDRESS.beyond,
      flows: 10_000,
    });
    const offeredBefore = (await bed.traffic("source", "src0")).sent;
    const daemon = await startGateway(bed, scenario.datapath);
    const evidence = await gather(bed, daemon, sink, offeredBefore, scenario);
    const exit = await daemon.stop();
    const leftovers = [...(exit.code === 0 ? [] : [`exit code ${exit.code}`]), ...(await daemon.leftovers())];
    await sink.stop();
    return report(scenario.name, evidence, leftovers);
  } finally {
    await bed.remove();
  }
}

async function main(): Promise<boolean> {
  if (process.getuid?.() !== 0) throw new Error("the demo makes network namespaces and needs root: sudo make demo");
  const shown = [];
  for (const scenario of SCENARIOS) shown.push(await show(scenario));
  for (const datapath of WORKER_DATAPATHS) shown.push(await showSubscribers(datapath));
  const ok = shown.every((one) => one.ok);
  say(JSON.stringify({ ok, scenarios: shown.map(({ scenario }) => scenario) }));
  return ok;
}

try {
  process.exitCode = (await main()) ? 0 : 1;
} catch (error) {
  process.stderr.write(`${error instanceof Error ? error.message : String(error)}\n`);
  say(JSON.stringify({ ok: false, scenarios: [] }));
  process.exitCode = 1;
}
