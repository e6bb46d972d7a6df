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

/** What the packet path tells of its NAT. */
export type NatRecord = BlockRecord | SessionRecord;

/** A block of ports came to a subscriber, or left it. */
export interface BlockRecord {
  /** CLOCK_MONOTONIC. */
  timeNs: bigint;
  vni: number | null;
  inside: string;
  outside: string;
  firstPort: number;
  lastPort: number;
  granted: boolean;
}

/** A session began or ended. ICMP: the identifier as inside and outside port. */
export interface SessionRecord {
  timeNs: bigint;
  protocol: number;
  vni: number | null;
  inside: string;
  insidePort: number;
  outside: string;
  outsidePort: number;
  remote: string;
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

export function readNatRecords(bytes: Uint8Array): NatRecord[] {
  const { offset } = vxNatRecord;
  return each(bytes, vxNatRecord.bytes, (view) => {
    const event = view.getUint8(offset.event);
    const common = {
      timeNs: view.getBigUint64(offset.timeNs, true),
      vni: vniOf(view, offset.realm),
      inside: addressOf(view, offset.insideBe),
      outside: addressOf(view, offset.publicBe),
    };
    const port = (at: number): number => view.getUint16(at, true);
    if (event === vxNatEvent.blockGranted || event === vxNatEvent.blockReleased) {
      const granted = event === vxNatEvent.blockGranted;
      return { ...common, firstPort: port(offset.firstPort), lastPort: port(offset.lastPort), granted };
    }
    return {
      ...common,
      protocol: view.getUint8(offset.protocol),
      insidePort: port(offset.insidePort),
      outsidePort: port(offset.firstPort),
      remote: addressOf(view, offset.remoteBe),
      remotePort: port(offset.remotePort),
      created: event === vxNatEvent.sessionCreated,
    };
  });
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
