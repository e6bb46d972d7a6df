// Who had which ports: in memory, and in a file that is complete whatever happens to it.
import assert from "node:assert/strict";
import {
  appendFileSync,
  existsSync,
  mkdtempSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  symlinkSync,
  unlinkSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { monitorEventLoopDelay } from "node:perf_hooks";
import { test, type TestContext } from "node:test";
import { BlockLog, searchRecords } from "../../src/pipeline/block-log.js";
import { EventLog } from "../../src/pipeline/events.js";
import type { BlockRecord, SessionRecord } from "../../src/pipeline/nat-names.js";
import { loadNative } from "../../src/pipeline/native.js";

/** Whoever had the file is gone, without having closed it. */
const free = { lockFile: () => true };
const zero = Date.UTC(2026, 10, 21, 12);

function record(at: number, granted: boolean, inside = "10.0.0.5", firstPort = 2048): BlockRecord {
  const block = { vni: 100, outside: "203.0.113.1", firstPort, lastPort: firstPort + 127 };
  return { time: zero + at * 1000, inside, ...block, granted };
}

function session(at: number, created: boolean): SessionRecord {
  return {
    time: zero + at * 1000,
    protocol: 6,
    vni: 100,
    inside: 0x0a000005,
    insidePort: 5000,
    outside: 0xcb007101,
    outsidePort: 2050,
    remote: 0xc6336407,
    remotePort: 443,
    created,
  };
}

interface Kept {
  directory: string;
  path: string;
  events: string[];
  now: { seconds: number };
  make(): Promise<BlockLog>;
}

function kept(t: TestContext): Kept {
  const directory = mkdtempSync(join(tmpdir(), "vxpipe-records-"));
  t.after(() => rmSync(directory, { recursive: true }));
  const path = join(directory, "nat.jsonl");
  const events: string[] = [];
  const now = { seconds: 0 };
  const make = async (): Promise<BlockLog> => {
    const log = new BlockLog(
      path,
      new EventLog((_, event) => events.push(event)),
      free,
      () => zero + now.seconds * 1000,
    );
    await log.start();
    return log;
  };
  return { directory, path, events, now, make };
}

function lines(path: string): Record<string, unknown>[] {
  const text = readFileSync(path, "utf8");
  assert.ok(text.endsWith("\n"));
  return text
    .slice(0, -1)
    .split("\n")
    .map((line) => JSON.parse(line) as Record<string, unknown>);
}

const told = (path: string): string[] =>
  lines(path).map(({ time, event, inside = "", firstPort = "" }) =>
    [String(time).slice(14, 19), event, inside, firstPort].join(" ").trim(),
  );

test("a grant and its release are a line each, and the release alone says from when to when", async (t) => {
  const { path, make } = kept(t);
  const log = await make();
  assert.equal(await log.add([record(1, true), record(61, false)]), true);
  assert.deepEqual(lines(path).slice(1), [
    {
      time: "2026-11-21T12:00:01.000Z",
      event: "granted",
      vni: 100,
      inside: "10.0.0.5",
      outside: "203.0.113.1",
      firstPort: 2048,
      lastPort: 2175,
    },
    {
      time: "2026-11-21T12:01:01.000Z",
      event: "released",
      vni: 100,
      inside: "10.0.0.5",
      outside: "203.0.113.1",
      firstPort: 2048,
      lastPort: 2175,
      from: "2026-11-21T12:00:01.000Z",
    },
  ]);
  assert.equal(statSync(path).mode & 0o777, 0o600);
});

test("who has a port now is known until it is released, and who had it stays known with its time", async (t) => {
  const { make } = kept(t);
  const log = await make();
  await log.add([record(1, true), record(10, true, "10.0.0.6", 4096)]);
  assert.equal((await log.who("203.0.113.1", 2175, null))?.inside, "10.0.0.5");
  assert.equal(await log.who("203.0.113.1", 2176, null), null);
  assert.equal(await log.who("203.0.113.2", 2175, null), null);
  await log.add([record(100, false), record(200, true, "10.0.0.7")]);
  assert.equal((await log.who("203.0.113.1", 2050, null))?.inside, "10.0.0.7");
  const at = async (seconds: number): Promise<string | undefined> =>
    (await log.who("203.0.113.1", 2050, zero + seconds * 1000))?.inside;
  assert.deepEqual(
    [await at(0), await at(1), await at(99), await at(100), await at(150), await at(200)],
    [undefined, "10.0.0.5", "10.0.0.5", undefined, undefined, "10.0.0.7"],
  );
});

test("a grant that is read before the release it followed does not take the block from its new holder", async (t) => {
  const { make } = kept(t);
  const log = await make();
  await log.add([record(1, true)]);
  await log.add([record(100, true, "10.0.0.6")]);
  await log.add([record(90, false)]);
  assert.equal((await log.who("203.0.113.1", 2050, null))?.inside, "10.0.0.6");
});

test("what a killed daemon left open is released at the next start, and its half line is gone", async (t) => {
  const { path, make, now } = kept(t);
  const log = await make();
  await log.add([record(1, true), record(2, true, "10.0.0.6", 4096), record(3, false, "10.0.0.6", 4096)]);
  writeFileSync(path, '{"time":"2026-11-21T12:00:05', { flag: "a" });
  now.seconds = 500;
  const next = await make();
  assert.deepEqual(told(path).slice(-2), ["08:20 start", "08:20 released 10.0.0.5 2048"]);
  assert.equal(await next.who("203.0.113.1", 2050, null), null);
  assert.equal((await next.who("203.0.113.1", 2050, zero + 400_000))?.inside, "10.0.0.5");
  // And is not released again.
  await make();
  assert.equal(told(path).filter((line) => line.includes("released 10.0.0.5")).length, 1);
});

test("when the packet path ends everybody's blocks are released, with what it had not told before", async (t) => {
  const { path, make, now } = kept(t);
  const log = await make();
  await log.add([record(1, true)]);
  now.seconds = 30;
  await log.end([record(20, true, "10.0.0.6", 4096)]);
  await log.stop();
  assert.deepEqual(told(path).slice(1), [
    "00:01 granted 10.0.0.5 2048",
    "00:20 granted 10.0.0.6 4096",
    "00:30 released 10.0.0.5 2048",
    "00:30 released 10.0.0.6 4096",
    "00:30 stop",
  ]);
});

test("when the packet path ends all that its memory held is written, however much that is", async (t) => {
  const { path, make } = kept(t);
  const log = await make();
  const many = Array.from({ length: 200_000 }, (_, at) => session(at, at % 2 === 0));
  await log.end(many);
  await log.stop();
  assert.equal(readFileSync(path, "utf8").split("\n").length, many.length + 3);
});

test("a block that its holder had twice, both told at once, has each time its own beginning", async (t) => {
  const { path, make } = kept(t);
  const log = await make();
  await log.add([record(1, true)]);
  const again = [record(61, false), record(100, true), record(160, false), record(200, true), record(260, false)];
  await log.add(again);
  const releases = lines(path).filter(({ event }) => event === "released");
  assert.deepEqual(
    releases.map(({ from }) => String(from).slice(14, 19)),
    ["00:01", "01:40", "03:20"],
  );
});

test("of two whom a killed daemon left with one block the first had it until the second got it", async (t) => {
  const { path, make, now } = kept(t);
  const log = await make();
  // The release between was not read any more.
  await log.add([record(1, true), record(100, true, "10.0.0.6")]);
  const inside = async (seconds: number): Promise<string | undefined> =>
    (await searchRecords(path, "203.0.113.1", 2050, zero + seconds * 1000))?.inside;
  assert.deepEqual([await inside(50), await inside(150)], ["10.0.0.5", "10.0.0.6"]);
  assert.equal((await log.who("203.0.113.1", 2050, zero + 150_000))?.inside, "10.0.0.6");
  now.seconds = 500;
  await make();
  assert.deepEqual(told(path).slice(-2), ["01:40 released 10.0.0.5 2048", "08:20 released 10.0.0.6 2048"]);
  assert.deepEqual([await inside(50), await inside(150)], ["10.0.0.5", "10.0.0.6"]);
});

test("a clock that was put back between two runs releases no block before the last thing that is known", async (t) => {
  const { path, make, now } = kept(t);
  const log = await make();
  await log.add([record(100, true), record(110, true, "10.0.0.6", 4096), record(200, false, "10.0.0.6", 4096)]);
  now.seconds = 50;
  await make();
  assert.deepEqual(told(path).slice(-1), ["03:20 released 10.0.0.5 2048"]);
  assert.equal((await searchRecords(path, "203.0.113.1", 2050, zero + 150_000))?.inside, "10.0.0.5");
});

test("what cannot be written when the packet path ends is written when the disk is well again", async (t) => {
  const { path, events, now, make } = kept(t);
  const log = await make();
  await log.add([record(1, true)]);
  renameSync(path, `${path}.well`);
  symlinkSync("/dev/full", path);
  await log.reopen();
  now.seconds = 30;
  await log.end([record(20, true, "10.0.0.6", 4096)]);
  assert.equal(log.lagging, true);
  unlinkSync(path);
  renameSync(`${path}.well`, path);
  now.seconds = 60;
  await log.reopen();
  assert.equal(log.lagging, false);
  const all = [
    "00:00 start",
    "00:01 granted 10.0.0.5 2048",
    "01:00 start",
    "00:20 granted 10.0.0.6 4096",
    "00:30 released 10.0.0.5 2048",
    "00:30 released 10.0.0.6 4096",
  ];
  assert.deepEqual(told(path), all);
  assert.deepEqual(events, ["nat_records_failed", "nat_records_resumed"]);
});

test("a file that was moved away is begun anew with what is held, so that it answers by itself", async (t) => {
  const { path, make, now } = kept(t);
  const log = await make();
  await log.add([record(1, true)]);
  renameSync(path, `${path}.1`);
  now.seconds = 60;
  await log.reopen();
  assert.deepEqual(told(path), ["01:00 start", "01:00 held 10.0.0.5 2048"]);
  assert.equal((await searchRecords(path, "203.0.113.1", 2050, zero + 61_000))?.from, zero + 1000);
  await log.add([record(90, false)]);
  assert.equal((await searchRecords(path, "203.0.113.1", 2050, zero + 61_000))?.to, zero + 90_000);
  // Reopened in place, nothing that is held gets lost for the start after.
  await log.add([record(100, true)]);
  await log.reopen();
  now.seconds = 200;
  await make();
  assert.equal(told(path).at(-1), "03:20 released 10.0.0.5 2048");
});

test("a file that is begun with very many blocks is not written in one go, in which nobody else would be answered", async (t) => {
  const { path, make } = kept(t);
  const log = await make();
  const many = Array.from({ length: 50_000 }, (_, at) => record(1, true, `10.1.${at >> 8}.${at % 256}`, at));
  await log.add(many);
  renameSync(path, `${path}.1`);
  const late = monitorEventLoopDelay({ resolution: 1 });
  late.enable();
  const before = performance.now();
  await log.reopen();
  const took = performance.now() - before;
  late.disable();
  assert.equal(told(path).length, 1 + many.length);
  assert.ok(late.max / 1e6 < took / 2, `late by ${late.max / 1e6} of ${took} ms`);
});

test("a file that was removed is made anew by itself", async (t) => {
  const { path, make } = kept(t);
  const log = await make();
  await log.add([record(1, true)]);
  unlinkSync(path);
  assert.equal(await log.add([record(2, true, "10.0.0.6", 4096)]), true);
  assert.deepEqual(told(path).slice(1), ["00:00 held 10.0.0.5 2048", "00:02 granted 10.0.0.6 4096"]);
});

test("a disk that is full is one event; nothing is told done until it is written, once, and whole", async (t) => {
  const { path, events, make } = kept(t);
  // The device that is always full.
  symlinkSync("/dev/full", path);
  const log = await make();
  assert.equal(await log.add([record(1, true)]), false);
  assert.equal(await log.add([record(1, true)]), false);
  assert.deepEqual(events, ["nat_records_failed"]);
  assert.equal(await log.who("203.0.113.1", 2050, null), null);
  unlinkSync(path);
  await log.reopen();
  assert.equal(await log.add([record(1, true)]), true);
  assert.deepEqual(events, ["nat_records_failed", "nat_records_resumed"]);
  assert.deepEqual(told(path).slice(1), ["00:01 granted 10.0.0.5 2048"]);
});

test("what a full disk kept out of the file when the daemon ends is in the log, in lines of bounded length, and nowhere else", async (t) => {
  const { path } = kept(t);
  symlinkSync("/dev/full", path);
  const said: { event: string; records: unknown }[] = [];
  const events = new EventLog((_, event, __, { records }: { records?: unknown }) => said.push({ event, records }));
  const log = new BlockLog(path, events, free, () => zero);
  await log.start();
  await log.end(Array.from({ length: 2345 }, (_, at) => session(at, true)));
  await log.stop();
  const [failed, ended, ...unwritten] = said;
  assert.deepEqual([failed?.event, ended], ["nat_records_failed", { event: "nat_records_failed", records: 2345 }]);
  const records = unwritten.map(({ records: some }) => some as string[]);
  assert.deepEqual(new Set(unwritten.map(({ event }) => event)), new Set(["nat_records_unwritten"]));
  assert.ok(records.every((some) => some.length <= 100 && Buffer.byteLength(JSON.stringify(some)) < 48 * 1024));
  assert.deepEqual(
    records.flat().map((line) => (JSON.parse(line) as { time: string }).time),
    Array.from({ length: 2345 }, (_, at) => new Date(zero + at * 1000).toISOString()),
  );
  assert.deepEqual(
    events.list().filter(({ event }) => event === "nat_records_unwritten"),
    [],
  );
});

test("a file that another daemon has open refuses the start by name, is left as it is, and is free when that one ends", async (t) => {
  const { path } = kept(t);
  const native = await loadNative();
  const make = (): BlockLog => new BlockLog(path, new EventLog(() => undefined), native, () => zero);
  const [one, other] = [make(), make()];
  await one.start();
  appendFileSync(path, "what the first one is just writ");
  const before = readFileSync(path, "utf8");
  const message = `nat.source.records.file ${path}: another daemon has it open`;
  await assert.rejects(other.start(), { code: "RECORDS_IN_USE", message });
  assert.equal(readFileSync(path, "utf8"), before);
  await one.stop();
  await other.start();
  await other.stop();
});

test("a file that was moved away is another one's to take, and the new one is taken when it is opened again", async (t) => {
  const { path } = kept(t);
  const native = await loadNative();
  const make = (): BlockLog => new BlockLog(path, new EventLog(() => undefined), native, () => zero);
  const log = make();
  await log.start();
  renameSync(path, `${path}.1`);
  await log.reopen();
  await assert.rejects(make().start(), { code: "RECORDS_IN_USE" });
  await log.stop();
});

test("a file that cannot be opened refuses the start", async (t) => {
  const { directory, path } = kept(t);
  writeFileSync(path, "");
  const log = new BlockLog(join(path, "nat.jsonl"), new EventLog(() => undefined), free);
  await assert.rejects(log.start(), { code: "RECORDS_UNWRITABLE" });
  await assert.rejects(new BlockLog(directory, new EventLog(() => undefined), free).start(), {
    code: "RECORDS_UNWRITABLE",
  });
});

test("without a file the daemon's memory answers, for what was released too", async () => {
  const log = new BlockLog(null, new EventLog(() => undefined), free, () => zero);
  await log.start();
  await log.add([record(1, true), record(10, false)]);
  assert.equal((await log.who("203.0.113.1", 2050, zero + 5000))?.inside, "10.0.0.5");
  await log.end([]);
  await log.stop();
});

test("lines are found in a file of many pieces, and by their own address only", async (t) => {
  const { path, make } = kept(t);
  const log = await make();
  const many = Array.from({ length: 20_000 }, (_, at) =>
    record(at, at % 2 === 0, `10.1.${at >> 9}.${(at >> 1) % 256}`),
  );
  await log.add(many);
  assert.ok(statSync(path).size > 3 * 1024 * 1024);
  for (const at of [0, 9998, 19_998]) {
    const found = await searchRecords(path, "203.0.113.1", 2100, zero + at * 1000 + 1);
    assert.equal(found?.inside, many[at]?.inside);
  }
  assert.equal(await searchRecords(path, "203.0.113.11", 2100, zero + 1), null);
  assert.equal(existsSync(`${path}.missing`), false);
  assert.equal(await searchRecords(`${path}.missing`, "203.0.113.1", 2100, zero), null);
});

test("sessions stand among the blocks, and whose a port was is still answered by its block", async (t) => {
  const { path, make } = kept(t);
  const log = await make();
  await log.add([record(1, true), session(2, true), session(3, false), record(9, false)]);
  await log.stop();
  assert.deepEqual(
    lines(path).map(({ event }) => event),
    ["start", "granted", "created", "ended", "released", "stop"],
  );
  assert.deepEqual(lines(path)[2], {
    time: "2026-11-21T12:00:02.000Z",
    event: "created",
    protocol: "tcp",
    vni: 100,
    inside: "10.0.0.5:5000",
    outside: "203.0.113.1:2050",
    remote: "198.51.100.7:443",
  });
  const holding = await searchRecords(path, "203.0.113.1", 2050, zero + 5000);
  assert.deepEqual([holding?.inside, holding?.from, holding?.to], ["10.0.0.5", zero + 1000, zero + 9000]);
  assert.equal(await searchRecords(path, "203.0.113.1", 2050, zero + 9000), null);
});

test("whoever listens is told of everything that is durable, once, the end and what a killed run left included", async (t) => {
  const { path, events, now, make } = kept(t);
  const killed = await make();
  await killed.add([record(1, true)]);
  const heard: string[] = [];
  now.seconds = 10;
  const log = new BlockLog(
    path,
    new EventLog((_, event) => events.push(event)),
    free,
    () => zero + now.seconds * 1000,
    (records) =>
      heard.push(
        ...records.map((one) => `${(one.time - zero) / 1000} ${one.inside} ${"granted" in one && one.granted}`),
      ),
  );
  await log.start();
  await log.add([record(11, true, "10.0.0.6", 4096)]);
  now.seconds = 20;
  await log.end([]);
  await log.stop();
  assert.deepEqual(heard, ["10 10.0.0.5 false", "11 10.0.0.6 true", "20 10.0.0.6 false"]);
});
