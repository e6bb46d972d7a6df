// The packet path's records, whatever is in them, as the file and collectors have them: compared with what the plainest code
// makes of the same bytes.
import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { vxConstant, vxNatEvent, vxNatRecord } from "../../src/pipeline/abi.gen.js";
import { FlowMessages, flowProtocols } from "../../src/pipeline/flow-messages.js";
import { protocolName, readNatRecords, type NatRecord } from "../../src/pipeline/nat-names.js";
import { RecordLines } from "../../src/pipeline/record-lines.js";

interface Written {
  timeNs: bigint;
  realm: number;
  inside: number;
  outside: number;
  remote: number;
  firstPort: number;
  lastPort: number;
  insidePort: number;
  remotePort: number;
  protocol: number;
  event: number;
}

const port = fc.nat(65_535);
const address = fc.oneof(fc.nat(0xffff_ffff), fc.constantFrom(0, 0xffff_ffff, 0x0a00_0005));
const written: fc.Arbitrary<Written> = fc.record({
  // Of fifty days; many are of one millisecond.
  timeNs: fc.oneof(fc.bigInt(0n, 2n ** 52n), fc.bigInt(0n, 2_000_000n)),
  realm: fc.oneof(fc.nat(0xff_ffff), fc.constantFrom(0, vxConstant.plainRealm)),
  inside: address,
  outside: address,
  remote: address,
  firstPort: port,
  lastPort: port,
  insidePort: port,
  remotePort: port,
  protocol: fc.oneof(fc.constantFrom(1, 6, 17), fc.nat(255)),
  event: fc.constantFrom(...Object.values(vxNatEvent)),
});
const toWallNs = BigInt(Date.UTC(2026, 10, 21, 12)) * 1_000_000n + 123_456n;

function bytesOf(records: readonly Written[]): Uint8Array {
  const { bytes, offset } = vxNatRecord;
  const view = new DataView(new ArrayBuffer(records.length * bytes));
  for (const [index, record] of records.entries()) {
    const at = index * bytes;
    view.setBigUint64(at + offset.timeNs, record.timeNs, true);
    view.setUint32(at + offset.realm, record.realm, true);
    view.setUint32(at + offset.insideBe, record.inside);
    view.setUint32(at + offset.publicBe, record.outside);
    view.setUint32(at + offset.remoteBe, record.remote);
    view.setUint16(at + offset.firstPort, record.firstPort, true);
    view.setUint16(at + offset.lastPort, record.lastPort, true);
    view.setUint16(at + offset.insidePort, record.insidePort, true);
    view.setUint16(at + offset.remotePort, record.remotePort, true);
    view.setUint8(at + offset.protocol, record.protocol);
    view.setUint8(at + offset.event, record.event);
  }
  return new Uint8Array(view.buffer);
}

const isSession = ({ event }: Written): boolean =>
  event === vxNatEvent.sessionCreated || event === vxNatEvent.sessionEnded;
const quad = (number: number): string => [24, 16, 8, 0].map((shift) => (number >>> shift) & 255).join(".");
const timeOf = ({ timeNs }: Written): number => Number((timeNs + toWallNs) / 1_000_000n);
const vniOf = ({ realm }: Written): number | null => (realm === vxConstant.plainRealm ? null : realm);

/** A stable sort. */
function oldestFirst(records: readonly Written[]): Written[] {
  return records.toSorted((a, b) => (a.timeNs < b.timeNs ? -1 : a.timeNs > b.timeNs ? 1 : 0));
}

function sessionText(record: Written): string {
  return JSON.stringify({
    time: new Date(timeOf(record)).toISOString(),
    event: record.event === vxNatEvent.sessionCreated ? "created" : "ended",
    protocol: protocolName(record.protocol),
    vni: vniOf(record),
    inside: `${quad(record.inside)}:${record.insidePort}`,
    outside: `${quad(record.outside)}:${record.firstPort}`,
    remote: `${quad(record.remote)}:${record.remotePort}`,
  });
}

function sessionLines(records: readonly NatRecord[]): string {
  const lines = new RecordLines();
  for (const record of records) if ("created" in record) lines.addSession(record);
  return lines.all.toString();
}

test("a session's line is what JSON.stringify makes of it, and lines are in the order of what happened", () => {
  fc.assert(
    fc.property(fc.array(written, { maxLength: 300 }), (records) => {
      const expected = oldestFirst(records)
        .filter(isSession)
        .map((one) => `${sessionText(one)}\n`);
      assert.equal(sessionLines(readNatRecords(bytesOf(records), toWallNs)), expected.join(""));
    }),
    { numRuns: 500 },
  );
});

test("a block is read as it was written, blocks and sessions in the order of what happened", () => {
  fc.assert(
    fc.property(fc.array(written, { maxLength: 50 }), (records) => {
      const read = readNatRecords(bytesOf(records), toWallNs);
      for (const [at, one] of oldestFirst(records).entries()) {
        if (isSession(one)) assert.ok("created" in (read[at] ?? {}));
        else
          assert.deepEqual(read[at], {
            time: timeOf(one),
            vni: vniOf(one),
            inside: quad(one.inside),
            outside: quad(one.outside),
            firstPort: one.firstPort,
            lastPort: one.lastPort,
            granted: one.event === vxNatEvent.blockGranted,
          });
      }
    }),
  );
});

/** Values with their lengths in bytes, in the order of the template. */
function exported(record: Written): Buffer {
  const vni = vniOf(record);
  const time = [BigInt(timeOf(record)), 8] as const;
  const segment = [vni === null ? 0n : (1n << 56n) | BigInt(vni), 8] as const;
  const fields: readonly (readonly [number | bigint, number])[] = isSession(record)
    ? [
        time,
        [record.event === vxNatEvent.sessionCreated ? 4 : 5, 1],
        [record.protocol, 1],
        [record.inside, 4],
        [record.insidePort, 2],
        [record.outside, 4],
        [record.firstPort, 2],
        [record.remote, 4],
        [record.remotePort, 2],
        segment,
      ]
    : [
        time,
        [record.event === vxNatEvent.blockGranted ? 16 : 17, 1],
        [record.inside, 4],
        [record.outside, 4],
        [record.firstPort, 2],
        [record.lastPort, 2],
        segment,
      ];
  return Buffer.from(fields.map(([value, bytes]) => value.toString(16).padStart(bytes * 2, "0")).join(""), "hex");
}

for (const protocol of flowProtocols)
  test(`by ${protocol} every record stands in its datagram byte for byte`, () => {
    fc.assert(
      fc.property(written, (one) => {
        const messages = new FlowMessages(protocol, 0);
        const records = readNatRecords(bytesOf([one]), toWallNs);
        messages.encode(records, 1); // with the templates
        const [datagram] = messages.encode(records, 2);
        const record = exported(one);
        const padding = Buffer.alloc((4 - (record.length % 4)) % 4);
        const headers = (protocol === "ipfix" ? 16 : 20) + 4;
        assert.deepEqual(datagram?.bytes.subarray(headers), Buffer.concat([record, padding]));
      }),
    );
  });
