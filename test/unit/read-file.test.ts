// Files that people name: whatever they turn out to be, they are read whole, or it is said why not.
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { open } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, test } from "node:test";
import { readBounded } from "../../src/pipeline/read-file.js";
import { run } from "../bed/command.js";
import { Daemon, VXPIPE } from "./simulated-daemon.js";

const directory = mkdtempSync(join(tmpdir(), "vxpipe-read-"));
after(() => rmSync(directory, { recursive: true }));
let made = 0;

async function fifo(): Promise<string> {
  const path = join(directory, `fifo-${made++}`);
  await run("mkfifo", [path]);
  return path;
}

test("a pipe is read to its end, also when its writer comes later", async () => {
  const path = await fifo();
  const read = readBounded(path, 100);
  const writer = await open(path, "w");
  await writer.write("192.0.2.1\n");
  await writer.write("192.0.2.2\n");
  await writer.close();
  assert.equal((await read).toString(), "192.0.2.1\n192.0.2.2\n");
});

test("a pipe that nobody writes to is not an empty file", async () => {
  await assert.rejects(readBounded(await fifo(), 100, 50), /nothing was written to it/);
});

test("a pipe whose writer falls silent is given up", async () => {
  const path = await fifo();
  const read = readBounded(path, 100, 50);
  const writer = await open(path, "w");
  await writer.write("192.0.2.1\n");
  await assert.rejects(read, /it is a pipe, and its writer is silent/);
  await writer.close();
});

test("an empty file is empty, and of an endless one a bounded part is read", async () => {
  const path = join(directory, "empty");
  writeFileSync(path, "");
  assert.equal((await readBounded(path, 100)).length, 0);
  assert.equal((await readBounded("/dev/null", 100)).length, 0);
  assert.equal((await readBounded("/dev/zero", 100)).length, 101);
});

test("a list on standard input is waited for, and one that never comes replaces none", async (t) => {
  const daemon = await Daemon.start(t, true);
  const importing = (): Promise<{ code: number | null; stderr: string }> & { input: NodeJS.WritableStream } => {
    const child = spawn(VXPIPE, ["allowlist", "import", "-", "--socket", daemon.socket]);
    let stderr = "";
    child.stderr.setEncoding("utf8").on("data", (text: string) => (stderr += text));
    const ended = new Promise<{ code: number | null; stderr: string }>((resolve) =>
      child.on("close", (code) => resolve({ code, stderr })),
    );
    return Object.assign(ended, { input: child.stdin });
  };
  const first = importing();
  first.input.write("192.0.2.1\n");
  first.input.end("192.0.2.2\n");
  assert.equal((await first).code, 0);
  assert.equal(daemon.runtime.plan.allowlist?.count, 2);
  const failed = importing();
  failed.input.end();
  const { code, stderr } = await failed;
  assert.equal(code, 2);
  assert.match(stderr, /^vxpipe: -: nothing was written to it/);
  assert.equal(daemon.runtime.plan.allowlist?.count, 2);
});
