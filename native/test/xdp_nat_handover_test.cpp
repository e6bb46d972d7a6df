// Source NAT in XDP: the ways to a worker, by socket or ring, and what is dropped on them. BPF_PROG_TEST_RUN, root.
#include <arpa/inet.h>
#include <gtest/gtest.h>
#include <linux/bpf.h>

#include <cstring>

#include "../core/nat/steering.h"
#include "xdp_nat_bed.h"

namespace vx::test {
namespace {

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

}  // namespace
}  // namespace vx::test
