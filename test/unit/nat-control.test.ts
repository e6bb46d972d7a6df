// Source NAT as it is asked about, over a simulated packet path: sessions, who, pools, metrics, statistics, events.
import assert from "node:assert/strict";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test, type TestContext } from "node:test";
import { fastify } from "fastify";
import { Imports } from "../../src/api/import-progress.js";
import { addRoutes } from "../../src/api/routes.js";
import {
  natCounters,
  vxNatEvent,
  vxNatRecord,
  vxConstant,
  vxCounters,
  vxDrop,
  vxSessionView,
  vxSlot,
  vxSubscriberUse,
  vxWork,
} from "../../src/pipeline/abi.gen.js";
import { AllowlistLoader } from "../../src/pipeline/allowlist/load.js";
import { Applier } from "../../src/pipeline/apply.js";
import { checkConfig } from "../../src/pipeline/config/check.js";
import { EventLog } from "../../src/pipeline/events.js";
import { planOf } from "../../src/pipeline/plan.js";
import { Runtime } from "../../src/pipeline/runtime.js";
import { Saver } from "../../src/pipeline/save.js";
import { makeMetrics } from "../../src/telemetry/metrics.js";
import { statisticsText } from "../../src/telemetry/report.js";
import { until } from "../bed/command.js";
import { simulate, type SimulatedGateway } from "./simulated-native.js";

const head = "inside: { interface: in0, vxlan: {} }\noutside: { interface: out0 }\n";
const pools = 'pools: [{ addresses: ["203.0.113.1-203.0.113.2"] }]';

interface Running {
  runtime: Runtime;
  gateway: SimulatedGateway;
  events: string[];
  records: string;
  get(path: string): Promise<{ status: number; body: unknown }>;
}

async function running(t: TestContext, more = ""): Promise<Running> {
  const directory = mkdtempSync(join(tmpdir(), "vxpipe-nat-"));
  const records = join(directory, "nat.jsonl");
  const source = `nat: { source: { ${pools}, records: { file: ${records} }${more} } }\n`;
  const { config, problems } = checkConfig(Buffer.from(head + source), "x");
  assert.ok(config !== null, JSON.stringify(problems));
  const { native, gateways } = simulate();
  const events: string[] = [];
  const log = new EventLog((_, event) => events.push(event));
  const runtime = new Runtime(new Applier(native, () => undefined), log, native);
  await runtime.start(planOf(config, null));
  const gateway = gateways[0] ?? assert.fail();
  // Worker 0 runs.
  gateway.count(vxConstant.cpusMax, vxSlot.offset.work + vxWork.offset.thread, 1);
  const loader = new AllowlistLoader();
  const server = fastify();
  const saver = new Saver("/nonexistent", loader);
  const metrics = makeMetrics(runtime, "1");
  const reload = (): Promise<never> => Promise.reject(new Error("nobody asked for it"));
  addRoutes(server, { runtime, loader, imports: new Imports(), saver, reload, metrics, version: "1" }, true);
  t.after(async () => {
    await server.close();
    await loader.close();
    await runtime.nat.stop();
    rmSync(directory, { recursive: true });
  });
  const get = async (url: string): Promise<{ status: number; body: unknown }> => {
    const response = await server.inject({ url });
    const json = String(response.headers["content-type"]).includes("json");
    return { status: response.statusCode, body: json ? response.json() : response.payload };
  };
  return { runtime, gateway, events, records, get };
}

const quad = (text: string): number => text.split(".").reduce((sum, part) => sum * 256 + Number(part), 0);

function session(inside: string, port: number, realm = 100): Uint8Array {
  const view = new DataView(new ArrayBuffer(vxSessionView.bytes));
  const { offset } = vxSessionView;
  view.setUint32(offset.realm, realm, true);
  view.setUint32(offset.insideBe, quad(inside));
  view.setUint32(offset.outsideBe, quad("203.0.113.1"));
  view.setUint32(offset.remoteBe, quad("198.51.100.7"));
  view.setUint16(offset.insidePortBe, port);
  view.setUint16(offset.outsidePortBe, 2048);
  view.setUint16(offset.remotePortBe, 53);
  view.setUint8(offset.protocol, 17);
  view.setUint32(offset.ageSeconds, 3, true);
  view.setUint32(offset.idleSeconds, 1, true);
  return new Uint8Array(view.buffer);
}

