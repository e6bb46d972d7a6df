// Source NAT in XDP: what the workers are told of a packet, which of them gets it, and what is not theirs. BPF_PROG_TEST_RUN,
// root.
#include <arpa/inet.h>
#include <bpf/bpf.h>
#include <gtest/gtest.h>
#include <linux/bpf.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <cstring>
#include <random>

#include "../core/nat/steering.h"
#include "xdp_bed.h"
#include "xdp_words.h"

namespace vx::test {
namespace {

constexpr uint32_t kWorkers = 3, kBlock = 128, kVni = 0x123456;
constexpr size_t kHead = sizeof(vx_translate);
const char *const kPool = "203.0.113.1", *const kOtherPool = "203.0.113.2", *const kGateway = "10.0.0.1";
const std::string kInsideMac = "02:00:00:00:00:01", kPeerMac = "02:aa:00:00:00:01";

Bytes operator+(Bytes left, const Bytes &right)
{
	left.insert(left.end(), right.begin(), right.end());
	return left;
}

Bytes be16(size_t value)
{
	return {static_cast<uint8_t>(value >> 8), static_cast<uint8_t>(value)};
}

Bytes address(const std::string &text)
{
	const uint32_t be = ipv4_from(text);
	const auto *bytes = reinterpret_cast<const uint8_t *>(&be);
	return Bytes(bytes, bytes + 4);
}

uint16_t header_checksum(const Bytes &ip)
{
	uint32_t sum = 0;
	for (size_t i = 0; i < (ip[0] & 15u) * 4; i += 2)
		sum += i == 10 ? 0 : ip[i] * 256u + ip[i + 1];
	while (sum > 0xffff)
		sum = (sum >> 16) + (sum & 0xffff);
	return static_cast<uint16_t>(~sum);
}

struct Ip {
	std::string source = "10.0.0.5", destination = "198.51.100.7";
	uint8_t protocol = 17;
	uint16_t id = 1, fragment = 0;
	uint8_t options = 0;  // bytes
};

Bytes packet(const Ip &ip, const Bytes &payload)
{
	const size_t header = 20 + ip.options;
	return Bytes{static_cast<uint8_t>(0x40 + header / 4), 0} + be16(header + payload.size()) + be16(ip.id) +
	       be16(ip.fragment) + Bytes{64, ip.protocol, 0, 0} + address(ip.source) + address(ip.destination) +
	       Bytes(ip.options, 1) + payload;
}

Bytes udp(uint16_t from, uint16_t to, size_t payload = 10)
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

Bytes tags(const std::vector<uint16_t> &tcis)
{
	Bytes bytes;
	for (size_t i = 0; i < tcis.size(); i++)
		bytes = bytes + be16(i + 1 < tcis.size() ? 0x88a8 : 0x8100) + be16(tcis[i]);
	return bytes;
}

Bytes ethernet(const std::string &to, const std::string &from, uint16_t type, const Bytes &payload,
	       const std::vector<uint16_t> &tcis = {})
{
	return mac_from(to) + mac_from(from) + tags(tcis) + be16(type) + payload;
}

const std::string kInnerTo = "02:bb:00:00:00:01", kInnerFrom = "02:bb:00:00:00:02";

Bytes vxlan(const Bytes &inner, uint32_t vni = kVni)
{
	const Bytes payload = Bytes{8, 0, 0, 0, static_cast<uint8_t>(vni >> 16), static_cast<uint8_t>(vni >> 8),
				    static_cast<uint8_t>(vni), 0} + inner;
	return be16(40000) + be16(4789) + be16(8 + payload.size()) + be16(0) + payload;
}

Bytes tunnel4(const Bytes &inner, const std::vector<uint16_t> &tcis = {})
{
	return ethernet(kInsideMac, kPeerMac, 0x0800, packet({"192.0.2.9", "192.0.2.1"}, vxlan(inner)), tcis);
}

Bytes tunnel6(const Bytes &inner)
{
	const Bytes payload = vxlan(inner);
	const vx_addr from = address_from("2001:db8::9"), to = address_from("2001:db8::1");
	return ethernet(kInsideMac, kPeerMac, 0x86dd,
			Bytes{0x60, 0, 0, 0} + be16(payload.size()) + Bytes{17, 64} + Bytes(from.bytes, from.bytes + 16) +
				Bytes(to.bytes, to.bytes + 16) + payload);
}

Bytes inner(const Bytes &ip, const std::vector<uint16_t> &tcis = {})
{
	return ethernet(kInnerTo, kInnerFrom, 0x0800, ip, tcis);
}

Bytes arp(const std::string &target, uint8_t operation = 1)
{
	return Bytes{0, 1, 8, 0, 6, 4, 0, operation} + mac_from(kInnerFrom) + address("10.0.0.5") + Bytes(6) + address(target);
}

struct Handed {
	uint32_t worker;
	vx_translate head;
	Bytes packet;
};

class XdpNat : public testing::Test {
protected:
	void SetUp() override { load("hand_over=rings"); }

