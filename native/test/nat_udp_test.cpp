// RFC 4787: mappings of UDP, their ports and how long they live. Virtual clock, no kernel.
#include <gtest/gtest.h>

#include <algorithm>
#include <set>

#include "nat_bed.h"

namespace vx::nat::test {
namespace {

const char *const kA = "10.0.0.5:5000";
const char *const kB = "10.0.0.6:6000";
const char *const kR1 = "198.51.100.7:53";
const char *const kR2 = "192.0.2.9:4000";

TEST(Udp, OneInsideEndpointKeepsItsPublicOneTowardsEveryRemote)
{
	Nat nat(addresses(4));
	const Endpoint mapped = nat.open_udp(kA, kR1);
	EXPECT_EQ(nat.open_udp(kA, kR2), mapped);
	EXPECT_EQ(nat.open_udp(kA, kR1), mapped);
	const Out back = nat.outside(udp(endpoint(kR2), mapped));
	ASSERT_TRUE(back.sent(Side::inside));
	EXPECT_EQ(text(to_of(back.packet)), kA);
	EXPECT_EQ(text(from_of(back.packet)), kR2);
}

TEST(Udp, EndpointDependentMappingTakesAPortForEachRemoteEndpoint)
{
	Scene scene = one_address();
	scene.config.mapping = Mapping::address_and_port_dependent;
	Nat nat(scene);
	const Endpoint first = nat.open_udp(kA, kR1), second = nat.open_udp(kA, kR2);
	EXPECT_EQ(first.address_be, second.address_be);
	EXPECT_NE(first.port, second.port);
	EXPECT_EQ(nat.open_udp(kA, kR1), first);
	EXPECT_TRUE(nat.outside(udp(endpoint(kR2), second)).sent(Side::inside));
	EXPECT_EQ(nat.outside(udp(endpoint(kR1), second)).verdict.reason, VX_DROP_filtered);
}

TEST(Udp, TwoHundredFlowsOfOneHostUseOneAddress)
{
	Nat nat(addresses(8));
	std::set<uint32_t> used;
	for (uint16_t port = 2000; port < 2200; port++)
		used.insert(nat.open_udp(text({address("10.0.0.5"), port}).c_str(), kR1).address_be);
	EXPECT_EQ(used.size(), 1u);
}

TEST(Udp, TheFlowAfterTheLastPortIsRefusedAndNoPortIsShared)
{
	Scene scene = one_address();
	scene.pools.pools[0].first_port = 1024;
	scene.pools.pools[0].last_port = 1024 + 3 * 128 - 1;
	Nat nat(scene);
	std::set<std::pair<uint32_t, uint16_t>> used;
	for (uint16_t host = 1; host <= 3; host++)
		for (uint16_t port = 0; port < 128; port++) {
			const std::string from = "10.0.1." + std::to_string(host) + ":" + std::to_string(3000 + port);
			const Endpoint mapped = nat.open_udp(from.c_str(), kR1);
			EXPECT_TRUE(used.emplace(mapped.address_be, mapped.port).second) << "shared: " << text(mapped);
		}
	EXPECT_EQ(nat.refusal(udp(endpoint("10.0.1.4:3000"), endpoint(kR1))), VX_DROP_no_block);
	EXPECT_EQ(nat.refusal(udp(endpoint("10.0.1.1:9000"), endpoint(kR1))), VX_DROP_no_block);
}

TEST(Udp, AHighSourcePortGetsAHighPortAndALowOneALowPortWhereThePoolHasThem)
{
	Scene scene = one_address();
	scene.pools.pools[0].first_port = 1;
	Nat nat(scene);
	for (const uint16_t port : std::initializer_list<uint16_t>{1024, 1025, 5000, 65535})
		EXPECT_GE(nat.open_udp(text({address("10.0.0.5"), port}).c_str(), kR1).port, 1024);
	for (const uint16_t port : std::initializer_list<uint16_t>{1, 53, 500, 1023}) {
		const Endpoint mapped = nat.open_udp(text({address("10.0.0.5"), port}).c_str(), kR1);
		EXPECT_LT(mapped.port, 1024);
		EXPECT_GT(mapped.port, 0);
	}
}

TEST(Udp, ALowSourcePortGetsAHighPortWhereThePoolHasNoLowOnes)
{
	Nat nat(one_address());
	EXPECT_GE(nat.open_udp("10.0.0.5:500", kR1).port, 1024);
}

TEST(Udp, ALowSourcePortIsServedFromHighPortsWhenTheLowOnesAreUsedUp)
{
	Scene scene = one_address();
	scene.pools.pools[0].first_port = 896;  // one low block
	Nat nat(scene);
	for (uint16_t port = 1; port <= 128; port++)
		EXPECT_LT(nat.open_udp(text({address("10.0.0.5"), port}).c_str(), kR1).port, 1024);
	EXPECT_GE(nat.open_udp("10.0.0.5:129", kR1).port, 1024);
}

TEST(Udp, ParityIsKeptWhileTheBlockHasSuchAPortAndThenGivenUp)
{
	Scene scene = one_address();
	scene.config.blocks_per_subscriber = 1;
	Nat nat(scene);
	for (uint16_t i = 0; i < 64; i++) {
		const uint16_t port = static_cast<uint16_t>(4000 + 2 * i);
		EXPECT_EQ(nat.open_udp(text({address("10.0.0.5"), port}).c_str(), kR1).port % 2, 0);
	}
	EXPECT_EQ(nat.open_udp("10.0.0.5:5001", kR1).port % 2, 1);
	EXPECT_EQ(nat.open_udp("10.0.0.5:6000", kR1).port % 2, 1) << "no even port was left";
}

TEST(Udp, AMappingLivesAtTwoMinutesLessASecondAndEndsAfterItsTimeout)
{
	Nat nat(one_address());
	const Endpoint mapped = nat.open_udp(kA, kR1);
	nat.advance(119);
	EXPECT_TRUE(nat.outside(udp(endpoint(kR1), mapped)).sent(Side::inside));
	nat.advance(300 - 119 - 1);
	EXPECT_TRUE(nat.outside(udp(endpoint(kR1), mapped)).sent(Side::inside));
	nat.advance(3);
	EXPECT_EQ(nat.outside(udp(endpoint(kR1), mapped)).verdict.reason, VX_DROP_no_session);
	EXPECT_EQ(nat.sessions(), 0u);
}

TEST(Udp, PacketsFromInsideRefreshAndPacketsFromOutsideDoNot)
{
	Nat nat(one_address());
	const Endpoint refreshed = nat.open_udp(kA, kR1), neglected = nat.open_udp(kB, kR1);
	for (int i = 0; i < 10; i++) {
		nat.advance(100);
		nat.open_udp(kA, kR1);
		nat.outside(udp(endpoint(kR1), neglected));
	}
	EXPECT_TRUE(nat.outside(udp(endpoint(kR1), refreshed)).sent(Side::inside));
	EXPECT_EQ(nat.outside(udp(endpoint(kR1), neglected)).verdict.reason, VX_DROP_no_session);
}

TEST(Udp, AClockThatGoesBackStandsStill)
{
	Nat nat(one_address());
	const Endpoint mapped = nat.open_udp(kA, kR1);
	Bytes late = udp(endpoint(kA), endpoint(kR1));
	const uint32_t length = static_cast<uint32_t>(late.size());
	Packet packet{.ip = late.data(), .length = length, .realm = kVni, .from = Side::inside};
	EXPECT_EQ(nat.engine().process(packet, nat.now_ns() - 50000000000).action, Action::forward);
	nat.engine().tick(nat.now_ns() - 60000000000, 1000);
	nat.advance(299);
	EXPECT_TRUE(nat.outside(udp(endpoint(kR1), mapped)).sent(Side::inside));
}

TEST(Udp, YearsMayPassAndTheClockMayBeAnyTimeOfDay)
{
	Scene scene = one_address();
	scene.start_ns = (UINT64_C(7) << 58) - 1000000000;  // where 32 bits of the tables' ticks would come round
	Nat nat(scene);
	const Endpoint mapped = nat.open_udp(kA, kR1);
	nat.advance(10);
	EXPECT_TRUE(nat.outside(udp(endpoint(kR1), mapped)).sent(Side::inside));
	nat.advance(300);
	EXPECT_EQ(nat.sessions(), 0u);
	nat.open_udp(kA, kR1);
	nat.stall(8.0 * 365 * 86400);
	EXPECT_EQ(nat.sessions(), 0u);
	nat.open_udp(kA, kR1);
	nat.advance(10);
	EXPECT_EQ(nat.sessions(), 1u);
	nat.stall(100.0 * 365 * 86400);  // more than there is
	nat.advance(1000);
}

// A mapping may have thousands of strangers' sessions, which end with it: a tick ends those of one, not of all.
TEST(Udp, ATickIsNotHeldUpByTheStrangersOfManyMappings)
{
	Scene scene = one_address();
	scene.config.filtering = Filtering::endpoint_independent;
	Nat nat(scene);
	std::vector<Endpoint> mapped;
	for (uint16_t port = 1; port <= 10; port++)
		mapped.push_back(nat.open_udp(("10.0.0.5:" + std::to_string(5000 + port)).c_str(), kR1));
	nat.advance(290);
	for (const Endpoint &to : mapped)
		for (uint16_t i = 0; i < 100; i++)
			ASSERT_TRUE(nat.outside(udp({address("192.0.2.7"), static_cast<uint16_t>(1000 + i)}, to))
					    .sent(Side::inside));
	ASSERT_EQ(nat.sessions(), 1010u);
	const uint64_t then = nat.now_ns() + 20000000000;
	uint32_t most = 0, ticks = 0;
	for (bool done = false; !done && ticks < 1000; ticks++) {
		const uint32_t before = nat.sessions();
		done = nat.engine().tick(then + ticks * 300000000, 32);
		most = std::max(most, before - nat.sessions());
	}
	nat.stall(60);
	EXPECT_EQ(nat.sessions(), 0u);
	EXPECT_LE(most, 32u + 101);
}

TEST(Udp, ARemoteWithinTheSubscribersPrefixButOutsideItsVniIsReachable)
{
	Nat nat(one_address());
	const Endpoint mapped = nat.open_udp(kA, "10.0.0.77:53");
	const Out back = nat.outside(udp(endpoint("10.0.0.77:53"), mapped));
	ASSERT_TRUE(back.sent(Side::inside));
	EXPECT_EQ(text(to_of(back.packet)), kA);
}

TEST(Udp, BehaviourIsTheSameOnAnEmptyAndOnANearlyFullPool)
{
	Scene scene = filtering(Filtering::endpoint_independent);
	scene.pools.pools[0].last_port = 1024 + 8 * 128 - 1;
	Nat nat(scene);
	const auto behaves = [&](const char *host) {
		const std::string from = std::string(host) + ":5000";
		const Endpoint mapped = nat.open_udp(from.c_str(), kR1);
		EXPECT_EQ(nat.open_udp(from.c_str(), kR2), mapped);
		EXPECT_EQ(mapped.port % 2, 0);
		EXPECT_TRUE(nat.outside(udp(endpoint("192.0.2.200:1"), mapped)).sent(Side::inside));
	};
	behaves("10.0.0.1");
	for (uint16_t i = 0; i < 7 * 128 - 10; i++)
		nat.open_udp(text({address("10.0.0.2"), static_cast<uint16_t>(2000 + i)}).c_str(), kR1);
	behaves("10.0.0.1");
	behaves("10.0.0.2");
}

TEST(Udp, TheSameInsideAddressInTwoVnisIsTwoHosts)
{
	Nat nat(one_address());
	const Endpoint first = nat.open_udp(kA, kR1, 100), second = nat.open_udp(kA, kR1, 200);
	const Endpoint plain = nat.open_udp(kA, kR1, kPlainRealm), zero = nat.open_udp(kA, kR1, 0);
	EXPECT_EQ((std::set<uint16_t>{first.port, second.port, plain.port, zero.port}).size(), 4u);
	EXPECT_EQ(nat.outside(udp(endpoint(kR1), first)).realm, 100u);
	EXPECT_EQ(nat.outside(udp(endpoint(kR1), second)).realm, 200u);
	EXPECT_EQ(nat.outside(udp(endpoint(kR1), plain)).realm, kPlainRealm);
	EXPECT_EQ(nat.outside(udp(endpoint(kR1), zero)).realm, 0u);
}

}  // namespace
}  // namespace vx::nat::test
