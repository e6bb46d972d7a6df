// Real senders behind the kernel's own vxlan device, real receivers at the target: sockets, ping, a whole TCP
// conversation, with offloads on and off. Needs root.
import assert from "node:assert/strict";
import { after, afterEach, before, beforeEach, describe, test } from "node:test";

import { ADDRESS, Bed } from "../bed/bed.js";
import { Capture, reassemble } from "../bed/capture.js";
import { DATAPATHS, Daemon } from "../bed/daemon.js";
import { converseTcp, mirrorLoopback, sendUdp, UdpReceiver } from "../bed/endpoints.js";
import { Sink } from "../bed/tools.js";
import { agreed, dropsOf, receivedIs, ROOT_ONLY, settled } from "./ledger.js";

const SENDER = "10.0.0.1";
const UDP_RULE = { protocol: "udp", port: 31765, to: `${ADDRESS.target}:8081` };
const TCP_RULE = { protocol: "tcp", port: 8080, to: `${ADDRESS.target}:8082` };
const TCP_SERVER = "203.0.113.10"; // lives at the source: its conversation is mirrored

const CONFIG = {
  inside: { interface: "in0", vxlan: { vnis: [100, 101] } },
  nat: { destination: [UDP_RULE, TCP_RULE] },
  packet: { ipv6: "forward" },
};

for (const datapath of DATAPATHS)
  describe(`a real sender, by ${datapath},`, ROOT_ONLY, () => {
    let bed: Bed;
    let daemon: Daemon;
    let sink: Sink;
    before(async () => {
      bed = await Bed.make({ outsideMtu: 1500, offloads: true, vxlan: { vni: 100, address: SENDER, mtu: 2500 } });
      // Without path MTU discovery the kernel leaves DF clear, so that big datagrams may be fragmented.
      await bed.sysctl("source", { "net.ipv4.ip_no_pmtu_disc": 1 });
      // XDP's small pieces overtake those that worker 0 cuts. Too many of them, and the target's kernel would give up.
      await bed.sysctl("target", { "net.ipv4.ipfrag_max_dist": 0 });
      await mirrorLoopback(bed, TCP_SERVER);
    });
    after(() => bed.remove());
    beforeEach(async () => {
      // The next hop is known: of a burst that comes before it is, 512 packets wait and the rest is dropped by name.
      await bed.exec("gateway", "ping", ["-c", "1", "-W", "5", ADDRESS.target]);
      sink = await Sink.start(bed);
      daemon = await Daemon.start(bed, { ...CONFIG, datapath });
    });
    afterEach(async () => {
      await daemon.stop();
      await sink.stop();
    });

    type Translated = Record<"translated" | "checksumCompleted", number>;
    const inside = async (): Promise<Translated> => (await daemon.peek()).inside as unknown as Translated;

    /** Datagrams to a port with a rule, received by a socket at the target. */
    async function throughUdp(count: number, bytes: number, gapMs = 0): Promise<void> {
      const receiver = await UdpReceiver.start(bed, "target", ADDRESS.target, 8081, count);
      const sent = await sendUdp(bed, { from: SENDER, port: UDP_RULE.port, count, bytes, gapMs });
      await receivedIs(daemon, count);
      const { stats } = await agreed(daemon, sink);
      assert.deepEqual(dropsOf(stats), {});
      assert.deepEqual(await receiver.finish(), sent);
    }

    for (const offloads of [true, false]) {
      const how = offloads ? "on" : "off";
      test(`with offloads ${how} gets all its datagrams delivered to the rule's target, unchanged`, async () => {
        await bed.offloads("source", "src0", offloads);
        await bed.offloads("source", "vxlan0", offloads);
        // What a mirrored conversation ended with may have come before.
        const earlier = await inside();
        await throughUdp(1000, 400);
        const { translated, checksumCompleted } = await inside();
        assert.equal(translated - earlier.translated, 1000);
        // The kernel leaves the inner checksum to hardware exactly when its device may.
        assert.equal(checksumCompleted - earlier.checksumCompleted, offloads ? 1000 : 0);
      });

      test(`with offloads ${how} gets a whole TCP conversation mirrored one way to the same hash`, async () => {
        await bed.offloads("source", "src0", offloads);
        await bed.offloads("source", "vxlan0", offloads);
        const capture = await Capture.start(bed, "target", "dst0", "tcp");
        const bytes = 4_000_000;
        const { sent, received } = await converseTcp(bed, "source", {
          from: SENDER,
          to: TCP_SERVER,
          port: TCP_RULE.port,
          bytes,
        });
        assert.deepEqual(received, sent);
        await capture.conversationEnd(TCP_RULE.to);
        const { stats } = await agreed(daemon, sink);
        const { bytes: reassembled, digest } = reassemble(await capture.stop(), TCP_RULE.to);
        assert.deepEqual({ bytes: reassembled, digest }, { bytes, digest: sent.digest });
        assert.deepEqual(dropsOf(stats), {});
      });
    }

    test("gets datagrams delivered that are larger than the outside MTU, in fragments", async () => {
      await throughUdp(50, 2000, 1);
      assert.equal((await daemon.stats()).fragmentsExtra, 50);
    });

    test("gets datagrams delivered that its own kernel sent in fragments, all of them with the rule's target", async () => {
      // Beyond the vxlan device's MTU: the first fragment has the ports, the others have not.
      await throughUdp(50, 6000, 1);
      assert.equal((await inside()).translated, 150);
    });

    test("gets its echo requests through, each once and in order", async () => {
      const capture = await Capture.start(bed, "target", "dst0", "icmp[icmptype] = icmp-echo");
      const args = ["-q", "-c", "20", "-i", "0.01", "-W", "1", "-I", SENDER, ADDRESS.beyond];
      // One way only: nobody answers, and ping says so with exit code 1.
      await bed.exec("source", "ping", args).catch(() => "");
      await receivedIs(daemon, 20);
      await agreed(daemon, sink);
      const sequences = (await capture.stop()).map((frame) => frame.readUInt16BE(40));
      assert.deepEqual(
        sequences,
        Array.from({ length: 20 }, (_, index) => index + 1),
      );
    });

    test("needs no ip_forward at the gateway", async () => {
      assert.equal((await bed.exec("gateway", "sysctl", ["-n", "net.ipv4.ip_forward"])).trim(), "0");
      await throughUdp(10, 100);
      assert.equal((await bed.exec("gateway", "sysctl", ["-n", "net.ipv4.ip_forward"])).trim(), "0");
    });

    test("with another VNI on the same port reaches the kernel's vxlan device beside us, and is answered", async () => {
      await bed.ip(
        "source",
        `link add vxlan7 type vxlan id 7 local ${ADDRESS.source} remote ${ADDRESS.inside} dstport 4789 dev src0`,
        "addr add 10.7.0.1/24 dev vxlan7",
        "link set vxlan7 up",
      );
      await bed.ip(
        "gateway",
        `link add vxlan7 type vxlan id 7 local ${ADDRESS.inside} remote ${ADDRESS.source} dstport 4789 dev in0`,
        "addr add 10.7.0.2/24 dev vxlan7",
        "link set vxlan7 up",
      );
      await bed.exec("source", "ping", ["-q", "-c", "10", "-l", "10", "-i", "2", "10.7.0.2"]);
      await throughUdp(100, 100);
      const stats = await settled(daemon);
      assert.equal(stats.inside.forwarded, 100);
      assert.ok(stats.inside.passed >= 10);
      assert.deepEqual(dropsOf(stats), {});
      for (const place of ["source", "gateway"] as const) await bed.ip(place, "link del vxlan7");
    });
  });

