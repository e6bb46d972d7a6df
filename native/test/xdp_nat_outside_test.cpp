// Source NAT in XDP: frames from outside, which of them are for the pool and what the workers are told of those.
// BPF_PROG_TEST_RUN, root.
#include <arpa/inet.h>
#include <gtest/gtest.h>
#include <linux/bpf.h>

#include "xdp_nat_bed.h"

namespace vx::test {
namespace {

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
				 frame(0x0806, arp(kPool, 2)), frame(0x0806, Bytes(27)), frame(0x8100, Bytes(1))})
		expect_the_kernels(one);
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
					 astray(0x0800, fragment), astray(0x0806, arp(kPool))})
			expect_the_kernels(one);
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

TEST_F(XdpNat, AfterReceivingHasStoppedTheKernelGetsWhatIsForThePool)
{
	bed_.datapath().stop_receiving();
	const Outcome outcome = outside(ethernet("02:00:00:00:00:02", "02:00:00:00:00:03", 0x0800,
						 packet({"198.51.100.7", kPool}, udp(53, 2048))));
	EXPECT_EQ(outcome.action, XDP_PASS);
	expect_counts(outcome, "outside.", "passed");
}

}  // namespace
}  // namespace vx::test
