// The demo's second half: two subscribers with the same address, in two VNIs, and one more share two public addresses. They
// browse, transfer, ping, ask and trace at once, by programs everybody knows; the far ends of both wires count frames.
// Called by main.ts, on Node's main thread.
import { sleep } from "../bed/command.js";
import { balance, Daemon, type DirectionStats, type Stats, type WORKER_DATAPATHS } from "../bed/daemon.js";
import { NAT, NatBed, type Subscriber, SUBSCRIBERS, VNI } from "../bed/nat-bed.js";
import { download, ftp, host, iperf, ping, startServers, Talker, traceroute, upload } from "../bed/nat-hosts.js";
import type { Check } from "./proof.js";
import { conclude, say, sayRates, type Shown } from "./shown.js";

/** All at once: fewer than a ring holds, for who asks may keep the worker off its CPU meanwhile. */
const QUERIES = 1_500;
/** Of each transfer, bytes a second, and of iperf3, bits: two cores have time for that. */
const RATE = "20M";
const IPERF_RATE = "160M";
const TRACES = ["-U", "-I", "-T"];

/** Frames by the drivers of the far ends: into the gateway and out of it. */
interface Wires {
  offered: number;
  delivered: number;
}

async function wires(bed: NatBed): Promise<Wires> {
  const [access, router] = await Promise.all([bed.traffic("access", "acc0"), bed.traffic("router", "rt0")]);
  return { offered: access.sent + router.sent, delivered: access.received + router.received };
}

function together({ inside, outside }: Stats): DirectionStats {
  const sum = (name: Exclude<keyof DirectionStats, "dropped">): number => inside[name] + outside[name];
  return {
    received: sum("received"),
    forwarded: sum("forwarded"),
    passed: sum("passed"),
    unreported: sum("unreported"),
    injected: sum("injected"),
    pending: sum("pending"),
    dropped: Object.fromEntries(
      Object.entries(inside.dropped).map(([reason, count]) => [reason, count + (outside.dropped[reason] ?? 0)]),
    ),
  };
}

function startGateway(bed: NatBed, datapath: string): Promise<Daemon> {
  return Daemon.start(bed, {
    datapath,
    inside: { interface: "in0", vxlan: { port: 4789, vnis: [VNI.a, VNI.b] } },
    nat: {
      source: {
        pools: [{ addresses: ["203.0.113.1-203.0.113.2"] }],
        blocks: { size: 128, perSubscriber: 16 },
        limits: { sessionsPerSubscriber: 10_000, newSessionsPerSecond: 10_000 },
        gateways: [
          { vni: VNI.a, address: NAT.gateway },
          { vni: VNI.b, address: NAT.gateway },
        ],
        maxSessions: 100_000,
      },
    },
  });
}

/** What a transfer that arrived as it was sent counts. */
function intact(count: number, transfer: Promise<void>): Promise<number> {
  return transfer.then(
    () => count,
    (error: unknown) => {
      say(String(error));
      return 0;
    },
  );
}

async function files(bed: NatBed, name: Subscriber): Promise<number> {
  const down = await intact(1, download(bed, name, 20_000_000, { rate: RATE }));
  const up = await intact(1, upload(bed, name, 20_000_000, { rate: RATE }));
  return down + up + (await intact(2, ftp(bed, name, 1_000_000)));
}

/** Ping and iperf3 end the demo by themselves when an answer is missing. */
async function live(bed: NatBed): Promise<Check[]> {
  const [ofA, ofB] = await Promise.all([files(bed, "a"), files(bed, "b")]);
  await Promise.all(SUBSCRIBERS.map((name) => ping(bed, name, NAT.server, 50)));
  await Promise.all([iperf(bed, "a", 5201, false, IPERF_RATE), iperf(bed, "b", 5202, true, IPERF_RATE)]);
  const { answered } = await host<{ answered: number }>(bed, "c", "dns", NAT.server, QUERIES, 100);
  const way = [];
  for (const how of TRACES) way.push((await traceroute(bed, "a", how, NAT.server2)).join(" "));
  const hops = [NAT.gateway, NAT.router, NAT.server2].join(" ");
  return [
    { what: "files by HTTP and FTP that arrived with the SHA-256 they were sent with", expected: 8, found: ofA + ofB },
    { what: "UDP queries answered", expected: QUERIES, found: answered },
    ...way.map((found, index) => ({ what: `traceroute ${TRACES[index]}`, expected: hops, found })),
  ];
}

