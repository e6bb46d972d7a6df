// Allowlist texts to tables: the right addresses, or every wrong entry with its place.
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";
import fc from "fast-check";
import { IPv4, IPv4CidrRange, IPv6 } from "ip-num";
import { compileAllowlist, type Compiled } from "../../src/pipeline/allowlist/compile.js";
import { formatAddress, parseEntry } from "../../src/pipeline/allowlist/entry.js";
import { AllowlistLoader } from "../../src/pipeline/allowlist/load.js";
import { byOrganization } from "../../src/pipeline/allowlist/owners.js";
import { Problems } from "../../src/pipeline/allowlist/problems.js";
import { shapes, texts } from "../../src/pipeline/allowlist/table.js";

const root = new URL("../../../", import.meta.url).pathname;

function compiled(text: string): Compiled {
  const result = compileAllowlist(Buffer.from(text), "list");
  assert.ok(result.ok, JSON.stringify(result));
  return result.value;
}

function problems(text: string): string[] {
  const result = compileAllowlist(Buffer.from(text), "list");
  assert.ok(!result.ok, "it was taken");
  return result.problems.map(({ line, column, message }) => `${line}:${column}: ${message}`);
}

test("text with comments, blanks, a byte order mark and CRLF is understood", () => {
  const { entries } = compiled("\ufeff# head\r\n  192.0.2.1\t# one\r\n\r\n2001:DB8::1\r\n198.51.100.0/24");
  assert.deepEqual([...texts(entries)], ["192.0.2.1", "198.51.100.0/24", "2001:db8::1"]);
});

test("both lists of the seed format count, and duplicates count once", () => {
  const { entries, count } = compiled(
    '{"version":1,"total_ips":3,"organizations":[{"name":"org-01","ips":["192.0.2.1","192.0.2.2"]}],"flat_ip_list":["192.0.2.2","192.0.2.3"]}',
  );
  assert.deepEqual([...texts(entries)], ["192.0.2.1", "192.0.2.2", "192.0.2.3"]);
  assert.equal(count, 3);
});

test("what `allowlist list -o json` prints is a list, whole", () => {
  const printed = (entries: string): string =>
    `{"enforced":true,"match":"either","total":2,"entries":${entries},"organizations":[{"name":"a","ips":["192.0.2.1"]}]}`;
  const { entries, owners } = compiled(printed('["192.0.2.1","10.0.0.0/8"]'));
  assert.deepEqual([...texts(entries)], ["192.0.2.1", "10.0.0.0/8"]);
  assert.deepEqual([...(owners?.of.exact4 ?? []), ...(owners?.of.prefix4 ?? [])], [1, 0]);
  assert.equal(compiled(printed("2")).count, 1);
});

test("a total_ips that is not the number of entries is a warning, not an error", () => {
  assert.deepEqual(compiled('{"total_ips":9,"flat_ip_list":["192.0.2.1"]}').warnings, [
    "total_ips says 9, the file lists 1 different entries",
  ]);
});

test("entries that a prefix covers are listed but not given to the kernel", () => {
  const { entries, compiled: kernel } = compiled(
    "10.0.0.0/8\n10.1.0.0/16\n10.1.2.3\n11.0.0.1\n2001:db8::/32\n2001:db8::1\n",
  );
  assert.equal([...texts(entries)].length, 6);
  assert.deepEqual([...texts(kernel)], ["11.0.0.1", "10.0.0.0/8", "2001:db8::/32"]);
});

test("an IPv4 address in IPv6 clothes is the IPv4 address", () => {
  assert.deepEqual(
    [...texts(compiled("::ffff:192.0.2.1\n::ffff:198.51.100.0/120\n").entries)],
    ["192.0.2.1", "198.51.100.0/24"],
  );
});

test("an IPv6 address that only resembles an IPv4 one stays IPv6", () => {
  assert.deepEqual(
    [...texts(compiled("::ff:192.0.2.1\n::fffe:192.0.2.1\n::1:ffff:192.0.2.1\n").entries)],
    ["::ff:c000:201", "::fffe:c000:201", "::1:ffff:c000:201"],
  );
});

test("prefix records are laid out as the ABI has them", () => {
  assert.deepEqual([...compiled("10.128.0.0/9").entries.prefix4], [9, 0, 0, 0, 10, 128, 0, 0]);
  assert.equal(shapes.prefix6.bytes, 20);
});