function granted(inside: string, firstPort: number, isGrant = true): Uint8Array {
  const view = new DataView(new ArrayBuffer(vxNatRecord.bytes));
  const { offset } = vxNatRecord;
  view.setBigUint64(offset.timeNs, process.hrtime.bigint(), true);
  view.setUint32(offset.realm, vxConstant.plainRealm, true);
  view.setUint32(offset.insideBe, quad(inside));
  view.setUint32(offset.publicBe, quad("203.0.113.1"));
  view.setUint16(offset.firstPort, firstPort, true);
  view.setUint16(offset.lastPort, firstPort + 127, true);
  view.setUint8(offset.event, isGrant ? vxNatEvent.blockGranted : vxNatEvent.blockReleased);
  return new Uint8Array(view.buffer);
}

test("a session is shown exactly as the contract has it", async (t) => {
  const { gateway, get } = await running(t);
  gateway.sessions = [session("10.0.0.5", 5000)];
  assert.deepEqual((await get("/api/v1/sessions")).body, {
    sessions: [
      {
        protocol: "udp",
        vni: 100,
        inside: "10.0.0.5:5000",
        outside: "203.0.113.1:2048",
        remote: "198.51.100.7:53",
        state: "active",
        ageSeconds: 3,
        idleSeconds: 1,
        worker: 0,
      },
    ],
    cursor: null,
  });
});

test("plain Ethernet inside has no VNI", async (t) => {
  const { gateway, get } = await running(t);
  gateway.sessions = [session("10.0.0.5", 5000, vxConstant.plainRealm)];
  const { body } = await get("/api/v1/sessions");
  assert.equal((body as { sessions: { vni: unknown }[] }).sessions[0]?.vni, null);
});

test("sessions come a page at a time, each one once", async (t) => {
  const { gateway, get } = await running(t);
  gateway.sessions = Array.from({ length: 5 }, (_, index) => session("10.0.0.5", 5000 + index));
  const seen: string[] = [];
  let cursor: string | null = "";
  for (let page = 0; cursor !== null; page++) {
    assert.ok(page < 3);
    const { body } = await get(`/api/v1/sessions?limit=2${cursor === "" ? "" : `&cursor=${cursor}`}`);
    const answer = body as { sessions: { inside: string }[]; cursor: string | null };
    seen.push(...answer.sessions.map(({ inside }) => inside));
    ({ cursor } = answer);
  }
  assert.deepEqual(seen, ["10.0.0.5:5000", "10.0.0.5:5001", "10.0.0.5:5002", "10.0.0.5:5003", "10.0.0.5:5004"]);
});

test("filters reach the packet path in its own form, and wrong ones are refused", async (t) => {
  const { gateway, get } = await running(t);
  await get("/api/v1/sessions?inside=10.0.0.5&outside=203.0.113.1:2048&protocol=tcp&vni=7");
  assert.deepEqual(gateway.asked, [
    {
      inside: { address: new Uint8Array([10, 0, 0, 5]) },
      outside: { address: new Uint8Array([203, 0, 113, 1]), port: 2048 },
      protocol: 6,
      vni: 7,
    },
  ]);
  assert.equal((await get("/api/v1/sessions?inside=nowhere")).status, 400);
});

test("who has a port is known as soon as it is granted, and told done only when it is in the file", async (t) => {
  const { gateway, get, records } = await running(t);
  gateway.records = [granted("10.0.0.5", 2048)];
  const { status, body } = await get("/api/v1/nat/who?outside=203.0.113.1:2100&protocol=udp");
  const { from, ...rest } = body as { from: string };
  assert.deepEqual(
    [status, rest],
    [200, { outside: "203.0.113.1:2100", protocol: "udp", vni: null, inside: "10.0.0.5", to: null }],
  );
  assert.ok(Math.abs(Date.parse(from) - Date.now()) < 5000, from);
  assert.equal(gateway.records.length, 0);
  assert.match(readFileSync(records, "utf8"), /"event":"granted".*"inside":"10.0.0.5"/);
  assert.equal((await get("/api/v1/nat/who?outside=203.0.113.1:2176")).status, 404);
});

