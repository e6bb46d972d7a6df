// What a NAT did, as collectors take it: IPFIX (RFC 7011) and NetFlow version 9 (RFC 3954), with the information elements and
// events of RFC 8158. Called by flow-export.ts. Pure but for its sequence number.
import type { BlockRecord, NatRecord, SessionRecord } from "./nat-names.js";

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

type Read<Item> = (record: Item) => number | bigint;

interface Template<Item> {
  id: number;
  fields: { element: number; length: 1 | 2 | 4 | 8; read: Read<Item> }[];
  length: number;
}

/** In the order of the keys. */
function template<Item>(id: number, reads: Partial<Record<Element, Read<Item>>>): Template<Item> {
  const fields = Object.entries(reads).map(([name, read]) => {
    const [element, length] = elements[name as Element];
    return { element, length, read };
  });
  return { id, fields, length: fields.reduce((sum, { length }) => sum + length, 0) };
}

/** layer2SegmentId: the upper byte says what the rest is. */
const vxlanSegment = 0x01n << 56n;
const segmentOf = ({ vni }: NatRecord): bigint => (vni === null ? 0n : vxlanSegment | BigInt(vni));

/** As formatIpv4 wrote it. */
function numberOf(address: string): number {
  return address.split(".").reduce((sum, part) => sum * 256 + Number(part), 0);
}

/** RFC 8158, sections 5.6.1 and 5.6.9. */
const sessionTemplate = template<SessionRecord>(257, {
  observationTimeMilliseconds: ({ time }) => time,
  natEvent: ({ created }) => (created ? 4 : 5),
  protocolIdentifier: ({ protocol }) => protocol,
  sourceIPv4Address: ({ inside }) => inside,
  sourceTransportPort: ({ insidePort }) => insidePort,
  postNATSourceIPv4Address: ({ outside }) => outside,
  postNAPTSourceTransportPort: ({ outsidePort }) => outsidePort,
  destinationIPv4Address: ({ remote }) => remote,
  destinationTransportPort: ({ remotePort }) => remotePort,
  layer2SegmentId: segmentOf,
});
const blockTemplate = template<BlockRecord>(256, {
  observationTimeMilliseconds: ({ time }) => time,
  natEvent: ({ granted }) => (granted ? 16 : 17),
  sourceIPv4Address: ({ inside }) => numberOf(inside),
  postNATSourceIPv4Address: ({ outside }) => numberOf(outside),
  portRangeStart: ({ firstPort }) => firstPort,
  portRangeEnd: ({ lastPort }) => lastPort,
  layer2SegmentId: segmentOf,
});

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
  encode(records: readonly NatRecord[], now: number): Datagram[] {
    const datagrams: Datagram[] = [];
    let at = 0;
    while (at < records.length) {
      const message = new Message(versions[this.protocol].headerBytes);
      if (now - this.templatesAt >= templatesEveryMs) {
        this.templatesAt = now;
        message.addTemplates(versions[this.protocol].templateSet);
      }
      const first = at;
      while (at < records.length && message.add(records[at] as NatRecord)) at++;
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
  private readonly view = new DataView(this.bytes.buffer, this.bytes.byteOffset, bytesMax);
  private at: number;
  private setAt = -1;
  /** Of the set that is open. */
  private id = -1;

  constructor(headerBytes: number) {
    this.at = headerBytes;
  }

  addTemplates(set: number): void {
    this.begin(set);
    for (const { id, fields } of [blockTemplate, sessionTemplate]) {
      this.at = this.bytes.writeUInt16BE(id, this.at);
      this.at = this.bytes.writeUInt16BE(fields.length, this.at);
      for (const { element, length } of fields) {
        this.at = this.bytes.writeUInt16BE(element, this.at);
        this.at = this.bytes.writeUInt16BE(length, this.at);
      }
      this.templates++;
    }
  }

  /** False: there is no room for it. */
  add(record: NatRecord): boolean {
    return "granted" in record ? this.addBy(blockTemplate, record) : this.addBy(sessionTemplate, record);
  }

  finish(): Buffer {
    this.end();
    return this.bytes.subarray(0, this.at);
  }

  private addBy<Item>({ id, fields, length }: Template<Item>, record: Item): boolean {
    const another = this.id === id ? 0 : paddingMax + setHeaderBytes;
    if (this.at + another + length + paddingMax > bytesMax) return false;
    if (another > 0) this.begin(id);
    for (const field of fields) this.write(field.length, field.read(record));
    return true;
  }

  private begin(id: number): void {
    this.end();
    this.id = id;
    this.setAt = this.at;
    this.at = this.bytes.writeUInt16BE(id, this.at) + 2;
  }

  /** A set ends at a multiple of four bytes. */
  private end(): void {
    if (this.setAt < 0) return;
    while ((this.at - this.setAt) % 4 !== 0) this.at = this.bytes.writeUInt8(0, this.at);
    this.bytes.writeUInt16BE(this.at - this.setAt, this.setAt + 2);
    this.setAt = -1;
  }

  private write(length: 1 | 2 | 4 | 8, value: number | bigint): void {
    if (typeof value === "bigint") this.view.setBigUint64(this.at, value);
    else if (length === 4) this.view.setUint32(this.at, value);
    else if (length === 2) this.view.setUint16(this.at, value);
    else if (length === 1) this.view.setUint8(this.at, value);
    else {
      this.view.setUint32(this.at, value / 2 ** 32);
      this.view.setUint32(this.at + 4, value);
    }
    this.at += length;
  }
}