test("every wrong line of a text is reported with line and column", () => {
  assert.deepEqual(problems("192.0.2.1\n192.0.2.256\n  # fine\n  foo # bar\n10.0.0.0/33\n1.2.3.4 5.6.7.8\n"), [
    '2:1: "192.0.2.256" is not an IP address or prefix',
    '4:3: "foo" is not an IP address or prefix',
    '5:1: "10.0.0.0/33": the prefix length is a number from 0 to 32',
    '6:1: "1.2.3.4 5.6.7.8" is not an IP address or prefix',
  ]);
});

test("every wrong entry of a JSON file is reported with line and column", () => {
  const text =
    '{"organizations": [\n  {"name": "a", "ips": ["192.0.2.1", "x"]},\n  {"name": "b"},\n  {"ips": [7]}],\n "flat_ip_list": {}}';
  assert.deepEqual(problems(text), [
    '2:39: "x" is not an IP address or prefix',
    "3:3: organizations.1 has no ips",
    "4:12: an entry must be a string in quotes, not 7",
    "5:18: flat_ip_list must be an array",
  ]);
});

test("a column counts characters, not bytes", () => {
  assert.deepEqual(problems('{"a": "äöü€", "flat_ip_list": ["x"]}'), ['1:33: "x" is not an IP address or prefix']);
  assert.deepEqual(problems('{"flat_ip_list": ["é", "é"]}'), [
    '1:20: "é" is not an IP address or prefix',
    '1:25: "é" is not an IP address or prefix',
  ]);
});

test("however many wrong entries are in one line, its end is looked for once", () => {
  let looks = 0;
  const bytes = new Uint8Array(2000).fill(0x78);
  const indexOf = (value: number, from?: number): number => {
    looks++;
    return Uint8Array.prototype.indexOf.call(bytes, value, from);
  };
  const found = new Problems();
  const offsets = Array.from({ length: 1000 }, (_, index) => index);
  for (const offset of offsets) found.note(offset, "wrong");
  const placed = found.placed(Object.assign(bytes, { indexOf }), "list");
  assert.deepEqual(
    placed.map(({ line, column }) => [line, column]),
    offsets.map((offset) => [1, offset + 1]),
  );
  assert.equal(looks, 1);
});

test("a list that stands in its file twice is reported, for only one of them could count", () => {
  assert.deepEqual(problems('{"flat_ip_list": [],\n "flat_ip_list": ["192.0.2.1"]}'), [
    "2:2: the key flat_ip_list is here twice",
  ]);
});

test("a prefix whose slash is escaped, as some writers do, is a prefix", () => {
  assert.deepEqual([...texts(compiled('{"flat_ip_list": ["10.0.0.0\\/8"]}').entries)], ["10.0.0.0/8"]);
});

test("a file in UTF-16 is named as what it is, in either byte order", () => {
  const text = Buffer.from("\ufeff192.0.2.1\r\n192.0.2.2\r\n", "utf16le");
  for (const bytes of [text, Buffer.from(text).swap16()]) {
    const result = compileAllowlist(bytes, "list", { skipInvalid: true });
    assert.ok(!result.ok);
    assert.deepEqual(
      result.problems.map(({ line, column, message }) => [line, column, message]),
      [[1, 1, "is UTF-16 text; a list is UTF-8"]],
    );
  }
});

test("with skipInvalid a file without one right entry is not an empty list", () => {
  for (const text of ["nonsense\nmore\n", '{"flat_ip_list": [7, "x"]}', "\x7fELF\0\n\xff\n"]) {
    const result = compileAllowlist(Buffer.from(text, "latin1"), "list", { skipInvalid: true });
    assert.ok(!result.ok, text);
    assert.match(result.problems[0]?.message ?? "", /^none of its 2 entries is an IP address or prefix$/);
  }
});

test("an empty file is a list, with a warning of what it means; one that says that it lists nothing needs none", () => {
  const warned = "it is empty: no address is allowed";
  for (const [text, warnings] of [
    ["", [warned]],
    ["# nothing yet\n", []],
    ['{"flat_ip_list": []}', []],
  ] as const) {
    const { count, warnings: found } = compiled(text);
    assert.deepEqual([count, found], [0, warnings]);
  }
});

