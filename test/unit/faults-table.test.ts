// The table of faults in docs/OPERATIONS.md: each row has a namespace test of that name. Nothing runs here.
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";

const root = new URL("../../../", import.meta.url);
const read = (path: string): string => readFileSync(new URL(path, root), "utf8");

test("every fault in the documentation is the title of a test in the file it names", () => {
  const section = /^## Faults\n(.+?)^## /ms.exec(read("docs/OPERATIONS.md"))?.[1] ?? "";
  const rows = [...section.matchAll(/^\| (?!fault |---).*\| ([\w-]+): (.+?) +\|$/gm)];
  assert.equal(rows.length, [...section.matchAll(/^\|/gm)].length - 2);
  for (const [, file, title = ""] of rows) {
    assert.ok(read(`test/netns/${file}.test.ts`).replaceAll(/\s+/g, " ").includes(title), `${file}: ${title}`);
  }
});
