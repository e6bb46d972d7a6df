// The command line as a person runs it, without root and without a daemon: exit codes and where messages go.
import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { mkdtempSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, test } from "node:test";

const root = new URL("../../../", import.meta.url).pathname;
const directory = mkdtempSync(join(tmpdir(), "vxpipe-cli-"));
after(() => rmSync(directory, { recursive: true }));

function vxpipe(...args: string[]): { code: number | null; out: string; err: string } {
  const { status, stdout, stderr } = spawnSync(`${root}bin/vxpipe`, args, { encoding: "utf8" });
  return { code: status, out: stdout, err: stderr };
}

function file(name: string, text: string): string {
  const path = join(directory, name);
  writeFileSync(path, text);
  return path;
}

const valid = "inside: { interface: in0, vxlan: {} }\noutside: { interface: out0 }\n";

test("config check of a valid file exits 0 and says so", () => {
  const path = file("valid.yaml", valid);
  assert.deepEqual(vxpipe("config", "check", path), {
    code: 0,
    out: `${path}: valid; no allowlist: every address is allowed\n`,
    err: "",
  });
});

test("config check prints FILE:LINE:COL for every error and exits 2", () => {
  const path = file("wrong.yaml", `${valid}datapth: xdp\nlog: { level: loud }\n`);
  const { code, out, err } = vxpipe("config", "check", path);
  assert.deepEqual([code, out], [2, ""]);
  assert.deepEqual(err.split("\n"), [
    `${path}:3:1: unknown key "datapth"; did you mean datapath?`,
    `${path}:4:15: log.level must be trace, debug, info, warn, error, fatal or silent, not "loud"`,
    "",
  ]);
});

test("config check looks into the allowlist file too", () => {
  const list = file("list.txt", "192.0.2.1\n192.0.2.300\n");
  const path = file("list.yaml", `${valid}allowlist: { file: list.txt }\n`);
  const { code, err } = vxpipe("config", "check", path);
  assert.deepEqual([code, err], [2, `${list}:2:1: "192.0.2.300" is not an IP address or prefix\n`]);
});

test("a configuration that cannot be read is one sentence and exit 2", () => {
  for (const [path, reason] of [
    [join(directory, "missing.yaml"), "there is no such file"],
    [directory, "it is a directory"],
  ] as const) {
    const { code, err } = vxpipe("config", "check", path);
    assert.deepEqual([code, err.split("\n")[0]], [2, `vxpipe: ${path}: ${reason}`]);
  }
});

test("an endless file ends with an error", () => {
  assert.deepEqual(vxpipe("config", "check", "/dev/zero").code, 2);
});

test("run with an invalid configuration exits 2 before it touches anything", () => {
  assert.equal(vxpipe("run", "--config", file("bad.yaml", "inside: 1\n")).code, 2);
});

test("with -o json errors are one object on standard error", () => {
  const { code, out, err } = vxpipe("config", "check", file("json.yaml", `${valid}x: 1\n`), "-o", "json");
  assert.deepEqual([code, out], [2, ""]);
  const { error } = JSON.parse(err) as { error: { code: string; message: string; problems: { line: number }[] } };
  assert.equal(error.code, "CONFIG_INVALID");
  assert.equal(error.problems[0]?.line, 3);
});

test("what is questionable in the allowlist file is said by config check, as JSON too", () => {
  const list = file("empty.txt", "");
  const path = file("questionable.yaml", `${valid}allowlist: { file: empty.txt }\n`);
  const warning = `${list}: it is empty: no address is allowed`;
  assert.equal(vxpipe("config", "check", path).err, `vxpipe: ${warning}\n`);
  const told = JSON.parse(vxpipe("config", "check", path, "-o", "json").out) as Record<string, unknown>;
  assert.deepEqual([told["warnings"], told["allowlistWarnings"]], [[], [warning]]);
});

test("the schema is printed as JSON", () => {
  const { code, out } = vxpipe("config", "schema");
  assert.equal(code, 0);
  assert.equal((JSON.parse(out) as { title: string }).title, "vxpipe configuration");
});

test("--socket may stand before the command and behind it", () => {
  const socket = join(directory, "none.sock");
  for (const args of [
    ["stats", "--socket", socket],
    ["--socket", socket, "stats"],
    ["nat", "rule", "list", "--socket", socket],
  ]) {
    const { code, err } = vxpipe(...args);
    assert.equal(code, 4, args.join(" "));
    assert.ok(err.includes(socket), err);
  }
});

test("a reader that has seen enough is no error, and output that cannot be written is one", () => {
  const read = (command: string): { code: number | null; err: string } => {
    const { status, stderr } = spawnSync("bash", ["-c", `set -o pipefail; ${root}bin/vxpipe ${command}`], {
      encoding: "utf8",
    });
    return { code: status, err: stderr };
  };
  assert.deepEqual(read("config schema | true"), { code: 0, err: "" });
  const many = file("many.yaml", `${valid}${Array.from({ length: 20_000 }, (_, index) => `k${index}: 1\n`).join("")}`);
  assert.deepEqual(read(`config check ${many} 2>&1 | true`), { code: 2, err: "" });
  const full = read("config schema >/dev/full");
  assert.equal(full.code, 1);
  assert.match(full.err, /^vxpipe: standard output: the file system is full\n/);
});

test("help and version exit 0 on standard output", () => {
  for (const args of [["--help"], ["allowlist", "--help"], ["run", "--help"], ["--version"], ["version"]]) {
    const { code, out, err } = vxpipe(...args);
    assert.deepEqual([code, err], [0, ""], args.join(" "));
    assert.ok(out.length > 0);
  }
  assert.match(vxpipe("version", "-o", "json").out, /^\{"version":"\d+\.\d+\.\d+"\}\n$/);
});

test("a link to bin/vxpipe works like the file", () => {
  const link = join(directory, "vxpipe");
  symlinkSync(`${root}bin/vxpipe`, link);
  assert.equal(spawnSync(link, ["version"]).status, 0);
});