	void load(const std::string &knobs)
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

	Outcome outside(const Bytes &frame, uint32_t queue = 0)
	{
		return bed_.run(frame, XdpBed::Rings::read, VX_OUTSIDE, queue);
	}

	// The ledger's part of an outcome: `reason` is what the frame counts as, beside being received.
	static void expect_counts(const Outcome &outcome, const std::string &direction, const std::string &reason)
	{
		std::map<std::string, uint64_t> counts = outcome.counts;
		counts.erase("cache_misses");
		counts.erase(direction + "received_bytes");
		EXPECT_EQ(counts, (std::map<std::string, uint64_t>{{direction + "received", 1}, {direction + reason, 1}}));
	}

	// What went to a worker by ring.
	Handed handed(const Outcome &outcome, const std::string &direction, uint8_t reason = VX_EXCEPTION_TRANSLATE)
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
	Handed from_inside(const Bytes &frame) { return handed(bed_.run(frame), ""); }
	Handed from_outside(const Bytes &ip)
	{
		return handed(outside(ethernet("02:00:00:00:00:02", "02:00:00:00:00:03", 0x0800, ip)), "outside.");
	}
	void own(uint32_t number, uint16_t port, uint32_t worker)
	{
		bed_.datapath().port_owners()[number].worker[port / kBlock] = static_cast<uint8_t>(worker + 1);
	}

