// `vxpipe monitor` and the stream behind it, against the real listener over a simulated gateway: lines, captures, slow
// readers, ends and their exit codes.
import assert from "node:assert/strict";
import { statSync } from "node:fs";
import { request, type IncomingMessage, type ServerResponse } from "node:http";
import { join } from "node:path";
import { test, type TestContext } from "node:test";
import { bufferMax } from "../../src/api/follow.js";
import { drops, vxSampleForm } from "../../src/pipeline/abi.gen.js";
import type { Event } from "../../src/pipeline/events.js";
import { eventLine } from "../../src/telemetry/event-line.js";
import { Background, run, until } from "../bed/command.js";
import { ethernet, ipv4, tcp } from "./samples.js";
import { Daemon, VXPIPE } from "./simulated-daemon.js";

/** The command line, as soon as the daemon serves it. */
async function watch(t: TestContext, daemon: Daemon, ...args: string[]): Promise<Background> {
  const before = daemon.runtime.watchers.size;
  const started = new Background(VXPIPE, ["--socket", daemon.socket, "monitor", ...args]);
  t.after(() => started.stop("SIGKILL"));
  await until("the stream", async () => {
    assert.equal(started.exit, null, started.stderr);
    return daemon.runtime.watchers.size > before ? true : null;
  });
  return started;
}

test("events and dropped packets are lines of JSON, and --count ends after so many with 0", async (t) => {
  const daemon = await Daemon.start(t);
  const monitor = await watch(t, daemon, "-o", "json", "--count", "3");
  daemon.runtime.events.emit("link_changed", "inside is down", { carrier: false });
  daemon.drop("not_allowed");
  daemon.drop("truncated");
  assert.deepEqual(await monitor.exited, { code: 0, signal: null });
  const events = monitor.lines.map((line) => JSON.parse(line) as Event);
  assert.deepEqual(
    events.map(({ event, reason, carrier }) => [event, reason ?? carrier]),
    [
      ["link_changed", false],
      ["drop_sample", "not_allowed"],
      ["drop_sample", "truncated"],
    ],
  );
  assert.equal(monitor.stderr, "");
  await until("its leaving", async () => (daemon.runtime.watchers.size === 0 ? true : null));
  assert.equal(daemon.gateway.sampled.at(-1), 0);
});

test("a line for people names the reason and the headers, and Ctrl-C ends with 0 and the numbers", async (t) => {
  const daemon = await Daemon.start(t);
  const monitor = await watch(t, daemon, "--reason", "not_allowed,no_route", "--reason", "truncated", "--rate", "1");
  daemon.runtime.events.emit("ready", "not asked for");
  daemon.drop("not_allowed");
  const line = await monitor.nextLine();
  const headers = "vni 100 from 192\\.0\\.2\\.1: 10\\.0\\.0\\.1:5000 > 203\\.0\\.113\\.9:9 udp, 96 bytes";
  assert.match(line, new RegExp(`^\\d\\d:\\d\\d:\\d\\d\\.\\d{6}  drop   not_allowed       ${headers}$`));
  daemon.drop("truncated");
  assert.match(await monitor.nextLine(), /drop {3}truncated /);
  // In the same second or not: shown or told, but none is lost.
  for (let i = 0; i < 4; i++) daemon.drop("not_allowed");
  const rest = await monitor.nextLine();
  assert.match(rest, /drop {3}not_allowed +(\d more not shown|vni 100 )/);
  assert.deepEqual(await monitor.stop("SIGINT"), { code: 0, signal: null });
  assert.match(monitor.stderr, /^vxpipe: watching; Ctrl-C ends\nvxpipe: \d shown(; \d more packets .*)?\n$/);
});

test("a daemon that ends, or is gone at once, is exit code 4 and a sentence", async (t) => {
  const daemon = await Daemon.start(t);
  const monitor = await watch(t, daemon, "-o", "json");
  await daemon.server.close();
  assert.equal((await monitor.exited).code, 4);
  const { error } = JSON.parse(monitor.stderr) as { error: { code: string; message: string } };
  assert.deepEqual([error.code, error.message], ["DAEMON_UNREACHABLE", `the daemon on ${daemon.socket} has ended`]);
});

