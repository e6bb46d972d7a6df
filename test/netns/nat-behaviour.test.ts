// What a NAT is called by those behind it: a STUN client's verdict on each setting (RFC 5780), static forwards, sizes that
// don't fit (RFC 4787 section 13), plain Ethernet inside, and what a restart leaves. Needs root.
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { describe, test } from "node:test";

import { type CommandError, until } from "../bed/command.js";
import { Daemon, WORKER_DATAPATHS } from "../bed/daemon.js";
import { NAT, VNI } from "../bed/nat-bed.js";
import { arping, download, ftp, host, ping, startServer, stun, Talker, upload } from "../bed/nat-hosts.js";
import { ROOT_ONLY } from "./ledger.js";
import { dropsOf, makeNatScene, sourceNat } from "./nat-scene.js";

describe("a STUN client calls the gateway what it is configured to be:", ROOT_ONLY, () => {
  const scene = makeNatScene();
  for (const mapping of ["endpoint-independent", "address-and-port-dependent"])
    for (const filtering of ["endpoint-independent", "address-dependent", "address-and-port-dependent"])
      test(`mapping ${mapping}, filtering ${filtering}`, async () => {
        await scene.start({ datapath: "afxdp" }, { mapping, filtering });
        const found = await stun(scene.bed, "a");
        assert.deepEqual([found.mapping, found.filtering], [mapping, filtering]);
      });
});

