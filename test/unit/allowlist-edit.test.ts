// Edits of a list: what is listed, what the kernel's tables hold, and what is changed in them, against a naive oracle and
// against compiling the whole list again.
import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { compileAllowlist } from "../../src/pipeline/allowlist/compile.js";
import {
  add,
  allowedBy,
  fromCompiled,
  listed,
  nothingAllowed,
  parseEntries,
  remove,
  type Allowlist,
} from "../../src/pipeline/allowlist/edit.js";
import { formatEntry, parseEntry, type Entry } from "../../src/pipeline/allowlist/entry.js";
import { byOrganization } from "../../src/pipeline/allowlist/owners.js";
import { countOf, difference, shapes, tableNames, textAt, texts } from "../../src/pipeline/allowlist/table.js";
import { changed } from "./simulated-native.js";

function compiled(lines: readonly string[]): Allowlist {
  const result = compileAllowlist(Buffer.from(lines.join("\n")), "list");
  assert.ok(result.ok, JSON.stringify(result));
  return fromCompiled(result.value);
}

function entryOf(text: string): Entry {
  const entry = parseEntry(text);
  assert.ok(typeof entry !== "string", String(entry));
  return entry;
}

const canonical = (text: string): string => {
  const { family, address, length } = entryOf(text);
  return formatEntry(family, address, length);
};

/** The address as a number, shifted so that equal ones are within the same prefix. */
function bits({ address }: Entry, length: number): bigint {
  return BigInt(`0x${Buffer.from(address).toString("hex")}`) >> BigInt(address.length * 8 - length);
}

function naivelyAllowed(list: Iterable<string>, probe: string): boolean {
  const wanted = entryOf(probe);
  return [...list].map(entryOf).some((one) => {
    const inside = one.family === wanted.family && one.length <= wanted.length;
    return inside && bits(one, one.length) === bits(wanted, one.length);
  });
}

// Few different bits, so that prefixes nest, touch and repeat.
const octet = fc.constantFrom(0, 1, 2, 127, 128, 255);
const four = fc.tuple(fc.nat(1), octet).map(([third, fourth]) => `10.0.${third}.${fourth}`);
const six = fc.tuple(fc.nat(1), octet).map(([group, last]) => `2001:db8::${group}:${last.toString(16)}`);
const entry = fc.oneof(
  four,
  fc.tuple(four, fc.integer({ min: 20, max: 32 })).map(([address, length]) => `${address}/${length}`),
  six,
  fc.tuple(six, fc.integer({ min: 104, max: 128 })).map(([address, length]) => `${address}/${length}`),
);
const edit = fc.record({ remove: fc.boolean(), entries: fc.array(entry, { minLength: 1, maxLength: 4 }) });

test("after any edits the list is the one that compiling its entries anew makes, and each change in place leads there", () => {
  fc.assert(
    fc.property(
      fc.array(entry, { maxLength: 12 }),
      fc.array(edit, { maxLength: 12 }),
      fc.array(four),
      (start, edits, probes) => {
        let list = compiled(start);
        const oracle = new Set(start.map(canonical));
        for (const { remove: removes, entries } of edits) {
          const given = removes ? entries.filter((text) => oracle.has(canonical(text))) : entries;
          if (given.length === 0) continue;
          const next = (removes ? remove : add)(list, parseEntries(given));
          for (const text of given.map(canonical)) {
            if (removes) oracle.delete(text);
            else oracle.add(text);
          }
          assert.ok(next.delta !== null && next.delta.from === list.id);
          assert.deepEqual(changed(list.compiled, next.delta.added, next.delta.removed), next.compiled);
          list = next;
        }
        const anew = compiled([...oracle]);
        assert.deepEqual(list.entries, anew.entries);
        assert.deepEqual(list.compiled, anew.compiled);
        assert.equal(list.count, oracle.size);
        for (const probe of [...probes, ...oracle]) {
          assert.equal(allowedBy(list, entryOf(probe)) !== null, naivelyAllowed(oracle, probe), probe);
          assert.equal(listed(list, entryOf(probe)), oracle.has(canonical(probe)), probe);
        }
      },
    ),
    { numRuns: 500 },
  );
});

test("the difference of two lists is what the one has and the other has not", () => {
  fc.assert(
    fc.property(fc.array(entry, { maxLength: 20 }), fc.array(entry, { maxLength: 20 }), (one, other) => {
      const [a, b] = [new Set(one.map(canonical)), new Set(other.map(canonical))];
      assert.deepEqual(difference(compiled(one).entries, compiled(other).entries), {
        added: [...b].filter((text) => !a.has(text)).length,
        removed: [...a].filter((text) => !b.has(text)).length,
      });
    }),
  );
});

test("an address keeps its organizations when others are added and removed around it", async () => {
  const organizations = [
    { name: "one", ips: ["10.0.0.1", "10.0.0.3", "10.0.1.0/24"] },
    { name: "two", ips: ["10.0.0.3", "2001:db8::1"] },
  ];
  const result = compileAllowlist(Buffer.from(JSON.stringify({ organizations, flat_ip_list: ["10.0.0.9"] })), "x");
  assert.ok(result.ok);
  const edited = remove(
    add(fromCompiled(result.value), parseEntries(["10.0.0.0", "10.0.0.2", "10.0.0.0/8"])),
    parseEntries(["10.0.0.1"]),
  );
  const found = await byOrganization(edited.owners ?? assert.fail(), () => Promise.resolve());
  const named = found.map(({ name, entries }) => {
    const all = tableNames.flatMap((table) =>
      entries[table].map((index) => textAt(table, edited.entries[table], index * shapes[table].bytes)),
    );
    return [name, all];
  });
  assert.deepEqual(named, [
    ["one", ["10.0.0.3", "10.0.1.0/24"]],
    ["two", ["10.0.0.3", "2001:db8::1"]],
  ]);
  assert.equal(edited.count, 7);
});

test("an edit that changes more than the tables are changed in place for is made as a whole", () => {
  const many = Array.from({ length: 10_000 }, (_, index) => `10.0.${index >> 8}.${index & 255}`);
  const list = compiled(["10.0.0.0/8", ...many]);
  assert.equal(countOf(list.compiled), 1);
  const uncovered = remove(list, parseEntries(["10.0.0.0/8"]));
  assert.equal(uncovered.delta, null);
  assert.equal(countOf(uncovered.compiled), 10_000);
  assert.deepEqual(uncovered.compiled, compiled(many).compiled);
});

test("an edit of a list of a million leaves the other entries where they are", () => {
  const many = Array.from(
    { length: 1_000_000 },
    (_, index) => `11.${index >> 16}.${(index >> 8) & 255}.${index & 255}`,
  );
  const list = compiled(many);
  const more = add(list, parseEntries(["11.5.5.5", "12.0.0.1", "10.255.255.255"]));
  assert.equal(more.count, 1_000_002);
  assert.deepEqual([...texts(more.delta?.added ?? assert.fail())], ["10.255.255.255", "12.0.0.1"]);
  const back = remove(more, parseEntries(["10.255.255.255", "12.0.0.1"]));
  assert.equal(Buffer.compare(back.entries.exact4, list.entries.exact4), 0);
});

test("what is added to nothing is listed once", () => {
  const list = add(nothingAllowed, parseEntries(["192.0.2.1", "192.0.2.1", "192.0.2.0/24"]));
  assert.deepEqual([...texts(list.entries)], ["192.0.2.1", "192.0.2.0/24"]);
  assert.deepEqual([...texts(list.compiled)], ["192.0.2.0/24"]);
});
