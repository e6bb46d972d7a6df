// What the schema cannot say of `nat.source`: how its values fit each other and the rest. Called by check.ts, on the main
// thread. Pure; skips what the schema has refused already.
import type { Problem } from "../errors.js";
import type { Json } from "./document.js";
import {
  formatIpv4,
  parseAddressRange,
  parseEndpoint,
  parseIpv4,
  parsePortRange,
  poolAddressesMax,
  vniRanges,
  type Range,
} from "./formats.js";
import { dotted } from "./messages.js";

export interface View {
  /** Undefined: not there, or refused. */
  get(pointer: string): Json | undefined;
  problem(pointer: string, message: string): Problem;
  line(pointer: string): number;
}

export interface Found {
  problems: Problem[];
  /** What is legal and probably not meant. */
  warnings: Problem[];
}

const root = "/nat/source";

/** Not for use on the Internet (RFC 1918, 6598, 3927). */
const privateRanges = ["10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "100.64.0.0/10", "169.254.0.0/16"].map(
  (text) => ({ text, ...(parseAddressRange(text) as Range) }),
);

export function checkSourceNat(view: View): Found {
  const found: Found = { problems: [], warnings: [] };
  if (view.get(root) === undefined) return found;
  const say = (pointer: string, message: string): void =>
    void found.problems.push(view.problem(pointer, `${dotted(pointer)}${message}`));
  const warn = (pointer: string, message: string): void =>
    void found.warnings.push(view.problem(pointer, `${dotted(pointer)}${message}`));
  checkSurroundings(view, say);
  const realm = realmsOf(view);
  checkPorts(view, say, warn);
  const ranges = poolRanges(view);
  checkAddresses(view, ranges, realm, say, warn);
  checkInside(view, ranges, say);
  checkForwards(view, ranges, realm, say);
  checkGateways(view, realm, say);
  checkRecords(view, warn);
  return found;
}

type Say = (pointer: string, message: string) => void;

function checkSurroundings(view: View, say: Say): void {
  if (view.get("/datapath") === "xdp") {
    say("/datapath", ": xdp does no source NAT; it is for afxdp, ringbuf or auto, where workers send");
  }
  const rules = view.get("/nat/destination");
  if (Array.isArray(rules) && rules.length > 0) {
    say("/nat/destination", ": not together with nat.source yet: replies would not be translated back");
  }
}

function checkRecords(view: View, warn: Say): void {
  const kept = ["file", "netflow", "ipfix"].some((key) => typeof view.get(`${root}/records/${key}`) === "string");
  if (view.get(`${root}/records/sessions`) === true && !kept)
    warn(`${root}/records/sessions`, ": nobody keeps them without records.file, .ipfix or .netflow");
}

interface Realms {
  /** VNIs mean something. */
  vxlan: boolean;
  /** null: all of them are ours. */
  ours: Uint32Array | null;
}

function realmsOf(view: View): Realms {
  const vxlan = view.get("/inside/vxlan");
  const vnis = view.get("/inside/vxlan/vnis");
  return { vxlan: vxlan !== undefined, ours: Array.isArray(vnis) ? vniRanges(vnis as (number | string)[]) : null };
}

function within(ranges: Uint32Array, vni: number): boolean {
  for (let at = 0; at < ranges.length; at += 2) {
    if (vni >= (ranges[at] ?? 0) && vni <= (ranges[at + 1] ?? 0)) return true;
  }
  return false;
}

/** The blocks of a range: whole ones. */
export function blocksOf({ first, last }: Range, size: number): { first: number; end: number } {
  const from = Math.ceil(first / size);
  return { first: from, end: Math.max(from, Math.floor((last + 1) / size)) };
}

function checkPorts(view: View, say: Say, warn: Say): void {
  const size = view.get(`${root}/blocks/size`);
  items(view, `${root}/pools`).forEach((pointer) => {
    const text = view.get(`${pointer}/ports`);
    const range = typeof text === "string" ? parsePortRange(text) : null;
    if (typeof size !== "number" || range === null) return;
    const { first, end } = blocksOf(range, size);
    if (first === end) return say(`${pointer}/ports`, `: ${text} has no whole block of ${size} ports`);
    const lost = range.last + 1 - range.first - (end - first) * size;
    if (lost === 0) return;
    const used = `${first * size}-${end * size - 1}`;
    warn(`${pointer}/ports`, `: ${text} is not whole blocks of ${size} ports; ${used} is given out, ${lost} are lost`);
  });
}

