// RFC 4787, and what nat.md adds for UDP: mapping, filtering, ranges, timers, hairpin. Virtual clock, no kernel.
#include <gtest/gtest.h>

#include <set>

#include "nat_bed.h"

namespace vx::nat::test {
namespace {

const char *const kA = "10.0.0.5:5000";
const char *const kB = "10.0.0.6:6000";
const char *const kR1 = "198.51.100.7:53";
const char *const kR2 = "192.0.2.9:4000";

Scene filtering(Filtering kind)
{
	Scene scene = one_address();
	scene.config.filtering = kind;
	return scene;
}

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

TEST(Udp, StrangersDoNotKeepAMappingAliveUnderEndpointIndependentFiltering)
{
	Nat nat(filtering(Filtering::endpoint_independent));
	const Endpoint mapped = nat.open_udp(kA, kR1);
	for (uint16_t i = 0; i < 5; i++) {
		nat.advance(65);
		nat.outside(udp({address("192.0.2.66"), static_cast<uint16_t>(1000 + i)}, mapped));
	}
	EXPECT_EQ(nat.outside(udp(endpoint("192.0.2.66:1004"), mapped)).verdict.reason, VX_DROP_no_session);
	EXPECT_EQ(nat.sessions(), 0u);
}

TEST(Udp, ARemoteWithinTheSubscribersPrefixButOutsideItsVniIsReachable)
{
	Nat nat(one_address());
	const Endpoint mapped = nat.open_udp(kA, "10.0.0.77:53");
	const Out back = nat.outside(udp(endpoint("10.0.0.77:53"), mapped));
	ASSERT_TRUE(back.sent(Side::inside));
	EXPECT_EQ(text(to_of(back.packet)), kA);
}

TEST(Udp, EndpointIndependentFilteringAdmitsAnyRemote)
{
	Nat nat(filtering(Filtering::endpoint_independent));
	const Endpoint mapped = nat.open_udp(kA, kR1);
	EXPECT_TRUE(nat.outside(udp(endpoint(kR2), mapped)).sent(Side::inside));
}

TEST(Udp, AddressDependentFilteringAdmitsAnyPortOfAKnownRemoteOnly)
{
	Nat nat(filtering(Filtering::address_dependent));
	const Endpoint mapped = nat.open_udp(kA, kR1);
	EXPECT_TRUE(nat.outside(udp(endpoint("198.51.100.7:9999"), mapped)).sent(Side::inside));
	EXPECT_EQ(nat.outside(udp(endpoint(kR2), mapped)).verdict.reason, VX_DROP_filtered);
	nat.advance(310);
	nat.open_udp(kA, kR2);
	EXPECT_EQ(nat.outside(udp(endpoint("198.51.100.7:9999"), mapped)).verdict.reason, VX_DROP_filtered)
		<< "a remote whose sessions have ended is still admitted";
}

TEST(Udp, AddressAndPortDependentFilteringAdmitsOnlyWhoWasSpokenTo)
{
	Nat nat(filtering(Filtering::address_and_port_dependent));
	const Endpoint mapped = nat.open_udp(kA, kR1);
	EXPECT_TRUE(nat.outside(udp(endpoint(kR1), mapped)).sent(Side::inside));
	EXPECT_EQ(nat.outside(udp(endpoint("198.51.100.7:54"), mapped)).verdict.reason, VX_DROP_filtered);
	EXPECT_EQ(nat.outside(udp(endpoint(kR2), mapped)).verdict.reason, VX_DROP_filtered);
}

TEST(Udp, ARemoteIsAdmittedByOneOfTwoPublicPortsThatTheHostCouldNotTellApart)
{
	Scene scene = filtering(Filtering::endpoint_independent);
	scene.config.mapping = Mapping::address_and_port_dependent;
	Nat nat(scene);
	const Endpoint first = nat.open_udp(kA, kR1), second = nat.open_udp(kA, kR2);
	EXPECT_TRUE(nat.outside(udp(endpoint("192.0.2.66:9"), first)).sent(Side::inside));
	EXPECT_EQ(nat.outside(udp(endpoint("192.0.2.66:9"), second)).verdict.reason, VX_DROP_filtered);
	EXPECT_EQ(nat.open_udp(kA, "192.0.2.66:9"), first) << "the answer leaves by the port it came to";
}

TEST(Udp, AHairpinnedPacketArrivesFromThePublicEndpointOfItsSender)
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

TEST(Udp, HairpinObeysTheFilter)
{
	Nat nat(one_address());
	const Endpoint a = nat.open_udp(kA, kR1), b = nat.open_udp(kB, kR1);
	EXPECT_EQ(nat.inside(udp(endpoint(kA), b)).verdict.reason, VX_DROP_filtered);
	EXPECT_TRUE(nat.inside(udp(endpoint(kB), a)).sent(Side::inside)) << "A has spoken to B's endpoint by now";
	EXPECT_TRUE(nat.inside(udp(endpoint(kA), b)).sent(Side::inside));
}

TEST(Udp, HairpinCanBeSwitchedOff)
{
	Scene scene = filtering(Filtering::endpoint_independent);
	scene.config.hairpin = false;
	Nat nat(scene);
	const Endpoint b = nat.open_udp(kB, kR1);
	EXPECT_EQ(nat.refusal(udp(endpoint(kA), b)), VX_DROP_hairpin_off);
}

TEST(Udp, AHostThatSpeaksToItsOwnPublicEndpointHearsItselfOnce)
{
	Nat nat(filtering(Filtering::endpoint_independent));
	const Endpoint a = nat.open_udp(kA, kR1);
	const Out out = nat.inside(udp(endpoint(kA), a));
	ASSERT_TRUE(out.sent(Side::inside));
	EXPECT_EQ(from_of(out.packet), a);
	EXPECT_EQ(text(to_of(out.packet)), kA);
}

TEST(Udp, APoolAddressAsSourceIsForgedOnEitherSide)
{
	Nat nat(filtering(Filtering::endpoint_independent));
	const Endpoint a = nat.open_udp(kA, kR1);
	EXPECT_EQ(nat.refusal(udp(endpoint("203.0.113.1:80"), endpoint(kR1))), VX_DROP_filtered);
	EXPECT_EQ(nat.outside(udp(endpoint("203.0.113.1:80"), a)).verdict.reason, VX_DROP_filtered);
	EXPECT_EQ(nat.sessions(), 1u);
	const Endpoint b = nat.open_udp(kB, kR1);
	nat.inside(udp(endpoint(kA), b));
	EXPECT_EQ(nat.outside(udp(a, b)).verdict.reason, VX_DROP_filtered)
		<< "as in a hairpinned session, but from outside";
}

TEST(Udp, ASourceThatIsNoHostTakesNoPort)
{
	Nat nat(one_address());
	for (const char *source : {"0.0.0.0:68", "127.0.0.1:5000", "224.0.0.251:5353", "255.255.255.255:1"})
		EXPECT_EQ(nat.refusal(udp(endpoint(source), endpoint(kR1))), VX_DROP_filtered) << source;
	EXPECT_EQ(nat.mappings(), 0u);
}

TEST(Udp, PayloadsAreUntouchedEvenWhereTheyHoldAddresses)
{
	Nat nat(one_address());
	Bytes packet = udp(endpoint(kA), endpoint(kR1), 64);
	const uint32_t inside = address("10.0.0.5");
	memcpy(&packet[40], &inside, 4);
	fix_checksums(packet);
	const Out out = nat.inside(packet);
	EXPECT_EQ(payload_of(out.packet), payload_of(packet));
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

TEST(Udp, AChecksumOfZeroStaysZeroBothWays)
{
	Nat nat(one_address());
	const Out out = nat.inside(udp_without_checksum(endpoint(kA), endpoint(kR1)));
	ASSERT_TRUE(out.sent(Side::outside));
	EXPECT_EQ(word(out.packet, 26), 0);
	const Out back = nat.outside(udp_without_checksum(endpoint(kR1), from_of(out.packet)));
	ASSERT_TRUE(back.sent(Side::inside));
	EXPECT_EQ(word(back.packet, 26), 0);
}

TEST(Udp, AWrongChecksumStaysWrong)
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

TEST(Udp, EveryChecksumIsRightAsTheTotalOfAComputedZeroComesUp)
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
TEST(Udp, AChecksumThatItsSenderLeftToHardwareIsCompletedWhereverThePacketGoes)
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

TEST(Udp, AMappingOfOneProtocolAdmitsNoOther)
{
	Nat nat(filtering(Filtering::endpoint_independent));
	const Endpoint mapped = nat.open_udp(kA, kR1);
	EXPECT_EQ(nat.outside(tcp(endpoint(kR1), mapped, kSyn)).verdict.reason, VX_DROP_no_session);
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

TEST(Udp, PaddingBehindThePacketIsNeitherReadNorSummed)
{
	Nat nat(one_address());
	Bytes packet = udp(endpoint(kA), endpoint(kR1), 3);
	packet.resize(46, 0xee);
	EXPECT_TRUE(nat.inside(packet).sent(Side::outside));
}

}  // namespace
}  // namespace vx::nat::test
