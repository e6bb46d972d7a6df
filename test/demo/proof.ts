// The demo's judgement: what was sent, what the gateway's ledger says and what arrived, compared to the packet.
// Pure. Called by main.ts.
import { balance, type Stats } from "../bed/daemon.js";
import type { Transfer } from "../bed/endpoints.js";
import type { Arrived, PerClass, Sent } from "../bed/tools.js";

export interface Evidence {
  /** Frames the source's interface sent while the gateway ran, as its driver counts. */
  offered: number;
  load: Sent;
  stats: Stats;
  arrived: Arrived;
  transfers: { what: string; sent: Transfer; received: Omit<Transfer, "count"> & { count?: number } }[];
  pings: { sent: number; received: number };
}

export interface Check {
  what: string;
  expected: number | string;
  found: number | string;
}

/** Which drop a class of generated packets has to end in. */
const FATES: Partial<Record<keyof PerClass, string>> = {
  denied: "not_allowed",
  no_flag: "vxlan_flags",
  truncated: "truncated",
  ipv6: "ipv6",
};

/** Frames of the gateway that arrived: not the ARP of its kernel, which is none of the ledger's. */
export function deliveredOf(arrived: Arrived): number {
  return arrived.packets + arrived.fragments + arrived.otherIp + arrived.other;
}

function ledger({ offered, stats, arrived }: Evidence): Check[] {
  const forwarded = stats.inside.forwarded + stats.outside.forwarded;
  return [
    { what: "received by the gateway = sent by the source's driver", expected: offered, found: stats.inside.received },
    {
      what: "ledger inside: received - forwarded - passed - dropped - pending",
      expected: 0,
      found: balance(stats.inside),
    },
    { what: "ledger outside: the same", expected: 0, found: balance(stats.outside) },
    { what: "pending when traffic has stopped", expected: 0, found: stats.inside.pending + stats.outside.pending },
    {
      what: "delivered = forwarded + fragmentsExtra + originated",
      expected: forwarded + stats.fragmentsExtra + stats.originated,
      found: deliveredOf(arrived),
    },
  ];
}

/** Frames of real senders, counted at the far end: at the source they are fewer, before segmentation. */
function realFrames({ arrived, stats }: Evidence): number {
  return arrived.otherIp + arrived.fragments - stats.fragmentsExtra;
}

function fates(evidence: Evidence): Check[] {
  const { offered, load, stats, arrived } = evidence;
  const checks: Check[] = [
    { what: "packets with a rule that arrived translated", expected: load.classes.rule, found: arrived.classes.rule },
    {
      what: "packets without a rule that arrived unchanged",
      expected: load.classes.no_rule,
      found: arrived.classes.no_rule,
    },
    {
      what: "passed to the kernel: other VNIs and what is not VXLAN",
      expected: load.classes.other_vni + offered - load.sent - realFrames(evidence),
      found: stats.inside.passed,
    },
  ];
  for (const [name, reason] of Object.entries(FATES)) {
    const expected = load.classes[name as keyof PerClass];
    checks.push({ what: `dropped as ${reason}`, expected, found: stats.inside.dropped[reason] ?? 0 });
  }
  const named = new Set(Object.values(FATES));
  const others = Object.entries(stats.inside.dropped).filter(([reason, count]) => count > 0 && !named.has(reason));
  checks.push({
    what: "dropped for any other reason",
    expected: "",
    found: others.map((pair) => pair.join(" ")).join(", "),
  });
  return checks;
}

function contents({ arrived, transfers, pings }: Evidence): Check[] {
  const wrong = Object.entries(arrived.wrong).filter(([, count]) => count > 0);
  return [
    {
      what: "wrong destinations, checksums, lengths, order, duplicates",
      expected: "",
      found: wrong.map((pair) => pair.join(" ")).join(", "),
    },
    { what: "UDP checksums verified at the far end", expected: arrived.packets, found: arrived.udpChecksums.checked },
    ...transfers.map(({ what, sent, received }) => ({
      what: `${what}, ${sent.bytes} bytes: digest`,
      expected: sent.digest.slice(0, 16),
      found: received.digest.slice(0, 16),
    })),
    { what: "echo requests that reached the target", expected: pings.sent, found: pings.received },
  ];
}

export function judge(evidence: Evidence): Check[] {
  return [...ledger(evidence), ...fates(evidence), ...contents(evidence)];
}

export function holds(check: Check): boolean {
  return check.expected === check.found;
}
