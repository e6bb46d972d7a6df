// What source NAT refuses: who was not asked, who asks for too much, and what it cannot translate. Silence outside, a reason
// in the ledger for every packet, ICMP inside where the RFCs want it, and no harm to anybody's download. Needs root.
import assert from "node:assert/strict";
import { describe, test } from "node:test";

import { sleep } from "../bed/command.js";
import { type Config, WORKER_DATAPATHS } from "../bed/daemon.js";
import { NAT } from "../bed/nat-bed.js";
import { download, host, type IcmpError, Talker } from "../bed/nat-hosts.js";
import { type Drops, parted, ROOT_ONLY, sum } from "./ledger.js";
import { makeNatScene, POOL } from "./nat-scene.js";

interface Flows {
  mapped: string[];
  errors: IcmpError[];
}

/** Communication administratively prohibited. */
const FROM_GATEWAY: IcmpError = { type: 3, code: 13, from: NAT.gateway, about: `${NAT.server}:3478` };

for (const datapath of WORKER_DATAPATHS) {
  describe(`by ${datapath}, from outside`, ROOT_ONLY, () => {
    const scene = makeNatScene({ config: { datapath } });

    /** Sends from the router; how many, what they cost, and what came back. */
    async function flooded(kind: string, count: number): Promise<{ drops: Record<string, number>; answers: number }> {
      // Answers to ARP are no answers to a scan: that is over before it begins.
      await host(scene.bed, "router", "flood", kind, POOL.length, ...POOL);
      await sleep(100);
      const earlier = (await scene.bed.traffic("router", "rt0")).received;
      const { outside } = await scene.dropsDuring(() => host(scene.bed, "router", "flood", kind, count, ...POOL));
      return { drops: outside, answers: (await scene.bed.traffic("router", "rt0")).received - earlier };
    }

    for (const [kind, what, name] of [
      ["syn", "SYNs", "no_session"],
      ["udp", "datagrams", "no_session"],
      ["echo", "echo requests", "no_session"],
      ["gre", "tunnels", "protocol"],
    ] as const)
      test(`${what} that nobody asked for meet silence, and each is a drop named ${name}`, async () => {
        assert.deepEqual(await flooded(kind, 1000), { drops: { [name]: 1000 }, answers: 0 });
      });

    test("a stranger's packet to a live mapping is filtered", async () => {
      const talker = await Talker.start(scene.bed, "a", 5000);
      const [address = "", port = ""] = ((await talker.who()) ?? "").split(":");
      const stranger = await Talker.start(scene.bed, "router", 7000);
      const { outside } = await scene.dropsDuring(() => stranger.send(`${address}:${port}`, "psst"));
      assert.deepEqual(outside, { filtered: 1 });
      assert.deepEqual(await talker.take(100), []);
      await Promise.all([talker.stop(), stranger.stop()]);
    });

    test("scans and floods beside a download change no byte of it", async () => {
      const scans = ["syn", "udp", "syn"].map((kind) => host(scene.bed, "router", "flood", kind, 20_000, ...POOL));
      await Promise.all([download(scene.bed, "a", 10_000_000), ...scans]);
      await download(scene.bed, "b", 1_000_000);
    });
  });

  describe(`by ${datapath}, from inside`, ROOT_ONLY, () => {
    // One address with two blocks, one a subscriber.
    const scene = makeNatScene({
      config: { datapath },
      source: {
        pools: [{ addresses: ["203.0.113.1"], ports: "2048-2175" }],
        blocks: { size: 64, perSubscriber: 1 },
      },
    });

    test("the flow beyond a subscriber's last port, and the subscriber beyond the last block, get ICMP 3/13", async () => {
      const full = await scene.dropsDuring(async () => {
        const { mapped, errors } = await host<Flows>(scene.bed, "a", "flows", NAT.server, 66);
        assert.equal(new Set(mapped).size, 64);
        assert.deepEqual(errors, [FROM_GATEWAY, FROM_GATEWAY]);
      });
      assert.deepEqual(full.inside, { no_port: 2 });
      // Others are none the poorer, until no block is left.
      const second = await host<Flows>(scene.bed, "b", "flows", NAT.server, 2);
      assert.deepEqual([second.mapped.length, second.errors], [2, []]);
      const none = await scene.dropsDuring(async () => {
        const { mapped, errors } = await host<Flows>(scene.bed, "c", "flows", NAT.server, 1);
        assert.deepEqual([mapped, errors], [[], [FROM_GATEWAY]]);
      });
      assert.deepEqual(none.inside, { no_block: 1 });
    });

    test("what is neither TCP, UDP nor ICMP is a drop named protocol", async () => {
      const { inside } = await scene.dropsDuring(() => host(scene.bed, "a", "flood", "gre", 100, NAT.server));
      assert.deepEqual(inside, { protocol: 100 });
    });

    test("a flood from made-up sources is refused to the packet, and nobody's session pays for it", async () => {
      const live = await Talker.start(scene.bed, "b", 5000);
      const before = await live.who();
      assert.notEqual(before, null);
      const { inside } = await scene.dropsDuring(() =>
        host(scene.bed, "c", "spoof", "10.0.0.", 20_000, NAT.server).catch(() => undefined),
      );
      const { no_block: refused = 0, ...others } = parted(inside, datapath).refusals;
      assert.deepEqual(others, {});
      assert.ok(refused >= 1000, `${refused} refused`);
      assert.equal(sum(inside), 20_000);
      assert.equal(await live.who(), before);
      await live.stop();
    });
  });
}

for (const datapath of WORKER_DATAPATHS)
  describe(`by ${datapath}, limits`, ROOT_ONLY, () => {
    const scene = makeNatScene();

    /** What a subscriber's flows cost, while another subscriber makes one. */
    async function flowsBy(limits: Config, count: number): Promise<{ many: Flows; drops: Drops }> {
      await scene.start({ datapath }, { limits });
      let many: Flows = { mapped: [], errors: [] };
      const { inside } = await scene.dropsDuring(async () => {
        many = await host<Flows>(scene.bed, "a", "flows", NAT.server, count);
        const one = await host<Flows>(scene.bed, "b", "flows", NAT.server, 1);
        assert.deepEqual([one.mapped.length, one.errors], [1, []]);
      });
      assert.equal(new Set(many.mapped).size, many.mapped.length);
      return { many, drops: inside };
    }

    test("of sessions are a subscriber's own: of 128, the 129th is refused, and another's first is not", async () => {
      const { many, drops } = await flowsBy({ sessionsPerSubscriber: 128, newSessionsPerSecond: 10_000 }, 130);
      assert.equal(many.mapped.length, 128);
      assert.deepEqual(many.errors, [FROM_GATEWAY, FROM_GATEWAY]);
      assert.deepEqual(drops, { subscriber_limit: 2 });
    });

    test("of new sessions in a second are a subscriber's own too", async () => {
      const { many, drops } = await flowsBy({ sessionsPerSubscriber: 1000, newSessionsPerSecond: 10 }, 40);
      assert.ok(many.mapped.length >= 10 && many.mapped.length < 35, `${many.mapped.length} of 40`);
      assert.deepEqual(drops, { session_rate: 40 - many.mapped.length });
    });
  });
