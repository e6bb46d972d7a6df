// What the strings of a configuration may be. The schema names these formats; the validator calls them on the main
// thread. Each answers null when the text is fine, or says what is wrong with it.
import { IPv4, IPv4CidrRange, IPv6, IPv6CidrRange } from "ip-num";

/** An address as the ABI has it: 16 bytes, IPv4 mapped into ::ffff:0:0/96. */
export function parseAddress(text: string): Uint8Array | null {
  try {
    if (text.includes("%")) return null;
    return text.includes(":") ? bytesOf(new IPv6(text).getValue()) : mapped(new IPv4(text).getValue());
  } catch {
    return null;
  }
}

export interface Prefix {
  /** First address, mapped as above. */
  address: Uint8Array;
  /** Of the mapped address: 96 + n for IPv4. */
  length: number;
}

/** A prefix, or an address as the prefix of itself. Host bits are masked away, as ip route and nft do for sets. */
export function parsePrefix(text: string): Prefix | null {
  const slash = text.indexOf("/");
  if (slash < 0) {
    const address = parseAddress(text);
    return address === null ? null : { address, length: 128 };
  }
  if (!/^(0|[1-9][0-9]{0,2})$/.test(text.slice(slash + 1)) || text.includes("%")) return null;
  try {
    if (text.includes(":")) {
      const range = IPv6CidrRange.fromCidr(text);
      return { address: bytesOf(range.getFirst().getValue()), length: Number(range.getPrefix().getValue()) };
    }
    const range = IPv4CidrRange.fromCidr(text);
    return { address: mapped(range.getFirst().getValue()), length: 96 + Number(range.getPrefix().getValue()) };
  } catch {
    return null;
  }
}

function bytesOf(value: bigint): Uint8Array {
  const bytes = new Uint8Array(16);
  const view = new DataView(bytes.buffer);
  view.setBigUint64(0, value >> 64n);
  view.setBigUint64(8, value & 0xffff_ffff_ffff_ffffn);
  return bytes;
}

function mapped(value: bigint): Uint8Array {
  return bytesOf((0xffffn << 32n) | value);
}

function isMappedIpv4(address: Uint8Array): boolean {
  return address.subarray(0, 10).every((byte) => byte === 0) && address[10] === 0xff && address[11] === 0xff;
}

export function parseMac(text: string): Uint8Array | null {
  if (!/^[0-9a-fA-F]{2}(:[0-9a-fA-F]{2}){5}$/.test(text)) return null;
  return Uint8Array.from(text.split(":"), (part) => Number.parseInt(part, 16));
}

/** `7` or `100-199`, ends included. */
export function parseVniRange(text: string): [from: number, to: number] | null {
  const match = /^([0-9]{1,8})-([0-9]{1,8})$/.exec(text);
  return match === null ? null : [Number(match[1]), Number(match[2])];
}

/** Ranges of VNIs, sorted and joined where they touch. */
export function vniRanges(vnis: readonly (number | string)[]): Uint32Array {
  const ranges = vnis
    .map((vni): [number, number] => (typeof vni === "number" ? [vni, vni] : (parseVniRange(vni) ?? [0, 0])))
    .sort((a, b) => a[0] - b[0]);
  const joined: [number, number][] = [];
  for (const [from, to] of ranges) {
    const last = joined.at(-1);
    if (last !== undefined && from <= last[1] + 1) last[1] = Math.max(last[1], to);
    else joined.push([from, to]);
  }
  return Uint32Array.from(joined.flat());
}

/** An IPv4 address as a number; null: it is none. */
export function parseIpv4(text: string): number | null {
  if (text.includes(":")) return null;
  const address = parseAddress(text);
  return address === null ? null : new DataView(address.buffer).getUint32(12);
}

export function formatIpv4(address: number): string {
  return [24, 16, 8, 0].map((shift) => (address >>> shift) & 255).join(".");
}

export interface Range {
  first: number;
  last: number;
}

/** IPv4: an address, a prefix, or `203.0.113.1-203.0.113.10`, ends included. */
export function parseAddressRange(text: string): Range | null {
  const dash = text.indexOf("-");
  if (dash >= 0) {
    const first = parseIpv4(text.slice(0, dash).trim());
    const last = parseIpv4(text.slice(dash + 1).trim());
    return first === null || last === null ? null : { first, last };
  }
  const prefix = text.includes(":") ? null : parsePrefix(text);
  if (prefix === null) return null;
  const first = new DataView(prefix.address.buffer).getUint32(12);
  return { first, last: first + 2 ** (128 - prefix.length) - 1 };
}

/** `1024-65535`, ends included. */
export function parsePortRange(text: string): Range | null {
  const match = /^([0-9]{1,5})-([0-9]{1,5})$/.exec(text);
  return match === null ? null : { first: Number(match[1]), last: Number(match[2]) };
}

/** `192.0.2.1:80` or `[2001:db8::1]:80`. */
export function parseEndpoint(text: string): { host: string; port: number } | null {
  const match = /^(?:\[([^\]]+)\]|([^:]+)):(0|[1-9][0-9]{0,4})$/.exec(text);
  const host = match?.[1] ?? match?.[2];
  if (match === null || host === undefined) return null;
  return { host, port: Number(match[3]) };
}

function explainAddress(text: string): string | null {
  const address = parseAddress(text);
  if (address === null) return `"${text}" is not an IPv4 or IPv6 address`;
  const special = explainSpecial(address);
  return special === null ? null : `${text} is ${special}`;
}

