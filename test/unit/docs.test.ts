// What the documents name exists.
import assert from "node:assert/strict";
import { existsSync, readdirSync, readFileSync } from "node:fs";
import { test } from "node:test";

const root = new URL("../../../", import.meta.url);
const read = (path: string) => readFileSync(new URL(path, root), "utf8");

test("every test the RFC table names exists", () => {
  const fixtures = new Set(
    readdirSync(new URL("native/test/fixtures/", root))
      .filter((name) => name.endsWith(".txt"))
      .flatMap((name) => read(`native/test/fixtures/${name}`).split("\n"))
      .filter((line) => line.startsWith("case "))
      .map((line) => line.slice("case ".length)),
  );
  const engine = new Set(
    readdirSync(new URL("native/test/", root))
      .filter((name) => /^nat_.*_test\.cpp$/.test(name))
      .flatMap((name) => [...read(`native/test/${name}`).matchAll(/^TEST\((\w+), (\w+)\)$/gm)])
      .map(([, suite, name]) => `${suite}.${name}`),
  );
  const exists = {
    fixture: (name: string) => fixtures.has(name),
    packets: (name: string) => existsSync(new URL(`test/packets/${name}`, root)),
    engine: (name: string) => engine.has(name),
  };
  const inNamespaces = (file: string, title: string): boolean => read(`test/netns/${file}.test.ts`).includes(title);
  const rows = read("docs/RFC.md").matchAll(/\| (fixture|packets|engine|nat-\w+): ([^|]+?) +\|$/gm);
  const missing: string[] = [];
  let count = 0;
  for (const [, kind, name = ""] of rows) {
    count++;
    const check = exists[kind as keyof typeof exists] ?? ((title: string) => inNamespaces(kind ?? "", title));
    if (!check(name)) missing.push(`${kind}: ${name}`);
  }
  assert.ok(count >= 100);
  assert.deepEqual(missing, []);
});

test("every relative link of the documents leads somewhere", () => {
  const pages = ["README.md", "CONTRIBUTING.md", "docs/ARCHITECTURE.md", "docs/OPERATIONS.md", "docs/RFC.md"];
  const broken: string[] = [];
  for (const page of pages) {
    for (const [, target = ""] of read(page).matchAll(/\]\(([^)#]+)[^)]*\)/g)) {
      if (!existsSync(new URL(target, new URL(page, root)))) broken.push(`${page}: ${target}`);
    }
  }
  assert.deepEqual(broken, []);
});

test("every drop reason has a line in the operations page", () => {
  const reasons = [...read("bpf/abi/counters.h").matchAll(/^\tX\((\w+),.*$/gm)].map(([, name]) => name ?? "");
  const drops = reasons.slice(reasons.indexOf("vxlan_flags"));
  const page = read("docs/OPERATIONS.md");
  assert.deepEqual(
    drops.filter((name) => !page.includes(`\`${name}\``)),
    [],
  );
});

test("every fault of the operations page names a test that exists", () => {
  const page = read("docs/OPERATIONS.md");
  const table = page.slice(page.indexOf("| fault "), page.indexOf("What outlives a killed daemon"));
  const rows = [...table.matchAll(/\| ([^|]+?) +\| ([\w-]+): ([^|]+?) +\|$/gm)];
  const faults = table.split("\n").filter((line) => line.startsWith("| ")).length - 2;
  assert.ok(faults >= 20);
  assert.equal(rows.length, faults, "a row without a test");
  const missing = rows.filter(([, , file, title = ""]) => {
    const path = `test/netns/${file}.test.ts`;
    return !existsSync(new URL(path, root)) || !read(path).includes(title);
  });
  assert.deepEqual(
    missing.map(([, , file, title]) => `${file}: ${title}`),
    [],
  );
});
