// Between inside hosts by their public endpoints (RFC 4787 section 6). Virtual clock, no kernel.
#include <gtest/gtest.h>

#include "nat_bed.h"

namespace vx::nat::test {
namespace {

const char *const kA = "10.0.0.5:5000";
const char *const kB = "10.0.0.6:6000";
const char *const kR1 = "198.51.100.7:53";

TEST(Hairpin, AHairpinnedPacketArrivesFromThePublicEndpointOfItsSender)
{
	Nat nat(filtering(Filtering::endpoint_independent));
	const Endpoint a = nat.open_udp(kA, kR1), b = nat.open_udp(kB, kR1, 200);
	const Out out = nat.inside(udp(endpoint(kA), b, 20, {.ttl = 9}));
	ASSERT_TRUE(out.sent(Side::inside));
	EXPECT_EQ(from_of(out.packet), a);
	EXPECT_EQ(text(to_of(out.packet)), kB);
	EXPECT_EQ(out.realm, 200u) << "hairpin crosses VNIs";
	EXPECT_EQ(out.packet[8], 8) << "one hop, not two";
	const Out reply = nat.inside(udp(endpoint(kB), a), 200);
	ASSERT_TRUE(reply.sent(Side::inside));
	EXPECT_EQ(from_of(reply.packet), b);
	EXPECT_EQ(text(to_of(reply.packet)), kA);
}

TEST(Hairpin, HairpinObeysTheFilter)
{
	Nat nat(one_address());
	const Endpoint a = nat.open_udp(kA, kR1), b = nat.open_udp(kB, kR1);
	EXPECT_EQ(nat.inside(udp(endpoint(kA), b)).verdict.reason, VX_DROP_filtered);
	EXPECT_TRUE(nat.inside(udp(endpoint(kB), a)).sent(Side::inside)) << "A has spoken to B's endpoint by now";
	EXPECT_TRUE(nat.inside(udp(endpoint(kA), b)).sent(Side::inside));
}

TEST(Hairpin, HairpinCanBeSwitchedOff)
{
	Scene scene = filtering(Filtering::endpoint_independent);
	scene.config.hairpin = false;
	Nat nat(scene);
	const Endpoint b = nat.open_udp(kB, kR1);
	EXPECT_EQ(nat.refusal(udp(endpoint(kA), b)), VX_DROP_hairpin_off);
}

TEST(Hairpin, AHostThatSpeaksToItsOwnPublicEndpointHearsItselfOnce)
{
	Nat nat(filtering(Filtering::endpoint_independent));
	const Endpoint a = nat.open_udp(kA, kR1);
	const Out out = nat.inside(udp(endpoint(kA), a));
	ASSERT_TRUE(out.sent(Side::inside));
	EXPECT_EQ(from_of(out.packet), a);
	EXPECT_EQ(text(to_of(out.packet)), kA);
}

}  // namespace
}  // namespace vx::nat::test
