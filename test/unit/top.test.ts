// What `vxpipe top` makes of two answers of the daemon, and how it shows it.
import assert from "node:assert/strict";
import { test } from "node:test";
import { drawer, iterationsOf } from "../../src/cli/commands/top.js";
import { counters, drops } from "../../src/pipeline/abi.gen.js";
import type { Work } from "../../src/pipeline/observe.js";
import { camel, type DirectionStats, type Statistics } from "../../src/pipeline/statistics.js";
import { liveOf, liveRow, liveScreen, type Live } from "../../src/telemetry/live-table.js";

function direction(): DirectionStats {
  const counts = Object.fromEntries(counters.map(({ name }) => [camel(name), 0]));
  const dropped = Object.fromEntries(drops.map(({ name }) => [name, 0]));
  return { ...counts, forwardedBytes: 0, pending: 0, dropped } as DirectionStats;
}

const idle: Work = {
  received: 0,
  forwarded: 0,
  forwardedBytes: 0,
  injected: 0,
  dropped: 0,
  batches: 0,
  ringPermille: 0,
  cpuSeconds: null,
};

/** A daemon's answer after so many seconds, all of whose counters are 0. */
function quiet(uptimeSeconds: number): Statistics {
  return {
    datapath: { mode: "xdp", attach: "native", zeroCopy: false },
    choice: { configured: "xdp", best: true, why: "the configuration says so" },
    uptimeSeconds,
    inside: direction(),
    outside: direction(),
    originated: 0,
    fragmentsExtra: 0,
    workers: [{ id: 0, role: "worker", cpu: 1, packets: 0, pps: 0, work: { ...idle, cpuSeconds: 0 } }],
    rates: { receivedPps: 0, forwardedPps: 0, droppedPps: 0, receivedBps: 0, forwardedBps: 0 },
    nat: null,
    successRate: 1,
  };
}

/** And after a second and a half of traffic more. */
function busy(): Statistics {
  const stats = quiet(11.5);
  Object.assign(stats.inside, {
    received: 3_000_000,
    receivedBytes: 300_000_000,
    forwarded: 2_999_990,
    passed: 3,
    injected: 30,
  });
  Object.assign(stats.inside, { forwardedBytes: 150_000_000, pending: 4 });
  stats.inside.dropped.not_allowed = 3;
  stats.outside.dropped.not_ip = 1;
  stats.workers = [
    {
      id: 0,
      role: "worker",
      cpu: 1,
      packets: 30,
      pps: 0,
      work: {
        received: 60,
        forwarded: 30,
        forwardedBytes: 3000,
        injected: 15,
        dropped: 3,
        batches: 5,
        ringPermille: 1250,
        cpuSeconds: 0.75,
      },
    },
    {
      role: "xdp",
      cpu: 0,
      packets: 3_000_000,
      pps: 0,
      work: { ...idle, received: 3_000_000, forwarded: 2_999_960, dropped: 3 },
    },
  ];
  return stats;
}

function live(): Live {
  const result = liveOf({ stats: quiet(10), time: 1000 }, { stats: busy(), time: 2500 });
  assert.ok(result !== null);
  return result;
}

const noon = new Date("2026-01-01T12:00:00Z");

test("rates are the differences of the counters over the time between the answers", () => {
  const { inside, workers, seconds } = live();
  assert.equal(seconds, 1.5);
  assert.deepEqual(inside, {
    receivedPps: 2_000_000,
    receivedBps: 1_600_000_000,
    forwardedPps: 1_999_993,
    forwardedBps: 800_000_000,
    injectedPps: 20,
    passedPps: 2,
    droppedPps: { not_allowed: 2 },
    pending: 4,
  });
  assert.deepEqual(
    workers.map(({ role, pps }) => [role, pps]),
    [
      ["worker", 20],
      ["xdp", 2_000_000],
    ],
  );
});

test("each thread shows what went in and out, how full its batches and its ring were, and how it sent", () => {
  const [worker, xdp] = live().workers;
  assert.deepEqual(worker, {
    id: 0,
    role: "worker",
    cpu: 1,
    packets: 30,
    pps: 20,
    receivedPps: 40,
    forwardedPps: 20,
    forwardedBps: 16_000,
    droppedPps: 2,
    batch: 12,
    ringFill: 0.25,
    injected: 0.5,
    busy: 0.5,
  });
  assert.deepEqual(
    [xdp?.receivedPps, xdp?.batch, xdp?.ringFill, xdp?.injected, xdp?.busy],
    [2_000_000, null, null, null, null],
  );
  const screen = liveScreen(live(), noon).join("\n");
  assert.match(screen, /^worker 0 +1 +40 +20 +0\.0 +2 +12 +25 % +50 % +50 %$/m);
  assert.match(screen, /^xdp +0 +2\.00 M +2\.00 M +0\.0 +2 +- +- +- +-$/m);
});