test("who lists a million entries is found out with pauses, in which others have their turn", async () => {
  const ips = Array.from({ length: 200_000 }, (_, index) => `10.${index >> 16}.${(index >> 8) & 255}.${index & 255}`);
  const { owners } = compiled(JSON.stringify({ organizations: [{ name: "a", ips }] }));
  let pauses = 0;
  const organizations = await byOrganization(owners ?? assert.fail(), () => Promise.resolve(pauses++));
  assert.deepEqual([organizations[0]?.entries.exact4.length, pauses], [ips.length, 3]);
});

test("an address that thousands of organizations list costs as much as it is listed", async () => {
  const names = Array.from({ length: 20_000 }, (_, index) => `o${index}`);
  const organizations = names.map((name) => ({ name, ips: ["192.0.2.1", "192.0.2.2"] }));
  const { owners, count } = compiled(JSON.stringify({ organizations, flat_ip_list: ["192.0.2.1"] }));
  assert.equal(count, 2);
  const members = owners?.groups.reduce((sum, group) => sum + group.length, 0) ?? 0;
  assert.ok(members <= 2 * names.length, `${members} members of groups`);
  const found = await byOrganization(owners ?? assert.fail(), () => Promise.resolve());
  assert.deepEqual(found.at(-1)?.entries.exact4, [0, 1]);
});

test("with skipInvalid wrong entries are left out and reported, but a file that is no list is not taken", () => {
  const read = (text: string): ReturnType<typeof compileAllowlist> =>
    compileAllowlist(Buffer.from(text), "list", { skipInvalid: true });
  const result = read("192.0.2.1\nnonsense\n192.0.2.1\n192.0.2.0/24\n");
  assert.ok(result.ok);
  const { entries, skipped, skippedCount, duplicates, covered } = result.value;
  assert.deepEqual([...texts(entries)], ["192.0.2.1", "192.0.2.0/24"]);
  assert.deepEqual([skipped.map(({ line }) => line), skippedCount, duplicates, covered], [[2], 1, 1, 1]);
  for (const text of ["{}", '{"flat_ip_list": ["192.0.2.1"', '{"organizations": [7]}']) assert.ok(!read(text).ok, text);
});

test("of very many wrong entries all are counted", () => {
  const result = compileAllowlist(Buffer.from("x\n".repeat(10_500)), "list");
  assert.ok(!result.ok);
  assert.equal(result.count, 10_500);
  assert.deepEqual([result.problems.length, result.problems.at(-1)?.message], [10_001, "and 500 more are wrong"]);
});

test("JSON that ends early is reported where it ends", () => {
  assert.deepEqual(problems('{"flat_ip_list": [\n"192.0.2.1",'), ["2:13: the JSON text ends too early"]);
});

test("JSON without any list is not an allowlist", () => {
  assert.deepEqual(problems("{}"), ["1:1: has neither organizations nor flat_ip_list"]);
  assert.deepEqual(problems('["192.0.2.1"]'), ["1:1: the file must be an object"]);
});

test("an empty text is an empty list", () => {
  assert.equal(compiled("").count, 0);
  assert.equal(compiled("# nothing\n").count, 0);
});

test("the example has 324 addresses of 16 organizations, all documentation or private", () => {
  const bytes = readFileSync(`${root}allowlists/example.json`);
  const { organizations } = JSON.parse(bytes.toString()) as { organizations: unknown[] };
  assert.equal(organizations.length, 16);
  const { entries, count, warnings } = compiled(bytes.toString());
  assert.equal(count, 324);
  assert.deepEqual(warnings, []);
  const allowed = [
    "192.0.2.0/24",
    "198.51.100.0/24",
    "203.0.113.0/24",
    "10.0.0.0/8",
    "172.16.0.0/12",
    "192.168.0.0/16",
  ].map((text) => IPv4CidrRange.fromCidr(text));
  for (const text of texts(entries))
    assert.ok(
      allowed.some((range) => range.contains(new IPv4(text))),
      text,
    );
});

const strangeAddress = fc.stringMatching(/^[0-9a-f:./%]{0,20}$/);

