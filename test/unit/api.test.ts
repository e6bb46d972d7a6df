// The HTTP routes over a simulated gateway: what they answer, and what reaches the packet path.
import assert from "node:assert/strict";
import { test, type TestContext } from "node:test";
import { fastify, type FastifyInstance, type InjectOptions } from "fastify";
import { progressText } from "../../src/cli/progress.js";
import { Imports } from "../../src/api/import-progress.js";
import { portStreamsMax } from "../../src/api/follow.js";
import { addRoutes } from "../../src/api/routes.js";
import { vxCounters, vxSlot } from "../../src/pipeline/abi.gen.js";
import { AllowlistLoader } from "../../src/pipeline/allowlist/load.js";
import { nothingAllowed } from "../../src/pipeline/allowlist/edit.js";
import { Applier } from "../../src/pipeline/apply.js";
import { checkConfig } from "../../src/pipeline/config/check.js";
import { EventLog } from "../../src/pipeline/events.js";
import { planOf } from "../../src/pipeline/plan.js";
import { Saver } from "../../src/pipeline/save.js";
import { Runtime } from "../../src/pipeline/runtime.js";
import { makeMetrics } from "../../src/telemetry/metrics.js";
import { simulate, type SimulatedGateway } from "./simulated-native.js";

interface Running {
  gateway: SimulatedGateway;
  runtime: Runtime;
  server: FastifyInstance;
  /** Every one there is: method and path. */
  routes: [string, string][];
  /** Status and body. */
  ask(options: InjectOptions): Promise<[number, unknown]>;
}

const base = "inside: { interface: in0, vxlan: {} }\noutside: { interface: out0 }\n";

async function running(t: TestContext, extra = "allowlist:\n", mayChange = true): Promise<Running> {
  const { config } = checkConfig(Buffer.from(base + extra), "x");
  assert.ok(config !== null);
  const { native, gateways } = simulate();
  const runtime = new Runtime(new Applier(native, () => undefined), new EventLog(() => undefined), native);
  await runtime.start(planOf(config, config.allowlist === undefined ? null : nothingAllowed));
  const loader = new AllowlistLoader();
  const server = fastify();
  const routes: [string, string][] = [];
  server.addHook("onRoute", ({ method, url }) => {
    for (const one of [method].flat()) routes.push([one, url]);
  });
  const saver = new Saver("/nonexistent/vxpipe.yaml", loader);
  const served = {
    runtime,
    loader,
    imports: new Imports(),
    saver,
    reload: noReload,
    metrics: makeMetrics(runtime, "1.2.3"),
    version: "1.2.3",
  };
  addRoutes(server, served, mayChange);
  t.after(async () => {
    await server.close();
    await loader.close();
  });
  const gateway = gateways[0] ?? assert.fail();
  const ask = async (options: InjectOptions): Promise<[number, unknown]> => {
    const response = await server.inject(options);
    return [response.statusCode, response.json()];
  };
  return { gateway, runtime, server, routes, ask };
}

const noReload = (): Promise<never> => Promise.reject(new Error("nobody asked for it"));

function codeOf([status, body]: [number, unknown]): [number, string] {
  return [status, (body as { error: { code: string } }).error.code];
}

function exact4(gateway: SimulatedGateway): number[] {
  return [...(gateway.allowlist?.exact4 ?? [])];
}

test("the gateway is filled before it is attached", async (t) => {
  const { gateway } = await running(t);
  assert.deepEqual(gateway.calls, ["tryOutside", "setAllowlist", "setRules", "attach"]);
});

test("added addresses reach the packet path before the answer", async (t) => {
  const { gateway, ask } = await running(t);
  const entries = ["192.0.2.1", "192.0.2.1", "10.0.0.0/8"];
  const answer = await ask({ method: "POST", url: "/api/v1/allowlist/entries", payload: { entries } });
  assert.deepEqual(answer, [200, { added: 2, alreadyListed: 1, total: 2 }]);
  assert.deepEqual(exact4(gateway), [192, 0, 2, 1]);
  assert.deepEqual(await ask({ url: "/api/v1/allowlist" }), [
    200,
    { enforced: true, match: "either", total: 2, entries: ["192.0.2.1", "10.0.0.0/8"], organizations: [] },
  ]);
  assert.deepEqual(await ask({ url: "/api/v1/allowlist/test?address=10.9.9.9" }), [
    200,
    { address: "10.9.9.9", allowed: true, by: "10.0.0.0/8" },
  ]);
});

