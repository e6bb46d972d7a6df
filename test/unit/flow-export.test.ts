// A collector that is there, one that comes later, and one that cannot be reached at all: real sockets.
import assert from "node:assert/strict";
import { createSocket } from "node:dgram";
import { once } from "node:events";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { BlockLog } from "../../src/pipeline/block-log.js";
import { EventLog } from "../../src/pipeline/events.js";
import { FlowExport } from "../../src/pipeline/flow-export.js";
import type { NatRecord } from "../../src/pipeline/nat-names.js";
import { until } from "../bed/command.js";

const record: NatRecord = {
  time: Date.UTC(2026, 10, 21),
  vni: 100,
  inside: "10.0.0.5",
  outside: "203.0.113.1",
  firstPort: 2048,
  lastPort: 2175,
  granted: true,
};

function eventsOf(): { events: EventLog; seen: string[] } {
  const seen: string[] = [];
  return { seen, events: new EventLog((_, event, detail) => seen.push(`${event}: ${detail}`)) };
}

test("a collector gets what is sent, and what it did not hear of is an event, once, until it is back", async () => {
  const { events, seen } = eventsOf();
  let now = Date.UTC(2026, 10, 21);
  const collector = createSocket("udp4");
  collector.bind(0, "127.0.0.1");
  await once(collector, "listening");
  const { port } = collector.address();
  const to = new FlowExport("ipfix", `127.0.0.1:${port}`, events, () => now);
  await to.open();
  to.send([record]);
  const [datagram] = (await once(collector, "message")) as [Buffer];
  assert.equal(datagram.readUInt16BE(0), 10);
  collector.close();
  await once(collector, "close");

  await until("the refusal to be told", async () => {
    to.send([record]);
    return seen.length > 0 ? true : null;
  });
  to.send([record]);
  assert.deepEqual(seen.length, 1);
  assert.match(seen[0] ?? "", /^nat_export_failed: ipfix to 127\.0\.0\.1:\d+: nothing listens there/);

  const again = createSocket("udp4");
  again.bind(port, "127.0.0.1");
  await once(again, "listening");
  now += 20_000;
  await until("it to be sent again", async () => {
    to.send([record]);
    return seen.length > 1 ? true : null;
  });
  assert.match(seen[1] ?? "", /^nat_export_resumed/);
  await to.close();
  again.close();
});

test("a collector without a way to it costs records and an event, and nothing else", async () => {
  const { events, seen } = eventsOf();
  const to = new FlowExport("netflow", "no-such-host.invalid:2055", events);
  await to.open();
  assert.match(seen[0] ?? "", /^nat_export_failed: netflow to no-such-host\.invalid:2055/);
  to.send([record, record]);
  assert.deepEqual([to.sent, to.failed], [0, 2]);
  await to.close();
});

test("of blocks that end all at once a collector hears of every one, at the end of a run and of what one left", async (t) => {
  const directory = mkdtempSync(join(tmpdir(), "vxpipe-export-"));
  t.after(() => rmSync(directory, { recursive: true }));
  const collector = createSocket("udp4"); // with what room a socket has
  t.after(() => collector.close());
  collector.bind(0, "127.0.0.1");
  await once(collector, "listening");
  let heard = 0;
  collector.on("message", (datagram: Buffer) => (heard += datagram.readUInt16BE(2)));
  const { events } = eventsOf();
  const to = new FlowExport("netflow", `127.0.0.1:${collector.address().port}`, events, () => record.time);
  await to.open();
  const blocks = Array.from({ length: 20_000 }, (_, at) => {
    const firstPort = 1024 + 128 * Math.floor(at / 40);
    return { ...record, outside: `203.0.113.${at % 40}`, firstPort, lastPort: firstPort + 127 };
  });
  const templates = 2;
  const releases = async (): Promise<true | null> => (heard === blocks.length + templates ? true : null);
  const file = join(directory, "nat.jsonl");
  const make = (told: ((records: readonly NatRecord[]) => void) | null): BlockLog =>
    new BlockLog(file, events, { lockFile: () => true }, Date.now, told);

  await make(null).add(blocks);
  let granting = false;
  const log = make((records) => (granting ? undefined : to.send(records)));
  await log.start();
  await until("what the run before left to be heard of", releases);

  granting = true;
  await log.add(blocks);
  granting = false;
  heard = templates;
  await log.end([]);
  await until("the end to be heard of", releases);
  await log.stop();
  assert.equal(to.failed, 0);
  await to.close();
});
