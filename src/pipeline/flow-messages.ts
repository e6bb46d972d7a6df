// What a NAT did, as collectors take it: IPFIX (RFC 7011) and NetFlow version 9 (RFC 3954), with the information elements and
// events of RFC 8158. Called by flow-export.ts. Pure but for its sequence number.
import { parseIpv4 } from "./config/formats.js";
import type { BlockRecord, SessionRecord } from "./nat-names.js";

/** In milliseconds since 1970. */
export type TimedRecord = (Omit<BlockRecord, "timeNs"> | Omit<SessionRecord, "timeNs">) & { time: number };
export const flowProtocols = ["ipfix", "netflow"] as const;
export type FlowProtocol = (typeof flowProtocols)[number];

/** Number in IANA's registry and length in bytes. */
const elements = {
  protocolIdentifier: [4, 1],
  sourceTransportPort: [7, 2],
  sourceIPv4Address: [8, 4],
  destinationTransportPort: [11, 2],
  destinationIPv4Address: [12, 4],
  postNATSourceIPv4Address: [225, 4],
  postNAPTSourceTransportPort: [227, 2],
  natEvent: [230, 1],
  observationTimeMilliseconds: [323, 8],
  layer2SegmentId: [351, 8],
  portRangeStart: [361, 2],
  portRangeEnd: [362, 2],
} as const;
type Element = keyof typeof elements;

/** RFC 8158, sections 5.6.1 and 5.6.9. */
const templates = {
  block: {
    id: 256,
    fields: [
      "observationTimeMilliseconds",
      "natEvent",
      "sourceIPv4Address",
      "postNATSourceIPv4Address",
      "portRangeStart",
      "portRangeEnd",
      "layer2SegmentId",
    ],
  },
  session: {
    id: 257,
    fields: [
      "observationTimeMilliseconds",
      "natEvent",
      "protocolIdentifier",
      "sourceIPv4Address",
      "sourceTransportPort",
      "postNATSourceIPv4Address",
      "postNAPTSourceTransportPort",
      "destinationIPv4Address",
      "destinationTransportPort",
      "layer2SegmentId",
    ],
  },
} as const satisfies Record<string, { id: number; fields: readonly Element[] }>;
type Kind = keyof typeof templates;

const events = { sessionCreated: 4, sessionEnded: 5, blockGranted: 16, blockReleased: 17 } as const;
/** layer2SegmentId: the upper byte says what the rest is. */
const vxlanSegment = 0x01n << 56n;

const versions = {
  ipfix: { number: 10, headerBytes: 16, templateSet: 2 },
  netflow: { number: 9, headerBytes: 20, templateSet: 0 },
} as const;
const setHeaderBytes = 4;
const paddingMax = 3;
/** Of a datagram: fits every path there is. RFC 7011 section 10.3.3 asks for no more where the MTU is not known. */
const bytesMax = 512 - 28;
/** What is lost on the way is told again (RFC 7011 section 8.4). */
const templatesEveryMs = 60_000;

export interface Datagram {
  bytes: Buffer;
  /** How many it carries. */
  records: number;
}

export class FlowMessages {
  private sequence = 0;
  private templatesAt = Number.NEGATIVE_INFINITY;

  constructor(
    private readonly protocol: FlowProtocol,
    private readonly startedAt: number,
  ) {}

  /** To be sent in this order. */
  encode(records: readonly TimedRecord[], now: number): Datagram[] {
    const datagrams: Datagram[] = [];
    let at = 0;
    while (at < records.length) {
      const message = new Message(versions[this.protocol].headerBytes);
      if (now - this.templatesAt >= templatesEveryMs) {
        this.templatesAt = now;
        message.addTemplates(versions[this.protocol].templateSet);
      }
      const first = at;
      while (at < records.length && message.add(records[at] as TimedRecord)) at++;
      datagrams.push({ bytes: this.finish(message, at - first, now), records: at - first });
    }
    return datagrams;
  }