for (const datapath of WORKER_DATAPATHS) {
  describe(`by ${datapath}, a static forward`, ROOT_ONLY, () => {
    const scene = makeNatScene({
      config: { datapath },
      source: {
        forwards: [
          { outside: "203.0.113.2:5000", protocol: "udp", inside: `${NAT.c}:5000`, vni: 100 },
          { outside: "203.0.113.2:8080", protocol: "tcp", inside: `${NAT.c}:80`, vni: 100 },
        ],
      },
    });

    test("is refused by name until its host has spoken, then carries both ways", async () => {
      const [inside, outside] = [
        await Talker.start(scene.bed, "c", 5000),
        await Talker.start(scene.bed, "server", 7000),
      ];
      const early = await scene.dropsDuring(() => outside.send("203.0.113.2:5000", "early"));
      assert.deepEqual(early.outside, { no_subscriber: 1 });
      await ping(scene.bed, "c", NAT.server, 1);
      await outside.send("203.0.113.2:5000", "hello");
      assert.deepEqual(await inside.take(), [{ text: "hello", from: `${NAT.server}:7000` }]);
      await inside.send(`${NAT.server}:7000`, "welcome");
      assert.deepEqual(await outside.take(), [{ text: "welcome", from: "203.0.113.2:5000" }]);
      assert.equal(await inside.who(), "203.0.113.2:5000");
      await Promise.all([inside.stop(), outside.stop()]);
    });

    test("to a web server serves the world, a neighbour and another VNI by the same address and to the same hash", async () => {
      await startServer(scene.bed, "c", NAT.c, "127.0.0.1");
      const visits = (["server", "a", "b"] as const).map(async (name) => {
        await download(scene.bed, name, 1_000_000, { server: "203.0.113.2:8080" });
        await upload(scene.bed, name, 1_000_000, { server: "203.0.113.2:8080" });
      });
      await Promise.all(visits);
    });
  });

  describe(`by ${datapath}, what is too big`, ROOT_ONLY, () => {
    const icmpErrors = { inside: true, outside: true };
    describe("for the outside", () => {
      const scene = makeNatScene({ outsideMtu: 1300, config: { datapath }, source: { icmpErrors } });
      test("goes in fragments, or with DF is refused with the MTU, and TCP finds out by itself", async () => {
        await ping(scene.bed, "a", NAT.server, 5, "-s", "4000");
        await ping(scene.bed, "a", NAT.server, 5, "-s", "1350", "-M", "dont");
        assert.ok((await scene.agreed()).fragmentsExtra > 0);
        const args = ["-c", "1", "-W", "1", "-M", "do", "-s", "1350", NAT.server];
        const said = await scene.bed.exec("a", "ping", args).catch((error: CommandError) => error.stdout);
        assert.match(said, /mtu ?= ?1300/);
        await upload(scene.bed, "b", 1_000_000);
        await download(scene.bed, "b", 1_000_000);
      });
    });
    describe("for the inside", () => {
      const scene = makeNatScene({
        insideMtu: 1300,
        config: { datapath },
        source: {
          icmpErrors,
          forwards: [{ outside: "203.0.113.2:5000", protocol: "udp", inside: `${NAT.c}:5000`, vni: 100 }],
        },
      });
      test("comes in fragments, or with DF is refused with the MTU", async () => {
        await ping(scene.bed, "a", NAT.server, 5, "-s", "4000");
        await ping(scene.bed, "c", NAT.server, 1);
        const inside = await Talker.start(scene.bed, "c", 5000);
        const outside = "203.0.113.2";
        const text = "x".repeat(1400);
        // Without DF; the kernel sets it on UDP only while it probes the path.
        await scene.bed.sysctl("server", { "net.ipv4.ip_no_pmtu_disc": 1 });
        const plain = await Talker.start(scene.bed, "server", 7000);
        await plain.send(`${outside}:5000`, text);
        assert.deepEqual(await inside.take(), [{ text, from: `${NAT.server}:7000` }]);
        await plain.stop();
        await scene.bed.sysctl("server", { "net.ipv4.ip_no_pmtu_disc": 0 });
        const probing = await Talker.start(scene.bed, "server", 7001);
        const { outside: drops } = await scene.dropsDuring(() => probing.send(`${outside}:5000`, text));
        assert.deepEqual(drops, { too_big: 1 });
        const route = await scene.bed.exec("server", "ip", ["route", "get", outside]);
        assert.match(route, /mtu 1250/);
        await Promise.all([inside.stop(), probing.stop()]);
      });
    });
    describe("for the inside, with mssClamp,", () => {
      const scene = makeNatScene({ insideMtu: 1300, config: { datapath }, source: { mssClamp: "auto" } });
      test("is not sent in the first place: TCP hears of the tunnel from its first segment on", async () => {
        // Hosts that know nothing of it.
        await scene.bed.ip("a", "link set sub0 mtu 1500");
        const { inside, outside } = await scene.dropsDuring(async () => {
          await download(scene.bed, "a", 1_000_000);
          await upload(scene.bed, "a", 1_000_000);
        });
        assert.deepEqual([inside, outside], [{}, {}]);
      });
    });
  });

  describe(`by ${datapath}, an excluded destination`, ROOT_ONLY, () => {
    const scene = makeNatScene({ config: { datapath }, source: { exclude: [`${NAT.server2}/32`] } });
    test("sees subscribers by their own addresses, and its neighbour by public ones", async () => {
      const own = await Talker.start(scene.bed, "a", 5000);
      const outside = await Talker.start(scene.bed, "server", 7000);
      await own.send(`${NAT.server2}:7000`, "bare");
      assert.deepEqual(await outside.take(), [{ text: "bare", from: `${NAT.a}:5000` }]);
      await own.send(`${NAT.server}:7000`, "translated");
      assert.deepEqual(await outside.take(), [{ text: "translated", from: await own.who() }]);
      await Promise.all([own.stop(), outside.stop()]);
    });
  });

  describe(`by ${datapath}, a frame that a switch floods here for another station`, ROOT_ONLY, () => {
    const scene = makeNatScene({ config: { datapath }, source: { filtering: "endpoint-independent" } });
    const other = "02:00:00:00:02:99";

    test("is the kernel's, whatever pool address it is for: no host gets it, and ARP for it is not answered", async () => {
      const { bed } = scene;
      const inside = await Talker.start(bed, "a", 5000);
      const outside = await Talker.start(bed, "server", 7000);
      const endpoint = (await inside.who()) ?? "";
      const [address = ""] = endpoint.split(":");
      const entry = ["replace", address, "lladdr", other, "dev", "rt0", "nud"];
      await inside.take();
      const before = await scene.agreed();

      await bed.exec("router", "ip", ["neigh", ...entry, "permanent"]);
      await outside.send(endpoint, "astray");
      assert.deepEqual(await inside.take(), []);
      // The router asks whom it believes to have the address, by unicast, until it gives up.
      await bed.sysctl("router", { "net.ipv4.neigh.rt0.retrans_time_ms": 100 });
      await bed.exec("router", "ip", ["neigh", ...entry, "probe"]);
      const givenUp = async (): Promise<true | null> => {
        const shown = await bed.exec("router", "ip", ["neigh", "show", address, "dev", "rt0"]);
        assert.doesNotMatch(shown, new RegExp(NAT.outsideMac), "the gateway has answered for another station");
        return /FAILED|^$/.test(shown) ? true : null;
      };
      await until("the router to give up", givenUp);
      const after = await scene.agreed();
      assert.equal(after.originated, before.originated);
      assert.deepEqual(dropsOf(after.outside), dropsOf(before.outside));
      const passed = after.outside.passed - before.outside.passed;
      assert.equal(after.outside.received - before.outside.received, passed);
      assert.ok(passed >= 2, `a datagram and requests, but ${passed} were passed`);

      await bed.exec("router", "ip", ["neigh", "flush", "dev", "rt0", "to", address]);
      await outside.send(endpoint, "well");
      assert.deepEqual(await inside.take(), [{ text: "well", from: `${NAT.server}:7000` }]);
      await Promise.all([inside.stop(), outside.stop()]);
    });
  });

  describe(`by ${datapath}, plain Ethernet inside`, ROOT_ONLY, () => {
    const scene = makeNatScene({
      plain: true,
      config: { datapath, inside: { interface: "in0" } },
      source: { gateways: [{ address: NAT.gateway }] },
    });
    test("has its router, its pings and its files like a tunnel's", async () => {
      assert.notEqual(await arping(scene.bed, "a", "sub0", NAT.gateway), null);
      await ping(scene.bed, "a", NAT.server, 20, "-s", "4000");
      await Promise.all([download(scene.bed, "a", 5_000_000), upload(scene.bed, "c", 5_000_000)]);
    });
  });
}