test("a reason without drops since the last answer is not shown, and one with a single drop is", () => {
  const before = { stats: busy(), time: 0 };
  const later = busy();
  later.uptimeSeconds += 4;
  later.inside.dropped.no_route = 1;
  const rates = liveOf(before, { stats: later, time: 4000 });
  assert.deepEqual([rates?.inside.droppedPps, rates?.outside.droppedPps], [{ no_route: 1 }, {}]);
});

test("two runs of the daemon are never compared", () => {
  assert.equal(liveOf({ stats: busy(), time: 0 }, { stats: quiet(1), time: 1000 }), null);
});

test("a line names every worker with its CPU, and the drops of both directions", () => {
  assert.equal(
    liveRow(live(), noon),
    "12:00:00  in 2.00 Mpps 1600 Mbps  out 2.00 Mpps 800 Mbps  pending 4  " +
      "worker 0 cpu 1 20 pps  xdp cpu 0 2.00 Mpps  dropped not_allowed 2 pps, not_ip 1 pps",
  );
});

test("the screen says so when nothing was dropped", () => {
  const nothing = liveOf({ stats: quiet(1), time: 0 }, { stats: quiet(2), time: 1000 });
  assert.ok(nothing !== null);
  assert.equal(liveScreen(nothing, noon).at(-1), "no drops in this second");
  const screen = liveScreen(live(), noon);
  assert.match(screen.join("\n"), /^forwarded Mbps +800\.0 +0\.0$/m);
  assert.match(screen.join("\n"), /^not_allowed +2 +0$/m);
  assert.ok(screen.every((line) => line.length < 80));
});

test("a terminal is drawn over in place, never beyond its last row or column", () => {
  let text = "";
  const output = { isTTY: true, columns: 40, rows: 6, write: (piece: string) => (text += piece) };
  const draw = drawer(output, { json: false });
  draw(live(), noon);
  assert.ok(text.startsWith("\x1b[2J\x1b[H"));
  text = "";
  draw(live(), noon);
  assert.ok(text.startsWith("\x1b[Hvxpipe") && text.endsWith("\x1b[J"));
  const lines = text.slice("\x1b[H".length).split("\x1b[K\n").slice(0, -1);
  assert.equal(lines.length, 5);
  assert.ok(lines.every((line) => line.length < 40));
});

test("of more threads than fit the last are left out, and the drops are seen", () => {
  const one = live();
  const workers = Array.from({ length: 16 }, (_, id) => one.workers.slice(0, 1).map((worker) => ({ ...worker, id })));
  const many: Live = { ...one, workers: workers.flat() };
  const whole = liveScreen(many, noon);
  const screen = liveScreen(many, noon, 23);
  assert.equal(screen.length, 23);
  assert.deepEqual(screen.slice(-2), whole.slice(-2));
  assert.match(screen.join("\n"), /^worker 4 .*\nand 11 more threads\n\ndropped because/m);
  assert.deepEqual(liveScreen(many, noon, whole.length), whole);
});

test("a terminal that does not know its size gets what others get", () => {
  const drawn = (size: { columns: number; rows: number } | object): string => {
    let text = "";
    drawer({ isTTY: true, ...size, write: (piece: string) => (text += piece) }, { json: false })(live(), noon);
    return text;
  };
  assert.equal(drawn({ columns: 0, rows: 0 }), drawn({}));
  assert.equal(drawn({}), drawn({ columns: 80, rows: 24 }));
});

test("elsewhere there are lines without control characters, or one JSON object each", () => {
  let text = "";
  const output = { columns: 20, write: (piece: string) => (text += piece) };
  drawer(output, { json: false })(live(), noon);
  assert.equal(text, `${liveRow(live(), noon)}\n`);
  text = "";
  drawer({ ...output, isTTY: true }, { json: true })(live(), noon);
  assert.deepEqual(JSON.parse(text), { time: "2026-01-01T12:00:00.000Z", ...live() });
});

test("how many times is a whole number from 1 on", () => {
  assert.equal(iterationsOf("10"), 10);
  for (const text of ["0", "-1", "1.5", "x", ""]) assert.throws(() => iterationsOf(text), { code: "USAGE" });
});
