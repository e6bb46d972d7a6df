// The bench's arithmetic and the document it rewrites.
import assert from "node:assert/strict";
import { describe, test } from "node:test";

import { difference, median, nsPerPacket, quantile, type Sample } from "../../bench/measure.js";
import { costOf, type Measured, replaceSections, type Row, summarize, table } from "../../bench/report.js";

const sample = (mpps: number, sent = 100, delivered = 100, callsPerPacket: number | null = null): Sample => ({
  mpps,
  sent,
  delivered,
  pingPongNs: 80,
  disturbed: 0,
  callsPerPacket,
});

const MEASURED: Measured = {
  host: { cpu: "x", kernel: "6.18", cores: 2 },
  date: "2026-01-01T00:00:00.000Z",
  series: [
    { name: "kernel-conntrack", cores: 1, load: "64B-1flows", samples: [sample(0.5), sample(0.4), sample(0.3)] },
    { name: "kernel-conntrack", cores: 2, load: "64B-1flows", samples: [sample(0.8, 100, 90)] },
    { name: "bare-redirect", cores: 1, load: "64B-1flows", samples: [sample(5)] },
    { name: "xdp", cores: 1, load: "64B-1flows", samples: [sample(4), sample(4.2), sample(3.9)] },
    {
      name: "afxdp",
      cores: 2,
      load: "64B-1flows",
      samples: [0.004, 0.002, 0.009].map((calls) => sample(3, 9, 9, calls)),
    },
  ],
  latency: new Map([["xdp", [{ p50Us: 2, p99Us: 4, maxUs: 9, lossPercent: 0, disturbed: 0 }]]]),
  kpps: 100,
  ladder: [],
  idle: 0.0123,
  engine: {
    hitMpps: 12,
    outMpps: 13,
    inMpps: 11,
    createsPerSecond: 1_200_000,
    bytesPerSession: 150,
    sessions: 1_000_000,
    readySeconds: 2,
  },
  sourceNat: new Map([
    [
      "kernel-snat",
      new Map([
        ["64B-10000flows-out", [{ mpps: 0.5, sent: 100, delivered: 100, disturbed: 0 }]],
        ["64B-10000flows-in", [{ mpps: 0.5, sent: 100, delivered: 100, disturbed: 0 }]],
        ["64B-10000flows-out-of-1000000", []],
      ]),
    ],
    [
      "afxdp-snat",
      new Map([
        ["64B-10000flows-out", [{ mpps: 2.5, sent: 100, delivered: 100, disturbed: 0 }]],
        ["64B-10000flows-in", [{ mpps: 2, sent: 100, delivered: 80, disturbed: 0.01 }]],
        ["64B-10000flows-out-of-1000000", [{ mpps: 2.25, sent: 100, delivered: 100, disturbed: 0 }]],
      ]),
    ],
  ]),
};

/** What a mirror's gateways did. */
const mirrored = (): Row[] => summarize(MEASURED).rows.filter(({ profile }) => profile === "mirror");

describe("the bench's report", () => {
  test("compares each row with the conntrack peer on as many cores", () => {
    assert.deepEqual(
      mirrored().map((row) => [row.name, row.cores, row.mpps.median, row.ratio, row.ofBarePercent]),
      [
        ["kernel-conntrack", 1, 0.4, 1, 8],
        ["kernel-conntrack", 2, 0.8, 1, 16],
        ["bare-redirect", 1, 5, 12.5, 100],
        ["xdp", 1, 4, 10, 80],
        ["afxdp", 2, 3, 3.75, 60],
      ],
    );
  });

  test("compares source NAT with the kernel's in the same direction, and many sessions with few", () => {
    const rows = summarize(MEASURED).rows.filter(({ profile }) => profile === "source-nat");
    assert.deepEqual(
      rows.map((row) => [row.name, row.load, row.peer, row.ratio, row.lossPercent, row.disturbedPercent]),
      [
        ["kernel-snat", "64B-10000flows-out", "kernel-snat", 1, 0, 0],
        ["kernel-snat", "64B-10000flows-in", "kernel-snat", 1, 0, 0],
        ["afxdp-snat", "64B-10000flows-out", "kernel-snat", 5, 0, 0],
        ["afxdp-snat", "64B-10000flows-in", "kernel-snat", 4, 20, 1],
        ["afxdp-snat", "64B-10000flows-out-of-1000000", "afxdp-snat", 0.9, 0, 0],
      ],
    );
  });

  test("gives the system calls for a packet where there are threads of the gateway's own, and only there", () => {
    const calls = mirrored().map((row) => [row.name, row.callsPerPacket]);
    assert.deepEqual(calls.slice(-2), [
      ["xdp", null],
      ["afxdp", 0.004],
    ]);
  });

  test("says what was lost on the way", () => {
    assert.equal(summarize(MEASURED).rows[1]?.lossPercent, 10);
  });

  test("writes idle cost in percent of a core and the NAT engine as it was measured", () => {
    const results = summarize(MEASURED);
    assert.equal(results.idleCpuPercent, 1.23);
    assert.deepEqual(results.engine, MEASURED.engine);
  });

  test("takes the middle of an even number of runs between the two in the middle", () => {
    assert.equal(median([4, 1, 2, 3]), 2.5);
  });

  test("takes quantiles in proportion between two values", () => {
    assert.equal(quantile([5, 1, 3, 4, 2], 0.25), 2);
    assert.equal(quantile([1, 2, 3, 4], 0.75), 3.25);
    assert.ok(Number.isNaN(quantile([], 0.5)));
  });

  test("compares steps within a pass, so that drift between passes does not count", () => {
    const more = difference([110, 210, 312, 411], [100, 200, 300, 400]);
    assert.deepEqual(more, { median: 10.5, spread: 1.25, runs: 4, certain: true });
    assert.equal(costOf(more), "+10.5");
    assert.equal(costOf(difference([100, 200, 300, 400], [110, 210, 310, 410])), "-10.0");
  });

  test("leaves out of a packet's time what the CPU did elsewhere", () => {
    assert.equal(nsPerPacket(1_000_000, 1, 0.75), 250);
  });

  test("gives no figure for a step whose difference is not above its spread", () => {
    assert.equal(costOf(difference([101, 205, 296, 402], [100, 200, 300, 400])), "below the spread");
  });

  test("gives no figure for a step that was measured too few times", () => {
    assert.equal(costOf(difference([110, 210, 310], [100, 200, 300])), "below the spread");
    assert.equal(costOf(null), "");
  });

  test("replaces the marked sections of a document and nothing else", () => {
    const text = "a\n<!-- bench:x -->\nold\n<!-- /bench:x -->\nb\n";
    assert.equal(replaceSections(text, { x: "new" }), "a\n<!-- bench:x -->\n\nnew\n\n<!-- /bench:x -->\nb\n");
    assert.throws(() => replaceSections(text, { y: "new" }), /no section/);
  });

  test("aligns the columns of its tables", () => {
    assert.equal(table(["n", "v"], [["long", "1"]]), "| n    |   v |\n| ---- | --: |\n| long |   1 |");
  });
});