test("an IPv4 text is taken exactly when ip-num takes it, with the same value", () => {
  const octets = fc.array(fc.oneof(fc.nat(300).map(String), fc.constantFrom("", "01", "00", "-1")), {
    minLength: 3,
    maxLength: 5,
  });
  fc.assert(
    fc.property(
      fc.oneof(
        fc.ipV4(),
        octets.map((parts) => parts.join(".")),
        strangeAddress,
      ),
      (text) => {
        fc.pre(!text.includes(":") && !text.includes("/"));
        let value: bigint | null = null;
        try {
          value = new IPv4(text).getValue();
        } catch {
          // Not an address.
        }
        const entry = parseEntry(text);
        assert.equal(typeof entry === "string", value === null, text);
        if (typeof entry === "string" || value === null) return;
        assert.equal(BigInt(new DataView(entry.address.buffer).getUint32(0)), value);
      },
    ),
    { numRuns: 3000 },
  );
});

test("an IPv6 text has the value that ip-num gives it", () => {
  fc.assert(
    fc.property(fc.ipV6(), (text) => {
      const entry = parseEntry(text);
      assert.ok(typeof entry !== "string", String(entry));
      const value = new IPv6(text).getValue();
      const mapped = value >> 32n === 0xffffn;
      const bytes = mapped ? [...new Uint8Array(10), 255, 255, ...entry.address] : [...entry.address];
      assert.equal(BigInt(`0x${Buffer.from(bytes).toString("hex")}`), value);
    }),
    { numRuns: 2000 },
  );
});

test("what an entry is written as is read as the same entry", () => {
  fc.assert(
    fc.property(fc.oneof(fc.ipV4(), fc.ipV6()), (text) => {
      const entry = parseEntry(text);
      assert.ok(typeof entry !== "string");
      assert.deepEqual(parseEntry(formatAddress(entry.address)), entry);
    }),
  );
});

test("strange text never throws", () => {
  fc.assert(
    fc.property(fc.oneof(fc.string(), strangeAddress), (text) => void parseEntry(text)),
    { numRuns: 3000 },
  );
  fc.assert(
    fc.property(fc.oneof(fc.string(), fc.json()), (text) => void compileAllowlist(Buffer.from(text), "x")),
    { numRuns: 2000 },
  );
});

test("the tables hold exactly the addresses that the entries allow, each once", () => {
  // Few different bits, so that prefixes nest and touch often; every length from 22 on, so that every shift is met.
  const octet = fc.constantFrom(0, 1, 2, 8, 31, 32, 64, 127, 128, 192, 255);
  const text = fc.tuple(fc.nat(3), octet).map(([third, fourth]) => `10.0.${third}.${fourth}`);
  const entry = fc.tuple(text, fc.integer({ min: 22, max: 32 })).map(([address, length]) => `${address}/${length}`);
  fc.assert(
    fc.property(
      fc.array(fc.oneof(text, entry), { maxLength: 12 }),
      fc.array(text, { minLength: 8, maxLength: 8 }),
      (list, probes) => {
        const range = (one: string): IPv4CidrRange => IPv4CidrRange.fromCidr(one.includes("/") ? one : `${one}/32`);
        const allowed = list.map(range);
        const tables = [...texts(compiled(list.join("\n")).compiled)].map(range);
        for (const probe of [...probes, ...list.map((one) => one.split("/")[0] ?? "")]) {
          const address = new IPv4(probe);
          const hits = tables.filter((one) => one.contains(address)).length;
          assert.equal(hits, allowed.some((one) => one.contains(address)) ? 1 : 0, probe);
        }
      },
    ),
    { numRuns: 1000 },
  );
});

test("a Piscina task compiles the same and hands its tables over", async () => {
  const loader = new AllowlistLoader();
  try {
    const { entries, compiled: kernel } = await loader.fromText(Buffer.from("192.0.2.1\n192.0.2.0/24\n"), "list");
    assert.deepEqual([[...texts(entries)], [...texts(kernel)]], [["192.0.2.1", "192.0.2.0/24"], ["192.0.2.0/24"]]);
    await assert.rejects(loader.fromText(Buffer.from("x\n"), "list"), { code: "ALLOWLIST_INVALID" });
    await assert.rejects(loader.fromFile("/nonexistent/list"), { code: "ALLOWLIST_UNREADABLE" });
  } finally {
    await loader.close();
  }
});
