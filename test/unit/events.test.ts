// Events: the list is one, and no flood of one kind hides the others. The clock is the test's.
import assert from "node:assert/strict";
import { readdirSync, readFileSync } from "node:fs";
import { test } from "node:test";
import { type Event, eventKinds, EventLog } from "../../src/pipeline/events.js";
import { RateLimiter } from "../../src/pipeline/rate-limit.js";
import { makeLog } from "../../src/telemetry/log.js";

const root = new URL("../../../", import.meta.url);

test("every event is documented with its level and when it happens", () => {
  const page = readFileSync(new URL("docs/EVENTS.md", root), "utf8");
  const rows = [...page.matchAll(/^\| `(\w+)` +\| (debug|info|warn|error) +\| (.+?) +\|$/gm)].map((row) =>
    row.slice(1),
  );
  assert.deepEqual(
    rows,
    Object.entries(eventKinds).map(([name, [level, when]]) => [name, level, when]),
  );
});

test("every event that native code has is on the list, and every one on the list happens", () => {
  const sources = (directory: string): string =>
    readdirSync(new URL(directory, root), { recursive: true, encoding: "utf8" })
      .filter((name) => /\.(cpp|ts)$/.test(name) && name !== "pipeline/events.ts")
      .map((name) => readFileSync(new URL(`${directory}${name}`, root), "utf8"))
      .join("\n");
  const native = [...sources("native/worker/").matchAll(/events_\.push\("(\w+)"/g)].map(([, name]) => name ?? "");
  assert.ok(native.length > 0);
  assert.deepEqual(
    native.filter((name) => !Object.hasOwn(eventKinds, name)),
    [],
  );
  const text = sources("src/");
  const unused = Object.keys(eventKinds).filter((name) => !native.includes(name) && !text.includes(`"${name}"`));
  assert.deepEqual(unused, []);
});

test("so many of a kind pass in a window, the others are counted and told once", () => {
  const limiter = new RateLimiter(2, 1000);
  const passed = [0, 1, 2, 999].map((now) => limiter.allow("a", now));
  assert.deepEqual(passed, [true, true, false, false]);
  assert.equal(limiter.allow("b", 999), true);
  limiter.suppress("c", 7, 500);
  assert.deepEqual(limiter.takeSuppressed(999), []);
  assert.deepEqual(limiter.takeSuppressed(1000), [["a", 2]]);
  assert.deepEqual(limiter.takeSuppressed(1500), [["c", 7]]);
  assert.equal(limiter.allow("a", 1500), true);
  assert.deepEqual(limiter.takeSuppressed(9000), []);
});

test("what a window has suppressed is told however late somebody asks", () => {
  const limiter = new RateLimiter(1, 1000);
  for (const now of [0, 1, 5000, 6000]) limiter.allow("a", now);
  assert.deepEqual(limiter.takeSuppressed(6000), [["a", 3]]);
});

test("a flood of one event is twenty lines and a number, and does not keep another one out", () => {
  let now = 0;
  const lines: [string, string, object][] = [];
  const followed: Event[] = [];
  const log = new EventLog(
    (_level, event, detail, fields) => lines.push([event, detail, fields]),
    () => now,
  );
  const leave = log.follow((event) => followed.push(event));
  for (let i = 0; i < 500; i++) log.emit("neighbour_failed", `192.0.2.${i % 256} does not answer`);
  log.emit("link_changed", "inside is down", { carrier: false });
  log.suppressed("neighbour_failed", 1000);
  log.tick();
  assert.equal(lines.length, 21);
  assert.deepEqual(lines[20], ["link_changed", "inside is down", { carrier: false }]);
  now = 10_000;
  log.tick();
  log.tick();
  assert.deepEqual(lines.slice(21), [
    ["neighbour_failed", "1480 more of neighbour_failed within 10 s", { suppressed: 1480 }],
  ]);
  log.emit("neighbour_failed", "192.0.2.1 does not answer");
  assert.equal(lines.length, 23);
  assert.deepEqual(followed, log.list());
  assert.deepEqual(followed[20], {
    time: "1970-01-01T00:00:00.000Z",
    level: "warn",
    event: "link_changed",
    detail: "inside is down",
    carrier: false,
  });
  leave();
  log.emit("ready", "again");
  assert.equal(followed.length, 23);
});

test("events of level debug go to the log and to followers, and are not kept", () => {
  const levels: string[] = [];
  const log = new EventLog((level) => levels.push(level));
  log.emit("route_changed", "192.0.2.0/24 is gone");
  assert.deepEqual([levels, log.list()], [["debug"], []]);
});

test("a log line is one JSON object with the documented fields, from the level on that was set last", () => {
  const written: string[] = [];
  const log = makeLog("info", { write: (text: string) => void written.push(text) });
  log.write("debug", "route_changed", "not said", {});
  log.write("warn", "took_over", "a sentence", { lost: 3 });
  log.setLevel("debug");
  log.write("debug", "route_changed", "said", {});
  log.setLevel("silent");
  log.write("error", "internal_error", "not said", {});
  const lines = written.map((text) => JSON.parse(text) as Record<string, unknown>);
  assert.deepEqual(
    lines.map(({ level, event, msg }) => [level, event, msg]),
    [
      ["warn", "took_over", "a sentence"],
      ["debug", "route_changed", "said"],
    ],
  );
  assert.deepEqual(Object.keys(lines[0] ?? {}).sort(), ["event", "level", "lost", "msg", "pid", "time"]);
  assert.match(String(lines[0]?.["time"]), /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$/);
  assert.ok(written.every((text) => text.endsWith("}\n")));
});
