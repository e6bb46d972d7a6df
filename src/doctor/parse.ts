// What ethtool, xdp-loader and /proc print, as values. Text, because ethtool's JSON lacks half of it in the versions
// around. Called by collect.ts. Pure: what is not there becomes null or nothing.
import type { Amount, Feature, InterfaceFacts } from "./facts.js";

function numberIn(text: string, name: string): number | null {
  const found = new RegExp(`^${name}:\\s*(\\d+)`, "m").exec(text)?.[1];
  return found === undefined ? null : Number(found);
}

function amount(text: string, name: string): Amount | null {
  const [maxima = "", current = ""] = text.split(/^Current hardware settings:/m);
  const max = numberIn(maxima, name);
  const now = numberIn(current, name);
  return max === null || now === null || max === 0 ? null : { now, max };
}

/** `ethtool -l` */
export function channelsOf(text: string): InterfaceFacts["channels"] {
  const combined = amount(text, "Combined");
  if (combined !== null) return { ...combined, kind: "combined" };
  const rx = amount(text, "RX");
  return rx === null ? null : { ...rx, kind: "rx" };
}

/** `ethtool -g` */
export function rxRingOf(text: string): Amount | null {
  return amount(text, "RX");
}

/** `ethtool -i` */
export function driverOf(text: string): { driver: string | null; version: string | null } {
  const of = (name: string): string | null => new RegExp(`^${name}: *(\\S+)`, "m").exec(text)?.[1] ?? null;
  return { driver: of("driver"), version: of("version") };
}

const featuresLookedAt = new Set(["generic-receive-offload", "large-receive-offload", "rx-gro-hw", "rx-vlan-offload"]);

/** `ethtool -k`: the few of its many that matter here. */
export function featuresOf(text: string): Record<string, Feature> | null {
  const lines = [...text.matchAll(/^\s*([a-z0-9-]+): (on|off)( \[fixed\])?/gm)];
  const known = lines.filter(([, name = ""]) => featuresLookedAt.has(name));
  if (known.length === 0) return null;
  return Object.fromEntries(
    known.map(([, name = "", value, fixed]) => [name, { on: value === "on", fixed: fixed !== undefined }]),
  );
}

/** `ethtool -x` */
export function rssOf(text: string): InterfaceFacts["rss"] {
  const queues = /with (\d+) RX ring/.exec(text)?.[1];
  const rows = [...text.matchAll(/^\s*\d+: +((?:\d+ *)+)$/gm)];
  if (queues === undefined || rows.length === 0) return null;
  return { queues: Number(queues), used: new Set(rows.flatMap(([, row = ""]) => row.trim().split(/ +/))).size };
}

/** `ethtool -n IFACE rx-flow-hash udp4` */
export function udpHashOf(text: string): string[] | null {
  const fields = /fields for computing Hash flow key:\n([\s\S]*)/.exec(text.replace("use these fields", "fields"))?.[1];
  const names = (fields ?? "").split("\n").map((line) => line.trim());
  const known = names.filter((name) => name !== "" && name !== "None");
  return known.length === 0 ? null : known;
}

/** `ethtool -S`: what ENA counts when an instance has used up what it may. */
export function allowanceExceededOf(text: string): Record<string, number> {
  const lines = [...text.matchAll(/^\s*(\w+_allowance_exceeded): (\d+)$/gm)];
  return Object.fromEntries(lines.map(([, name = "", value]) => [name, Number(value)]));
}

/** Of linux/netdev.h: enum netdev_xdp_act, from the lowest bit on. */
const xdpActs = ["BASIC", "REDIRECT", "NDO_XMIT", "XSK_ZEROCOPY"] as const;

export function xdpFeaturesOf(bits: number | null): Record<string, boolean> | null {
  if (bits === null) return null;
  return Object.fromEntries(xdpActs.map((name, bit) => [name, ((bits >> bit) & 1) === 1]));
}

/** Mount points of one type in /proc/self/mounts. */
export function mountsOf(text: string, type: string): string[] {
  const lines = text.split("\n").map((line) => line.split(" "));
  return lines.filter(([, , is]) => is === type).map(([, where = ""]) => where);
}

/** /proc/self/status */
export function capabilitiesOf(text: string): bigint {
  return BigInt(`0x${/^CapEff:\s*([0-9a-f]+)$/m.exec(text)?.[1] ?? "0"}`);
}
