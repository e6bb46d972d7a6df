// Source NAT between real hosts: two subscribers with the same address in two VNIs, and one more, browse, transfer, ping,
// ask and trace through the gateway, at once. No conntrack and no ip_forward anywhere near it. After each test the far ends
// have counted exactly what the ledger says has left. Needs root.
import assert from "node:assert/strict";
import { describe, test } from "node:test";

import { WORKER_DATAPATHS } from "../bed/daemon.js";
import { NAT, SUBSCRIBERS, VNI } from "../bed/nat-bed.js";
import { arping, download, ftp, host, iperf, ping, Talker, traceroute, upload } from "../bed/nat-hosts.js";
import { ROOT_ONLY } from "./ledger.js";
import { makeNatScene, POOL } from "./nat-scene.js";

interface Listed {
  protocol: string;
  vni: number;
  inside: string;
  outside: string;
  remote: string;
}

const TWINS = ["a", "b"] as const;

for (const datapath of WORKER_DATAPATHS)
  describe(`by ${datapath}, subscribers`, ROOT_ONLY, () => {
    const scene = makeNatScene({ config: { datapath } });

    test("find the gateway by ARP inside, and the world finds their public addresses by ARP outside", async () => {
      for (const name of SUBSCRIBERS) assert.notEqual(await arping(scene.bed, name, "sub0", NAT.gateway), null, name);
      for (const address of POOL) assert.equal(await arping(scene.bed, "router", "rt0", address), NAT.outsideMac);
      assert.equal(await arping(scene.bed, "router", "rt0", "203.0.113.99"), null);
    });

    test("with the same address are both answered every ping, also those in fragments", async () => {
      await Promise.all(SUBSCRIBERS.map((name) => ping(scene.bed, name, NAT.server, 50)));
      await Promise.all(TWINS.map((name) => ping(scene.bed, name, NAT.server, 10, "-s", "4000")));
    });

    test("fetch and store files by HTTP and passive FTP, both at once and to the same hash", async () => {
      const visits = TWINS.map(async (name) => {
        await download(scene.bed, name, 10_000_000);
        await upload(scene.bed, name, 10_000_000);
        await ftp(scene.bed, name, 1_000_000);
      });
      await Promise.all(visits);
    });

    test("transfer as fast as it goes, one each way", async () => {
      const rates = await Promise.all([iperf(scene.bed, "a", 5201, false), iperf(scene.bed, "b", 5202, true)]);
      for (const rate of rates) assert.ok(rate > 1e6, `${rate} bit/s`);
    });

    test("get 50,000 queries answered that they ask at once", async () => {
      const { answered } = await host<{ answered: number }>(scene.bed, "a", "dns", NAT.server, 50_000, 100);
      assert.equal(answered, 50_000);
    });

    test("see every hop of the way by UDP, ICMP and TCP, the gateway's first", async () => {
      for (const how of ["-U", "-I", "-T"])
        assert.deepEqual(
          await traceroute(scene.bed, "a", how, NAT.server2),
          [NAT.gateway, NAT.router, NAT.server2],
          how,
        );
    });

    test("meet by their public endpoints, of which each sees the other's", async () => {
      const [a, b] = await Promise.all(TWINS.map((name) => Talker.start(scene.bed, name, 5000)));
      assert.ok(a && b);
      const [ofA, ofB] = [await a.who(), await b.who()];
      assert.ok(ofA && ofB);
      // The first opens the way for answers, and is itself nobody's answer.
      const { inside } = await scene.dropsDuring(() => a.send(ofB, "knock"));
      assert.deepEqual(inside, { filtered: 1 });
      await b.send(ofA, "hello");
      assert.deepEqual(await a.take(), [{ text: "hello", from: ofB }]);
      await a.send(ofB, "welcome");
      assert.deepEqual(await b.take(), [{ text: "welcome", from: ofA }]);
      await Promise.all([a.stop(), b.stop()]);
    });

    test("meet by TCP too, whose SYNs cross", async () => {
      const [a, b] = await Promise.all(TWINS.map((name) => Talker.start(scene.bed, name, 5002)));
      assert.ok(a && b);
      const [ofA, ofB] = await Promise.all([a.connected(), b.connected()]);
      assert.deepEqual(await Promise.all([a.meet(ofB, "hello"), b.meet(ofA, "welcome")]), ["welcome", "hello"]);
      await Promise.all([a.stop(), b.stop()]);
    });

    test("reach a host whose address is one of their own network", async () => {
      const near = "10.0.0.77";
      await scene.bed.ip("server", `addr add ${near}/32 dev srv0`);
      await scene.bed.ip("router", `route add ${near}/32 via ${NAT.server}`);
      for (const name of TWINS) {
        await scene.bed.ip(name, `route add ${near}/32 via ${NAT.gateway}`);
        await ping(scene.bed, name, near, 10);
      }
    });

    test("are answered though their datagrams' last fragments come first", async () => {
      for (const name of SUBSCRIBERS)
        assert.deepEqual(await host(scene.bed, name, "pieces", 5003, NAT.server, 6000, 800), { answered: true }, name);
    });

    test("behind an inner VLAN tag, or two, are answered without one", async () => {
      for (const tags of ["7", "8,7"])
        assert.deepEqual(await host(scene.bed, "a", "tagged", NAT.gateway, tags, NAT.server), { answered: true }, tags);
    });

    test("are found in the list of sessions, and by who asks whose a public endpoint is", async () => {
      for (const name of TWINS) {
        const talker = await Talker.start(scene.bed, name, 5001);
        const endpoint = (await talker.who()) ?? "";
        const expected = { protocol: "udp", vni: VNI[name], inside: `${NAT[name]}:5001`, outside: endpoint };
        const listed = await scene.daemon.cli(
          "nat",
          "session",
          "list",
          "--protocol",
          "udp",
          "--outside",
          endpoint,
          "-o",
          "json",
        );
        const { sessions } = JSON.parse(listed) as { sessions: Listed[] };
        assert.deepEqual(
          sessions.map(({ protocol, vni, inside, outside, remote }) => ({ protocol, vni, inside, outside, remote })),
          [{ ...expected, remote: `${NAT.server}:3478` }],
        );
        const found = JSON.parse(await scene.daemon.cli("nat", "who", endpoint, "-o", "json")) as Listed;
        assert.deepEqual([found.outside, found.vni, found.inside], [endpoint, VNI[name], NAT[name]]);
        await talker.stop();
      }
    });

    test("have no help of the kernel's: no conntrack, no rules and no ip_forward", async () => {
      const inGateway = (command: string, ...args: string[]): Promise<string> =>
        scene.bed.exec("gateway", command, args);
      assert.equal((await inGateway("sysctl", "-n", "net.ipv4.ip_forward")).trim(), "0");
      assert.equal(await inGateway("nft", "list", "ruleset"), "");
      assert.equal(await inGateway("conntrack", "-L"), "");
    });
  });

describe("Hosts that leave checksums to interfaces which never sum them up", ROOT_ONLY, () => {
  const scene = makeNatScene({ offloads: true, config: { datapath: "afxdp" } });

  test("fetch, store and ask as others do", async () => {
    await download(scene.bed, "a", 1_000_000);
    await upload(scene.bed, "b", 1_000_000);
    const { answered } = await host<{ answered: number }>(scene.bed, "c", "dns", NAT.server, 100, 10);
    assert.equal(answered, 100);
  });
});
