// The headers of a sampled packet, as far as they are there: Ethernet with tags, IPv4 and IPv6 with extension headers,
// TCP, UDP, ICMP, and, where it is a tunnel, VXLAN and the packet in it. Called by watchers.ts for every sample that
// somebody gets to see; pure, and content with any bytes: what is cut off or makes no sense is left out.
import { formatAddress } from "./allowlist/entry.js";

export interface Packet {
  /** 802.1Q and 802.1ad tags in front of it, the outermost first. */
  vlans: number[];
  /** What is not IP has MAC addresses here. */
  source: string;
  destination: string;
  /** udp, tcp, icmp, ..., a protocol's number, or 0x88cc: an EtherType. */
  protocol: string;
  sourcePort: number | null;
  destinationPort: number | null;
  /** Of TCP, as tcpdump writes them: S, S., P., R, ... */
  flags: string | null;
  /** Type and code: 8/0. */
  icmp: string | null;
  /** Where in its datagram it belongs, in bytes; null: it is not a fragment. */
  fragment: number | null;
}

export interface Tunnel {
  vlans: number[];
  /** Who sent it. */
  peer: string;
  local: string;
  /** null: the VXLAN header is not there. */
  vni: number | null;
}

export interface Decoded {
  /** null: no VXLAN. */
  outer: Tunnel | null;
  /** null: not enough of it is there. */
  inner: Packet | null;
}

const ETHERNET = 14;
const TAGS_MAX = 4;
const EXTENSIONS_MAX = 8;
const tags = new Set([0x8100, 0x88a8]);
const IPV4 = 0x0800;
const IPV6 = 0x86dd;
const FRAGMENT = 44;
const AUTHENTICATION = 51;
const extensions = new Set([0, 43, FRAGMENT, AUTHENTICATION, 60]);
const names: Record<number, string> = {
  1: "icmp",
  6: "tcp",
  17: "udp",
  47: "gre",
  50: "esp",
  58: "icmp6",
  132: "sctp",
};

/** An Ethernet frame, or what is left of one. `vxlanPort`: where tunnels are sent to; null: there are none. */
export function decodeFrame(bytes: Uint8Array, vxlanPort: number | null): Decoded {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const frame = readFrame(view, 0);
  if (frame === null) return { outer: null, inner: null };
  const { packet, payload } = frame;
  if (vxlanPort === null || packet.protocol !== "udp" || packet.destinationPort !== vxlanPort)
    return { outer: null, inner: packet };
  const vxlan = payload + 8;
  const vni = view.byteLength >= vxlan + 8 ? view.getUint32(vxlan + 4) >>> 8 : null;
  const outer = { vlans: packet.vlans, peer: packet.source, local: packet.destination, vni };
  return { outer, inner: readFrame(view, vxlan + 8)?.packet ?? null };
}

interface Read {
  packet: Packet;
  /** Where the transport header starts. */
  payload: number;
}

function readFrame(view: DataView, start: number): Read | null {
  if (view.byteLength < start + ETHERNET) return null;
  const vlans: number[] = [];
  let at = start + 12;
  let type = view.getUint16(at);
  for (; tags.has(type) && vlans.length < TAGS_MAX && view.byteLength >= at + 6; type = view.getUint16(at)) {
    vlans.push(view.getUint16(at + 2) & 0xfff);
    at += 4;
  }
  const packet: Packet = {
    vlans,
    source: macText(view, start + 6),
    destination: macText(view, start),
    protocol: `0x${type.toString(16).padStart(4, "0")}`,
    sourcePort: null,
    destinationPort: null,
    flags: null,
    icmp: null,
    fragment: null,
  };
  const payload = (type === IPV4 ? readIpv4 : type === IPV6 ? readIpv6 : null)?.(view, at + 2, packet) ?? at + 2;
  return { packet, payload };
}