	XdpBed &bed_ = XdpBed::instance();
};

Bytes bytes_of(const uint8_t *at, size_t size)
{
	return Bytes(at, at + size);
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

TEST_F(XdpNat, APacketFromInsideCarriesItsTunnelOverIpv4)
{
	const Bytes ip = packet({}, udp(1000, 53));
	const Handed got = from_inside(tunnel4(inner(ip)));
	EXPECT_EQ(got.packet, ip);
	expect_inside_head(got.head, "192.0.2.9", {});
}

TEST_F(XdpNat, APacketFromInsideCarriesItsTunnelOverIpv6)
{
	const Bytes ip = packet({}, udp(1000, 53));
	const Handed got = from_inside(tunnel6(inner(ip)));
	EXPECT_EQ(got.packet, ip);
	expect_inside_head(got.head, "2001:db8::9", {});
}

TEST_F(XdpNat, TheOuterTagsComeAlongAndTheInnerOnesAreStripped)
{
	const Bytes ip = packet({}, udp(1000, 53));
	Handed got = from_inside(tunnel4(inner(ip, {7, 8}), {100}));
	EXPECT_EQ(got.packet, ip);
	expect_inside_head(got.head, "192.0.2.9", {{htons(0x8100), htons(100)}});
	got = from_inside(tunnel4(inner(ip), {0x6064, 200}));
	EXPECT_EQ(got.packet, ip);
	expect_inside_head(got.head, "192.0.2.9", {{htons(0x88a8), htons(0x6064)}, {htons(0x8100), htons(200)}});
}

TEST_F(XdpNat, PaddingBehindThePacketStaysBehind)
{
	const Bytes ip = packet({}, udp(1000, 53, 1));
	EXPECT_EQ(from_inside(tunnel4(inner(ip + Bytes(18, 0xee)))).packet, ip);
	own(0, 2048, 1);
	const Bytes reply = packet({"198.51.100.7", kPool}, udp(53, 2048, 1));
	EXPECT_EQ(from_outside(reply + Bytes(18, 0xee)).packet, reply);
}

TEST_F(XdpNat, PacketsOfEverySizeComeWhole)
{
	for (size_t size = 0; size <= 1472; size += size < 100 ? 1 : 97) {
		const Bytes ip = packet({}, udp(1000, 53, size));
		ASSERT_EQ(from_inside(tunnel4(inner(ip))).packet, ip) << size;
		const Bytes reply = packet({"198.51.100.7", kPool}, udp(53, 2048, size));
		ASSERT_EQ(from_outside(reply).packet, reply) << size;
	}
	const Bytes ip = packet({}, udp(1000, 53, 1472));
	EXPECT_EQ(from_inside(tunnel4(inner(ip))).packet, ip);
}

TEST_F(XdpNat, PlainEthernetInsideIsARealmOfItsOwn)
{
	load("hand_over=rings plain");
	const Bytes ip = packet({.protocol = 6}, tcp(1000, 80));
	const Handed got = from_inside(ethernet(kInsideMac, kPeerMac, 0x0800, ip, {33}));
	EXPECT_EQ(got.packet, ip);
	EXPECT_EQ(got.head.realm, VX_PLAIN_REALM);
	EXPECT_EQ(got.head.hop, VX_VERDICT_FORWARD);
	EXPECT_EQ(bytes_of(got.head.peer_mac, 6), mac_from(kPeerMac));
	EXPECT_EQ(got.head.tags[0].tci_be, htons(33));
	EXPECT_EQ(bytes_of(got.head.inner_macs, 12), Bytes(12));
	EXPECT_EQ(bytes_of(got.head.peer.bytes, 16), Bytes(16));
	EXPECT_EQ(got.worker, nat::owner_of_subscriber(VX_PLAIN_REALM, ipv4_from("10.0.0.5"), kWorkers));
}

TEST_F(XdpNat, PlainFramesForTheHostAreItsOwnButNeverThoseForThePool)
{
	load("hand_over=rings plain");
	bed_.apply({"route", "172.16.0.1/32", "local"});
	bed_.apply({"route", std::string(kPool) + "/32", "local"});
	Outcome outcome = bed_.run(ethernet(kInsideMac, kPeerMac, 0x0800, packet({"10.0.0.5", "172.16.0.1"}, udp(1, 2))));
	EXPECT_EQ(outcome.action, XDP_PASS);
	expect_counts(outcome, "", "passed");
	const Handed got = from_inside(ethernet(kInsideMac, kPeerMac, 0x0800, packet({"10.0.0.5", kPool}, udp(1, 2))));
	EXPECT_EQ(got.head.hop, VX_VERDICT_POOL);
	outcome = bed_.run(ethernet(kInnerTo, kPeerMac, 0x0800, packet({}, udp(1, 2))));
	EXPECT_EQ(outcome.action, XDP_PASS);
	expect_counts(outcome, "", "passed");
}

TEST_F(XdpNat, TheWorkerIsToldWhereThePacketGoes)
{
	bed_.apply({"route", "198.18.0.0/15", "onlink"});
	bed_.apply({"route", "198.20.0.0/16", "none"});
	const auto to = [](const char *destination) { return tunnel4(inner(packet({"10.0.0.5", destination}, udp(1, 2)))); };
	Handed got = from_inside(to("198.18.0.9"));
	EXPECT_EQ(got.head.hop, VX_VERDICT_WORKER);
	EXPECT_EQ(bytes_of(got.head.next_hop_mac, 6), Bytes(6));
	EXPECT_EQ(from_inside(to(kPool)).head.hop, VX_VERDICT_POOL);
	EXPECT_EQ(from_inside(to(kOtherPool)).head.hop, VX_VERDICT_POOL);  // remembered or not
	EXPECT_EQ(from_inside(to(kPool)).head.hop, VX_VERDICT_POOL);
	Outcome outcome = bed_.run(to("198.20.0.1"));
	EXPECT_EQ(outcome.action, XDP_DROP);
	expect_counts(outcome, "", "no_route");
	bed_.apply({"neighbour", "198.18.0.9", "failed"});
	bed_.apply({"generation"});
	expect_counts(bed_.run(to("198.18.0.9")), "", "no_neighbour");
}

TEST_F(XdpNat, WhatTheAllowlistRefusesNoWorkerSees)
{
	bed_.apply({"allow", "10.0.0.5"});
	from_inside(tunnel4(inner(packet({}, udp(1, 2)))));
	Bytes refused = tunnel4(inner(packet({"10.0.0.6", kPool}, udp(1, 2))));
	refused[15] = 3;  // CE, which it could not carry either
	const Outcome outcome = bed_.run(refused);
	EXPECT_EQ(outcome.action, XDP_DROP);
	expect_counts(outcome, "", "not_allowed");
	EXPECT_TRUE(outcome.records.empty());
}

TEST_F(XdpNat, MalformedAndTruncatedPacketsFromInsideAreDropsByName)
{
	const Bytes ip = packet({}, udp(1, 2));
	expect_counts(bed_.run(tunnel4(inner(Bytes(ip.begin(), ip.end() - 1)))), "", "truncated");
	expect_counts(bed_.run(tunnel4(inner(packet({}, be16(1) + be16(2))))), "", "malformed_inner");
	expect_counts(bed_.run(tunnel4(ethernet(kInnerTo, kInnerFrom, 0x88cc, Bytes(40)))), "", "not_ip");
	Bytes flagless = tunnel4(inner(ip));
	flagless[42] = 0;
	expect_counts(bed_.run(flagless), "", "vxlan_flags");
}

TEST_F(XdpNat, NothingButEcnIsRewrittenOnTheWayToTheEngine)
{
	load("hand_over=rings decrement_ttl clear_df");
	Bytes ip = packet({"10.0.0.5", "198.51.100.7", 17, 5, 0x4000}, udp(1, 53, 1472));
	ip[8] = 1;
	EXPECT_EQ(from_inside(tunnel4(inner(ip))).packet, ip);  // neither TTL nor DF
}

TEST_F(XdpNat, TheTunnelsEcnIsMergedIntoWhatTheEngineGetsAndAPacketThatCannotBeMarkedIsLost)
{
	constexpr int kLost = -1;
	constexpr int kMerged[4][4] = {{0, 0, 0, kLost}, {1, 1, 1, 3}, {2, 1, 2, 3}, {3, 3, 3, 3}};  // RFC 6040 figure 4
	const auto with_ecn = [](Bytes ip, int ecn) {
		ip[1] = static_cast<uint8_t>(0xb8 | ecn);
		const Bytes check = be16(header_checksum(ip));
		std::copy(check.begin(), check.end(), ip.begin() + 10);
		return ip;
	};
	// Whole, and pieces of a datagram.
	for (const uint16_t fragment : std::initializer_list<uint16_t>{0, 0x2000, 0x2010, 0x0020})
		for (int own = 0; own < 4; own++)
			for (int outer = 0; outer < 4; outer++)
				for (const bool is_ipv6 : {false, true}) {
					SCOPED_TRACE(testing::Message() << fragment << " " << own << " in " << outer << " " << is_ipv6);
					const Bytes ip = packet({"10.0.0.5", "198.51.100.7", 17, 5, fragment}, udp(1, 53, 32));
					const Bytes content = inner(with_ecn(ip, own));
					Bytes frame = is_ipv6 ? tunnel6(content) : tunnel4(content);
					frame[15] = static_cast<uint8_t>(is_ipv6 ? outer << 4 : outer);
					const int merged = kMerged[own][outer];
					if (merged == kLost)
						expect_counts(bed_.run(frame), "", "ecn");
					else
						EXPECT_EQ(from_inside(frame).packet, with_ecn(ip, merged));
				}
}

TEST_F(XdpNat, EverySubscriberComesToTheWorkerTheEngineSaysIncludingItsFragments)
{
	const uint32_t seed = std::random_device{}();
	std::mt19937 random(seed);
	std::vector<uint32_t> seen(kWorkers);
	for (int i = 0; i < 2000; i++) {
		const uint32_t vni = random() & 0xffffff, source_be = static_cast<uint32_t>(random());
		Ip ip{.fragment = static_cast<uint16_t>(i % 4 == 0 ? 0x2000 : i % 4 == 1 ? 0x00b9 : 0)};
		Bytes bytes = packet(ip, udp(static_cast<uint16_t>(random()), static_cast<uint16_t>(random())));
		memcpy(&bytes[12], &source_be, 4);
		Bytes frame = tunnel4(inner(bytes));
		for (int k = 0; k < 3; k++)
			frame[46 + k] = static_cast<uint8_t>(vni >> (16 - 8 * k));
		const Handed got = from_inside(frame);
		ASSERT_EQ(got.head.realm, vni);
		ASSERT_EQ(got.worker, nat::owner_of_subscriber(vni, source_be, kWorkers)) << "seed " << seed;
		seen[got.worker]++;
	}
	EXPECT_GT(*std::min_element(seen.begin(), seen.end()), 400u);
}

TEST_F(XdpNat, AReplyComesToTheWorkerThatHasItsPort)
{
	for (uint32_t worker = 0; worker < kWorkers; worker++) {
		own(0, static_cast<uint16_t>(2048 + worker * kBlock), worker);
		own(1, static_cast<uint16_t>(2048 + worker * kBlock), (worker + 1) % kWorkers);
	}
	for (uint16_t port = 2048; port < 2048 + kWorkers * kBlock; port++) {
		const uint32_t worker = (port - 2048u) / kBlock;
		ASSERT_EQ(from_outside(packet({"198.51.100.7", kPool}, udp(53, port))).worker, worker) << port;
		ASSERT_EQ(from_outside(packet({"198.51.100.7", kPool, 6}, tcp(80, port))).worker, worker) << port;
		ASSERT_EQ(from_outside(packet({"198.51.100.7", kPool, 1}, icmp(0, port))).worker, worker) << port;
		const Handed other = from_outside(packet({"198.51.100.7", kOtherPool, 17, 1, 0, 8}, udp(53, port)));
		ASSERT_EQ(other.worker, (worker + 1) % kWorkers) << port;
	}
	const Bytes echo = packet({"198.51.100.7", kPool, 1, 1, 0, 12}, icmp(0, 2048 + kBlock));  // behind options
	EXPECT_EQ(from_outside(echo).worker, 1u);
}

TEST_F(XdpNat, AForwardGoesBeforeTheOwnerOfItsBlock)
{
	own(0, 8080, 1);
	EXPECT_EQ(from_outside(packet({"198.51.100.7", kPool, 6}, tcp(80, 8080))).worker, 2u);
	EXPECT_EQ(from_outside(packet({"198.51.100.7", kPool}, udp(80, 8080))).worker, 1u);
	EXPECT_EQ(from_outside(packet({"198.51.100.7", kPool, 6}, tcp(80, 8081))).worker, 1u);
}

TEST_F(XdpNat, WhatNoPortTellsIsSharedOutByAddressesAndFragmentsByDatagram)
{
	const uint32_t seed = std::random_device{}();
	std::mt19937 random(seed);
	const uint32_t pool_be = ipv4_from(kPool);
	std::vector<uint32_t> seen(kWorkers);
	for (vx_port_owners &owners : bed_.datapath().port_owners())
		std::fill(std::begin(owners.worker), std::end(owners.worker), uint8_t{kWorkers + 1});  // nobody there is
	for (int i = 0; i < 1000; i++) {
		const uint32_t source_be = static_cast<uint32_t>(random());
		const auto id = static_cast<uint16_t>(random());
		const auto of = [&](Ip ip, const Bytes &payload) {
			ip.destination = kPool;
			ip.id = id;
			Bytes bytes = packet(ip, payload);
			memcpy(&bytes[12], &source_be, 4);
			return from_outside(bytes);
		};
		const uint32_t by_addresses = nat::worker_of_hash(nat::spread(source_be ^ nat::spread(pool_be)), kWorkers);
		for (const Handed &got : {of({}, udp(53, id)), of({.protocol = 1}, icmp(0, id)), of({.protocol = 1}, icmp(3, id)),
					  of({.protocol = 1}, icmp(8, id)), of({.protocol = 47}, Bytes(8))})
			ASSERT_EQ(got.worker, by_addresses) << "seed " << seed;
		const uint32_t by_datagram = nat::owner_of_fragments(source_be, pool_be, htons(id), 17, kWorkers);
		ASSERT_EQ(of({.fragment = 0x2000}, udp(53, id)).worker, by_datagram) << "seed " << seed;
		ASSERT_EQ(of({.fragment = 0x0010}, Bytes(9)).worker, by_datagram) << "seed " << seed;
		seen[by_datagram]++;
	}
	EXPECT_GT(*std::min_element(seen.begin(), seen.end()), 200u);
}

TEST_F(XdpNat, FragmentsFromOutsideAreNotSteeredByTheirPorts)
{
	for (uint32_t block = 0; block < 65536 / kBlock; block++)
		own(0, static_cast<uint16_t>(block * kBlock), 0);
	for (uint16_t id = 0; id < 50; id++)
		ASSERT_EQ(from_outside(packet({"198.51.100.7", kPool, 17, id, 0x2000}, udp(53, 2048))).worker,
			  nat::owner_of_fragments(ipv4_from("198.51.100.7"), ipv4_from(kPool), htons(id), 17, kWorkers));
}

TEST_F(XdpNat, APacketFromOutsideCarriesWhereItCameFrom)
{
	const Bytes ip = packet({"198.51.100.7", kPool}, udp(53, 2048));
	const Handed got = handed(outside(ethernet("02:00:00:00:00:02", "02:00:00:00:00:03", 0x0800, ip, {5, 6})), "outside.");
	EXPECT_EQ(got.packet, ip);
	EXPECT_EQ(bytes_of(got.head.peer_mac, 6), mac_from("02:00:00:00:00:03"));
	EXPECT_EQ(got.head.tags[0].tci_be, htons(5));
	EXPECT_EQ(got.head.tags[1].tci_be, htons(6));
	EXPECT_EQ(got.head.realm, 0u);
}

TEST_F(XdpNat, WhatIsNotForThePoolIsLeftToTheKernelAsItCame)
{
	const Bytes foreign = packet({"198.51.100.7", "203.0.113.3"}, udp(53, 2048));
	const auto frame = [](uint16_t type, const Bytes &payload) {
		return ethernet("02:00:00:00:00:02", "02:00:00:00:00:03", type, payload);
	};
	for (const Bytes &one : {frame(0x0800, foreign), frame(0x0800, Bytes(foreign.begin(), foreign.begin() + 19)),
				 frame(0x86dd, Bytes(60)), frame(0x88cc, Bytes(46)), frame(0x0806, arp("203.0.113.3")),
				 frame(0x0806, arp(kPool, 2)), frame(0x0806, Bytes(27)), frame(0x8100, Bytes(1))}) {
		const Outcome outcome = outside(one);
		EXPECT_EQ(outcome.action, XDP_PASS) << to_hex(one);
		EXPECT_EQ(to_hex(outcome.out), to_hex(one));
		EXPECT_TRUE(outcome.records.empty());
		expect_counts(outcome, "outside.", "passed");
	}
}

TEST_F(XdpNat, AFrameForAnotherStationIsTheKernelsAsItCameWhateverIsInIt)
{
	const Bytes reply = packet({"198.51.100.7", kPool}, udp(53, 2048)), truncated(reply.begin(), reply.end() - 1);
	const Bytes fragment = packet({"198.51.100.7", kPool, 17, 1, 0x2000}, udp(53, 2048));
	own(0, 2048, 1);
	for (size_t at = 0; at < 6; at++) {
		const auto astray = [at](uint16_t type, const Bytes &payload, const std::vector<uint16_t> &tcis = {}) {
			Bytes frame = ethernet("02:00:00:00:00:02", "02:00:00:00:00:03", type, payload, tcis);
			frame[at] ^= 0x80;
			return frame;
		};
		for (const Bytes &one : {astray(0x0800, reply), astray(0x0800, reply, {9}), astray(0x0800, truncated),
					 astray(0x0800, fragment), astray(0x0806, arp(kPool))}) {
			const Outcome outcome = outside(one);
			EXPECT_EQ(outcome.action, XDP_PASS) << to_hex(one);
			EXPECT_EQ(to_hex(outcome.out), to_hex(one));
			EXPECT_TRUE(outcome.records.empty());
			expect_counts(outcome, "outside.", "passed");
		}
	}
}

TEST_F(XdpNat, AFrameForAGroupOrForTheInterfacesMacOfTheMomentIsForThePool)
{
	const Bytes reply = packet({"198.51.100.7", kPool}, udp(53, 2048));
	const auto sent_to = [&](const char *mac) { return outside(ethernet(mac, "02:00:00:00:00:03", 0x0800, reply)); };
	for (const char *group : {"ff:ff:ff:ff:ff:ff", "01:00:5e:00:00:01", "03:00:00:00:00:02"})
		EXPECT_EQ(handed(sent_to(group), "outside.").packet, reply) << group;
	const Outcome asked = outside(ethernet("02:00:00:00:00:02", kPeerMac, 0x0806, arp(kPool)));
	EXPECT_EQ(to_hex(handed(asked, "outside.", VX_EXCEPTION_ARP).packet), to_hex(arp(kPool)));
	bed_.apply({"interface", "outside", "02:00:00:00:00:99", "1500"});
	EXPECT_EQ(handed(sent_to("02:00:00:00:00:99"), "outside.").packet, reply);
	expect_counts(sent_to("02:00:00:00:00:02"), "outside.", "passed");
}

TEST_F(XdpNat, MalformedAndTruncatedPacketsForThePoolAreDropsOfTheOutside)
{
	const Bytes ip = packet({"198.51.100.7", kPool}, udp(53, 2048));
	const auto dropped = [&](Bytes bytes, const char *reason) {
		const Outcome outcome = outside(ethernet("02:00:00:00:00:02", "02:00:00:00:00:03", 0x0800, bytes));
		EXPECT_EQ(outcome.action, XDP_DROP);
		EXPECT_TRUE(outcome.records.empty());
		expect_counts(outcome, "outside.", reason);
	};
	dropped(Bytes(ip.begin(), ip.end() - 1), "truncated");
	dropped(packet({"198.51.100.7", kPool}, Bytes(7)), "malformed_inner");
	dropped(packet({"198.51.100.7", kPool, 6}, Bytes(19)), "malformed_inner");
	Bytes odd = ip;
	odd[0] = 0x44;
	dropped(odd, "malformed_inner");
	odd[0] = 0x65;
	dropped(odd, "malformed_inner");
	odd = ip;
	odd[25] = 9;  // UDP length beyond the packet
	odd[24] = 9;
	dropped(odd, "malformed_inner");
}

TEST_F(XdpNat, ArpForAPoolAddressIsTheKernelsAndACopyIsWorker0s)
{
	for (const std::vector<uint16_t> &tcis : {std::vector<uint16_t>{}, std::vector<uint16_t>{9}}) {
		const Bytes frame = ethernet("ff:ff:ff:ff:ff:ff", kPeerMac, 0x0806, arp(kOtherPool) + Bytes(18), tcis);
		const Outcome outcome = outside(frame);
		EXPECT_EQ(outcome.action, XDP_PASS);
		EXPECT_EQ(to_hex(outcome.out), to_hex(frame));
		expect_counts(outcome, "outside.", "passed");
		const Handed got = handed(outcome, "outside.", VX_EXCEPTION_ARP);
		EXPECT_EQ(got.worker, 0u);
		EXPECT_EQ(to_hex(got.packet), to_hex(arp(kOtherPool)));
		EXPECT_EQ(bytes_of(got.head.peer_mac, 6), mac_from(kPeerMac));
		EXPECT_EQ(got.head.tags[0].tci_be, htons(tcis.empty() ? 0 : 9));
	}
}

TEST_F(XdpNat, ArpForAGatewayAddressInsideIsAnsweredByWorker0)
{
	const auto ask = [](const Bytes &question) {
		return tunnel4(ethernet("ff:ff:ff:ff:ff:ff", kInnerFrom, 0x0806, question + Bytes(18), {4}));
	};
	Outcome outcome = bed_.run(ask(arp(kGateway)));
	EXPECT_EQ(outcome.action, XDP_DROP);
	expect_counts(outcome, "", "answered");
	const Handed got = handed(outcome, "", VX_EXCEPTION_ARP);
	EXPECT_EQ(got.worker, 0u);
	EXPECT_EQ(to_hex(got.packet), to_hex(arp(kGateway)));
	EXPECT_EQ(got.head.realm, kVni);
	EXPECT_EQ(bytes_of(got.head.inner_macs, 12), mac_from("ff:ff:ff:ff:ff:ff") + mac_from(kInnerFrom));
	const vx_addr peer = address_from("192.0.2.9");
	EXPECT_EQ(memcmp(&got.head.peer, &peer, 16), 0);
	for (const Bytes &other : {arp("10.0.0.2"), arp(kGateway, 2), arp(kPool)}) {
		outcome = bed_.run(ask(other));
		expect_counts(outcome, "", "not_ip");
		EXPECT_TRUE(outcome.records.empty());
	}
	Bytes stranger = ask(arp(kGateway));
	stranger[48] ^= 1;  // another VNI
	expect_counts(bed_.run(stranger), "", "not_ip");
	bed_.apply({"ring", "none"});
	expect_counts(bed_.run(ask(arp(kGateway))), "", "redirect_error");
}

TEST_F(XdpNat, PlainArpForAGatewayAddressIsAnsweredAndOtherArpIsTheKernels)
{
	load("hand_over=rings plain");
	const Outcome outcome = bed_.run(ethernet("ff:ff:ff:ff:ff:ff", kInnerFrom, 0x0806, arp(kGateway)));
	expect_counts(outcome, "", "answered");
	const Handed got = handed(outcome, "", VX_EXCEPTION_ARP);
	EXPECT_EQ(got.head.realm, VX_PLAIN_REALM);
	EXPECT_EQ(bytes_of(got.head.peer_mac, 6), mac_from(kInnerFrom));
	expect_counts(bed_.run(ethernet("ff:ff:ff:ff:ff:ff", kInnerFrom, 0x0806, arp("10.0.0.2"))), "", "passed");
	expect_counts(bed_.run(ethernet(kInsideMac, kInnerFrom, 0x0806, arp("10.0.0.2"))), "", "passed");
	expect_counts(bed_.run(ethernet(kInsideMac, kInnerFrom, 0x0806, arp(kGateway))), "", "answered");
}

TEST_F(XdpNat, ASocketOfTheOwnerGetsTheFrameBareAndWithoutOneItsRingDoes)
{
	load("hand_over=sockets");
	const Bytes ip = packet({}, udp(1000, 53)), reply = packet({"198.51.100.7", kPool}, udp(53, 2048));
	const Bytes back = ethernet("02:00:00:00:00:02", "02:00:00:00:00:03", 0x0800, reply);
	const uint32_t owner = nat::owner_of_subscriber(kVni, ipv4_from("10.0.0.5"), kWorkers);
	own(0, 2048, 1);
	EXPECT_EQ(from_inside(tunnel4(inner(ip))).worker, owner);
	EXPECT_EQ(from_outside(reply).worker, 1u);
	// One inside queue and one outside: kWorkers sockets each.
	bed_.apply({"socket", std::to_string(owner)});
	bed_.apply({"socket", std::to_string(kWorkers + 1)});
	Outcome outcome = bed_.run(tunnel4(inner(ip)));
	EXPECT_EQ(outcome.action, XDP_REDIRECT);
	expect_counts(outcome, "", "to_worker");
	ASSERT_EQ(outcome.out.size(), kHead + ip.size());
	vx_translate head;
	memcpy(&head, outcome.out.data(), kHead);
	EXPECT_EQ(head.mark_be, htons(VX_ETHERTYPE_TRANSLATE));
	expect_inside_head(head, "192.0.2.9", {});
	EXPECT_EQ(Bytes(outcome.out.begin() + kHead, outcome.out.end()), ip);
	outcome = outside(back);
	EXPECT_EQ(outcome.action, XDP_REDIRECT);
	expect_counts(outcome, "outside.", "to_worker");
	EXPECT_EQ(Bytes(outcome.out.begin() + kHead, outcome.out.end()), reply);
}

TEST_F(XdpNat, AnInsideQueueWithoutSocketsDoesNotFindThoseOfTheOutside)
{
	load("hand_over=sockets");
	for (uint32_t at = kWorkers; at < 2 * kWorkers; at++)
		bed_.apply({"socket", std::to_string(at)});
	const Bytes ip = packet({}, udp(1000, 53));
	EXPECT_EQ(handed(bed_.run(tunnel4(inner(ip)), XdpBed::Rings::read, VX_INSIDE, 1), "").packet, ip);
}

TEST_F(XdpNat, AFullRingIsADropByNameInTheDirectionsLedger)
{
	bed_.apply({"ring", "none"});
	expect_counts(bed_.run(tunnel4(inner(packet({}, udp(1, 2))))), "", "redirect_error");
	const Bytes back = ethernet("02:00:00:00:00:02", "02:00:00:00:00:03", 0x0800,
				    packet({"198.51.100.7", kPool}, udp(53, 2048, 1400)));
	expect_counts(outside(back), "outside.", "redirect_error");
	SetUp();
	Outcome outcome;
	uint64_t taken = 0;
	do
		outcome = bed_.run(back, XdpBed::Rings::leave, VX_OUTSIDE);
	while (outcome.counts.contains("outside.to_worker") && taken++ < 100000);
	expect_counts(outcome, "outside.", "ring_full");
}

TEST_F(XdpNat, ADropBehindTheCutIsSampledAsAPacketWithoutTheWorkersHeader)
{
	std::vector<vx_sample> seen;
	auto samples = RingReader::open(bed_.map("packet_ringbuf"), [&](const uint8_t *bytes, size_t) {
		memcpy(&seen.emplace_back(), bytes, sizeof(vx_sample));
	});
	ASSERT_TRUE(samples);
	samples->consume();
	seen.clear();
	bed_.apply({"ring", "none"});
	bed_.datapath().control()->sample_most = 5;
	bed_.datapath().control()->sample_round = 1;
	const Bytes ip = packet({"198.51.100.7", kPool}, udp(53, 2048));
	outside(ethernet("02:00:00:00:00:02", "02:00:00:00:00:03", 0x0800, ip));
	bed_.datapath().control()->sample_round = 0;
	samples->consume();
	ASSERT_EQ(seen.size(), 1u);
	EXPECT_EQ(seen[0].drop, VX_DROP_redirect_error);
	EXPECT_EQ(seen[0].direction, VX_OUTSIDE);
	EXPECT_EQ(seen[0].form, VX_SAMPLE_LEAVING);
	EXPECT_EQ(seen[0].length, 14 + ip.size());
	EXPECT_EQ(to_hex(bytes_of(seen[0].bytes, seen[0].captured)), to_hex(Bytes(12) + be16(0x0800) + ip));
}

TEST_F(XdpNat, AfterReceivingHasStoppedTheKernelGetsWhatIsForThePool)
{
	bed_.datapath().stop_receiving();
	const Outcome outcome = outside(ethernet("02:00:00:00:00:02", "02:00:00:00:00:03", 0x0800,
						 packet({"198.51.100.7", kPool}, udp(53, 2048))));
	EXPECT_EQ(outcome.action, XDP_PASS);
	expect_counts(outcome, "outside.", "passed");
}

TEST(Steering, TheProgramsAndTheEngineShareOneDefinitionWhoseValuesStay)
{
	EXPECT_EQ(nat::spread(0), 0u);
	EXPECT_EQ(nat::spread(1), 0x688990c0u);
	for (uint32_t workers = 1; workers <= VX_WORKERS_MAX; workers++)
		EXPECT_EQ(nat::worker_of_hash(UINT32_MAX, workers), workers - 1);
}

}  // namespace
}  // namespace vx::test

int main(int argc, char **argv)
{
	testing::InitGoogleTest(&argc, argv);
	if (geteuid() != 0) {
		fprintf(stderr, "xdp_nat_test loads eBPF programs: run it as root\n");
		return 1;
	}
	return RUN_ALL_TESTS();
}
