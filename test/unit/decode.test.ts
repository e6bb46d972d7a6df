// The headers of dropped packets: those that are there are read right, and no bytes at all are too odd for it.
import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { type Decoded, decodedText, decodeFrame, type Packet } from "../../src/pipeline/decode.js";
import { ethernet, ipv4, ipv6, tcp, tunnelled, udp, vxlan } from "./samples.js";

const port = 4789;
const nothing = { vlans: [], sourcePort: null, destinationPort: null, flags: null, icmp: null, fragment: null };
const one = "20010db8000000000000000000000001";
const two = "20010db8000000010000000000000002";

function innerOf(frame: Uint8Array): Packet | null {
  return decodeFrame(frame, null).inner;
}

test("a tunnel is read with its peer and VNI, and the packet in it with addresses and ports", () => {
  const expected: Decoded = {
    outer: { vlans: [], peer: "192.0.2.1", local: "192.0.2.2", vni: 100 },
    inner: {
      ...nothing,
      source: "10.0.0.1",
      destination: "203.0.113.9",
      protocol: "udp",
      sourcePort: 5000,
      destinationPort: 9,
    },
  };
  assert.deepEqual(decodeFrame(tunnelled, port), expected);
  assert.equal(decodedText(expected), "vni 100 from 192.0.2.1: 10.0.0.1:5000 > 203.0.113.9:9 udp");
});

test("where there are no tunnels, or none to that port, the outer packet is the packet", () => {
  for (const none of [null, 8472]) {
    const { outer, inner } = decodeFrame(tunnelled, none);
    assert.deepEqual([outer, inner?.source, inner?.destinationPort], [null, "192.0.2.1", 4789]);
  }
});

test("tags outside and inside, and IPv6 outside and inside, are passed over and named", () => {
  const inner = ethernet(0x86dd, ipv6(one, two, 6, tcp(40000, 443, 0x12)), 7);
  const frame = ethernet(0x86dd, ipv6(two, one, 17, udp(1, port, vxlan(0xabcdef, inner))), 5, 6);
  const decoded = decodeFrame(frame, port);
  assert.deepEqual(decoded.outer, { vlans: [5, 6], peer: "2001:db8:0:1::2", local: "2001:db8::1", vni: 0xabcdef });
  assert.equal(
    decodedText(decoded),
    "vlan 5 vlan 6 vni 11259375 from 2001:db8:0:1::2: vlan 7 [2001:db8::1]:40000 > [2001:db8:0:1::2]:443 tcp [S.]",
  );
});

test("flags of TCP are written as tcpdump does", () => {
  const texts = [0x02, 0x12, 0x10, 0x18, 0x11, 0x04, 0x00].map(
    (flags) => innerOf(ethernet(0x0800, ipv4("10.0.0.1", "10.0.0.2", 6, tcp(1, 2, flags))))?.flags,
  );
  assert.deepEqual(texts, ["S", "S.", ".", "P.", "F.", "R", ""]);
});

test("a later fragment has no ports, a first one has, and both say where they belong", () => {
  const packet = (fragment: number): Packet | null =>
    innerOf(ethernet(0x0800, ipv4("10.0.0.1", "10.0.0.2", 17, udp(5000, 53), fragment)));
  assert.deepEqual([packet(0x2000)?.fragment, packet(0x2000)?.sourcePort], [0, 5000]);
  assert.deepEqual([packet(0x00b9)?.fragment, packet(0x00b9)?.sourcePort], [1480, null]);
  assert.equal(packet(0x4000)?.fragment, null);
  const six = Buffer.concat([Buffer.from([17, 0, 0x05, 0xc9, 0, 0, 0, 1]), udp(1, 2)]);
  assert.deepEqual(innerOf(ethernet(0x86dd, ipv6(one, two, 44, six)))?.fragment, 1480);
});

test("extension headers are passed over, IP options too", () => {
  const extensions = Buffer.concat([Buffer.from([60, 0, 1, 4, 0, 0, 0, 0, 17, 1]), Buffer.alloc(14), udp(7, 8)]);
  const six = innerOf(ethernet(0x86dd, ipv6(one, two, 0, extensions)));
  assert.deepEqual([six?.protocol, six?.sourcePort, six?.destinationPort], ["udp", 7, 8]);
  const four = ipv4("10.0.0.1", "10.0.0.2", 17, Buffer.concat([Buffer.alloc(4), udp(7, 8)]));
  four[0] = 0x46;
  assert.equal(innerOf(ethernet(0x0800, four))?.destinationPort, 8);
});

test("ICMP has type and code, other protocols a name or number, what is not IP its EtherType and MACs", () => {
  const text = (frame: Uint8Array): string => decodedText(decodeFrame(frame, null));
  const icmp = ipv4("10.0.0.1", "10.0.0.2", 1, Buffer.from([3, 4, 0, 0]));
  assert.equal(text(ethernet(0x0800, icmp)), "10.0.0.1 > 10.0.0.2 icmp 3/4");
  assert.equal(text(ethernet(0x0800, ipv4("10.0.0.1", "10.0.0.2", 47, Buffer.alloc(8)))), "10.0.0.1 > 10.0.0.2 gre");
  assert.equal(text(ethernet(0x0800, ipv4("10.0.0.1", "10.0.0.2", 89, Buffer.alloc(8)))), "10.0.0.1 > 10.0.0.2 89");
  assert.equal(text(ethernet(0x88cc, Buffer.alloc(46))), "02:00:00:00:00:aa > 02:00:00:00:00:bb 0x88cc");
});

test("what is cut off is left out, header by header, and what came before it stays", () => {
  const at = (length: number): string => decodedText(decodeFrame(tunnelled.subarray(0, length), port));
  assert.equal(at(13), "no packet");
  assert.equal(at(33), "02:00:00:00:00:aa > 02:00:00:00:00:bb 0x0800");
  assert.equal(at(37), "192.0.2.1 > 192.0.2.2 udp");
  assert.equal(at(45), "no VXLAN header from 192.0.2.1: no packet");
  assert.equal(at(63), "vni 100 from 192.0.2.1: no packet");
  assert.equal(at(84), "vni 100 from 192.0.2.1: 10.0.0.1 > 203.0.113.9 udp");
  assert.equal(at(88), "vni 100 from 192.0.2.1: 10.0.0.1:5000 > 203.0.113.9:9 udp");
});

test("any bytes at all are decoded to something, and so is any frame with some of its bytes changed or cut off", () => {
  const decode = (bytes: Uint8Array): void => {
    for (const vxlanPort of [null, port]) assert.equal(typeof decodedText(decodeFrame(bytes, vxlanPort)), "string");
  };
  fc.assert(fc.property(fc.uint8Array({ maxLength: 300 }), decode), { numRuns: 3000 });
  const six = ethernet(
    0x86dd,
    ipv6(one, two, 17, udp(1, port, vxlan(1, ethernet(0x86dd, ipv6(one, two, 0, Buffer.alloc(40)))))),
  );
  const changes = fc.array(fc.tuple(fc.nat(150), fc.nat(255)), { maxLength: 4 });
  fc.assert(
    fc.property(fc.constantFrom(tunnelled, six), fc.nat(170), changes, (frame, length, changed) => {
      const bytes = Buffer.from(frame);
      for (const [index, value] of changed) if (index < bytes.length) bytes[index] = value;
      decode(bytes.subarray(0, length));
    }),
    { numRuns: 5000 },
  );
});