test("a block that was granted is on the disk soon, though nobody asks and no tick comes", async (t) => {
  const { gateway, records } = await running(t);
  gateway.records = [granted("10.0.0.5", 2048)];
  await until("the packet path to be told", async () => (gateway.records.length === 0 ? true : null));
  assert.match(readFileSync(records, "utf8"), /"event":"granted"/);
});

test("who had a port is asked by a time that exists", async (t) => {
  const { get } = await running(t);
  const statusAt = async (at: string): Promise<number> =>
    (await get(`/api/v1/nat/who?outside=203.0.113.1:1024&at=${encodeURIComponent(at)}`)).status;
  for (const at of [
    "2026-02-28T23:59:59Z",
    "2028-02-29T00:00:00.123456789+05:30",
    "2026-03-01t00:00:00-23:59",
    "2026-03-01 00:00:00z",
    "2016-12-31T23:59:60Z",
    "2017-01-01T05:29:60+05:30",
  ])
    assert.equal(await statusAt(at), 404, at);
  for (const at of [
    "2026-02-29T00:00:00Z",
    "2026-04-31T00:00:00Z",
    "2026-00-01T00:00:00Z",
    "2026-01-01T24:00:00Z",
    "2026-01-01T00:60:00Z",
    "2026-01-01T00:00:61Z",
    "2026-01-01T12:00:60Z",
    "2026-01-01T00:00:00+24:00",
    "2026-01-01T00:00:00",
    "2026-01-01",
  ])
    assert.equal(await statusAt(at), 400, at);
});

test("a static forward's endpoint is its inside host's, for its protocol", async (t) => {
  const { get } = await running(
    t,
    ', forwards: [{ outside: "203.0.113.1:80", protocol: tcp, inside: "10.0.0.9:8080", vni: 7 }]',
  );
  const { body } = await get("/api/v1/nat/who?outside=203.0.113.1:80&protocol=tcp");
  const { inside, vni } = body as { inside: string; vni: number };
  assert.deepEqual([inside, vni], ["10.0.0.9", 7]);
  assert.equal((await get("/api/v1/nat/who?outside=203.0.113.1:80&protocol=udp")).status, 404);
});

test("a pool's use is of the blocks that can be granted at all", async (t) => {
  const { gateway, get } = await running(t);
  // 1024-65535 are 504 blocks of 128.
  gateway.pool = {
    addresses: new Uint8Array([203, 0, 113, 1, 203, 0, 113, 2]),
    freeBlocks: new Uint32Array([504, 126]),
  };
  assert.deepEqual((await get("/api/v1/nat/pool")).body, {
    addresses: [
      { address: "203.0.113.1", blocks: 504, used: 0, utilization: 0 },
      { address: "203.0.113.2", blocks: 504, used: 378, utilization: 0.75 },
    ],
  });
  const metrics = String((await get("/metrics")).body);
  assert.match(metrics, /^cgnat_port_pool_utilization\{address="203.0.113.2"\} 0.75$/m);
});

test("the largest subscribers are shown as the packet path ranks them", async (t) => {
  const { gateway, get } = await running(t);
  const view = new DataView(new ArrayBuffer(vxSubscriberUse.bytes));
  view.setUint32(vxSubscriberUse.offset.realm, 7, true);
  view.setUint32(vxSubscriberUse.offset.insideBe, quad("10.0.0.5"));
  view.setUint32(vxSubscriberUse.offset.sessions, 12, true);
  view.setUint32(vxSubscriberUse.offset.blocks, 2, true);
  gateway.subscribers = new Uint8Array(view.buffer);
  assert.deepEqual((await get("/api/v1/nat/subscribers")).body, {
    subscribers: [{ vni: 7, inside: "10.0.0.5", sessions: 12, blocks: 2 }],
  });
});

