// Payloads and checksums of UDP and TCP behind a translation. Virtual clock, no kernel.
#include <gtest/gtest.h>

#include <cstring>

#include "nat_bed.h"

namespace vx::nat::test {
namespace {

const char *const kA = "10.0.0.5:5000";
const char *const kR1 = "198.51.100.7:53";

TEST(Checksum, PayloadsAreUntouchedEvenWhereTheyHoldAddresses)
{
	Nat nat(one_address());
	Bytes packet = udp(endpoint(kA), endpoint(kR1), 64);
	const uint32_t inside = address("10.0.0.5");
	memcpy(&packet[40], &inside, 4);
	fix_checksums(packet);
	const Out out = nat.inside(packet);
	EXPECT_EQ(payload_of(out.packet), payload_of(packet));
}

TEST(Checksum, AChecksumOfZeroStaysZeroBothWays)
{
	Nat nat(one_address());
	const Out out = nat.inside(udp_without_checksum(endpoint(kA), endpoint(kR1)));
	ASSERT_TRUE(out.sent(Side::outside));
	EXPECT_EQ(word(out.packet, 26), 0);
	const Out back = nat.outside(udp_without_checksum(endpoint(kR1), from_of(out.packet)));
	ASSERT_TRUE(back.sent(Side::inside));
	EXPECT_EQ(word(back.packet, 26), 0);
}

TEST(Checksum, AWrongChecksumStaysWrong)
{
	Nat nat(one_address());
	Bytes packet = udp(endpoint(kA), endpoint(kR1));
	const Bytes right = nat.inside(packet).packet;
	packet[27] ^= 0x10;
	// Not by Nat::inside, which expects packets that are right.
	Packet one{.ip = packet.data(),
		   .length = static_cast<uint32_t>(packet.size()),
		   .realm = kVni,
		   .from = Side::inside};
	ASSERT_EQ(nat.engine().process(one, nat.now_ns()).action, Action::forward);
	EXPECT_EQ(wrong_with(packet), "transport checksum");
	EXPECT_NE(word(packet, 26), word(right, 26));
}

TEST(Checksum, EveryChecksumIsRightAsTheTotalOfAComputedZeroComesUp)
{
	Nat nat(one_address());
	nat.open_udp(kA, kR1);
	int all_ones = 0;
	for (uint32_t value = 0; value < 65536; value++) {
		Bytes packet = udp(endpoint(kA), endpoint(kR1), 2);
		packet[28] = static_cast<uint8_t>(value >> 8);
		packet[29] = static_cast<uint8_t>(value);
		fix_checksums(packet);
		const Out out = nat.inside(packet);  // checks the sums
		ASSERT_NE(word(out.packet, 26), 0) << "0 says there is none";
		all_ones += word(out.packet, 26) == 0xffff;
	}
	EXPECT_GE(all_ones, 1);
}

// Between namespaces and from virtual machines that is how packets come. What comes out is checked by the bed.
TEST(Checksum, AChecksumThatItsSenderLeftToHardwareIsCompletedWhereverThePacketGoes)
{
	Scene scene = filtering(Filtering::endpoint_independent);
	scene.config.exclude = {{address("192.0.2.0"), 24}};
	scene.config.mss_clamp = 1000;
	Nat nat(scene);
	const Bytes mss = {2, 4, 0x05, 0xb4};
	const auto left = [](Bytes packet) {
		leave_checksum_to_hardware(packet);
		return packet;
	};
	for (size_t payload = 0; payload < 100; payload++) {
		const Out out = nat.inside(left(udp(endpoint(kA), endpoint(kR1), payload)));
		ASSERT_TRUE(out.sent(Side::outside));
		ASSERT_TRUE(nat.outside(left(udp(endpoint(kR1), from_of(out.packet), payload))).sent(Side::inside));
		const Out hairpinned = nat.inside(left(udp(endpoint("10.0.0.9:9"), from_of(out.packet), payload)));
		ASSERT_TRUE(hairpinned.sent(Side::inside));
		ASSERT_TRUE(nat.inside(left(udp(endpoint(kA), endpoint("192.0.2.1:9"), payload))).sent(Side::outside));
		const Out syn = nat.inside(left(tcp(endpoint(kA), endpoint(kR1), kSyn, payload, {}, mss)));
		ASSERT_TRUE(syn.sent(Side::outside));
		ASSERT_TRUE(nat.outside(left(tcp(endpoint(kR1), from_of(syn.packet), kSyn | kAck, payload, {}, mss)))
				    .sent(Side::inside));
	}
	EXPECT_EQ(nat.stats().checksums_completed, 600u);
}

TEST(Checksum, PaddingBehindThePacketIsNeitherReadNorSummed)
{
	Nat nat(one_address());
	Bytes packet = udp(endpoint(kA), endpoint(kR1), 3);
	packet.resize(46, 0xee);
	EXPECT_TRUE(nat.inside(packet).sent(Side::outside));
}

}  // namespace
}  // namespace vx::nat::test
