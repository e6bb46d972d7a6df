// Every command of the command line against everything that is wrong with its use: exit code, error code, and that nothing
// but the error is said, where it belongs. With a simulated daemon and without one.
import assert from "node:assert/strict";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { createServer } from "node:http";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, test } from "node:test";
import { isErrorCode } from "../../src/pipeline/errors.js";
import { CommandError, run } from "../bed/command.js";
import { Daemon, VXPIPE } from "./simulated-daemon.js";

const directory = mkdtempSync(join(tmpdir(), "vxpipe-errors-"));
after(() => rmSync(directory, { recursive: true }));

function file(name: string, text: string): string {
  const path = join(directory, name);
  writeFileSync(path, text);
  return path;
}

const missing = join(directory, "missing");
const valid = file("valid.yaml", "inside: { interface: in0, vxlan: {} }\noutside: { interface: out0 }\n");
const invalid = file("invalid.yaml", "inside: 1\n");
const list = file("list.txt", "192.0.2.1\n");
const wrongList = file("wrong.txt", "192.0.2.1\nnowhere\n");
const capture = file("capture.pcap", "this is no capture");

const rule = ["--protocol", "udp", "--port", "53"];
const target = ["--to", "192.0.2.1:5353"];

/** What is wrong: no daemon; usage, found out without one; a file; what is asked for is not there or cannot be. */
type Row = [args: string[], exit: number, code: string];

const withoutDaemon: Row[] = [
  ...[
    ["stats"],
    ["top"],
    ["top", "-n", "1"],
    ["reload"],
    ["reload", "--dry-run"],
    ["monitor"],
    ["monitor", "--drops", "--reason", "ipv6", "--write", missing],
    ["allowlist", "list"],
    ["allowlist", "test", "192.0.2.1"],
    ["allowlist", "import", list],
    ["allowlist", "add", "192.0.2.1"],
    ["allowlist", "remove", "192.0.2.1"],
    ["allowlist", "clear"],
    ["nat", "session", "list"],
    ["nat", "session", "list", "--protocol", "udp", "--limit", "5"],
    ["nat", "who", "203.0.113.1:2048"],
    ["nat", "who", "203.0.113.1:2048", "--protocol", "udp", "--at", "2026-01-31T12:00:00Z"],
    ["nat", "pool"],
    ["nat", "subscriber", "list"],
    ["nat", "rule", "list"],
    ["nat", "rule", "add", ...rule, ...target],
    ["nat", "rule", "remove", ...rule],
  ].map((args): Row => [args, 4, "DAEMON_UNREACHABLE"]),
  ...[
    [],
    ["nope"],
    ["run"],
    ["run", "--config"],
    ["config"],
    ["config", "check"],
    ["config", "check", valid, valid],
    ["config", "schema", "extra"],
    ["stats", "extra"],
    ["stats", "-o", "xml"],
    ["top", "-n", "0"],
    ["reload", "extra"],
    ["monitor", "--reason", "nope"],
    ["monitor", "--rate", "0"],
    ["monitor", "--count", "-1"],
    ["replay", "--config", valid],
    ["doctor", "lo", "lo"],
    ["allowlist"],
    ["allowlist", "list", "extra"],
    ["allowlist", "test"],
    ["allowlist", "import"],
    ["allowlist", "import", list, "--nope"],
    ["allowlist", "add"],
    ["allowlist", "remove"],
    ["allowlist", "clear", "extra"],
    ["nat"],
    ["nat", "session"],
    ["nat", "session", "list", "extra"],
    ["nat", "subscriber"],
    ["nat", "subscriber", "list", "extra"],
    ["nat", "pool", "extra"],
    ["nat", "who"],
    ["nat", "who", "203.0.113.1"],
    ["nat", "who", "203.0.113.1:99999"],
    ["nat", "who", "[2001:db8::1]:80"],
    ["nat", "who", "203.0.113.1:80", "--protocol", "sctp"],
    ["nat", "who", "203.0.113.1:80", "--at", "yesterday"],
    ["nat", "rule"],
    ["nat", "rule", "list", "extra"],
    ["nat", "rule", "add", ...rule],
    ["nat", "rule", "remove", "--protocol", "udp"],
    ["version", "extra"],
  ].map((args): Row => [args, 2, "USAGE"]),
  [["run", "--config", missing], 2, "CONFIG_UNREADABLE"],
  [["run", "--config", invalid], 2, "CONFIG_INVALID"],
  [["config", "check", missing], 2, "CONFIG_UNREADABLE"],
  [["config", "check", directory], 2, "CONFIG_UNREADABLE"],
  [["config", "check", invalid], 2, "CONFIG_INVALID"],
  [["replay", "--config", missing, "--in", capture, "--out", missing], 2, "CONFIG_UNREADABLE"],
  [["replay", "--config", valid, "--in", missing, "--out", `${missing}.pcap`], 2, "CAPTURE_UNREADABLE"],
  [["replay", "--config", valid, "--in", capture, "--out", `${missing}.pcap`], 2, "CAPTURE_INVALID"],
  [["allowlist", "import", missing], 2, "ALLOWLIST_UNREADABLE"],
  [["doctor", "nosuch0"], 3, "INTERFACE_UNKNOWN"],
];