describe("a real sender over IPv6", ROOT_ONLY, () => {
  let bed: Bed;
  let daemon: Daemon;
  before(async () => {
    bed = await Bed.make({ ipv6: true, offloads: true, vxlan: { vni: 101, address: SENDER, underlay6: true } });
    await Sink.start(bed);
    daemon = await Daemon.start(bed, CONFIG);
  });
  after(async () => {
    await daemon.stop();
    await bed.remove();
  });

  test("gets its datagrams delivered when the tunnel runs over IPv6", async () => {
    const receiver = await UdpReceiver.start(bed, "target", ADDRESS.target, 8081, 500);
    const sent = await sendUdp(bed, { from: SENDER, port: UDP_RULE.port, count: 500, bytes: 400 });
    await receivedIs(daemon, 500);
    const stats = await settled(daemon);
    assert.equal(stats.inside.forwarded, 500);
    assert.deepEqual(await receiver.finish(), sent);
  });

  test("gets inner IPv6 delivered untranslated where it is to be forwarded", async () => {
    const earlier = (await daemon.stats()).inside.forwarded;
    const receiver = await UdpReceiver.start(bed, "target", ADDRESS.beyond6, UDP_RULE.port, 500);
    const what = { from: "2001:db8:10::1", to: ADDRESS.beyond6, port: UDP_RULE.port, count: 500, bytes: 400 };
    const sent = await sendUdp(bed, what);
    await receivedIs(daemon, earlier + 500);
    const stats = await settled(daemon);
    assert.equal(stats.inside.forwarded - earlier, 500);
    assert.deepEqual(await receiver.finish(), sent);
  });
});
