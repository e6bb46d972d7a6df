// Millions of packets of every class at the full rate of a core, by each datapath: the ledger has to hold to the packet,
// and the far end, which knows nothing of the gateway, has to have counted the same. One core sends more than a worker
// can: what is too much for it costs packets that would have left, and no class another fate. Needs root.
import assert from "node:assert/strict";
import { join } from "node:path";
import { writeFileSync } from "node:fs";
import { before, beforeEach, describe, test } from "node:test";

import { ADDRESS } from "../bed/bed.js";
import { sleep } from "../bed/command.js";
import { DATAPATHS } from "../bed/daemon.js";
import { generate, type Load, type PerClass, startLoad } from "../bed/tools.js";
import { agreed, assertNothingWrong, dropsOf, type Drops, parted, receivedIs, ROOT_ONLY, sum } from "./ledger.js";
import { makeScene } from "./scene.js";

const VNI = 100;
const RULE = { protocol: "udp", port: 31766, to: `${ADDRESS.target}:9000` };
const SOURCES = "10.0.0.1-10.0.0.254,10.0.1.1-10.0.1.70";
const LOAD: Load = {
  cpu: 0,
  vni: VNI,
  otherVni: 4000,
  flows: 10_000,
  size: 100,
  sources: SOURCES,
  deniedSources: "198.51.100.0/24",
  destination: ADDRESS.beyond,
  ports: String(RULE.port),
  otherPorts: "4000,5000,6000",
  mix: { rule: 50, no_rule: 20, denied: 10, no_flag: 5, truncated: 5, ipv6: 5, other_vni: 5 },
};

/** What XDP refuses, whoever sends the rest. */
function refusalsOf(classes: PerClass): Drops {
  return {
    vxlan_flags: classes.no_flag,
    ipv6: classes.ipv6,
    truncated: classes.truncated,
    not_allowed: classes.denied,
  };
}

for (const datapath of DATAPATHS)
  describe(`by ${datapath}, under the full rate of a core,`, ROOT_ONLY, () => {
    const scene = makeScene();
    const millions = datapath === "xdp" ? 10 : 4;
    before(() => {
      const addresses = [254, 70].flatMap((count, third) =>
        Array.from({ length: count }, (_, last) => `10.0.${third}.${last + 1}`),
      );
      writeFileSync(join(scene.bed.directory, "allowlist.txt"), addresses.join("\n"));
    });
    beforeEach(() =>
      scene.start(
        {
          datapath,
          inside: { interface: "in0", vxlan: { vnis: [VNI] } },
          allowlist: { file: "allowlist.txt", match: "source" },
          nat: { destination: [RULE] },
        },
        { rule: `${RULE.port}=${RULE.to}`, unchanged: ADDRESS.beyond, flows: 10_000 },
      ),
    );

    test(`${millions} million packets of all classes have each the fate of their class, to the packet`, async () => {
      const { process, ended } = startLoad(scene.bed, { ...LOAD, count: millions * 1_000_000 });
      let earlier = 0;
      while (process.exit === null) {
        // At every moment: nothing has two fates, and no counter goes back.
        const { inside } = await scene.daemon.peek();
        assert.ok(inside.pending >= 0, `${inside.pending} pending`);
        assert.ok(inside.received >= earlier);
        earlier = inside.received;
        await Promise.race([process.exited, sleep(20)]);
      }
      const { sent, classes } = await ended;
      assert.equal(sent, millions * 1_000_000);
      await receivedIs(scene.daemon, sent);
      const { stats, arrived } = await agreed(scene.daemon, scene.sink);
      assert.equal(stats.inside.received, sent);
      assert.equal(stats.inside.passed, classes.other_vni);
      const { refusals, tooMuch } = parted(dropsOf(stats), datapath);
      assert.deepEqual(refusals, refusalsOf(classes));
      assert.equal(stats.inside.forwarded + sum(tooMuch), classes.rule + classes.no_rule);
      assert.ok(arrived.classes.rule <= classes.rule && arrived.classes.no_rule <= classes.no_rule);
      assert.equal(arrived.classes.rule + arrived.classes.no_rule, stats.inside.forwarded);
      assert.equal(arrived.udpChecksums.checked, stats.inside.forwarded);
      assertNothingWrong(arrived);
    });

    // Below workers: queues.test.ts.
    if (datapath === "xdp")
      test("a far end that cannot keep up costs what it refuses, and not a packet more", async () => {
        // With NAPI in a thread that has to share the sender's CPU, 256 slots are soon full.
        await scene.bed.exec("target", "sh", ["-c", "echo 1 > /sys/class/net/dst0/threaded"]);
        const { sent, classes } = await generate(scene.bed, { ...LOAD, count: 3_000_000 });
        await receivedIs(scene.daemon, sent);
        const { stats, arrived } = await agreed(scene.daemon, scene.sink);
        await scene.bed.exec("target", "sh", ["-c", "echo 0 > /sys/class/net/dst0/threaded"]);
        const { tx_refused: refused = 0, ...drops } = dropsOf(stats);
        assert.ok(refused > 0, "the far end kept up, so nothing was tested");
        assert.equal(arrived.packets + refused, classes.rule + classes.no_rule);
        assert.deepEqual(drops, refusalsOf(classes));
        assertNothingWrong(arrived);
      });
  });