test("as many addresses as a command line holds are added and removed at once", async (t) => {
  const { runtime, ask } = await running(t);
  const entries = Array.from(
    { length: 100_000 },
    (_, index) => `10.${index >> 16}.${(index >> 8) & 255}.${index & 255}`,
  );
  const url = "/api/v1/allowlist/entries";
  assert.equal((await ask({ method: "POST", url, payload: { entries } }))[0], 200);
  assert.equal(runtime.plan.allowlist?.count, entries.length);
  assert.equal((await ask({ method: "DELETE", url, payload: { entries } }))[0], 200);
  assert.equal(runtime.plan.allowlist?.count, 0);
});

test("one wrong address among several changes nothing", async (t) => {
  const { gateway, ask } = await running(t);
  const before = gateway.calls.length;
  const payload = { entries: ["192.0.2.1", "192.0.2.999"] };
  assert.deepEqual(codeOf(await ask({ method: "POST", url: "/api/v1/allowlist/entries", payload })), [
    400,
    "ADDRESS_INVALID",
  ]);
  assert.deepEqual(
    codeOf(await ask({ method: "DELETE", url: "/api/v1/allowlist/entries", payload: { entries: ["192.0.2.1"] } })),
    [404, "ADDRESS_NOT_LISTED"],
  );
  assert.equal(gateway.calls.length, before);
});

test("without an allowlist section edits need enforce, and with it only what is listed is allowed", async (t) => {
  const { gateway, ask } = await running(t, "");
  assert.equal(gateway.allowlist, null);
  const payload = { entries: ["192.0.2.1"] };
  for (const options of [
    { method: "POST", url: "/api/v1/allowlist/entries", payload },
    { method: "DELETE", url: "/api/v1/allowlist" },
    {
      method: "PUT",
      url: "/api/v1/allowlist?name=x",
      headers: { "content-type": "application/octet-stream" },
      payload: "192.0.2.1",
    },
  ] as const) {
    assert.deepEqual(codeOf(await ask(options)), [409, "ALLOWLIST_NOT_ENFORCED"], options.method);
  }
  assert.equal((await ask({ url: "/api/v1/allowlist/test?address=8.8.8.8" }))[0], 200);
  const [status] = await ask({ method: "POST", url: "/api/v1/allowlist/entries?enforce=true", payload });
  assert.equal(status, 200);
  assert.deepEqual(exact4(gateway), [192, 0, 2, 1]);
});

test("an import replaces the list, a dry run does not", async (t) => {
  const { gateway, ask } = await running(t);
  await ask({ method: "POST", url: "/api/v1/allowlist/entries", payload: { entries: ["192.0.2.9"] } });
  const put = (query: string, payload: string): Promise<[number, unknown]> =>
    ask({
      method: "PUT",
      url: `/api/v1/allowlist?name=list.txt${query}`,
      headers: { "content-type": "application/octet-stream" },
      payload,
    });
  const found = { duplicates: 0, covered: 0, skippedCount: 0, skipped: [], warnings: [] };
  const change = { added: 2, removed: 1, total: 2, ...found };
  assert.deepEqual(await put("&dryRun=true", "192.0.2.1\n192.0.2.2\n"), [200, { dryRun: true, ...change }]);
  assert.deepEqual(exact4(gateway), [192, 0, 2, 9]);
  assert.deepEqual(await put("", "192.0.2.1\n192.0.2.2\n"), [200, { dryRun: false, ...change }]);
  assert.deepEqual(exact4(gateway), [192, 0, 2, 1, 192, 0, 2, 2]);
  const [status, body] = await put("", "192.0.2.1\nx\n");
  assert.equal(status, 400);
  assert.deepEqual((body as { error: { problems: unknown[] } }).error.problems, [
    { file: "list.txt", line: 2, column: 1, message: '"x" is not an IP address or prefix' },
  ]);
});

test("an import says how far it is, under the name it was given, until it is over", async (t) => {
  const { gateway, ask } = await running(t);
  const { setAllowlist } = gateway;
  let during: unknown = null;
  gateway.setAllowlist = async (list) => {
    [, during] = await ask({ url: "/api/v1/allowlist/imports" });
    await setAllowlist.call(gateway, list);
  };
  const [status] = await ask({
    method: "PUT",
    url: "/api/v1/allowlist?name=x&id=mine",
    headers: { "content-type": "application/octet-stream" },
    payload: "192.0.2.1\n192.0.2.2\n",
  });
  assert.equal(status, 200);
  assert.deepEqual(during, { imports: [{ id: "mine", phase: "filling", done: 0, total: 2 }] });
  assert.deepEqual(await ask({ url: "/api/v1/allowlist/imports" }), [200, { imports: [] }]);
  const sentences = [
    { phase: "receiving", done: 512, total: 1024 },
    { phase: "reading", done: 0, total: 0 },
    { phase: "comparing", done: 0, total: 1_000_000 },
    { phase: "filling", done: 0, total: 1_000_000 },
  ] as const;
  assert.deepEqual(sentences.map(progressText), [
    "receiving 1,024 bytes: 50 %",
    "reading 0 bytes: 100 %",
    "comparing 1,000,000 entries with the list in force",
    "filling the kernel's tables with 1,000,000 entries",
  ]);
});

