// A running gateway under its operator's hands: edits that act on the next packet, lists that change under load, what it
// says of itself over HTTP and in the kernel's own tools. What packets and counters show is tested by each datapath; a swap under
// load, which only XDP sees, and what the control plane refuses are the same whoever sends, and are tested once.
// Needs root.
import assert from "node:assert/strict";
import { request } from "node:http";
import { existsSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { beforeEach, describe, test } from "node:test";

import { ADDRESS } from "../bed/bed.js";
import { CommandError, ROOT, run, until } from "../bed/command.js";
import { type Config, DATAPATHS, writeConfig, bedConfig } from "../bed/daemon.js";
import { bpfObjects, bpfObjectsOf } from "../bed/remains.js";
import { generate, type Load, startLoad } from "../bed/tools.js";
import { agreed, dropsOf, receivedIs, ROOT_ONLY, settled } from "./ledger.js";
import { attachment } from "./remaining.js";
import { makeScene } from "./scene.js";

const LOAD: Load = { destination: ADDRESS.beyond, ports: "9", sources: "10.0.0.1" };
const NAMED_MAPS = [
  "stats_map",
  "ip_allowlist",
  "nat_map",
  "interface_map",
  "redirect_map",
  "packet_ringbuf",
  "percpu_ringbufs",
];
const METRICS = [
  "cgnat_packets_processed_total",
  "cgnat_nat_sessions_active",
  "cgnat_port_pool_utilization",
  "cgnat_packet_latency_us",
  "cgnat_errors_total",
  "vxpipe_worker_packets_total",
];
const VXPIPE = join(ROOT, "bin/vxpipe");

/** How a command that has to fail does. */
async function failure(command: Promise<string>): Promise<{ code: number | string | null; stderr: string }> {
  const error = await command.then(
    () => null,
    (reason: unknown) => reason,
  );
  assert.ok(error instanceof CommandError, "it did not fail");
  return { code: error.code, stderr: error.stderr };
}

for (const datapath of DATAPATHS)
  describe(`by ${datapath}, the running gateway`, ROOT_ONLY, () => {
    const scene = makeScene();
    const start = (overrides: Config = {}): Promise<void> =>
      scene.start({ datapath, ...overrides }, { rule: `31765=${ADDRESS.target}:8081,31766=${ADDRESS.target}:8082` });

    /** What becomes of the very next packet. */
    async function nextPacket(load: Load = {}): Promise<string> {
      const earlier = await scene.daemon.peek();
      await generate(scene.bed, { ...LOAD, count: 1, ...load });
      await receivedIs(scene.daemon, earlier.inside.received + 1);
      const { inside } = await settled(scene.daemon);
      const reason = Object.keys(inside.dropped).find(
        (name) => (inside.dropped[name] ?? 0) > (earlier.inside.dropped[name] ?? 0),
      );
      return reason ?? (inside.forwarded > earlier.inside.forwarded ? "forwarded" : "passed");
    }

    describe("with an allowlist", () => {
      beforeEach(async () => {
        writeFileSync(join(scene.bed.directory, "list.txt"), "10.0.0.1\n192.0.2.128/25\n");
        await start({ allowlist: { file: "list.txt", match: "source" } });
      });

      test("obeys every edit of it from the next packet on", async () => {
        const list = (...args: string[]): Promise<string> => scene.daemon.cli("allowlist", ...args);
        assert.equal(await nextPacket(), "forwarded");
        await list("remove", "10.0.0.1");
        assert.equal(await nextPacket(), "not_allowed");
        await list("add", "10.0.0.0/30");
        assert.equal(await nextPacket(), "forwarded");
        await list("clear");
        assert.equal(await nextPacket(), "not_allowed");
        writeFileSync(join(scene.bed.directory, "new.txt"), "10.0.0.1 # again\n2001:db8::/32\n");
        await list("import", join(scene.bed.directory, "new.txt"), "--dry-run");
        assert.equal(await nextPacket(), "not_allowed");
        await list("import", join(scene.bed.directory, "new.txt"));
        assert.equal(await nextPacket(), "forwarded");
        assert.equal(await nextPacket({ sources: "192.0.2.200" }), "not_allowed");
        const { entries } = JSON.parse(await list("list", "-o", "json")) as { entries: string[] };
        assert.deepEqual(entries.sort(), ["10.0.0.1", "2001:db8::/32"]);
      });

      if (datapath === "xdp")
        test("says with exit code 3 what is not on it, and changes nothing", async () => {
          for (const args of [
            ["remove", "10.0.0.2"],
            ["test", "10.0.0.2"],
          ]) {
            const { code, stderr } = await failure(scene.daemon.cli("allowlist", ...args, "-o", "json"));
            assert.equal(code, 3);
            assert.equal((JSON.parse(stderr) as { error: { code: string } }).error.code, "ADDRESS_NOT_LISTED");
          }
          assert.match(await scene.daemon.cli("allowlist", "test", "192.0.2.200"), /allowed/);
          assert.equal(await nextPacket(), "forwarded");
        });

      if (datapath === "xdp")
        test("forgets edits at a reload, and says so", async () => {
          await scene.daemon.cli("allowlist", "clear");
          await scene.daemon.cli(
            "nat",
            "rule",
            "add",
            "--protocol",
            "udp",
            "--port",
            "9",
            "--to",
            `${ADDRESS.target}:8081`,
          );
          assert.equal(await nextPacket(), "not_allowed");
          writeFileSync(join(scene.bed.directory, "list.txt"), "10.0.0.1\n10.0.0.7\n");
          scene.daemon.process.kill("SIGHUP");
          await until("the reload", async () =>
            /"event":"reloaded"|reloaded/.test(scene.daemon.process.stderr.split("reload_dropped_edits")[1] ?? "")
              ? true
              : null,
          );
          assert.match(scene.daemon.process.stderr, /dropped edits made at run time: allowlist clear; nat rule add/);
          assert.equal(await nextPacket(), "forwarded");
          assert.equal(await nextPacket({ sources: "10.0.0.7" }), "forwarded");
          assert.deepEqual(JSON.parse(await scene.daemon.get("/api/v1/rules")), { rules: [] });
        });

      if (datapath === "xdp")
        test("keeps the old configuration when the new one is wrong", async () => {
          writeConfig(scene.bed, bedConfig(scene.bed, { allowlist: { file: "nowhere.txt" } }));
          scene.daemon.process.kill("SIGHUP");
          await until("the refusal", async () => (scene.daemon.process.stderr.includes("reload_failed") ? true : null));
          assert.equal(await nextPacket(), "forwarded");
          assert.equal(await nextPacket({ sources: "10.0.0.7" }), "not_allowed");
          assert.equal(await scene.daemon.status("/readyz"), 200);
        });

      if (datapath === "xdp")
        test("never refuses an address that is on both lists while they are swapped forty times under load", async () => {
          const filler = (third: number): string =>
            Array.from({ length: 5000 }, (_, index) => `172.${third}.${index >> 8}.${index & 255}`).join("\n");
          const lists = [`10.0.0.1\n${filler(20)}`, `${filler(21)}\n10.0.0.0/31\n10.0.0.1`].map((text) =>
            Buffer.from(text),
          );
          const { process, ended } = startLoad(scene.bed, { ...LOAD, cpu: 0, duration: 60, rate: 300_000 });
          await receivedIs(scene.daemon, 1000);
          for (let swap = 0; swap < 40; swap++) await putList(scene.daemon.socket, lists[swap % 2] ?? Buffer.alloc(0));
          process.kill("SIGTERM");
          const { sent } = await ended;
          await receivedIs(scene.daemon, sent);
          const { stats, arrived } = await agreed(scene.daemon, scene.sink);
          // That none is lost either is lists.test.ts's, which has the CPUs to itself.
          const { tx_refused: late = 0, ...others } = dropsOf(stats);
          assert.deepEqual(others, {});
          assert.equal(arrived.packets + late, sent);
        });
    });

    describe("with static rules", () => {
      beforeEach(() => start());

      test("obeys every edit of them from the next packet on", async () => {
        const load = { ports: "31765" };
        const key = ["--protocol", "udp", "--port", "31765"];
        const translated = async (): Promise<number> =>
          ((await scene.daemon.peek()).inside as unknown as { translated: number }).translated;
        assert.equal(await nextPacket(load), "forwarded");
        assert.equal(await translated(), 0);
        await scene.daemon.cli("nat", "rule", "add", ...key, "--to", `${ADDRESS.target}:8081`);
        assert.equal(await nextPacket(load), "forwarded");
        assert.equal(await translated(), 1);
        const { rules } = JSON.parse(await scene.daemon.cli("nat", "rule", "list", "-o", "json")) as {
          rules: object[];
        };
        assert.deepEqual(rules, [{ protocol: "udp", port: 31765, to: `${ADDRESS.target}:8081` }]);
        await scene.daemon.cli("nat", "rule", "remove", ...key);
        assert.equal(await nextPacket(load), "forwarded");
        assert.equal(await translated(), 1);
        assert.equal((await failure(scene.daemon.cli("nat", "rule", "remove", ...key))).code, 3);
      });

      if (datapath === "xdp")
        test("refuses to make a list of what is open to all, unless told to", async () => {
          assert.equal((await failure(scene.daemon.cli("allowlist", "add", "10.0.0.9"))).code, 1);
          assert.equal(await nextPacket(), "forwarded");
          await scene.daemon.cli("allowlist", "add", "10.0.0.9", "--enforce");
          assert.equal(await nextPacket(), "not_allowed");
          assert.equal(await nextPacket({ sources: "10.0.0.9" }), "forwarded");
        });
    });

    describe("of itself", () => {
      beforeEach(() => start());

      test("tells the command line what it tells over HTTP", async () => {
        await generate(scene.bed, {
          ...LOAD,
          count: 1000,
          rate: 100_000,
          mix: { no_rule: 3, no_flag: 1, other_vni: 1 },
        });
        await receivedIs(scene.daemon, 1000);
        const told = JSON.parse(await scene.daemon.cli("stats", "-o", "json")) as Record<string, unknown>;
        const http = (await scene.daemon.peek()) as unknown as Record<string, unknown>;
        for (const key of ["datapath", "inside", "outside", "originated", "fragmentsExtra"])
          assert.deepEqual(told[key], http[key]);
        assert.deepEqual(told["datapath"], { mode: datapath, attach: "native", zeroCopy: false });
        const text = await scene.daemon.cli("stats");
        assert.match(text, /^received +1,000 /m);
        assert.match(text, /^vxlan_flags +/m);
        const workers = told["workers"] as { role: string; packets: number }[];
        const byXdp = workers.filter(({ role }) => role === "xdp").map(({ packets }) => packets);
        assert.ok(byXdp.reduce((total, packets) => total + packets, 0) >= 1000);
      });

      test("shows every metric of the contract, and the ledger's numbers in them", async () => {
        await generate(scene.bed, { ...LOAD, count: 1000, rate: 100_000, mix: { no_rule: 3, no_flag: 1 } });
        await receivedIs(scene.daemon, 1000);
        await settled(scene.daemon);
        const text = await scene.daemon.get("/metrics");
        for (const name of METRICS) assert.match(text, new RegExp(`^# HELP ${name} `, "m"));
        assert.match(text, /^cgnat_errors_total\{[^}]*reason="vxlan_flags"[^}]*\} 250$/m);
        assert.match(text, /^vxpipe_worker_packets_total\{worker="[^"]+",cpu="\d+",role="xdp"\} \d+$/m);
        const wall = await scene.bed.exec("gateway", "curl", ["-sf", "http://127.0.0.1:9470/metrics"]);
        assert.match(wall, /^# HELP cgnat_packets_processed_total /m);
      });

      test("is ready until a carrier goes, says which, and is ready again when it is back", async () => {
        const ready = (code: number): Promise<unknown> =>
          until(`readiness ${code}`, async () => ((await scene.daemon.status("/readyz")) === code ? true : null));
        const said = (): Promise<string> => scene.bed.exec("gateway", "curl", ["-s", "http://127.0.0.1:9470/readyz"]);
        for (const [place, far, near, side] of [
          ["source", "src0", "in0", "inside"],
          ["target", "dst0", "out0", "outside"],
        ] as const) {
          await ready(200);
          assert.deepEqual(JSON.parse(await said()), { ready: true, missing: [] });
          await scene.bed.ip(place, `link set ${far} down`);
          await ready(503);
          const missing = [`the ${side} interface ${near} has no carrier`];
          assert.deepEqual(JSON.parse(await said()), { ready: false, missing });
          assert.equal(await scene.daemon.status("/healthz"), 200);
          await scene.bed.ip(place, `link set ${far} up`);
          await ready(200);
        }
        await scene.bed.ip("target", `route replace default via ${ADDRESS.outside}`);
      });

      if (datapath === "xdp")
        test("changes nothing for who asks over HTTP", async () => {
          const url = "http://127.0.0.1:9470/api/v1/allowlist?enforce=true";
          const code = ["-s", "-o", "/dev/null", "-w", "%{http_code}", "-X", "DELETE", url];
          assert.equal(await scene.bed.exec("gateway", "curl", code), "403");
          assert.equal(await nextPacket(), "forwarded");
        });

      test("shows its maps under their names to bpftool, and pinned", async () => {
        const maps = await bpfObjects("map");
        const ours = bpfObjectsOf(scene.daemon.process.pid).maps;
        const names = maps.filter(({ id }) => ours.has(id)).map(({ name }) => name);
        for (const name of NAMED_MAPS) {
          assert.ok(names.includes(name), `${name} is not among ${names.join(", ")}`);
          const pin = join(scene.daemon.pinDirectory, name);
          assert.ok(existsSync(pin), `${name} is not pinned`);
          await run("bpftool", ["map", "show", "pinned", pin]);
        }
      });

      test("is attached natively, to both interfaces", async () => {
        for (const name of ["in0", "out0"]) assert.equal(await attachment(scene.bed, name), "native");
        const net = JSON.parse(await scene.bed.exec("gateway", "bpftool", ["-j", "net", "show"])) as [
          { xdp: { devname: string; mode: string }[] },
        ];
        const shown = net[0].xdp.map(({ devname, mode }) => `${devname} ${mode}`).sort();
        assert.deepEqual(shown, ["in0 driver", "out0 driver"]);
      });

      if (datapath === "xdp")
        test("cannot be asked where nobody answers, which is exit code 4", async () => {
          const nowhere = ["--socket", join(scene.bed.directory, "nobody.sock")];
          for (const args of [["stats"], ["allowlist", "list"], ["nat", "rule", "list"]]) {
            const { code, stderr } = await failure(run(VXPIPE, [...nowhere, ...args]));
            assert.equal(code, 4);
            assert.match(stderr, /^vxpipe: no daemon answers on \S+nobody\.sock: there is no such file\n/);
          }
        });
    });
  });

/** Replaces the list, as `vxpipe allowlist import` does, without the time a command takes to start. */
function putList(socketPath: string, list: Buffer): Promise<void> {
  return new Promise((resolve, reject) => {
    const path = "/api/v1/allowlist?name=swap&dryRun=false&enforce=false";
    const headers = { "content-type": "application/octet-stream", "content-length": list.length };
    const call = request({ socketPath, path, method: "PUT", headers }, (response) => {
      response.resume();
      response.on("end", () =>
        response.statusCode === 200 ? resolve() : reject(new Error(`PUT: ${response.statusCode}`)),
      );
    });
    call.on("error", reject);
    call.end(list);
  });
}