interface Record {
  event: string;
  vni?: number;
  inside?: string;
}

function records(file: string): Record[] {
  const lines = readFileSync(file, "utf8").trim().split("\n");
  return lines.map((line) => JSON.parse(line) as Record);
}

describe("a gateway that is started again", ROOT_ONLY, () => {
  const scene = makeNatScene();
  test("serves the same hosts again, and its records tell both times who had which block", async () => {
    const file = join(scene.bed.directory, "records.json");
    for (const round of [1, 2]) {
      await scene.start({ datapath: "afxdp" }, { records: { file } });
      await ftp(scene.bed, "a", 100_000);
      const { mapped } = await host<{ mapped: string[] }>(scene.bed, "b", "flows", NAT.server, 1);
      assert.equal(mapped.length, 1);
      if (round === 1) await scene.stop();
    }
    await until("the last block to be on the disk", async () => (records(file).length === 9 ? true : null));
    const events = records(file).map(({ event, vni }) => (vni === undefined ? event : [event, vni]));
    const run = ["start", ["granted", 100], ["granted", 101]];
    assert.deepEqual(events.slice(0, 3), run);
    assert.deepEqual(events.slice(3, 5).sort(), [
      ["released", 100],
      ["released", 101],
    ]);
    assert.deepEqual(events.slice(5), ["stop", ...run]);
  });

  test("has its records to itself: a second daemon with that file refuses to start, and harms nothing", async () => {
    const file = join(scene.bed.directory, "alone.json");
    await scene.start({ datapath: "afxdp" }, { records: { file } });
    await ping(scene.bed, "a", NAT.server, 1);
    await until("the first block to be on the disk", async () => (records(file).length === 2 ? true : null));
    const own = (name: string): string => join(scene.bed.directory, `second-${name}`);
    const second = Daemon.launch(scene.bed, {
      datapath: "afxdp",
      control: { listen: "127.0.0.1:9471", socket: own("socket") },
      state: { directory: own("state"), bpffs: own("bpffs") },
      nat: { source: sourceNat({ records: { file } }) },
    });
    assert.deepEqual(await second.process.exited, { code: 1, signal: null });
    assert.match(second.process.stderr, new RegExp(`nat.source.records.file ${file}: another daemon has it open`));
    await ping(scene.bed, "b", NAT.server, 1);
    await until("the next block to be on the disk", async () => (records(file).length === 3 ? true : null));
  });
});

for (const datapath of WORKER_DATAPATHS)
  describe(`by ${datapath}, a gateway that was killed`, ROOT_ONLY, () => {
    const scene = makeNatScene();

    test("is followed by one without its sessions, which serves its hosts anew and closes its records", async () => {
      const file = join(scene.bed.directory, "records.json");
      const source = { records: { file } };
      const nat = (...args: string[]): Promise<string> => scene.daemon.cli("nat", ...args, "-o", "json");
      await scene.start({ datapath }, source);
      const talker = await Talker.start(scene.bed, "b", 5000);
      const lost = (await talker.who()) ?? "";
      const slow = ["-sS", "--limit-rate", "100k", "-o", "/dev/null", `http://${NAT.server}/5000000`];
      const transfer = scene.bed.start("a", "curl", slow);
      await until("both blocks to be on the disk", async () => (records(file).length === 3 ? true : null));
      const time = new Date().toISOString();
      await scene.daemon.kill();
      await transfer.stop();

      await scene.start({ datapath }, source);
      assert.match(scene.daemon.process.stderr, /previous_run_unclean/);
      // The transfer's host may still be trying; this one is silent.
      const silent = await nat("session", "list", "--vni", String(VNI.b));
      assert.deepEqual(JSON.parse(silent), { sessions: [], cursor: null });
      await assert.rejects(nat("who", lost), { code: 3 });
      const { vni, inside } = JSON.parse(await nat("who", lost, "--at", time)) as Record;
      assert.deepEqual([vni, inside], [VNI.b, NAT.b]);
      assert.notEqual(await talker.who(), null);
      await download(scene.bed, "a", 1_000_000);
      await talker.stop();
      await scene.agreed();
      const events = records(file).map(({ event }) => event);
      const ended = ["start", "granted", "granted", "start", "released", "released"];
      assert.deepEqual(events.slice(0, ended.length), ended);
    });
  });