test("rules are added and removed at run time", async (t) => {
  const { gateway, ask } = await running(t);
  const rule = { protocol: "udp", port: 53, to: "192.0.2.1:5353" };
  assert.deepEqual(await ask({ method: "POST", url: "/api/v1/rules", payload: { ...rule, port: "53" } }), [
    200,
    { rule, added: true },
  ]);
  assert.deepEqual([...gateway.rules], [0, 53, 17, 0, 192, 0, 2, 1, 0x14, 0xe9, 0, 0]);
  assert.deepEqual(await ask({ url: "/api/v1/rules" }), [200, { rules: [rule] }]);
  assert.deepEqual(codeOf(await ask({ method: "DELETE", url: "/api/v1/rules?protocol=tcp&port=53" })), [
    404,
    "RULE_NOT_FOUND",
  ]);
  assert.equal((await ask({ method: "DELETE", url: "/api/v1/rules?protocol=udp&port=53" }))[0], 200);
  assert.equal(gateway.rules.length, 0);
});

test("edits made at the same time all take effect", async (t) => {
  const { runtime, ask } = await running(t);
  const entries = Array.from({ length: 40 }, (_, index) => `192.0.2.${index}`);
  await Promise.all(
    entries.map((entry) => ask({ method: "POST", url: "/api/v1/allowlist/entries", payload: { entries: [entry] } })),
  );
  assert.equal(runtime.plan.allowlist?.count, 40);
});

test("malformed requests are answered with a code", async (t) => {
  const { ask } = await running(t);
  assert.deepEqual(codeOf(await ask({ url: "/nope" })), [404, "NOT_FOUND"]);
  assert.deepEqual(codeOf(await ask({ url: "/api/v1/allowlist/test" })), [400, "REQUEST_INVALID"]);
  assert.deepEqual(codeOf(await ask({ method: "POST", url: "/api/v1/rules", payload: [] })), [400, "REQUEST_INVALID"]);
  const headers = { "content-type": "application/json" };
  assert.deepEqual(codeOf(await ask({ method: "POST", url: "/api/v1/rules", headers, payload: "{" })), [
    400,
    "REQUEST_INVALID",
  ]);
  assert.deepEqual(codeOf(await ask({ method: "POST", url: "/api/v1/rules", payload: { protocol: "udp", port: 0 } })), [
    400,
    "RULE_INVALID",
  ]);
});

test("readiness names everything that is missing", async (t) => {
  const { gateway, runtime, ask } = await running(t);
  assert.deepEqual(await ask({ url: "/readyz" }), [200, { ready: true, missing: [] }]);
  Object.assign(gateway.state, { attached: false, workersAlive: false, outsideCarrier: false });
  assert.deepEqual(await ask({ url: "/readyz" }), [
    503,
    {
      ready: false,
      missing: [
        "the XDP programs are not attached",
        "the workers are not running",
        "the outside interface out0 has no carrier",
      ],
    },
  ]);
  runtime.phase = "stopping";
  assert.deepEqual(await ask({ url: "/readyz" }), [503, { ready: false, missing: ["the daemon is stopping"] }]);
  assert.equal((await ask({ url: "/healthz" }))[0], 200);
});

