// Whatever the text, the check answers: a configuration, or problems with places that exist.
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";
import fc from "fast-check";
import { checkConfig } from "../../src/pipeline/config/check.js";
import { parsePrefix, vniRanges } from "../../src/pipeline/config/formats.js";
import { problemLine } from "../../src/pipeline/errors.js";
import { planOf } from "../../src/pipeline/plan.js";

const root = new URL("../../../", import.meta.url).pathname;
const example = readFileSync(`${root}config/example.yaml`, "utf8");

function sound(bytes: Uint8Array): void {
  const { config, problems } = checkConfig(bytes, `${root}config/x.yaml`);
  assert.equal(config === null, problems.length > 0);
  const lines = Buffer.from(bytes).toString("utf8").split("\n").length;
  for (const problem of problems) {
    assert.ok(problem.line >= 1 && problem.line <= lines && problem.column >= 1, problemLine(problem));
    assert.match(problemLine(problem), /^\S+:\d+:\d+: .+$/);
  }
  if (config !== null) planOf(config, null);
}

test("any text is answered with a configuration or with placed problems", () => {
  const yamlish = fc.stringMatching(/^[-{}[\]:,&*!|>'"#% \nabc0-9?~]{0,60}$/);
  fc.assert(
    fc.property(yamlish, (text) => sound(Buffer.from(text))),
    { numRuns: 2000 },
  );
});

test("any bytes are answered", () => {
  fc.assert(fc.property(fc.uint8Array({ maxLength: 200 }), sound), { numRuns: 1000 });
});

test("the example with any part overwritten or cut is answered", () => {
  const edit = fc.record({
    at: fc.nat(example.length),
    cut: fc.nat(30),
    text: fc.oneof(
      fc.string({ maxLength: 8 }),
      fc.constantFrom("\n", ": ", "- ", "[", "null", "99999999", "*a", "&a "),
    ),
  });
  const edited = fc
    .array(edit, { minLength: 1, maxLength: 4 })
    .map((edits) =>
      edits.reduce((text, { at, cut, text: insert }) => text.slice(0, at) + insert + text.slice(at + cut), example),
    );
  fc.assert(
    fc.property(edited, (text) => sound(Buffer.from(text))),
    { numRuns: 1500 },
  );
});

test("any value at any key of a configuration is answered", () => {
  const key = fc.constantFrom(
    "inside",
    "outside",
    "workers",
    "nat",
    "allowlist",
    "packet",
    "control",
    "log",
    "state",
    "version",
  );
  fc.assert(
    fc.property(key, fc.json({ maxDepth: 4 }), (name, json) => {
      sound(
        Buffer.from(
          `inside: { interface: a }\noutside: { interface: b }\n`.replace(new RegExp(`^${name}:.*\n`, "m"), "") +
            `${name}: ${json}\n`,
        ),
      );
    }),
    { numRuns: 1500 },
  );
});

test("VNI ranges cover exactly the VNIs that were listed, sorted and apart", () => {
  const vni = fc.nat(300);
  const item = fc.oneof(
    vni,
    fc.tuple(vni, vni).map(([a, b]) => `${Math.min(a, b)}-${Math.max(a, b)}`),
  );
  fc.assert(
    fc.property(fc.array(item, { minLength: 1, maxLength: 12 }), (list) => {
      const wanted = new Set<number>();
      for (const one of list) {
        const [from = 0, to = from] = String(one).split("-").map(Number);
        for (let at = from; at <= to; at++) wanted.add(at);
      }
      const ranges = vniRanges(list);
      const got: number[] = [];
      for (let at = 0; at < ranges.length; at += 2) {
        const [from = 0, to = 0] = ranges.subarray(at, at + 2);
        assert.ok(at === 0 || from > (ranges[at - 1] ?? 0) + 1);
        for (let one = from; one <= to; one++) got.push(one);
      }
      assert.deepEqual(
        got,
        [...wanted].sort((a, b) => a - b),
      );
    }),
  );
});

test("a prefix has no bits behind its length", () => {
  fc.assert(
    fc.property(fc.ipV4(), fc.integer({ min: 0, max: 32 }), (address, length) => {
      const prefix = parsePrefix(`${address}/${length}`);
      assert.ok(prefix !== null && prefix.length === 96 + length);
      const value = new DataView(prefix.address.buffer).getUint32(12);
      assert.equal(length === 32 ? 0 : value & (0xffffffff >>> length), 0);
    }),
  );
});
