// See xdp_nat_bed.h.
#include "xdp_nat_bed.h"

#include <arpa/inet.h>
#include <linux/bpf.h>

#include <cstring>

namespace vx::test {
namespace {

Bytes address(const std::string &text)
{
	const uint32_t be = ipv4_from(text);
	return bytes_of(reinterpret_cast<const uint8_t *>(&be), sizeof be);
}

Bytes tags(const std::vector<uint16_t> &tcis)
{
	Bytes bytes;
	for (size_t i = 0; i < tcis.size(); i++)
		bytes = bytes + be16(i + 1 < tcis.size() ? 0x88a8 : 0x8100) + be16(tcis[i]);
	return bytes;
}

Bytes vxlan(const Bytes &inner)
{
	const Bytes payload = Bytes{8, 0, 0, 0, static_cast<uint8_t>(kVni >> 16), static_cast<uint8_t>(kVni >> 8 & 0xff),
				    static_cast<uint8_t>(kVni & 0xff), 0} + inner;
	return be16(40000) + be16(4789) + be16(8 + payload.size()) + be16(0) + payload;
}

}  // namespace

Bytes operator+(Bytes left, const Bytes &right)
{
	left.insert(left.end(), right.begin(), right.end());
	return left;
}

Bytes be16(size_t value)
{
	return {static_cast<uint8_t>(value >> 8), static_cast<uint8_t>(value)};
}

Bytes bytes_of(const uint8_t *at, size_t size)
{
	return Bytes(at, at + size);
}

Bytes packet(const Ip &ip, const Bytes &payload)
{
	const size_t header = 20 + ip.options;
	return Bytes{static_cast<uint8_t>(0x40 + header / 4), 0} + be16(header + payload.size()) + be16(ip.id) +
	       be16(ip.fragment) + Bytes{64, ip.protocol, 0, 0} + address(ip.source) + address(ip.destination) +
	       Bytes(ip.options, 1) + payload;
}

Bytes udp(uint16_t from, uint16_t to, size_t payload)
{
	return be16(from) + be16(to) + be16(8 + payload) + be16(0) + Bytes(payload, 0x5a);
}

Bytes tcp(uint16_t from, uint16_t to)
{
	return be16(from) + be16(to) + Bytes(8) + Bytes{0x50, 2} + Bytes(6);
}

Bytes icmp(uint8_t type, uint16_t id)
{
	return Bytes{type, 0, 0, 0} + be16(id) + be16(7) + Bytes(8);
}

Bytes arp(const std::string &target, uint8_t operation)
{
	return Bytes{0, 1, 8, 0, 6, 4, 0, operation} + mac_from(kInnerFrom) + address("10.0.0.5") + Bytes(6) + address(target);
}

Bytes ethernet(const std::string &to, const std::string &from, uint16_t type, const Bytes &payload,
	       const std::vector<uint16_t> &tcis)
{
	return mac_from(to) + mac_from(from) + tags(tcis) + be16(type) + payload;
}

Bytes inner(const Bytes &ip, const std::vector<uint16_t> &tcis)
{
	return ethernet(kInnerTo, kInnerFrom, 0x0800, ip, tcis);
}

Bytes tunnel4(const Bytes &inner, const std::vector<uint16_t> &tcis)
{
	return ethernet(kInsideMac, kPeerMac, 0x0800, packet({"192.0.2.9", "192.0.2.1"}, vxlan(inner)), tcis);
}

Bytes tunnel6(const Bytes &inner)
{
	const Bytes payload = vxlan(inner);
	const vx_addr from = address_from("2001:db8::9"), to = address_from("2001:db8::1");
	return ethernet(kInsideMac, kPeerMac, 0x86dd,
			Bytes{0x60, 0, 0, 0} + be16(payload.size()) + Bytes{17, 64} + bytes_of(from.bytes, 16) +
				bytes_of(to.bytes, 16) + payload);
}

void expect_inside_head(const vx_translate &head, const std::string &peer, const std::vector<vx_tag> &tags)
{
	EXPECT_EQ(head.hop, VX_VERDICT_FORWARD);
	EXPECT_EQ(bytes_of(head.next_hop_mac, 6), mac_from("02:00:00:00:00:03"));
	EXPECT_EQ(bytes_of(head.peer_mac, 6), mac_from(kPeerMac));
	EXPECT_EQ(head.realm, kVni);
	EXPECT_EQ(bytes_of(head.inner_macs, 12), mac_from(kInnerTo) + mac_from(kInnerFrom));
	const vx_addr expected = address_from(peer);
	EXPECT_EQ(memcmp(&head.peer, &expected, 16), 0);
	for (size_t i = 0; i < 2; i++) {
		EXPECT_EQ(head.tags[i].protocol_be, i < tags.size() ? tags[i].protocol_be : 0) << i;
		EXPECT_EQ(head.tags[i].tci_be, i < tags.size() ? tags[i].tci_be : 0) << i;
	}
}

void XdpNat::load(const std::string &knobs)
{
	bed_.load("nat=128 workers=3 " + knobs);
	bed_.apply({"interface", "inside", kInsideMac, "1500"});
	bed_.apply({"interface", "outside", "02:00:00:00:00:02", "1500"});
	bed_.apply({"route", "0.0.0.0/0", "gateway", "198.51.100.1"});
	bed_.apply({"neighbour", "198.51.100.1", "valid", "02:00:00:00:00:03"});
	for (vx_port_owners &owners : bed_.datapath().port_owners())
		owners = {};
	const uint32_t address = ipv4_from(kPool);
	ASSERT_TRUE(bed_.datapath().set_pool(
		{.addresses_be = {address, ipv4_from(kOtherPool)},
		 .forwards = {{{address, htons(8080), IPPROTO_TCP, 0}, 2}},
		 .gateways = {{kVni, ipv4_from(kGateway)}, {VX_PLAIN_REALM, ipv4_from(kGateway)}}}));
}

void XdpNat::own(uint32_t number, uint16_t port, uint32_t worker)
{
	bed_.datapath().port_owners()[number].worker[port / kBlock] = static_cast<uint8_t>(worker + 1);
}

Outcome XdpNat::outside(const Bytes &frame, uint32_t queue)
{
	return bed_.run(frame, XdpBed::Rings::read, VX_OUTSIDE, queue);
}

void XdpNat::expect_the_kernels(const Bytes &frame)
{
	const Outcome outcome = outside(frame);
	EXPECT_EQ(outcome.action, XDP_PASS) << to_hex(frame);
	EXPECT_EQ(to_hex(outcome.out), to_hex(frame));
	EXPECT_TRUE(outcome.records.empty());
	expect_counts(outcome, "outside.", "passed");
}

Handed XdpNat::handed(const Outcome &outcome, const std::string &direction, uint8_t reason)
{
	Handed handed{UINT32_MAX, {}, {}};
	EXPECT_EQ(outcome.records.size(), 1u);
	if (outcome.records.size() != 1)
		return handed;
	const ExceptionRecord &record = outcome.records[0];
	if (reason == VX_EXCEPTION_TRANSLATE) {
		EXPECT_EQ(outcome.action, XDP_DROP);
		expect_counts(outcome, direction, "to_worker");
	}
	EXPECT_EQ(record.head.magic, VX_EXCEPTION_MAGIC);
	EXPECT_EQ(record.head.reason, reason);
	EXPECT_EQ(record.head.worker, record.ring);
	EXPECT_GE(record.frame.size(), kHead);
	memcpy(&handed.head, record.frame.data(), kHead);
	EXPECT_EQ(handed.head.mark_be, htons(VX_ETHERTYPE_TRANSLATE));
	EXPECT_EQ(handed.head.direction, direction.empty() ? VX_INSIDE : VX_OUTSIDE);
	handed.worker = record.ring;
	handed.packet = Bytes(record.frame.begin() + kHead, record.frame.end());
	return handed;
}

Handed XdpNat::from_outside(const Bytes &ip)
{
	return handed(outside(ethernet("02:00:00:00:00:02", "02:00:00:00:00:03", 0x0800, ip)), "outside.");
}

void XdpNat::expect_counts(const Outcome &outcome, const std::string &direction, const std::string &reason)
{
	std::map<std::string, uint64_t> counts = outcome.counts;
	counts.erase("cache_misses");
	counts.erase(direction + "received_bytes");
	EXPECT_EQ(counts, (std::map<std::string, uint64_t>{{direction + "received", 1}, {direction + reason, 1}}));
}

}  // namespace vx::test