function offsetOf(name: string): number {
  return vxSlot.offset.nat + (natCounters.find((one) => one.name === name)?.offset ?? assert.fail());
}

test("an engine's counters are in statistics and metrics, summed and by worker", async (t) => {
  const { gateway, runtime, get } = await running(t);
  gateway.count(vxConstant.cpusMax + 1, vxSlot.offset.work + vxWork.offset.thread, 2);
  gateway.count(vxConstant.cpusMax, offsetOf("sessions"), 3);
  gateway.count(vxConstant.cpusMax + 1, offsetOf("sessions"), 4);
  const { nat } = runtime.stats();
  assert.deepEqual(
    [nat?.sessions, nat?.workers.map(({ id, sessions }) => [id, sessions])],
    [
      7,
      [
        [0, 3],
        [1, 4],
      ],
    ],
  );
  assert.deepEqual(nat?.handoffs, [{ from: 0, to: 1, enqueued: 3, dequeued: 2, dropped: 1 }]);
  const metrics = String((await get("/metrics")).body);
  assert.match(metrics, /^cgnat_nat_sessions_active 7$/m);
  assert.match(metrics, /^vxpipe_nat_sessions\{worker="1"\} 4$/m);
  assert.match(metrics, /^vxpipe_nat_blocks_granted_total\{worker="0"\} 0$/m);
  assert.match(statisticsText(runtime.stats()), /^sessions +7 +3 +4$/m);
});

test("what runs out is an event, once, with its own name", async (t) => {
  const { gateway, runtime, events } = await running(t);
  const drop = (reason: keyof typeof vxDrop): void =>
    gateway.count(vxConstant.cpusMax, vxCounters.offset.dropped + vxDrop[reason] * 8, 1);
  const names = (): string[] => events.filter((event) => event.startsWith("nat_"));
  runtime.tick();
  assert.deepEqual(names(), []);
  drop("noBlock");
  runtime.tick();
  drop("noBlock");
  runtime.tick();
  assert.deepEqual(names(), ["nat_pool_exhausted"]);
  drop("subscriberLimit");
  drop("sessionTableFull");
  // Not the pool's fault: the engine counts both.
  drop("noBlock");
  gateway.count(vxConstant.cpusMax, offsetOf("records_full"), 1);
  runtime.tick();
  assert.deepEqual(names(), ["nat_pool_exhausted", "nat_records_lag", "nat_sessions_full", "nat_subscriber_limited"]);
});

test("what the packet path had not told when it ended is in the file, and nobody has a port any more", async (t) => {
  const { gateway, runtime, records, get } = await running(t);
  gateway.records = [granted("10.0.0.5", 2048)];
  await get("/api/v1/nat/who?outside=203.0.113.1:2100");
  gateway.records = [granted("10.0.0.6", 4096)];
  runtime.phase = "stopping";
  await runtime.applier.stop(gateway.counters.byteLength);
  await runtime.endNat();
  const events = readFileSync(records, "utf8")
    .trim()
    .split("\n")
    .map((line) => JSON.parse(line) as { event: string; inside?: string })
    .map(({ event, inside = "" }) => `${event} ${inside}`.trim());
  assert.deepEqual(events, ["start", "granted 10.0.0.5", "granted 10.0.0.6", "released 10.0.0.5", "released 10.0.0.6"]);
});

test("the packet path is made with our end of the tunnels, and counts hops down", async (t) => {
  const { gateway } = await running(t, ", mssClamp: auto");
  assert.deepEqual([...(gateway.plan.local ?? [])].slice(12), [192, 0, 2, 1]);
  assert.equal(gateway.plan.decrementTtl, true);
  assert.equal(gateway.plan.datapath, "afxdp");
  assert.equal(gateway.plan.sourceNat?.mssClamp, "auto");
});

test("static rules are refused at run time while there is source NAT", async (t) => {
  const { runtime } = await running(t);
  const { putRule } = await import("../../src/api/edits.js");
  const rule = { protocol: "udp", port: 53, to: "192.0.2.1:53" };
  await assert.rejects(putRule(runtime, rule, null), { code: "NAT_RULES_ONE_WAY" });
});
