// Static forwards: strangers let in, ports kept from allocation, hosts not yet heard of. Virtual clock, no kernel.
#include <gtest/gtest.h>

#include <set>

#include "nat_bed.h"

namespace vx::nat::test {
namespace {

const char *const kB = "10.0.0.6:6000";
const char *const kR1 = "198.51.100.7:53";

std::string from(const char *host, uint32_t port)
{
	return text({address(host), static_cast<uint16_t>(port)});
}

Bytes flow(const char *host, uint32_t port)
{
	return udp({address(host), static_cast<uint16_t>(port)}, endpoint(kR1));
}

Scene forwarded()
{
	Scene scene = one_address();
	scene.pools.forwards = {{address("203.0.113.1"), 8080, IPPROTO_TCP, kVni, address("10.0.0.5"), 80},
				{address("203.0.113.1"), 8080, IPPROTO_UDP, 200, address("10.0.0.6"), 81},
				{address("203.0.113.1"), 443, IPPROTO_TCP, kVni, address("10.0.0.5"), 443},
				{address("198.18.0.9"), 25, IPPROTO_TCP, kVni, address("10.0.0.5"), 25}};
	return scene;
}

TEST(Pool, AForwardAdmitsStrangersToItsHostAndAnswersLeaveByIt)
{
	Nat nat(forwarded());
	nat.open_udp("10.0.0.5:9999", kR1);  // it has been heard of
	const Out in = nat.outside(tcp(endpoint(kR1), endpoint("203.0.113.1:8080"), kSyn));
	ASSERT_TRUE(in.sent(Side::inside));
	EXPECT_EQ(text(to_of(in.packet)), "10.0.0.5:80");
	const Out out = nat.inside(tcp(endpoint("10.0.0.5:80"), endpoint(kR1), kSyn | kAck));
	ASSERT_TRUE(out.sent(Side::outside));
	EXPECT_EQ(text(from_of(out.packet)), "203.0.113.1:8080");
	EXPECT_EQ(text(from_of(nat.inside(tcp(endpoint("10.0.0.5:25"), endpoint(kR1), kSyn)).packet)), "198.18.0.9:25");
	nat.advance(10000);
	EXPECT_TRUE(nat.outside(tcp(endpoint(kR1), endpoint("203.0.113.1:8080"), kSyn)).sent(Side::inside))
		<< "it has no timer";
}

TEST(Pool, AForwardToAHostThatNeverSpokeIsANamedDrop)
{
	Nat nat(forwarded());
	EXPECT_EQ(nat.outside(tcp(endpoint(kR1), endpoint("203.0.113.1:8080"), kSyn)).verdict.reason,
		  VX_DROP_no_subscriber);
	nat.open_tcp("10.0.0.5:80", "192.0.2.1:9");
	EXPECT_TRUE(nat.outside(tcp(endpoint(kR1), endpoint("203.0.113.1:8080"), kSyn)).sent(Side::inside));
}

// A host answers every SYN: that says nothing about who asked.
TEST(Pool, AFloodOfSynsFromNowhereToAForwardMakesNothingThatLasts)
{
	Nat nat(forwarded());
	nat.open_udp("10.0.0.5:9999", kR1);
	for (uint32_t i = 0; i < 500; i++) {
		const Endpoint nowhere{htonl(0xc6336400 + i % 250 + 1), static_cast<uint16_t>(1024 + i)};
		ASSERT_TRUE(nat.outside(tcp(nowhere, endpoint("203.0.113.1:8080"), kSyn)).sent(Side::inside));
		ASSERT_TRUE(nat.inside(tcp(endpoint("10.0.0.5:80"), nowhere, kSyn | kAck)).sent(Side::outside));
	}
	const Endpoint somebody = endpoint("192.0.2.77:4000");
	nat.outside(tcp(somebody, endpoint("203.0.113.1:8080"), kSyn));
	nat.inside(tcp(endpoint("10.0.0.5:80"), somebody, kSyn | kAck));
	nat.outside(tcp(somebody, endpoint("203.0.113.1:8080"), kAck));
	nat.advance(310);
	EXPECT_EQ(nat.sessions(), 1u) << "whose handshake was complete";
}

TEST(Pool, StrangersDoNotSilenceAForwardsHost)
{
	Scene scene = forwarded();
	scene.config.new_sessions_per_second = 200;
	scene.config.sessions_per_subscriber = 80;
	Nat nat(scene);
	nat.open_udp("10.0.0.5:9999", kR1);
	const auto stranger = [&](uint32_t i) {
		const Endpoint nowhere{htonl(0xc6336400 + i % 250 + 1), static_cast<uint16_t>(1024 + i)};
		return nat.outside(tcp(nowhere, endpoint("203.0.113.1:8080"), kSyn));
	};
	for (uint32_t i = 0; i < 1000; i++)
		stranger(i);
	EXPECT_EQ(stranger(2000).verdict.reason, VX_DROP_subscriber_limit);
	EXPECT_EQ(nat.sessions(), 70u);
	for (uint16_t port = 1; port <= 10; port++)
		nat.open_udp(("10.0.0.5:" + std::to_string(3000 + port)).c_str(), kR1);
	EXPECT_EQ(nat.refusal(flow("10.0.0.5", 4000)), VX_DROP_subscriber_limit);

	scene.config.sessions_per_subscriber = 2000;
	Nat other(scene);
	other.open_udp("10.0.0.5:9999", kR1);
	int rate = 0;
	for (uint32_t i = 0; i < 400; i++)
		rate += other.outside(tcp({htonl(0xc6336401), static_cast<uint16_t>(1024 + i)},
					  endpoint("203.0.113.1:8080"), kSyn))
				.verdict.reason == VX_DROP_session_rate;
	EXPECT_EQ(rate, 200);
	other.open_udp("10.0.0.5:9998", kR1);
}

TEST(Pool, AForwardIsForItsProtocolOnlyAndItsPortIsNeverAllocated)
{
	Scene scene = forwarded();
	scene.pools.pools[0].first_port = 8064;
	scene.pools.pools[0].last_port = 8064 + 127;  // the block 8080 is in
	Nat nat(scene);
	std::set<uint16_t> used;
	for (uint32_t i = 0; i < 127; i++)
		used.insert(nat.open_udp(from("10.0.0.5", 2000 + i).c_str(), kR1).port);
	EXPECT_EQ(used.size(), 127u);
	EXPECT_EQ(used.count(8080), 0u);
	EXPECT_EQ(nat.refusal(flow("10.0.0.5", 9000)), VX_DROP_no_block);
	nat.inside(udp(endpoint("10.0.0.6:81"), endpoint(kR1)), 200);
	const Out out = nat.outside(udp(endpoint("192.0.2.3:1"), endpoint("203.0.113.1:8080")));
	ASSERT_TRUE(out.sent(Side::inside));
	EXPECT_EQ(text(to_of(out.packet)), "10.0.0.6:81");
	EXPECT_EQ(out.realm, 200u);
}

TEST(Pool, AForwardIsReachedByHairpin)
{
	Nat nat(forwarded());
	nat.open_udp("10.0.0.5:9999", kR1);
	const Out out = nat.inside(tcp(endpoint(kB), endpoint("203.0.113.1:8080"), kSyn), 300);
	ASSERT_TRUE(out.sent(Side::inside));
	EXPECT_EQ(text(to_of(out.packet)), "10.0.0.5:80");
	const Out answer = nat.inside(tcp(endpoint("10.0.0.5:80"), from_of(out.packet), kSyn | kAck));
	ASSERT_TRUE(answer.sent(Side::inside));
	EXPECT_EQ(text(to_of(answer.packet)), kB);
	EXPECT_EQ(answer.realm, 300u);
}

}  // namespace
}  // namespace vx::nat::test