test("a connection that breaks is exit code 4 and a sentence", async (t) => {
  const daemon = await Daemon.start(t);
  const broken: ServerResponse[] = [];
  daemon.server.server.on("request", (_request, response: ServerResponse) => broken.push(response));
  const monitor = await watch(t, daemon);
  for (const response of broken) response.destroy();
  assert.equal((await monitor.exited).code, 4);
  assert.match(monitor.stderr, /vxpipe: the daemon on \S+ went away: /);
});

test("what is asked wrongly of the stream is a 400, and a daemon without room answers 409", async (t) => {
  const daemon = await Daemon.start(t);
  const status = async (query: string): Promise<[number, string]> => {
    const response = await daemon.server.inject({ url: `/api/v1/events?follow=true${query}` });
    return [response.statusCode, (response.json() as { error: { code: string } }).error.code];
  };
  assert.deepEqual(await status("&reason=nope"), [400, "USAGE"]);
  assert.deepEqual(await status("&rate=x"), [400, "USAGE"]);
  const wanted = { events: true, drops: false, reasons: null, rate: 1 };
  const leave = Array.from({ length: 16 }, () => daemon.runtime.watchers.add(wanted, () => undefined));
  assert.deepEqual(await status(""), [409, "TOO_MANY_WATCHERS"]);
  const refused = run(VXPIPE, ["--socket", daemon.socket, "monitor"]);
  await assert.rejects(refused, /exit 1: vxpipe: 16 watch already/);
  for (const one of leave) one();
});

test("a slow reader costs a bounded buffer, and learns how many lines it missed", async (t) => {
  const daemon = await Daemon.start(t);
  let buffered = 0;
  let response: ServerResponse | null = null;
  daemon.server.server.on("request", (_request, one: ServerResponse) => (response = one));
  const answer = await followed(daemon.socket, "/api/v1/events?follow=true&drops=true&rate=1000");
  const lines = 19 * 1000;
  for (let index = 0; index < lines; index++) {
    daemon.drop(drops[index % drops.length]?.name ?? "");
    if (index % 100 !== 99) continue;
    daemon.runtime.watchers.poll();
    buffered = Math.max(buffered, (response as ServerResponse | null)?.writableLength ?? 0);
  }
  assert.ok(buffered > bufferMax && buffered < bufferMax + 2048, `${buffered} bytes`);
  const seen = { samples: 0, missed: 0, suppressed: 0 };
  let rest = "";
  answer.setEncoding("utf8").on("data", (text: string) => {
    const whole = `${rest}${text}`.split("\n");
    rest = whole.pop() ?? "";
    for (const line of whole) {
      const event = JSON.parse(line) as Event;
      if (event.event === "drop_sample") seen.samples++;
      seen.missed += Number(event["missed"] ?? 0);
      seen.suppressed += Number(event["suppressed"] ?? 0);
    }
  });
  answer.resume();
  await until("every line to be shown, suppressed or missed", async () =>
    seen.samples + seen.missed + seen.suppressed >= lines ? true : null,
  );
  assert.ok(seen.samples > 100 && seen.missed > 1000, JSON.stringify(seen));
  answer.destroy();
  await until("its leaving", async () => (daemon.runtime.watchers.size === 0 ? true : null));
});