interface PoolRange extends Range {
  pointer: string;
  pool: number;
}

function poolRanges(view: View): PoolRange[] {
  return items(view, `${root}/pools`).flatMap((pool, number) =>
    items(view, `${pool}/addresses`).flatMap((pointer) => {
      const text = view.get(pointer);
      const range = typeof text === "string" ? parseAddressRange(text) : null;
      return range === null ? [] : [{ pointer, pool: number, ...range }];
    }),
  );
}

function checkAddresses(view: View, ranges: readonly PoolRange[], realms: Realms, say: Say, warn: Say): void {
  let count = 0;
  for (const { pointer, pool, first, last } of ranges) {
    count += last - first + 1;
    const taken = privateRanges.find((one) => first <= one.last && last >= one.first);
    if (taken === undefined || view.get(`${root}/pools/${pool}/allowPrivate`) === true) continue;
    const address = formatIpv4(Math.max(first, taken.first));
    say(pointer, `: ${address} is private (${taken.text}); allowPrivate: true in the pool allows it`);
  }
  if (count > poolAddressesMax) say(`${root}/pools`, ` have ${count} addresses, more than ${poolAddressesMax}`);
  const served = items(view, `${root}/pools`).map((pointer) => servedBy(view, pointer, realms, say, warn));
  checkOverlaps(view, ranges, served, say);
}

/** The VNIs of a pool; null: any. */
function servedBy(view: View, pointer: string, { vxlan, ours }: Realms, say: Say, warn: Say): Uint32Array | null {
  const vnis = view.get(`${pointer}/vnis`);
  if (!Array.isArray(vnis)) return null;
  if (!vxlan) say(`${pointer}/vnis`, ": there are no VNIs inside: inside.vxlan is absent");
  const served = vniRanges(vnis as (number | string)[]);
  if (!share(served, ours)) warn(`${pointer}/vnis`, ": none of them is in inside.vxlan.vnis; nobody has this pool");
  return served;
}

/** Sorted by their first address, each is held against those before it that reach it. */
function checkOverlaps(
  view: View,
  ranges: readonly PoolRange[],
  served: readonly (Uint32Array | null)[],
  say: Say,
): void {
  let open: PoolRange[] = [];
  const clashes: [PoolRange, PoolRange][] = [];
  const sorted = ranges.map((range, index) => ({ range, index })).sort((a, b) => a.range.first - b.range.first);
  for (const { range } of sorted) {
    open = open.filter(({ last }) => last >= range.first);
    const other = open.find(
      ({ pool }) => pool === range.pool || share(served[pool] ?? null, served[range.pool] ?? null),
    );
    if (other !== undefined) clashes.push([range, other]);
    open.push(range);
  }
  for (const [one, other] of clashes) {
    const [earlier, later] = ranges.indexOf(one) < ranges.indexOf(other) ? [one, other] : [other, one];
    const address = formatIpv4(Math.max(one.first, other.first));
    const where = earlier.pool === later.pool ? "is in this pool already" : "is in another pool for the same VNIs";
    say(later.pointer, `: ${address} ${where}, in line ${view.line(earlier.pointer)}`);
  }
}

function share(one: Uint32Array | null, other: Uint32Array | null): boolean {
  if (one === null || other === null) return true;
  for (let at = 0; at < one.length; at += 2) {
    for (let to = 0; to < other.length; to += 2) {
      if ((one[at] ?? 0) <= (other[to + 1] ?? 0) && (one[at + 1] ?? 0) >= (other[to] ?? 0)) return true;
    }
  }
  return false;
}

