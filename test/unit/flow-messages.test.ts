// IPFIX and NetFlow version 9 as somebody else reads them: tshark.
import assert from "node:assert/strict";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test, type TestContext } from "node:test";
import { type Datagram, FlowMessages, type FlowProtocol, flowProtocols } from "../../src/pipeline/flow-messages.js";
import type { NatRecord } from "../../src/pipeline/nat-names.js";
import { run } from "../bed/command.js";

const start = Date.UTC(2026, 10, 21, 12);
const port = { ipfix: 4739, netflow: 2055 } as const;

const block: NatRecord = {
  time: start + 123,
  vni: 100,
  inside: "10.0.0.5",
  outside: "203.0.113.1",
  firstPort: 2048,
  lastPort: 2175,
  granted: true,
};
const session: NatRecord = {
  time: start + 456,
  protocol: 17,
  vni: null,
  inside: 0x0a000005,
  insidePort: 5000,
  outside: 0xcb007101,
  outsidePort: 2050,
  remote: 0xc6336407,
  remotePort: 53,
  created: true,
};

const bytesOf = (datagrams: readonly Datagram[]): Buffer[] => datagrams.map(({ bytes }) => bytes);

/** IPv4 and UDP around each datagram, in a capture without link headers. */
function captureOf(datagrams: readonly Buffer[], to: number): Buffer {
  const head = Buffer.alloc(24);
  for (const [at, value] of [0xa1b2c3d4, 0x00020004, 0, 0, 65535, 101].entries()) head.writeUInt32BE(value, at * 4);
  const packets = datagrams.flatMap((datagram) => {
    const packet = Buffer.alloc(16 + 28);
    const length = 28 + datagram.length;
    packet.writeUInt32BE(length, 8);
    packet.writeUInt32BE(length, 12);
    packet.writeUInt16BE(0x4500, 16);
    packet.writeUInt16BE(length, 18);
    packet.set([64, 17, 0, 0, 192, 0, 2, 1, 192, 0, 2, 9], 24);
    packet.writeUInt16BE(to, 36);
    packet.writeUInt16BE(to, 38);
    packet.writeUInt16BE(length - 20, 40);
    return [packet, datagram];
  });
  return Buffer.concat([head, ...packets]);
}

/** The values of the fields, one line a datagram. */
async function readBack(
  t: TestContext,
  protocol: FlowProtocol,
  datagrams: readonly Buffer[],
  fields: readonly string[],
): Promise<string[][]> {
  const directory = mkdtempSync(join(tmpdir(), "vxpipe-flows-"));
  t.after(() => rmSync(directory, { recursive: true }));
  const file = join(directory, "flows.pcap");
  writeFileSync(file, captureOf(datagrams, port[protocol]));
  const names = ["_ws.malformed", ...fields].flatMap((name) => ["-e", name]);
  const text = await run("tshark", ["-r", file, "-d", `udp.port==${port[protocol]},cflow`, "-T", "fields", ...names]);
  return text
    .replace(/\n$/, "")
    .split("\n")
    .map((line) => line.split("\t"));
}

for (const protocol of flowProtocols) {
  test(`a granted block is told by ${protocol} with its ports, its subscriber and its VNI`, async (t) => {
    const datagrams = bytesOf(
      new FlowMessages(protocol, start).encode([block, { ...block, granted: false }], start + 5000),
    );
    const fields = ["timestamp", "nat_event", "srcaddr", "post_natsource_ipv4_address"];
    const read = await readBack(t, protocol, datagrams, [
      ...fields.map((name) => `cflow.${name}`),
      "cflow.port_range_start",
      "cflow.port_range_end",
      "cflow.layer2_segment_id",
      "cflow.observation_time_milliseconds",
    ]);
    assert.equal(datagrams.length, 1);
    const [malformed, time, event, inside, outside, first, last, segment, when] = read[0] ?? [];
    assert.equal(malformed, "");
    assert.match(time ?? "", /12:00:05/);
    assert.deepEqual(
      [event, inside, outside, first, last],
      ["16,17", "10.0.0.5,10.0.0.5", "203.0.113.1,203.0.113.1", "2048,2048", "2175,2175"],
    );
    assert.equal(segment, [0x0100_0000_0000_0064n, 0x0100_0000_0000_0064n].join());
    assert.match(when ?? "", /12:00:00\.123/);
  });

  test(`a session is told by ${protocol} with both its ends`, async (t) => {
    const datagrams = bytesOf(
      new FlowMessages(protocol, start).encode([session, { ...session, created: false }], start),
    );
    const names = ["nat_event", "protocol", "srcaddr", "srcport", "post_natsource_ipv4_address"];
    const more = ["post_naptsource_transport_port", "dstaddr", "dstport"];
    const read = await readBack(
      t,
      protocol,
      datagrams,
      [...names, ...more].map((name) => `cflow.${name}`),
    );
    const twice = ["4,5", "17,17", "10.0.0.5,10.0.0.5", "5000,5000", "203.0.113.1,203.0.113.1"];
    assert.deepEqual(read, [["", ...twice, "2050,2050", "198.51.100.7,198.51.100.7", "53,53"]]);
  });

  test(`by ${protocol} many records are many datagrams of at most 512 bytes, none lost, numbered on`, async (t) => {
    const messages = new FlowMessages(protocol, start);
    const records = Array.from({ length: 100 }, (_, at) => (at % 7 < 4 ? block : session));
    const sent = [...messages.encode(records, start), ...messages.encode(records, start + 61_000)];
    const datagrams = bytesOf(sent);
    assert.equal(
      sent.reduce((sum, one) => sum + one.records, 0),
      200,
    );
    assert.ok(datagrams.every((one) => one.length + 28 <= 512));
    const read = await readBack(t, protocol, datagrams, ["cflow.nat_event", "cflow.template_id", "cflow.sequence"]);
    const events = read.flatMap(([, event]) => event?.split(",") ?? []);
    assert.equal(events.filter((event) => event === "16").length, 116);
    assert.equal(events.filter((event) => event === "4").length, 84);
    const counts = read.map(([, event]) => (event === "" ? 0 : (event?.split(",").length ?? 0)));
    const step = (at: number): number => (protocol === "ipfix" ? (counts[at] ?? 0) : 1);
    let sequence = 0;
    for (const [at, [malformed, , , number]] of read.entries()) {
      assert.deepEqual([malformed, Number(number)], ["", sequence]);
      sequence += step(at);
    }
    // The templates come first, and again after a minute.
    const withTemplates = read.flatMap(([, , templates], at) => (templates?.includes("256,257") ? [at] : []));
    assert.deepEqual(withTemplates, [0, datagrams.length / 2]);
  });
}