test("tshark reads what --write wrote: packets, lengths, interfaces, and the reason as a comment", async (t) => {
  const daemon = await Daemon.start(t);
  const file = join(daemon.directory, "drops.pcapng");
  const monitor = await watch(t, daemon, "--write", file, "--drops", "-n", "3");
  const packet = ethernet(0x0800, Buffer.concat([ipv4("10.0.0.1", "10.0.0.2", 6, tcp(1, 4789, 2)), Buffer.alloc(400)]));
  daemon.drop("not_allowed");
  daemon.drop("no_neighbour", packet, vxSampleForm.leaving);
  daemon.drop("vxlan_flags", packet.subarray(0, 15));
  assert.equal((await monitor.exited).code, 0, monitor.stderr);
  assert.equal(monitor.lines.length, 3);
  assert.equal(statSync(file).mode & 0o777, 0o600);
  const fields = ["frame.comment", "frame.len", "frame.cap_len", "frame.interface_name", "vxlan.vni", "ip.src"];
  const read = await run("tshark", ["-r", file, "-T", "fields", ...fields.flatMap((name) => ["-e", name])]);
  assert.deepEqual(
    read
      .replace(/\n$/, "")
      .split("\n")
      .map((line) => line.split("\t")),
    [
      [
        "not_allowed: Neither inner address the allowlist looks at is on it",
        "96",
        "96",
        "received",
        "100",
        "192.0.2.1,10.0.0.1",
      ],
      [
        "no_neighbour: The next hop does not answer ARP or neighbour discovery, or too many wait for it",
        String(packet.length),
        "240",
        "leaving",
        "",
        "10.0.0.1",
      ],
      ["vxlan_flags: VXLAN header without the I flag (RFC 7348 section 5)", "15", "15", "received", "", ""],
    ],
  );
  const times = (await run("tshark", ["-r", file, "-T", "fields", "-e", "frame.time_epoch"])).trim().split("\n");
  for (const time of times) assert.ok(Math.abs(Number(time) * 1000 - Date.now()) < 60_000, time);
});

test("--write - is a capture on standard output and nothing else, and one that stops reading ends it with 0", async (t) => {
  const daemon = await Daemon.start(t);
  const shell = `"$0" --socket "$1" monitor --write - | tshark -r - -c 2 -T fields -e frame.comment; exit \${PIPESTATUS[0]}`;
  const piped = new Background("bash", ["-c", shell, VXPIPE, daemon.socket]);
  t.after(() => piped.stop("SIGKILL"));
  const flood = setInterval(() => daemon.drop("ttl_expired"), 20);
  const exit = await piped.exited.finally(() => clearInterval(flood));
  assert.deepEqual(
    piped.lines,
    Array.from({ length: 2 }, () => "ttl_expired: TTL or hop limit ran out here"),
  );
  assert.equal(exit.code, 0, piped.stderr);
});

test("a file that cannot be written is exit code 1, and says which", async (t) => {
  const daemon = await Daemon.start(t);
  const refused = run(VXPIPE, ["--socket", daemon.socket, "monitor", "--write", daemon.directory]);
  await assert.rejects(refused, new RegExp(`exit 1: vxpipe: ${daemon.directory}: it is a directory`));
  const full = new Background(VXPIPE, ["--socket", daemon.socket, "monitor", "--write", "/dev/full"]);
  assert.equal((await full.exited).code, 1);
  assert.match(full.stderr, /vxpipe: \/dev\/full: the file system is full/);
  assert.ok(statSync(daemon.directory).isDirectory());
});

test("what is not being followed stays a list", async (t) => {
  const daemon = await Daemon.start(t);
  daemon.runtime.events.emit("ready", "forwarding", { inside: "in0" });
  const { events } = (await daemon.server.inject({ url: "/api/v1/events" })).json() as { events: Event[] };
  assert.deepEqual(
    events.map(({ level, event, detail, inside }) => [level, event, detail, inside]),
    [["info", "ready", "forwarding", "in0"]],
  );
});

test("a line shows the level of an event and no control character of its detail", () => {
  const event = { time: "2026-01-01T00:00:00.5Z", level: "warn", event: "took_over", detail: "a\u001b[2Jb" } as const;
  assert.match(eventLine(event), /^\d\d:\d\d:00\.500000? {2}warn {3}took_over {9}a\\u001b\[2Jb$/);
});

function followed(socketPath: string, path: string): Promise<IncomingMessage> {
  return new Promise((resolve, reject) => {
    const asked = request({ socketPath, path }, (response) => resolve(response.pause()));
    asked.on("error", reject);
    asked.end();
  });
}