/** Each fills in the packet; where the next header starts, null when this one is not there. */
function readIpv4(view: DataView, at: number, packet: Packet): number | null {
  if (view.byteLength < at + 20 || view.getUint8(at) >> 4 !== 4) return null;
  packet.source = addressText(view, at + 12, 4);
  packet.destination = addressText(view, at + 16, 4);
  const fragment = view.getUint16(at + 6);
  if ((fragment & 0x3fff) !== 0) packet.fragment = (fragment & 0x1fff) * 8;
  const next = at + Math.max((view.getUint8(at) & 15) * 4, 20);
  readTransport(view, next, view.getUint8(at + 9), packet);
  return next;
}

function readIpv6(view: DataView, at: number, packet: Packet): number | null {
  if (view.byteLength < at + 40 || view.getUint8(at) >> 4 !== 6) return null;
  packet.source = addressText(view, at + 8, 16);
  packet.destination = addressText(view, at + 24, 16);
  let protocol = view.getUint8(at + 6);
  let next = at + 40;
  for (let count = 0; extensions.has(protocol) && count < EXTENSIONS_MAX && view.byteLength >= next + 8; count++) {
    if (protocol === FRAGMENT) packet.fragment = view.getUint16(next + 2) & 0xfff8;
    const units = view.getUint8(next + 1);
    const length = protocol === FRAGMENT ? 8 : protocol === AUTHENTICATION ? (units + 2) * 4 : (units + 1) * 8;
    protocol = view.getUint8(next);
    next += length;
  }
  readTransport(view, next, protocol, packet);
  return next;
}

function readTransport(view: DataView, at: number, protocol: number, packet: Packet): void {
  packet.protocol = names[protocol] ?? String(protocol);
  if (packet.fragment !== null && packet.fragment > 0) return;
  if ([6, 17, 132].includes(protocol) && view.byteLength >= at + 4) {
    packet.sourcePort = view.getUint16(at);
    packet.destinationPort = view.getUint16(at + 2);
  }
  if (protocol === 6 && view.byteLength >= at + 14) packet.flags = flagsText(view.getUint8(at + 13));
  if ([1, 58].includes(protocol) && view.byteLength >= at + 2)
    packet.icmp = `${view.getUint8(at)}/${view.getUint8(at + 1)}`;
}

function flagsText(flags: number): string {
  const set = ["F", "S", "R", "P", ".", "U", "E", "W"].filter((_, bit) => (flags >> bit) & 1);
  // The acknowledgement comes last, as in tcpdump.
  return [...set.filter((flag) => flag !== "."), ...set.filter((flag) => flag === ".")].join("");
}

function macText(view: DataView, at: number): string {
  return Array.from({ length: 6 }, (_, index) =>
    view
      .getUint8(at + index)
      .toString(16)
      .padStart(2, "0"),
  ).join(":");
}

function addressText(view: DataView, at: number, bytes: 4 | 16): string {
  return formatAddress(new Uint8Array(view.buffer, view.byteOffset + at, bytes));
}

/** In one line, as far as it is known. */
export function decodedText({ outer, inner }: Decoded): string {
  const tunnel =
    outer === null
      ? []
      : [`${vlanText(outer.vlans)}${outer.vni === null ? "no VXLAN header" : `vni ${outer.vni}`} from ${outer.peer}`];
  return [...tunnel, inner === null ? "no packet" : packetText(inner)].join(": ");
}

function packetText(packet: Packet): string {
  const { vlans, protocol, flags, icmp, fragment } = packet;
  const words = [
    `${vlanText(vlans)}${endpointText(packet.source, packet.sourcePort)} >`,
    endpointText(packet.destination, packet.destinationPort),
    protocol,
    ...(flags === null ? [] : [`[${flags}]`]),
    ...(icmp === null ? [] : [icmp]),
    ...(fragment === null ? [] : [`fragment at ${fragment}`]),
  ];
  return words.join(" ");
}

function vlanText(vlans: readonly number[]): string {
  return vlans.map((vlan) => `vlan ${vlan} `).join("");
}

function endpointText(address: string, port: number | null): string {
  if (port === null) return address;
  return address.includes(":") ? `[${address}]:${port}` : `${address}:${port}`;
}