  private finish(message: Message, records: number, now: number): Buffer {
    const bytes = message.finish();
    const seconds = Math.floor(now / 1000);
    bytes.writeUInt16BE(versions[this.protocol].number, 0);
    if (this.protocol === "ipfix") {
      bytes.writeUInt16BE(bytes.length, 2);
      bytes.writeUInt32BE(seconds, 4);
      bytes.writeUInt32BE(this.sequence, 8);
      this.sequence = (this.sequence + records) >>> 0;
    } else {
      bytes.writeUInt16BE(records + message.templates, 2);
      bytes.writeUInt32BE((now - this.startedAt) >>> 0, 4);
      bytes.writeUInt32BE(seconds, 8);
      bytes.writeUInt32BE(this.sequence, 12);
      this.sequence = (this.sequence + 1) >>> 0;
    }
    return bytes;
  }
}

/** A datagram that grows. */
class Message {
  templates = 0;
  private readonly bytes = Buffer.alloc(bytesMax);
  private at: number;
  private setAt = -1;
  private kind: Kind | null = null;

  constructor(headerBytes: number) {
    this.at = headerBytes;
  }

  addTemplates(set: number): void {
    this.begin(set);
    for (const { id, fields } of Object.values(templates)) {
      this.at = this.bytes.writeUInt16BE(id, this.at);
      this.at = this.bytes.writeUInt16BE(fields.length, this.at);
      for (const field of fields) for (const word of elements[field]) this.at = this.bytes.writeUInt16BE(word, this.at);
      this.templates++;
    }
    this.end();
  }

  /** False: there is no room for it. */
  add(record: TimedRecord): boolean {
    const kind = "granted" in record ? "block" : "session";
    const { id, fields } = templates[kind];
    const length = fields.reduce((sum, field) => sum + elements[field][1], 0);
    if (this.at + (this.kind === kind ? 0 : paddingMax + setHeaderBytes) + length + paddingMax > bytesMax) return false;
    if (this.kind !== kind) {
      this.end();
      this.begin(id);
      this.kind = kind;
    }
    const values = valuesOf(record);
    for (const field of fields) this.write(elements[field][1], values[field] ?? 0);
    return true;
  }

  finish(): Buffer {
    this.end();
    return this.bytes.subarray(0, this.at);
  }

  private begin(set: number): void {
    this.setAt = this.at;
    this.at = this.bytes.writeUInt16BE(set, this.at) + 2;
  }

  /** A set ends at a multiple of four bytes. */
  private end(): void {
    if (this.setAt < 0) return;
    while ((this.at - this.setAt) % 4 !== 0) this.at = this.bytes.writeUInt8(0, this.at);
    this.bytes.writeUInt16BE(this.at - this.setAt, this.setAt + 2);
    this.setAt = -1;
    this.kind = null;
  }

  private write(length: 1 | 2 | 4 | 8, value: number | bigint): void {
    this.at =
      length === 8
        ? this.bytes.writeBigUInt64BE(BigInt(value), this.at)
        : this.bytes.writeUIntBE(Number(value), this.at, length);
  }
}
function valuesOf(record: TimedRecord): Partial<Record<Element, number | bigint>> {
  const common = {
    observationTimeMilliseconds: record.time,
    sourceIPv4Address: parseIpv4(record.inside) ?? 0,
    postNATSourceIPv4Address: parseIpv4(record.outside) ?? 0,
    layer2SegmentId: record.vni === null ? 0n : vxlanSegment | BigInt(record.vni),
  };
  if ("granted" in record) {
    const { granted, firstPort, lastPort } = record;
    const natEvent = granted ? events.blockGranted : events.blockReleased;
    return { ...common, natEvent, portRangeStart: firstPort, portRangeEnd: lastPort };
  }
  return {
    ...common,
    natEvent: record.created ? events.sessionCreated : events.sessionEnded,
    protocolIdentifier: record.protocol,
    sourceTransportPort: record.insidePort,
    postNAPTSourceTransportPort: record.outsidePort,
    destinationIPv4Address: parseIpv4(record.remote) ?? 0,
    destinationTransportPort: record.remotePort,
  };
}
