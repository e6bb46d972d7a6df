// Source NAT in XDP: packets from inside, and what the workers are told of each. BPF_PROG_TEST_RUN, root.
#include <arpa/inet.h>
#include <gtest/gtest.h>
#include <linux/bpf.h>

#include <algorithm>

#include "../core/nat/steering.h"
#include "xdp_nat_bed.h"

namespace vx::test {
namespace {

uint16_t header_checksum(const Bytes &ip)
{
	uint32_t sum = 0;
	for (size_t i = 0; i < (ip[0] & 15u) * 4; i += 2)
		sum += i == 10 ? 0 : ip[i] * 256u + ip[i + 1];
	while (sum > 0xffff)
		sum = (sum >> 16) + (sum & 0xffff);
	return static_cast<uint16_t>(~sum);
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

}  // namespace
}  // namespace vx::test
