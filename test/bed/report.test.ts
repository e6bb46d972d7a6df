// The bench's arithmetic and the document it rewrites.
import assert from "node:assert/strict";
import { describe, test } from "node:test";

import { median, type Sample } from "../../bench/measure.js";
import { type Measured, replaceSections, summarize, table } from "../../bench/report.js";

const sample = (mpps: number, sent = 100, delivered = 100): Sample => ({
  mpps,
  sent,
  delivered,
  pingPongNs: 80,
  disturbed: 0,
});

const MEASURED: Measured = {
  host: { cpu: "x", kernel: "6.18", cores: 2 },
  date: "2026-01-01T00:00:00.000Z",
  series: [
    { name: "kernel-conntrack", cores: 1, load: "64B-1flows", samples: [sample(0.5), sample(0.4), sample(0.3)] },
    { name: "kernel-conntrack", cores: 2, load: "64B-1flows", samples: [sample(0.8, 100, 90)] },
    { name: "bare-redirect", cores: 1, load: "64B-1flows", samples: [sample(5)] },
    { name: "xdp", cores: 1, load: "64B-1flows", samples: [sample(4), sample(4.2), sample(3.9)] },
  ],
  latency: new Map([["xdp", [{ p50Us: 2, p99Us: 4, maxUs: 9, lossPercent: 0 }]]]),
  kpps: 100,
  ladder: [],
  idle: 0.0123,
};

describe("the bench's report", () => {
  test("compares each row with the conntrack peer on as many cores", () => {
    const rows = summarize(MEASURED).rows;
    assert.deepEqual(
      rows.map((row) => [row.name, row.cores, row.mpps.median, row.ratio, row.ofBarePercent]),
      [
        ["kernel-conntrack", 1, 0.4, 1, 8],
        ["kernel-conntrack", 2, 0.8, 1, 16],
        ["bare-redirect", 1, 5, 12.5, 100],
        ["xdp", 1, 4, 10, 80],
      ],
    );
  });

  test("says what was lost on the way", () => {
    assert.equal(summarize(MEASURED).rows[1]?.lossPercent, 10);
  });

  test("writes idle cost in percent of a core and leaves an engine out", () => {
    const results = summarize(MEASURED);
    assert.equal(results.idleCpuPercent, 1.23);
    assert.ok(!("engine" in results));
  });

  test("takes the middle of an even number of runs between the two in the middle", () => {
    assert.equal(median([4, 1, 2, 3]), 2.5);
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