/** What is an address inside cannot be one outside. */
function checkInside(view: View, ranges: readonly PoolRange[], say: Say): void {
  const inside: [pointer: string, what: string][] = [
    ["/inside/vxlan/local", "inside.vxlan.local"],
    ...items(view, `${root}/gateways`).map((pointer): [string, string] => [`${pointer}/address`, "a gateway"]),
  ];
  for (const [pointer, what] of inside) {
    const text = view.get(pointer);
    const address = typeof text === "string" ? parseIpv4(text) : null;
    const pool = address === null ? undefined : poolOf(ranges, address);
    if (pool === undefined) continue;
    say(pool.pointer, `: ${String(text)} belongs to the inside: it is ${what}, in line ${view.line(pointer)}`);
  }
}

function poolOf(ranges: readonly PoolRange[], address: number): PoolRange | undefined {
  return ranges.find(({ first, last }) => address >= first && address <= last);
}

function checkForwards(view: View, ranges: readonly PoolRange[], realms: Realms, say: Say): void {
  const taken = new Map<string, string>();
  for (const pointer of items(view, `${root}/forwards`)) {
    checkRealm(view, pointer, realms, say);
    const outside = endpointOf(view, `${pointer}/outside`);
    const inside = endpointOf(view, `${pointer}/inside`);
    if (outside !== null && ranges.length > 0 && poolOf(ranges, outside.address) === undefined) {
      say(`${pointer}/outside`, `: ${formatIpv4(outside.address)} is no pool address`);
    }
    if (inside !== null && poolOf(ranges, inside.address) !== undefined) {
      say(`${pointer}/inside`, `: ${formatIpv4(inside.address)} is a pool address, not an inside host's`);
    }
    const protocol = view.get(`${pointer}/protocol`);
    if (outside === null || typeof protocol !== "string") continue;
    const keys = forwardProtocols(protocol).map((one) => `${one} ${outside.address}:${outside.port}`);
    const earlier = keys.map((key) => taken.get(key)).find((one) => one !== undefined);
    const text = String(view.get(`${pointer}/outside`));
    if (earlier === undefined) for (const key of keys) taken.set(key, pointer);
    else say(pointer, `: ${protocol} ${text} is forwarded already, in line ${view.line(earlier)}`);
  }
}

export function forwardProtocols(protocol: string): ("tcp" | "udp")[] {
  return protocol === "any" ? ["tcp", "udp"] : protocol === "tcp" ? ["tcp"] : ["udp"];
}

function endpointOf(view: View, pointer: string): { address: number; port: number } | null {
  const text = view.get(pointer);
  const endpoint = typeof text === "string" ? parseEndpoint(text) : null;
  const address = endpoint === null ? null : parseIpv4(endpoint.host);
  return endpoint === null || address === null ? null : { address, port: endpoint.port };
}

/** Of a forward or gateway: a VNI of ours where there are VNIs, and none where there are not. */
function checkRealm(view: View, pointer: string, { vxlan, ours }: Realms, say: Say): void {
  const item = view.get(pointer);
  const given = typeof item === "object" && item !== null && Object.hasOwn(item, "vni");
  if (vxlan && !given) return say(pointer, ": vni is missing");
  if (!vxlan && given) return say(`${pointer}/vni`, ": there are no VNIs inside: inside.vxlan is absent");
  const vni = view.get(`${pointer}/vni`);
  if (typeof vni === "number" && ours !== null && !within(ours, vni)) {
    say(`${pointer}/vni`, `: VNI ${vni} is not in inside.vxlan.vnis`);
  }
}

function checkGateways(view: View, realms: Realms, say: Say): void {
  const taken = new Map<string, string>();
  for (const pointer of items(view, `${root}/gateways`)) {
    checkRealm(view, pointer, realms, say);
    const address = view.get(`${pointer}/address`);
    const vni = view.get(`${pointer}/vni`) ?? null;
    if (typeof address !== "string") continue;
    const key = `${vni as number | null} ${address}`;
    const earlier = taken.get(key);
    if (earlier === undefined) taken.set(key, pointer);
    else say(pointer, `: ${address} is a gateway there already, in line ${view.line(earlier)}`);
  }
}

/** Pointers to the items of a list. */
function items(view: View, pointer: string): string[] {
  const list = view.get(pointer);
  return Array.isArray(list) ? list.map((_, index) => `${pointer}/${index}`) : [];
}
