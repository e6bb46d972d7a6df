// The two listeners over a simulated gateway, asked by hand: what is not HTTP, what is too much of it, and what comes from
// where it should not.
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { existsSync, statSync } from "node:fs";
import { connect, createServer, type AddressInfo, type Socket } from "node:net";
import { once } from "node:events";
import { join } from "node:path";
import { test, type TestContext } from "node:test";
import { listenSocket, Port, portConnectionsMax } from "../../src/api/server.js";
import { until } from "../bed/command.js";
import { Daemon } from "./simulated-daemon.js";

interface Answer {
  status: string;
  body: string;
}

type Where = string | { host: string; port: number };

function open(where: Where): Socket {
  return typeof where === "string" ? connect(where) : connect(where.port, where.host);
}

/** Sends a text and reads to the end. */
async function send(where: Where, text: string): Promise<Answer> {
  const socket = open(where);
  socket.write(text);
  let answer = "";
  for await (const piece of socket.setEncoding("latin1") as AsyncIterable<string>) answer += piece;
  const [head = "", body = ""] = answer.split("\r\n\r\n");
  return { status: head.split(" ")[1] ?? "", body };
}

async function freePort(): Promise<number> {
  const server = createServer().listen(0, "127.0.0.1");
  await once(server, "listening");
  const { port } = server.address() as AddressInfo;
  server.close();
  await once(server, "close");
  return port;
}

async function openPort(t: TestContext, daemon: Daemon): Promise<{ host: string; port: number }> {
  const where = { host: "127.0.0.1", port: await freePort() };
  const port = await Port.open(`${where.host}:${where.port}`, daemon.served);
  t.after(() => port.close());
  return where;
}

const head = "HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n";

test("whatever is wrong with a request, the answer is an error object of ours", async (t) => {
  const daemon = await Daemon.start(t, true);
  for (const where of [daemon.socket, await openPort(t, daemon)]) {
    for (const [text, expected] of [
      [`GET /%zz ${head}\r\n`, "400"],
      [`GET /${"a".repeat(30_000)} ${head}\r\n`, "431"],
      ["\x16\x03\x01\x02 this is TLS\r\n\r\n", "400"],
      [`FOO /healthz ${head}\r\n`, "400"],
      [`GET /nope ${head}\r\n`, "404"],
      [`TRACE /healthz ${head}\r\n`, "404"],
      [`HEAD /api/v1/events?follow=true ${head}\r\n`, "404"],
    ] as const) {
      const { status, body } = await send(where, text);
      assert.equal(status, expected, text.slice(0, 40));
      if (text.startsWith("HEAD")) continue;
      const { error } = JSON.parse(body) as { error: Record<string, unknown> };
      assert.deepEqual(Object.keys(error), ["code", "message", "hint", "problems"], text.slice(0, 40));
    }
  }
});

test("the port has so many connections and no more, so that the socket keeps its own", async (t) => {
  const daemon = await Daemon.start(t, true);
  const where = await openPort(t, daemon);
  const open1 = Array.from({ length: portConnectionsMax + 20 }, () => open(where));
  t.after(() => open1.forEach((socket) => socket.destroy()));
  let closed = 0;
  for (const socket of open1) socket.on("error", () => undefined).on("close", () => closed++);
  await until("20 connections too many to be closed", () => Promise.resolve(closed === 20 ? true : null));
  assert.equal((await send(daemon.socket, `GET /healthz ${head}\r\n`)).status, "200");
});

test("on a loopback address the port answers to addresses and localhost, not to names that a browser was led here by", async (t) => {
  const daemon = await Daemon.start(t, true);
  const where = await openPort(t, daemon);
  for (const [name, expected] of [
    ["evil.example:9470", "403"],
    ["localhost.evil.example", "403"],
    ["localhost", "200"],
    ["LOCALHOST:9470", "200"],
    ["127.0.0.1:9470", "200"],
    ["[::1]:9470", "200"],
    ["198.51.100.1", "200"],
  ] as const) {
    const text = `GET /api/v1/rules ${head}\r\n`.replace("Host: localhost", `Host: ${name}`);
    assert.equal((await send(where, text)).status, expected, name);
  }
  const socket = await send(daemon.socket, `GET /api/v1/rules ${head}\r\n`.replace("localhost", "anything"));
  assert.equal(socket.status, "200");
});

const fullQueue = `import socket, sys
server = socket.socket(socket.AF_UNIX); server.bind(sys.argv[1]); server.listen(0)
waiting = []
try:
    while True:
        waiting.append(socket.socket(socket.AF_UNIX)); waiting[-1].setblocking(False); waiting[-1].connect(sys.argv[1])
except BlockingIOError:
    print("full", flush=True)
sys.stdin.read()`;

test("a socket whose owner is stopped, and whose queue is full, is still its owner's; one that nobody listens on is taken", async (t) => {
  const daemon = await Daemon.start(t, true);
  const path = join(daemon.directory, "full.sock");
  const owner = spawn("python3", ["-c", fullQueue, path]);
  t.after(() => owner.kill());
  await once(owner.stdout, "data");
  await assert.rejects(listenSocket(path, daemon.served), { code: "DAEMON_RUNNING" });
  assert.ok(existsSync(path));
  owner.kill("SIGKILL");
  await once(owner, "exit");
  const server = await listenSocket(path, daemon.served);
  assert.equal((await send(path, `GET /healthz ${head}\r\n`)).status, "200");
  assert.equal(statSync(path).mode & 0o777, 0o660);
  await server.close();
});
