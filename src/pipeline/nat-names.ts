// NAT's binary records from the packet path, and its endpoints, as people write them. Called by the record keeper, the API and
// the command line. Pure.
import { vxConstant, vxNatEvent, vxNatRecord, vxSessionState, vxSessionView, vxSubscriberUse } from "./abi.gen.js";
import { formatIpv4, parseEndpoint, parseIpv4 } from "./config/formats.js";
import { VxpipeError } from "./errors.js";

/** As `nat session list` shows it. ICMP: the identifier as port. */
export interface SessionView {
  protocol: string;
  /** null: plain Ethernet inside. */
  vni: number | null;
  inside: string;
  outside: string;
  remote: string;
  state: string;
  ageSeconds: number;
  idleSeconds: number;
  worker: number;
}

export interface SubscriberUse {
  vni: number | null;
  inside: string;
  sessions: number;
  blocks: number;
}

/** What the packet path tells of its NAT. Times in milliseconds since 1970. */
export type NatRecord = BlockRecord | SessionRecord;

/** A block of ports came to a subscriber, or left it. */
export interface BlockRecord {
  time: number;
  vni: number | null;
  inside: string;
  outside: string;
  firstPort: number;
  lastPort: number;
  granted: boolean;
}

/** A session began or ended. ICMP: the identifier as inside and outside port. There are many of them: addresses are the
 * 32 bits that they are. */
export interface SessionRecord {
  time: number;
  protocol: number;
  vni: number | null;
  inside: number;
  insidePort: number;
  outside: number;
  outsidePort: number;
  remote: number;
  remotePort: number;
  created: boolean;
}

export const protocolNumbers = { icmp: 1, tcp: 6, udp: 17 } as const;
const protocolNames = new Map<number, string>(Object.entries(protocolNumbers).map(([name, number]) => [number, name]));
/** half_closed as half-closed. */
const stateNames = new Map<number, string>(
  Object.entries(vxSessionState).map(([name, number]) => [
    number,
    name.replace(/[A-Z]/g, (letter) => `-${letter.toLowerCase()}`),
  ]),
);

function each<Value>(bytes: Uint8Array, size: number, read: (view: DataView) => Value): Value[] {
  return Array.from({ length: Math.floor(bytes.length / size) }, (_, index) =>
    read(new DataView(bytes.buffer, bytes.byteOffset + index * size, size)),
  );
}

function vniOf(view: DataView, offset: number): number | null {
  const realm = view.getUint32(offset, true);
  return realm === vxConstant.plainRealm ? null : realm;
}

function addressOf(view: DataView, offset: number): string {
  return formatIpv4(view.getUint32(offset));
}

export function readSessions(bytes: Uint8Array): SessionView[] {
  const { offset } = vxSessionView;
  return each(bytes, vxSessionView.bytes, (view) => {
    const endpoint = (address: number, port: number): string => `${addressOf(view, address)}:${view.getUint16(port)}`;
    const protocol = view.getUint8(offset.protocol);
    const state = view.getUint8(offset.state);
    return {
      protocol: protocolNames.get(protocol) ?? String(protocol),
      vni: vniOf(view, offset.realm),
      inside: endpoint(offset.insideBe, offset.insidePortBe),
      outside: endpoint(offset.outsideBe, offset.outsidePortBe),
      remote: endpoint(offset.remoteBe, offset.remotePortBe),
      state: stateNames.get(state) ?? String(state),
      ageSeconds: view.getUint32(offset.ageSeconds, true),
      idleSeconds: view.getUint32(offset.idleSeconds, true),
      worker: view.getUint8(offset.worker),
    };
  });
}

export function readSubscribers(bytes: Uint8Array): SubscriberUse[] {
  const { offset } = vxSubscriberUse;
  return each(bytes, vxSubscriberUse.bytes, (view) => ({
    vni: vniOf(view, offset.realm),
    inside: addressOf(view, offset.insideBe),
    sessions: view.getUint32(offset.sessions, true),
    blocks: view.getUint32(offset.blocks, true),
  }));
}

/** Oldest first: what one worker released another may have been granted at once, and be read before. `toWallNs`: to add to
 * the packet path's clock. */