test("statistics and metrics show what the counters hold", async (t) => {
  const { gateway, server, ask } = await running(t);
  gateway.count(0, vxCounters.offset.received, 5);
  gateway.count(0, vxCounters.offset.forwarded, 2);
  gateway.count(0, vxCounters.offset.dropped + 7 * 8, 3);
  gateway.count(0, vxSlot.offset.latency + 8, 4);
  gateway.count(0, vxSlot.offset.latency + 23 * 8, 1);
  gateway.count(0, vxSlot.offset.latencySumNs, 2000);
  const [, stats] = (await ask({ url: "/api/v1/stats" })) as [
    number,
    { inside: Record<string, unknown>; workers: Record<string, unknown>[] },
  ];
  assert.deepEqual([stats.inside["received"], stats.inside["forwarded"], stats.inside["pending"]], [5, 2, 0]);
  assert.deepEqual((stats.inside["dropped"] as Record<string, number>)["not_allowed"], 3);
  const cpu = gateway.plan.workers.cpus[0];
  const shown = stats.workers.map((worker) => ({ ...worker, work: undefined }));
  assert.deepEqual(shown, [
    { id: 0, role: "worker", cpu, packets: 0, pps: 0, work: undefined },
    { role: "xdp", cpu: 0, packets: 5, pps: 0, work: undefined },
  ]);
  const text = (await server.inject({ url: "/metrics" })).body;
  for (const line of [
    "cgnat_packets_processed_total 5",
    "cgnat_nat_sessions_active 0",
    "# TYPE cgnat_port_pool_utilization gauge",
    "# TYPE cgnat_packet_latency_us histogram",
    'cgnat_packet_latency_us_bucket{le="0.128"} 0',
    'cgnat_packet_latency_us_bucket{le="0.256"} 4',
    'cgnat_packet_latency_us_bucket{le="+Inf"} 5',
    "cgnat_packet_latency_us_sum 2",
    "cgnat_packet_latency_us_count 5",
    'cgnat_errors_total{reason="not_allowed"} 3',
    `vxpipe_worker_packets_total{worker="xdp0",cpu="0",role="xdp"} 5`,
    `vxpipe_worker_packets_total{worker="0",cpu="${cpu}",role="worker"} 0`,
    'vxpipe_dropped_total{direction="inside",reason="not_allowed"} 3',
    'vxpipe_pending_packets{direction="inside"} 0',
    "vxpipe_ready 1",
  ]) {
    assert.ok(
      text.split("\n").includes(line),
      `${line} is not among:\n${text
        .split("\n")
        .filter((one) => one.startsWith(line.slice(0, 20)))
        .join("\n")}`,
    );
  }
});

test("statistics stay readable while and after the gateway stops", async (t) => {
  const { gateway, runtime, ask } = await running(t);
  gateway.count(0, vxCounters.offset.received, 5);
  runtime.tick();
  runtime.phase = "stopping";
  gateway.counters = new ArrayBuffer(0);
  const [status, body] = (await ask({ url: "/api/v1/stats" })) as [number, { inside: { received: number } }];
  assert.deepEqual([status, body.inside.received], [200, 5]);
});

test("whatever is not for reading is refused where only reading is allowed", async (t) => {
  const { ask, gateway, routes } = await running(t, "allowlist:\n", false);
  const before = gateway.calls.length;
  const changing = routes.filter(([method]) => method !== "GET" && method !== "HEAD");
  assert.ok(changing.length >= 6);
  for (const [method, url] of changing) {
    const [status, code] = codeOf(await ask({ method: method as "POST", url }));
    assert.deepEqual([status, code], [403, "NOT_FROM_HERE"], `${method} ${url}`);
  }
  assert.equal(gateway.calls.length, before);
});

test("where only reading is allowed there are events, and no samples of packets", async (t) => {
  const { ask, runtime } = await running(t, "allowlist:\n", false);
  const [status, body] = await ask({ url: "/api/v1/events" });
  assert.equal(status, 200);
  assert.ok(Array.isArray((body as { events: unknown[] }).events));
  for (const query of [
    "drops=true",
    "events=true&drops=true",
    "reason=not_allowed",
    "events=true&reason=not_allowed",
  ]) {
    assert.deepEqual(codeOf(await ask({ url: `/api/v1/events?follow=true&${query}` })), [403, "NOT_FROM_HERE"], query);
  }
  assert.equal(runtime.watchers.size, 0);
});

test("a stream where only reading is allowed has events, and leaves room for the socket's", async (t) => {
  const { runtime, server } = await running(t, "allowlist:\n", false);
  const url = `${await server.listen({ host: "127.0.0.1", port: 0 })}/api/v1/events?follow=true`;
  const streams = await Promise.all(Array.from({ length: portStreamsMax }, () => fetch(url)));
  const refused = await fetch(url);
  assert.deepEqual(codeOf([refused.status, await refused.json()]), [409, "TOO_MANY_WATCHERS"]);
  runtime.watchers.add({ events: true, drops: true, reasons: null, rate: 1 }, () => undefined)();
  runtime.events.emit("link_changed", "inside is down");
  for (const { body } of streams) {
    const reader = body?.getReader() ?? assert.fail();
    const { value } = await reader.read();
    assert.match(new TextDecoder().decode(value), /^\{[^\n]*"event":"link_changed"[^\n]*\}\n$/);
    await reader.cancel();
  }
});