/** The same address and port of two subscribers: two public endpoints. */
async function twins(bed: NatBed, daemon: Daemon): Promise<Check[]> {
  const checks = [];
  for (const name of ["a", "b"] as const) {
    const talker = await Talker.start(bed, name, 5000);
    const endpoint = (await talker.who()) ?? "none";
    const { vni, inside } = JSON.parse(await daemon.cli("nat", "who", endpoint, "-o", "json")) as {
      vni: number;
      inside: string;
    };
    const expected = `${NAT[name]} in VNI ${VNI[name]}`;
    checks.push({ what: `nat who ${endpoint}`, expected, found: `${inside} in VNI ${vni}` });
    await talker.stop();
  }
  say(await daemon.cli("nat", "session", "list", "--remote", `${NAT.server}:3478`));
  return checks;
}

/** Prints rates once a second until the work is done. */
async function during<T>(bed: NatBed, daemon: Daemon, work: Promise<T>): Promise<{ result: T; pps: number }> {
  const begun = performance.now();
  const first = (await wires(bed)).delivered;
  const state = { over: false };
  const ended = work.finally(() => (state.over = true));
  let before = { at: begun, ledger: together(await daemon.peek()), delivered: first };
  say("  received/s   forwarded/s   delivered/s");
  while (!state.over) {
    await Promise.race([ended, sleep(1000)]);
    const now = { at: performance.now(), ledger: together(await daemon.peek()), ...(await wires(bed)) };
    const seconds = (now.at - before.at) / 1000;
    sayRates([
      (now.ledger.received - before.ledger.received) / seconds,
      (now.ledger.forwarded - before.ledger.forwarded) / seconds,
      (now.delivered - before.delivered) / seconds,
    ]);
    before = now;
  }
  return { result: await ended, pps: ((before.delivered - first) * 1000) / (before.at - begun) };
}

/** Asked for and answered by the gateway itself, or ended at it on purpose. */
const ANSWERED = ["answered", "ttl_expired"];
/** What worker and far ends, which share two cores here, did not get round to; the senders sent it again. */
const TOO_LATE = ["ring_full", "fill_empty"];

function drops({ dropped, received }: DirectionStats): Check[] {
  const others = Object.entries(dropped).filter(
    ([reason, count]) => count > 0 && ![...ANSWERED, ...TOO_LATE].includes(reason),
  );
  const late = TOO_LATE.reduce((sum, reason) => sum + (dropped[reason] ?? 0), 0);
  return [
    {
      what: `dropped as ${TOO_LATE.join(" or ")}`,
      expected: "less than 1 %",
      found: late < received / 100 ? "less than 1 %" : late,
    },
    {
      what: "dropped for any other reason, but for ARP and traceroute's first packets, which the gateway answers",
      expected: "",
      found: others.map((pair) => pair.join(" ")).join(", "),
    },
  ];
}

export async function showSubscribers(datapath: (typeof WORKER_DATAPATHS)[number]): Promise<Shown> {
  say(`\nSource NAT by ${datapath}. Seven network namespaces: 3 subscribers - access - gateway - router - server`);
  const bed = await NatBed.make();
  try {
    await startServers(bed);
    const before = await wires(bed);
    const daemon = await startGateway(bed, datapath);
    say("HTTP, FTP, iperf3, ping, UDP queries and traceroute of subscribers, two of which have the same address");
    const { result, pps } = await during(bed, daemon, live(bed));
    const checks = [...result, ...(await twins(bed, daemon))];
    await sleep(300);
    const stats = await daemon.settledStats();
    const now = await wires(bed);
    const ledger = together(stats);
    const counted = { offered: now.offered - before.offered, delivered: now.delivered - before.delivered, pps };
    checks.push(
      { what: "received by the gateway = sent by both far ends", expected: counted.offered, found: ledger.received },
      {
        what: "ledger inside: received - forwarded - passed - dropped - pending",
        expected: 0,
        found: balance(stats.inside),
      },
      { what: "ledger outside: the same", expected: 0, found: balance(stats.outside) },
      {
        what: "delivered to both far ends = forwarded + fragmentsExtra + originated",
        expected: ledger.forwarded + stats.fragmentsExtra + stats.originated,
        found: counted.delivered,
      },
      ...drops(ledger),
    );
    const exit = await daemon.stop();
    const leftovers = [...(exit.code === 0 ? [] : [`exit code ${exit.code}`]), ...(await daemon.leftovers())];
    checks.push({ what: "left behind by the daemon", expected: "", found: leftovers.join(", ") });
    return conclude("subscribers", checks, stats, ledger, counted);
  } finally {
    await bed.remove();
  }
}
