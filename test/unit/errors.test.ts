// Codes are a promise: each is documented, used, and every one that native code throws is known.
import assert from "node:assert/strict";
import { readdirSync, readFileSync } from "node:fs";
import { test } from "node:test";
import { reloadText } from "../../src/cli/commands/reload.js";
import { errorCodes, firstProblems, isErrorCode, printable, VxpipeError } from "../../src/pipeline/errors.js";
import { fromNative } from "../../src/pipeline/native.js";

const root = new URL("../../../", import.meta.url).pathname;

function sources(directory: string, extension: string): string[] {
  return readdirSync(`${root}${directory}`, { recursive: true, encoding: "utf8" })
    .filter((name) => name.endsWith(extension))
    .map((name) => readFileSync(`${root}${directory}/${name}`, "utf8"));
}

/** Rows of the table: code, exit code, what happened, hint. */
const rows = readFileSync(`${root}docs/ERRORS.md`, "utf8")
  .split("\n")
  .filter((line) => line.startsWith("| `"))
  .map((line) => line.split("|").map((cell) => cell.trim()));

test("every code is documented with its exit code and hint", () => {
  for (const code of errorCodes) {
    const { exitCode, hint } = new VxpipeError(code, "x");
    const row = rows.find((cells) => cells[1] === `\`${code}\``);
    assert.deepEqual([row?.[2], row?.[4]], [String(exitCode), hint], `${code} in docs/ERRORS.md`);
    assert.ok((row?.[3] ?? "").length > 10, `${code}: what happened?`);
  }
});

test("every documented code exists", () => {
  const codes = rows.map((cells) => cells[1]?.replaceAll("`", "") ?? "");
  assert.deepEqual(
    codes.filter((code) => !isErrorCode(code)),
    [],
  );
});

test("every code that native code throws is known", () => {
  const text = [
    ...sources("native/io", ".cpp"),
    ...sources("native/worker", ".cpp"),
    ...sources("native/addon", ".cpp"),
    ...sources("native/replay", ".cpp"),
  ].join("\n");
  const thrown = [...text.matchAll(/(?:Error\{\s*"([A-Z]+(?:_[A-Z0-9]+)+)"|"([A-Z]+_FAILED)")/g)].map(
    (match) => match[1] ?? match[2] ?? "",
  );
  assert.ok(thrown.length > 0);
  assert.deepEqual(
    [...new Set(thrown)].filter((code) => !isErrorCode(code)),
    [],
  );
});

test("every code is used", () => {
  const native = ["io", "worker", "replay", "addon"].flatMap((room) => sources(`native/${room}`, ".cpp"));
  const text = [...sources("src", ".ts"), ...native].join("\n");
  // Once in its definition, once where it is thrown.
  const unused = errorCodes.filter((code) => !new RegExp(`"${code}"`).test(text));
  assert.deepEqual(unused, []);
});

test("an error of the addon keeps its code and says what was tried", () => {
  const thrown = Object.assign(new Error("x"), {
    code: "XDP_BUSY",
    op: "attach in0",
    errno: 16,
    detail: "program 7 is there",
  });
  const error = fromNative(thrown);
  assert.ok(error instanceof VxpipeError);
  assert.deepEqual([error.code, error.message, error.exitCode], ["XDP_BUSY", "attach in0: program 7 is there", 1]);
  const bind = Object.assign(new Error("bind(AF_XDP): Network is down (queue 0 of in0)"), {
    code: "WORKER_FAILED",
    op: "bind(AF_XDP)",
    errno: 100,
    detail: "queue 0 of in0",
  });
  assert.equal((fromNative(bind) as Error).message, bind.message);
  const unknown = fromNative(Object.assign(new Error("x"), { code: "SOMETHING", op: "do", errno: 1, detail: "" }));
  assert.ok(unknown instanceof VxpipeError && unknown.code === "NATIVE_FAILED");
});

test("no control character of a hostile file reaches the terminal", () => {
  assert.equal(printable("a\u001b[2J\nb\u009b"), "a\\u001b[2J\\u000ab\\u009b");
  assert.equal(printable("x".repeat(10_000)).length, 500);
});

test("the name of a file that somebody else imported is printable in what a reload says", () => {
  const coming = { actions: [], restart: [], dropped: ["allowlist import \x1b[2Jx"] };
  const text = "nothing changes\ndrops an edit made at run time: allowlist import \\u001b[2Jx";
  assert.equal(reloadText(coming, true), text);
});

test("of many wrong places the first are said, where all would fill a log, and how many more there are", () => {
  const problems = Array.from({ length: 25 }, (_, index) => ({
    file: "f",
    line: index + 1,
    column: 1,
    message: "wrong",
  }));
  const lines = firstProblems(problems);
  assert.deepEqual([lines.length, lines[0], lines.at(-1)], [21, "f:1:1: wrong", "and 5 more"]);
  assert.equal(firstProblems(problems.slice(0, 20)).length, 20);
});
