// ECN as Linux's own vxlan device merges it: what test/packets says of RFC 6040 is what another implementation does with the
// same frames. Needs root.
import assert from "node:assert/strict";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";

import type { Bed } from "../bed/bed.js";
import { readPcap } from "../bed/capture.js";
import { ROOT } from "../bed/command.js";
import { Collector, RawSender } from "./wire.js";
import { makeWorld } from "./world.js";

const ROOT_ONLY = process.getuid?.() === 0 ? {} : { skip: "namespaces need root" };
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
