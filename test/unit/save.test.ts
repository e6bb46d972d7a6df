// Edits that are saved: the files say what the gateway does, and keep everything else that was in them.
import assert from "node:assert/strict";
import {
  chmodSync,
  chownSync,
  lstatSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, test, type TestContext } from "node:test";
import fc from "fast-check";
import { compileAllowlist } from "../../src/pipeline/allowlist/compile.js";
import { formatEntry, parseEntry } from "../../src/pipeline/allowlist/entry.js";
import { AllowlistLoader } from "../../src/pipeline/allowlist/load.js";
import { rewriteList, type ListEdit } from "../../src/pipeline/allowlist/rewrite.js";
import { texts } from "../../src/pipeline/allowlist/table.js";
import { rewriteRules } from "../../src/pipeline/config/rewrite.js";
import { Saver } from "../../src/pipeline/save.js";
import { prepareFile } from "../../src/pipeline/write-file.js";
import { run } from "../bed/command.js";

const directory = mkdtempSync(join(tmpdir(), "vxpipe-save-"));
after(() => rmSync(directory, { recursive: true }));
let files = 0;

function file(text: string, name = `file-${files++}`): string {
  const path = join(directory, name);
  writeFileSync(path, text);
  return path;
}

function rewritten(text: string, edit: Partial<ListEdit>): string {
  const bytes = rewriteList(Buffer.from(text), { add: [], remove: [], ...edit });
  return bytes === null ? text : Buffer.from(bytes).toString();
}

function listedIn(text: string): Set<string> {
  const result = compileAllowlist(Buffer.from(text), "x");
  assert.ok(result.ok, JSON.stringify(result));
  return new Set(texts(result.value.entries));
}

test("a plain list keeps its comments, its order and its line ends", () => {
  const text = "# head\r\n192.0.2.1\r\n  192.0.2.2 # two\r\n\r\n# before three\r\n192.0.2.3\t# three\r\n192.0.2.2/32";
  assert.equal(
    rewritten(text, { remove: ["192.0.2.2"], add: [] }),
    "# head\r\n192.0.2.1\r\n\r\n# before three\r\n192.0.2.3\t# three\r\n",
  );
  assert.equal(rewritten(text, { add: ["10.0.0.0/8", "192.0.2.1"] }), `${text}\r\n10.0.0.0/8\r\n`);
  assert.equal(rewritten(text, { remove: "all" }), "# head\r\n\r\n# before three\r\n");
  assert.equal(rewritten("", { add: ["192.0.2.1"] }), "192.0.2.1\n");
});

test("a JSON list keeps its organizations and its white space, and total_ips stays true", () => {
  const text = `{
  "version": 1,
  "total_ips": 4,
  "organizations": [
    { "name": "a", "ips": ["192.0.2.1", "192.0.2.2"], "note": "kept" },
    { "name": "b", "ips": [
      "192.0.2.2",
      "192.0.2.3"
    ] }
  ],
  "flat_ip_list": ["192.0.2.1",
    "192.0.2.4"]
}
`;
  const without = text.replace(', "192.0.2.2"]', "]").replace('\n      "192.0.2.2",', "").replace("4,", "3,");
  assert.equal(rewritten(text, { remove: ["192.0.2.2"] }), without);
  const more = text
    .replace('    "192.0.2.4"]', '    "192.0.2.4",\n    "10.0.0.0/8",\n    "10.0.0.1"]')
    .replace("4,", "6,");
  assert.equal(rewritten(text, { add: ["10.0.0.0/8", "192.0.2.3", "10.0.0.1"] }), more);
  const bare = '{"organizations":[{"name":"a","ips":["192.0.2.1"]}]}';
  const added = '{"organizations":[{"name":"a","ips":["192.0.2.1"]}], "flat_ip_list": ["192.0.2.9"]}';
  assert.equal(rewritten(bare, { add: ["192.0.2.9"] }), added);
  assert.equal(rewritten(bare, { remove: "all" }), '{"organizations":[{"name":"a","ips":[]}]}');
  const odd = '{"flat_ip_list": ["192.0.2.1", "nonsense", 7, {"a": ["x"]}, "192.0.2.2"]}';
  assert.equal(rewritten(odd, { remove: "invalid" }), '{"flat_ip_list": ["192.0.2.1", "192.0.2.2"]}');
});

test("a list that has it already, or never had it, is not written", () => {
  assert.equal(rewriteList(Buffer.from("192.0.2.1\n"), { add: ["192.0.2.1"], remove: ["10.0.0.1"] }), null);
});

const entry = fc.oneof(
  fc.nat(20).map((last) => `10.0.0.${last}`),
  fc.integer({ min: 28, max: 32 }).map((length) => `10.0.0.0/${length}`),
  fc.nat(5).map((last) => `2001:DB8::${last}`),
);
const space = fc.constantFrom("", " ", "\n  ");
const list = fc.array(entry, { maxLength: 6 });
const json = fc
  .record({ lists: fc.array(list, { maxLength: 3 }), flat: fc.option(list), gap: space, gap2: space })
  .map(({ lists, flat, gap, gap2 }) => {
    const array = (all: string[]): string => `[${gap}${all.map((one) => `"${one}"`).join(`${gap2},${gap}`)}${gap2}]`;
    const organizations = lists.map((ips, index) => `{"name":"o${index}","ips":${array(ips)}}`).join(",");
    return `{"total_ips": 1, "organizations":[${organizations}]${flat === null ? "" : `,"flat_ip_list":${array(flat)}`}}`;
  });
