// A list of a million in a running gateway: imported, edited and replaced while packets flow, of which none is lost and
// none that both lists allow is refused; and reloads that change everything a reload can. Needs root.
import assert from "node:assert/strict";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { after, afterEach, before, describe, test, type TestContext } from "node:test";

import { ADDRESS, Bed } from "../bed/bed.js";
import { until } from "../bed/command.js";
import { bedConfig, type Config, Daemon, DATAPATHS, writeConfig } from "../bed/daemon.js";
import { generate, type Load, Sink, startLoad } from "../bed/tools.js";
import { agreed, assertNothingWrong, dropsOf, receivedIs, ROOT_ONLY, settled } from "./ledger.js";

const VNI = 42;
const MILLION = 1_000_000;
/** Sent all the time: on every list, here as addresses and there below a prefix. */
const LOAD: Load = {
  destination: ADDRESS.beyond,
  ports: "9",
  sources: "10.0.0.1-10.0.3.254",
  flows: 10_000,
  size: 100,
  vni: VNI,
  cpu: 0,
  duration: 120,
};
/** Where a worker sends, it shares two CPUs with all that this test does, and may have to wait for a while. */
const RATES = { xdp: 300_000, afxdp: 5_000, ringbuf: 5_000 };

function addresses(first: number, count: number): string[] {
  return Array.from({ length: count }, (_, index) => {
    const value = first + index;
    return `${value >>> 24}.${(value >>> 16) & 255}.${(value >>> 8) & 255}.${value & 255}`;
  });
}

const LOADED = addresses(0x0a000000, 1024);

for (const datapath of DATAPATHS) {
  describe(`lists and reloads under load, ${datapath}`, ROOT_ONLY, () => {
    let bed: Bed;
    let daemon: Daemon;
    let sink: Sink;
    const path = (name: string): string => join(bed.directory, name);
    before(async () => {
      bed = await Bed.make({ staticNeighbours: true });
      writeFileSync(path("start.txt"), LOADED.join("\n"));
      writeFileSync(path("million.txt"), [...addresses(0x0b000000, MILLION - 1), "10.0.0.0/16"].join("\n"));
      writeFileSync(
        path("other.json"),
        JSON.stringify({
          organizations: [{ name: "org-01", ips: [...LOADED, ...addresses(0x0c000000, MILLION / 2)] }],
        }),
      );
    });
    after(() => bed.remove());
    afterEach(async () => {
      const exit = await daemon.stop();
      await sink.stop();
      assert.equal(exit.code, 0, daemon.process.stderr);
    });

    function config(overrides: Config = {}): Config {
      return {
        datapath,
        inside: { interface: "in0", vxlan: { vnis: [VNI], peers: ["0.0.0.0/0"] } },
        allowlist: { file: "start.txt", match: "source" },
        ...overrides,
      };
    }

    /** Runs `work` under load; then every packet has arrived at the far end, whole and in order. */
    async function nothingIsLost(work: () => Promise<void>): Promise<void> {
      const { process, ended } = startLoad(bed, { ...LOAD, rate: RATES[datapath] });
      await receivedIs(daemon, 1000);
      try {
        await work();
      } finally {
        process.kill("SIGTERM");
      }
      const { sent } = await ended;
      await receivedIs(daemon, sent);
      const { stats, arrived } = await agreed(daemon, sink);
      assert.deepEqual(dropsOf(stats), {});
      assert.equal(arrived.packets, sent);
      assertNothingWrong(arrived);
    }

    async function timed(t: TestContext, what: string, work: () => Promise<unknown>): Promise<void> {
      await daemon.get("/metrics");
      const start = performance.now();
      await work();
      const seconds = ((performance.now() - start) / 1000).toFixed(2);
      const lag = /^nodejs_eventloop_lag_max_seconds ([0-9.e-]+)$/m.exec(await daemon.get("/metrics"));
      t.diagnostic(`${what}: ${seconds} s, event loop late by at most ${(Number(lag?.[1]) * 1000).toFixed(1)} ms`);
    }

    test("no packet that both lists allow is refused or lost while a million entries come, change and go", async (t) => {
      sink = await Sink.start(bed, { unchanged: ADDRESS.beyond, flows: 10_000 });
      daemon = await Daemon.start(bed, config());
      const list = (...args: string[]): Promise<string> => daemon.cli("allowlist", ...args, "-o", "json");
      await nothingIsLost(async () => {
        await timed(t, "import of 1,000,000", () => list("import", path("million.txt")));
        assert.equal((JSON.parse(await list("test", "11.0.0.9")) as { by: string }).by, "11.0.0.9");
        await timed(t, "add of one", () => list("add", "192.0.2.1"));
        await timed(t, "removal of one", () => list("remove", "192.0.2.1"));
        await list("add", ...LOADED.slice(0, 500));
        await list("add", ...LOADED.slice(500));
        // Now each is in the tables by itself only.
        await timed(t, "removal of the prefix above 1,024", () => list("remove", "10.0.0.0/16"));
        await list("add", "10.0.0.0/14");
        await timed(t, "import of 500,000 as JSON", () => list("import", path("other.json")));
        await timed(t, "list of 500,000", () => list("list"));
      });
      assert.equal((await generate(bed, { ...LOAD, sources: "11.0.0.9", flows: 1, count: 5, duration: 1 })).sent, 5);
      await until("the refusals", async () =>
        (await settled(daemon)).inside.dropped["not_allowed"] === 5 ? true : null,
      );
    });

    test("a reload loses no packet, whatever of the list, the rules and the tunnel filters it changes", async () => {
      sink = await Sink.start(bed, { noOrder: false, flows: 10_000, unchanged: ADDRESS.beyond });
      daemon = await Daemon.start(bed, config());
      const rules = (count: number): Config => ({
        destination: Array.from({ length: count }, (_, index) => ({
          protocol: "udp",
          port: 20_000 + index,
          to: `${ADDRESS.target}:8081`,
        })),
      });
      writeFileSync(path("prefixes.txt"), "10.0.0.0/23\n10.0.2.0/23\n2001:db8::/32\n");
      await nothingIsLost(async () => {
        for (let round = 0; round < 14; round++) {
          const odd = round % 2 === 1;
          const vxlan = odd
            ? { vnis: [VNI], peers: ["0.0.0.0/0"] }
            : { vnis: [`1-${VNI}`, 5000], peers: ["0.0.0.0/1", "128.0.0.0/1"] };
          const changed = config({
            inside: { interface: "in0", vxlan },
            allowlist: { file: odd ? "start.txt" : "prefixes.txt", match: "source" },
            nat: rules(odd ? 0 : 100 + round),
          });
          writeConfig(bed, bedConfig(bed, changed));
          const earlier = daemon.process.stderr.split('"event":"reloaded"').length;
          daemon.process.kill("SIGHUP");
          await until("the reload", async () =>
            daemon.process.stderr.split('"event":"reloaded"').length > earlier ? true : null,
          );
        }
      });
      assert.doesNotMatch(daemon.process.stderr, /reload_failed|restart_needed/);
      assert.deepEqual(JSON.parse(await daemon.get("/api/v1/rules")), { rules: [] });
    });
  });
}