/** Why an address cannot be a host's, or null. */
function explainSpecial(address: Uint8Array): string | null {
  const four = isMappedIpv4(address);
  const first = address[four ? 12 : 0] ?? 0;
  if (address.subarray(four ? 12 : 0).every((byte) => byte === 0)) return "the unspecified address, not a host's";
  if (four ? first >= 224 && first < 240 : first === 255) return "a multicast address, not a host's";
  if (four && address.subarray(12).every((byte) => byte === 255)) return "the broadcast address, not a host's";
  if (four && first === 127) return "a loopback address, which never leaves the host";
  if (!four && address.subarray(0, 15).every((byte) => byte === 0) && address[15] === 1) {
    return "the loopback address, which never leaves the host";
  }
  return null;
}

/** Each costs the engine some 300 KB. */
export const poolAddressesMax = 16384;

function explainPoolAddresses(text: string): string | null {
  if (text.includes(":")) return `"${text}": source NAT translates IPv4 only`;
  const range = parseAddressRange(text);
  if (range === null) return `"${text}" is not an address, a prefix or a range such as 203.0.113.1-203.0.113.10`;
  const { first, last } = range;
  if (first > last) return `"${text}" runs backwards: the lower address comes first`;
  const count = last - first + 1;
  if (count > poolAddressesMax) return `"${text}" has ${count} addresses, more than ${poolAddressesMax}`;
  const never = neverPublic.find((one) => first <= one.last && last >= one.first);
  if (never === undefined) return null;
  return `${formatIpv4(Math.max(first, never.first))} is ${never.what}`;
}

const neverPublic: readonly (Range & { what: string })[] = [
  ["0.0.0.0/8", "of the unspecified network, not a host's"],
  ["127.0.0.0/8", "a loopback address, which never leaves the host"],
  ["224.0.0.0/4", "a multicast address, not a host's"],
  ["240.0.0.0/4", "reserved, not a host's"],
].map(([prefix = "", what = ""]) => ({ ...(parseAddressRange(prefix) as Range), what }));

function explainPort(port: number): string | null {
  return port >= 1 && port <= 65535 ? null : `port ${port} is not between 1 and 65535`;
}

export const formats: Record<string, (text: string) => string | null> = {
  address: explainAddress,
  prefix(text) {
    return parsePrefix(text) === null
      ? `"${text}" is not an address or prefix such as 192.0.2.0/24 or 2001:db8::/32`
      : null;
  },
  mac(text) {
    const mac = parseMac(text);
    if (mac === null) return `"${text}" is neither auto nor a MAC address such as 02:00:00:00:00:03`;
    if (mac.every((byte) => byte === 0)) return `${text} is nobody's MAC address`;
    return ((mac[0] ?? 0) & 1) === 1 ? `${text} is a multicast MAC address; a next hop has a unicast one` : null;
  },
  "vni-range"(text) {
    const range = parseVniRange(text);
    if (range === null) return `"${text}" is not a range of VNIs such as "100-199"`;
    if (range[1] > 0xff_ffff) return `VNI ${range[1]} is above 16777215`;
    return range[0] > range[1] ? `"${text}" runs backwards: the lower VNI comes first` : null;
  },
  "rule-target"(text) {
    const endpoint = parseEndpoint(text);
    if (endpoint === null) return `"${text}" is not ADDRESS:PORT such as 192.0.2.1:8081`;
    const address = parseAddress(endpoint.host);
    if (address === null) return `"${endpoint.host}" is not an IPv4 address`;
    if (!isMappedIpv4(address) || endpoint.host.includes(":"))
      return `${endpoint.host}: static rules translate IPv4 only`;
    const special = explainSpecial(address);
    if (special !== null) return `${endpoint.host} is ${special}`;
    return explainPort(endpoint.port);
  },
  "pool-addresses": explainPoolAddresses,
  "port-range"(text) {
    const range = parsePortRange(text);
    if (range === null) return `"${text}" is not a range of ports such as "1024-65535"`;
    if (range.last > 65535) return `port ${range.last} is above 65535`;
    return range.first > range.last ? `"${text}" runs backwards: the lower port comes first` : null;
  },
  "ipv4-prefix"(text) {
    return !text.includes("-") && parseAddressRange(text) !== null
      ? null
      : `"${text}" is not an IPv4 address or prefix such as 192.0.2.0/24`;
  },
  "ipv4-host"(text) {
    return parseIpv4(text) === null ? `"${text}" is not an IPv4 address` : explainAddress(text);
  },
  listen(text) {
    const endpoint = parseEndpoint(text);
    if (endpoint === null) return `"${text}" is not ADDRESS:PORT such as 127.0.0.1:9470 or [::1]:9470`;
    const address = parseAddress(endpoint.host);
    if (address === null) return `"${endpoint.host}" is not an IPv4 or IPv6 address`;
    return explainPort(endpoint.port);
  },
  collector(text) {
    const endpoint = parseEndpoint(text);
    if (endpoint === null) return `"${text}" is not HOST:PORT such as 192.0.2.1:4739 or collector.example.net:4739`;
    const named = /^(?!-)[\w-]{1,63}(\.[\w-]{1,63})*\.?$/.test(endpoint.host) && !/^[\d.]+$/.test(endpoint.host);
    if (!named && parseAddress(endpoint.host) === null) return `"${endpoint.host}" is not an address or a host's name`;
    return explainPort(endpoint.port);
  },
  interface(text) {
    const fine = /^[^\s/:]{1,15}$/.test(text) && text !== "." && text !== "..";
    return fine ? null : `"${text}" is not an interface name: 1 to 15 characters, no blanks, slashes or colons`;
  },
  path(text) {
    if (text === "") return "is empty: name a file";
    return text.includes("\0") ? "contains a NUL character" : null;
  },
  "absolute-path"(text) {
    if (text.includes("\0")) return "contains a NUL character";
    return text.startsWith("/") ? null : `"${text}" is not an absolute path`;
  },
};