const plain = fc
  .array(fc.tuple(fc.option(entry), fc.constantFrom("", " # why"), fc.constantFrom("\n", "\r\n")))
  .map((lines) => lines.map(([one, comment, end]) => `${one ?? ""}${comment}${end}`).join(""));

test("a list that was rewritten lists what it listed, with what was added and without what was taken out", () => {
  const canonical = (text: string): string => {
    const parsed = parseEntry(text);
    assert.ok(typeof parsed !== "string");
    return formatEntry(parsed.family, parsed.address, parsed.length);
  };
  fc.assert(
    fc.property(fc.oneof(json, plain), list, fc.boolean(), (text, given, adds) => {
      const edit = given.map(canonical);
      const expected = listedIn(text);
      for (const one of edit) {
        if (adds) expected.add(one);
        else expected.delete(one);
      }
      const result = rewritten(text, adds ? { add: [...new Set(edit)] } : { remove: edit });
      assert.deepEqual(listedIn(result), new Set(listedIn([...expected].join("\n"))));
      for (const comment of text.matchAll(/^ # why$/gm)) assert.ok(result.includes(comment[0]));
    }),
    { numRuns: 1000 },
  );
});

const config = `# our gateway
inside: { interface: in0, vxlan: {} }  # from the mirror
outside:
    interface: out0

nat:
    # who gets what
    destination:
        # the collector
        - { protocol: udp, port: 53, to: "192.0.2.1:53" }
        - protocol: any # both
          port: 80
          to: "192.0.2.2:80"
log: { level: warn } # quiet
`;

test("a configuration keeps its comments and its way of writing when a rule comes or goes", () => {
  assert.equal(
    rewriteRules(config, { add: { protocol: "tcp", port: 22, to: "192.0.2.3:22" } }),
    config.replace("log:", '        - protocol: tcp\n          port: 22\n          to: "192.0.2.3:22"\nlog:'),
  );
  assert.equal(
    rewriteRules(config, { remove: { protocol: "any", port: 80 } }),
    config.replace(/ +- protocol: any(.|\n)*?:80"\n/, ""),
  );
  const short = 'inside: {interface: a}\nnat: {destination: [{protocol: udp, port: 1, to: "192.0.2.1:1"}]} # short\n';
  assert.equal(
    rewriteRules(short, { add: { protocol: "udp", port: 2, to: "192.0.2.1:2" } }),
    short.replace('1"}', '1"}, {protocol: udp, port: 2, to: "192.0.2.1:2"}'),
  );
  assert.equal(
    rewriteRules("version: 1 # one\n", { add: { protocol: "udp", port: 2, to: "192.0.2.1:2" } }),
    'version: 1 # one\nnat:\n  destination:\n    - { protocol: udp, port: 2, to: "192.0.2.1:2" }\n',
  );
});

test("the example configuration gets a rule and is otherwise the same, to the byte", () => {
  const text = readFileSync(new URL("../../../config/example.yaml", import.meta.url), "utf8");
  const rule = '    - { protocol: udp, port: 31765, to: "172.30.82.95:8081" }\n';
  const added = rewriteRules(text, { add: { protocol: "tcp", port: 31765, to: "172.30.82.95:8081" } });
  assert.equal(added, text.replace(rule, rule + rule.replace("udp", "tcp")));
});

function saver(t: TestContext, path: string): Saver {
  const loader = new AllowlistLoader();
  t.after(() => loader.close());
  return new Saver(path, loader);
}

test("what is saved is in the files only after it has been committed, with the mode and owner they had, through a link", async (t) => {
  const real = file("192.0.2.1 # one\n", "list.txt");
  chmodSync(real, 0o640);
  if (process.getuid?.() === 0) chownSync(real, 12, 34);
  symlinkSync(real, join(directory, "link.txt"));
  const path = file("inside: { interface: a }\noutside: { interface: b }\nallowlist: { file: link.txt }\n");
  const pending = await saver(t, path).list({ add: ["192.0.2.2"], remove: [] });
  assert.equal(readFileSync(real, "utf8"), "192.0.2.1 # one\n");
  await pending.commit();
  assert.equal(readFileSync(real, "utf8"), "192.0.2.1 # one\n192.0.2.2\n");
  assert.ok(lstatSync(join(directory, "link.txt")).isSymbolicLink());
  const { mode, uid, gid } = statSync(real);
  assert.equal(mode & 0o7777, 0o640);
  if (process.getuid?.() === 0) assert.deepEqual([uid, gid], [12, 34]);
});

test("what is abandoned, or cannot be written, leaves the file and nothing beside it", async (t) => {
  const place = mkdtempSync(join(directory, "place-"));
  const path = join(place, "list.txt");
  writeFileSync(path, "old");
  await (await prepareFile(path, "new")).abandon();
  assert.deepEqual([readFileSync(path, "utf8"), readdirSync(place)], ["old", ["list.txt"]]);
  const base = "inside: { interface: a }\noutside: { interface: b }\n";
  const rule = { protocol: "udp", port: 53, to: "192.0.2.1:53" } as const;
  for (const [text, reason] of [
    [base, /names no allowlist.file/],
    [`${base}allowlist:\n`, /names no allowlist.file/],
    ["inside: 1\n", /has errors/],
  ] as const) {
    await assert.rejects(saver(t, file(text)).list({ add: ["192.0.2.1"], remove: [] }), {
      code: "NOT_SAVED",
      message: reason,
    });
  }
  const aliased = `${base}nat: { destination: &r [{ protocol: udp, port: 1, to: "192.0.2.1:1" }] }\n`;
  const alias = aliased.replace("nat: {", "nat: { x: *r,");
  await assert.rejects(saver(t, file(alias)).rules({ add: rule }), { code: "NOT_SAVED" });
  const contrary = `${base}nat: { destination: [{ protocol: any, port: 53, to: "192.0.2.9:1" }] }\n`;
  await assert.rejects(saver(t, file(contrary)).rules({ add: rule }), { code: "RULE_EXISTS" });
});

test("what somebody else wrote into the file meanwhile is not lost: the edit is not saved", async (t) => {
  const addresses = file("192.0.2.1\n", "shared.txt");
  const base = "inside: { interface: a }\noutside: { interface: b }\nallowlist: { file: shared.txt }\n";
  const path = file(base);
  const rule = { protocol: "udp", port: 53, to: "192.0.2.1:53" } as const;
  const edits = [
    await saver(t, path).list({ add: ["192.0.2.2"], remove: [] }),
    await saver(t, path).rules({ add: rule }),
  ];
  writeFileSync(addresses, "192.0.2.1\n192.0.2.3\n");
  writeFileSync(path, `${base}# mine\n`);
  for (const edit of edits) await assert.rejects(edit.commit(), /it was changed meanwhile/);
  assert.deepEqual(
    [readFileSync(addresses, "utf8"), readFileSync(path, "utf8")],
    ["192.0.2.1\n192.0.2.3\n", `${base}# mine\n`],
  );
  assert.deepEqual(
    readdirSync(directory).filter((name) => name.includes(".new-")),
    [],
  );
});

test("only a regular file is replaced: neither a device nor a pipe is waited for, or renamed over", async (t) => {
  await assert.rejects(prepareFile("/dev/null", "x"), /not a regular file/);
  assert.ok(statSync("/dev/null").isCharacterDevice());
  const pipe = join(directory, "pipe");
  await run("mkfifo", [pipe]);
  await assert.rejects(prepareFile(pipe, "x"), /not a regular file/);
  const path = file("inside: { interface: a }\noutside: { interface: b }\nallowlist: { file: /dev/null }\n");
  const edit = { add: ["192.0.2.1"], remove: [] };
  await assert.rejects(saver(t, path).list(edit), { code: "NOT_SAVED", message: /not a regular file/ });
});

test("a rule is saved once, and one that the file does not have need not be taken out", async (t) => {
  const path = file("inside: { interface: a }\noutside: { interface: b }\n# end\n");
  const save = saver(t, path);
  const rule = { protocol: "udp", port: 53, to: "192.0.2.1:53" } as const;
  for (let times = 0; times < 2; times++) await (await save.rules({ add: rule })).commit();
  const text = readFileSync(path, "utf8");
  assert.equal(text.split("192.0.2.1:53").length, 2);
  assert.ok(text.includes("# end\n"));
  await (await save.rules({ remove: { protocol: "tcp", port: 53 } })).commit();
  assert.equal(readFileSync(path, "utf8"), text);
  await (await save.rules({ remove: rule })).commit();
  assert.ok(!readFileSync(path, "utf8").includes("192.0.2.1:53"));
});

test("thousands of rules are read, edited and checked beside the thread that answers everybody, which goes on meanwhile", async (t) => {
  const rules = Array.from(
    { length: 5000 },
    (_, port) => `    - { protocol: udp, port: ${port + 1}, to: "192.0.2.1:53" }\n`,
  );
  const base = "inside: { interface: a }\noutside: { interface: b }\nnat:\n  destination:\n";
  const path = file(base + rules.join(""));
  const before = performance.eventLoopUtilization();
  const rule = { protocol: "tcp", port: 53, to: "192.0.2.1:53" } as const;
  const pending = await saver(t, path).rules({ add: rule });
  const { utilization } = performance.eventLoopUtilization(before);
  assert.ok(utilization < 0.5, `the event loop was busy for ${utilization} of the time`);
  await pending.commit();
  assert.equal(
    readFileSync(path, "utf8"),
    `${base}${rules.join("")}    - { protocol: tcp, port: 53, to: "192.0.2.1:53" }\n`,
  );
});
