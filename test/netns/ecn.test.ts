// ECN as Linux's own vxlan device merges it: what test/packets says of RFC 6040 is what another implementation does with the
// same frames. And with source NAT, which test/packets does not know, between real hosts. Needs root.
import assert from "node:assert/strict";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";

import type { Bed } from "../bed/bed.js";
import { Capture, readPcap } from "../bed/capture.js";
import { ROOT } from "../bed/command.js";
import { NAT } from "../bed/nat-bed.js";
import { host } from "../bed/nat-hosts.js";
import { ROOT_ONLY } from "./ledger.js";
import { makeNatScene } from "./nat-scene.js";
import { Collector, RawSender } from "./wire.js";
import { makeWorld } from "./world.js";

/** As test/packets/world.py has it. */
const VTEP = { address: "192.0.2.1", address6: "2001:db8:1::1" };
const ETHERNET = 14;

/** The packets of frames; those over IPv4 and IPv6 are two sockets to the kernel, so no order is told. */
const packets = (frames: readonly Buffer[]): string[] => frames.map((frame) => frame.toString("hex", ETHERNET)).sort();

describe("the kernel's vxlan device", ROOT_ONLY, () => {
  let bed: Bed;
  let sender: RawSender;
  let collector: Collector;
  before(async () => {
    bed = await makeWorld();
    // The sender's own addresses are the VTEP's here.
    await bed.ip("source", "addr flush dev src0");
    await bed.ip(
      "gateway",
      `addr add ${VTEP.address}/24 dev in0`,
      `addr add ${VTEP.address6}/64 dev in0 nodad`,
      // Metadata: one device for both underlays and every VNI. What it decapsulates a bridge sends out.
      "link add vx0 type vxlan external dstport 4789 udp6zerocsumrx",
      "link add br0 type bridge",
      "link set vx0 master br0 up",
      "link set out0 master br0",
      "link set br0 up",
    );
    sender = RawSender.start(bed);
    collector = await Collector.start(bed);
  });
  after(() => bed.remove());

  for (const name of ["ecn", "ecn-ipv6"]) {
    test(`merges ECN as the case ${name} says`, async () => {
      const folder = join(ROOT, "test/packets", name);
      const expected = readPcap(join(folder, "out.pcap"));
      await sender.send(join(folder, "in.pcap"));
      assert.deepEqual(packets(await collector.collect(expected.length)), packets(expected));
    });
  }
});

describe("with source NAT, tunnels that met congestion on the underlay", ROOT_ONLY, () => {
  const scene = makeNatScene({ config: { datapath: "afxdp" } });

  // `merged`: by a packet's own ECN, RFC 6040 figure 4; null: lost.
  for (const { mark, merged } of [
    { mark: "ect1", merged: [0, 1, 1, 3] },
    { mark: "ce", merged: [null, 3, 3, 3] },
  ])
    test(`mark what leaves outside: ${mark}`, async () => {
      const { bed } = scene;
      const rule = `udp dport 4789 ip ecn set ${mark}`;
      await bed.exec("access", "nft", [`table ip t { chain c { type filter hook output priority 0; ${rule}; }; }`]);
      const wire = await Capture.start(bed, "router", "rt0", "udp dst port 5300");
      const left = merged.flatMap((ecn, own) => (ecn === null ? [] : [{ own, ecn }]));
      const { inside, outside } = await scene.dropsDuring(async () => {
        const answered = await host<number[]>(bed, "a", "marked", NAT.server);
        assert.deepEqual(
          answered,
          left.map(({ own }) => own),
        );
      });
      await bed.exec("access", "nft", ["delete table ip t"]);
      assert.deepEqual({ inside, outside }, { inside: left.length === 4 ? {} : { ecn: 1 }, outside: {} });
      const seen = (await wire.stop()).map((frame) => ({ own: frame.readUInt32BE(46), ecn: frame.readUInt8(15) & 3 }));
      assert.deepEqual(seen, left);
    });
});