export function readNatRecords(bytes: Uint8Array, toWallNs: bigint): NatRecord[] {
  const size = vxNatRecord.bytes;
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  if (view.byteLength < size) return [];
  // Nanoseconds since 1970 need 64 bits, those since the first record do not.
  const firstNs = toWallNs + view.getBigUint64(vxNatRecord.offset.timeNs, true);
  const firstMs = Number(firstNs / 1_000_000n);
  const restNs = Number(firstNs % 1_000_000n);
  const since = sinceFirst(view);
  const order = Array.from(since, (_, index) => index).sort((a, b) => (since[a] as number) - (since[b] as number));
  return order.map((index) => {
    const time = firstMs + Math.floor((restNs + (since[index] as number)) / 1_000_000);
    return readNatRecord(view, index * size, time);
  });
}

/** In nanoseconds: exact while the records are of no more than a hundred days, and they are of a tenth of a second. */
function sinceFirst(view: DataView): Float64Array {
  const { bytes: size, offset } = vxNatRecord;
  const since = new Float64Array(Math.floor(view.byteLength / size));
  const word = (at: number): number => view.getUint32(offset.timeNs + at, true);
  for (let index = 0; index < since.length; index++) {
    const at = index * size;
    since[index] = (word(at + 4) - word(4)) * 2 ** 32 + (word(at) - word(0));
  }
  return since;
}

function readNatRecord(view: DataView, at: number, time: number): NatRecord {
  const { offset } = vxNatRecord;
  const event = view.getUint8(at + offset.event);
  const vni = vniOf(view, at + offset.realm);
  const port = (from: number): number => view.getUint16(at + from, true);
  if (event === vxNatEvent.blockGranted || event === vxNatEvent.blockReleased)
    return {
      time,
      vni,
      inside: addressOf(view, at + offset.insideBe),
      outside: addressOf(view, at + offset.publicBe),
      firstPort: port(offset.firstPort),
      lastPort: port(offset.lastPort),
      granted: event === vxNatEvent.blockGranted,
    };
  return {
    time,
    protocol: view.getUint8(at + offset.protocol),
    vni,
    inside: view.getUint32(at + offset.insideBe),
    insidePort: port(offset.insidePort),
    outside: view.getUint32(at + offset.publicBe),
    outsidePort: port(offset.firstPort),
    remote: view.getUint32(at + offset.remoteBe),
    remotePort: port(offset.remotePort),
    created: event === vxNatEvent.sessionCreated,
  };
}

/** `--protocol`: a name, or a number. */
export function protocolOf(text: string): number {
  const named = Object.hasOwn(protocolNumbers, text) ? protocolNumbers[text as keyof typeof protocolNumbers] : null;
  if (named !== null) return named;
  if (/^\d{1,3}$/.test(text) && Number(text) <= 255) return Number(text);
  throw new VxpipeError("USAGE", `"${text}" is no protocol: udp, tcp, icmp or a number`);
}

export function protocolName(number: number): string {
  return protocolNames.get(number) ?? String(number);
}

/** `203.0.113.1:2048`. */
export function endpointOf(text: string): { address: string; port: number } {
  const endpoint = parseEndpoint(text);
  const address = endpoint === null ? null : parseIpv4(endpoint.host);
  if (endpoint === null || address === null || endpoint.port > 65535)
    throw new VxpipeError("USAGE", `"${text}" is not ADDRESS:PORT such as 203.0.113.1:2048`);
  return { address: formatIpv4(address), port: endpoint.port };
}

const timeForm = /^(\d{4}-\d\d-\d\d)[Tt ](\d\d:\d\d):(\d\d)(\.\d+)?([Zz]|[+-]\d\d:\d\d)$/;

/** RFC 3339, in milliseconds. A leap second is the one before it, as the system's clock has it. */
export function timeOf(text: string): number {
  const [, date, minute, second, fraction = "", zone = ""] = timeForm.exec(text) ?? [];
  const leap = second === "60";
  const local = `${date}T${minute}:${leap ? "59" : second}`;
  const time = Date.parse(`${local}${fraction}${zone.toUpperCase()}`);
  if (exists(local) && !Number.isNaN(time) && (!leap || isoOf(time).startsWith("23:59:59", 11))) return time;
  throw new VxpipeError("USAGE", `"${text}" is not a time of RFC 3339 such as 2026-01-31T12:00:00Z`);
}

/** Date takes the 30th of February for the 2nd of March. */
function exists(local: string): boolean {
  const time = Date.parse(`${local}Z`);
  return !Number.isNaN(time) && isoOf(time).startsWith(local);
}

function isoOf(time: number): string {
  return new Date(time).toISOString();
}