const withDaemon: Row[] = [
  [["nat", "session", "list", "--inside", "nowhere"], 2, "USAGE"],
  [["nat", "session", "list", "--vni", "16777216"], 2, "USAGE"],
  [["nat", "session", "list", "--limit", "0"], 2, "USAGE"],
  [["nat", "session", "list", "--cursor", "x"], 2, "USAGE"],
  [["nat", "session", "list", "--protocol", "256"], 2, "USAGE"],
  [["nat", "subscriber", "list", "--limit", "-1"], 2, "USAGE"],
  [["nat", "who", "203.0.113.1:2048"], 3, "ENDPOINT_UNKNOWN"],
  [["nat", "who", "203.0.113.1:2048", "--at", "2026-01-31T12:00:00Z"], 3, "ENDPOINT_UNKNOWN"],
  [["monitor", "--write", directory], 1, "OUTPUT_UNWRITABLE"],
  [["allowlist", "test", "192.0.2.1"], 3, "ADDRESS_NOT_LISTED"],
  [["allowlist", "test", "nowhere"], 2, "ADDRESS_INVALID"],
  [["allowlist", "import", wrongList], 2, "ALLOWLIST_INVALID"],
  [["allowlist", "add", "192.0.2.300"], 2, "ADDRESS_INVALID"],
  [["allowlist", "remove", "192.0.2.1"], 3, "ADDRESS_NOT_LISTED"],
  [["allowlist", "remove", "nowhere"], 2, "ADDRESS_INVALID"],
  [["nat", "rule", "add", "--protocol", "icmp", "--port", "53", ...target], 2, "RULE_INVALID"],
  [["nat", "rule", "add", ...rule, "--to", "nowhere"], 2, "RULE_INVALID"],
  [["nat", "rule", "remove", ...rule], 3, "RULE_NOT_FOUND"],
];

interface Ended {
  exit: number | string | null;
  out: string;
  err: string;
}

function vxpipe(socket: string, args: readonly string[]): Promise<Ended> {
  return run(VXPIPE, ["--socket", socket, ...args]).then(
    (out): Ended => ({ exit: 0, out, err: "" }),
    (error: unknown): Ended => {
      assert.ok(error instanceof CommandError);
      return { exit: error.code, out: error.stdout, err: error.stderr };
    },
  );
}

/** As a program sees it, and, once for each kind of error, as a person does. */
async function check(socket: string, [args, exit, code]: Row): Promise<void> {
  const words = args.join(" ");
  const told = await vxpipe(socket, [...args.filter((arg) => !["-o", "xml"].includes(arg)), ...jsonOf(args)]);
  const { error } = JSON.parse(told.err) as { error: { code: string; message: string; hint: string } };
  assert.ok(isErrorCode(error.code), words);
  assert.deepEqual([words, told.exit, told.out, error.code], [words, exit, "", code]);
  assert.ok(error.message.length > 5 && error.hint.length > 5, words);
  if (seen.has(code)) return;
  seen.add(code);
  const plain = await vxpipe(socket, args);
  assert.deepEqual([words, plain.exit, plain.out], [words, exit, ""], plain.err);
  assert.match(plain.err, /^(vxpipe: \S|\S+:\d+:\d+: \S)/, words);
  assert.doesNotMatch(plain.err, /^ +at |undefined|\[object/m, words);
}

const seen = new Set<string>();

/** What asks for JSON, and is wrong itself where that is what is tested. */
function jsonOf(args: readonly string[]): string[] {
  return args.includes("xml") ? ["-o", "json", "-o", "xml"] : ["-o", "json"];
}

/** Two at a time: most of a command's life is Node's start. */
async function checkAll(socket: string, rows: readonly Row[]): Promise<void> {
  const left = [...rows];
  const work = async (): Promise<void> => {
    for (let row = left.shift(); row !== undefined; row = left.shift()) await check(socket, row);
  };
  await Promise.all([work(), work()]);
}

test("without a daemon every command fails as the table says", async () => {
  await checkAll(join(directory, "nobody.sock"), withoutDaemon);
});

test("with a daemon what is wrong or not there fails as the table says", async (t) => {
  const daemon = await Daemon.start(t, true);
  await checkAll(daemon.socket, withDaemon);
});

test("a daemon that takes the question and says nothing cannot be reached, and one that is only slow is waited for", async (t) => {
  const mute = createServer(() => undefined);
  const path = join(directory, "mute.sock");
  await new Promise<void>((resolve) => mute.listen(path, resolve));
  t.after(() => mute.close().closeAllConnections());
  await check(path, [["allowlist", "add", "192.0.2.1"], 4, "DAEMON_UNREACHABLE"]);
  mute.on("request", ({ url }, response) => {
    if (url === "/healthz") response.end("{}");
    else setTimeout(() => response.end('{"rules":[]}'), 6000);
  });
  assert.deepEqual(await vxpipe(path, ["nat", "rule", "list"]), { exit: 0, out: "no rules\n", err: "" });
});

test("every command is in the table", async () => {
  const tried = [...withoutDaemon, ...withDaemon].map(([args]) => args.join(" "));
  const commands = async (...parents: string[]): Promise<string[]> => {
    const help = await run(VXPIPE, [...parents, "--help"]);
    const names = [...(help.split("Commands:\n")[1] ?? "").matchAll(/^ {2}(\w+)/gm)].map(([, name]) => name ?? "");
    const below = names.filter((name) => name !== "help").map((name) => commands(...parents, name));
    return names.length === 0 ? [parents.join(" ")] : (await Promise.all(below)).flat();
  };
  const all = await commands();
  assert.ok(all.length >= 15, all.join(", "));
  assert.deepEqual(
    all.filter((command) => !tried.some((words) => words.startsWith(command))),
    [],
  );
});
