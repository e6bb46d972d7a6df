// RFC 6888, RFC 6056 and the contract's own rules for pools, blocks, limits. Virtual clock, no kernel.
#include <gtest/gtest.h>

#include <set>

#include "../core/nat/steering.h"
#include "nat_bed.h"

namespace vx::nat::test {
namespace {

const char *const kA = "10.0.0.5:5000";
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

TEST(Pool, ASubscriberIsPairedWithOneAddressOverAllProtocolsAndBlocks)
{
	Nat nat(addresses(16));
	std::set<uint32_t> used;
	for (uint32_t i = 0; i < 300; i++)
		used.insert(nat.open_udp(from("10.0.0.5", 2000 + i).c_str(), kR1).address_be);
	used.insert(nat.open_tcp(kA, kR1).address_be);
	used.insert(source_of(nat.inside(echo_request(endpoint(kA), address("198.51.100.7"))).packet));
	EXPECT_EQ(used.size(), 1u);
}

TEST(Pool, AddressesNeedNotBeContiguousAndAllOfThemServe)
{
	Scene scene = one_address();
	scene.pools.pools[0].addresses_be = {address("203.0.113.1"), address("198.18.0.77"), address("192.88.99.200")};
	Nat nat(scene);
	std::set<std::string> used;
	for (uint32_t host = 1; host < 60; host++)
		used.insert(text(nat.open_udp(text({htonl(0x0a000000 + host), 5000}).c_str(), kR1).address_be));
	EXPECT_EQ(used, (std::set<std::string>{"203.0.113.1", "198.18.0.77", "192.88.99.200"}));
}

TEST(Pool, ARealmUsesOnlyThePoolsThatServeIt)
{
	Scene scene = one_address();
	scene.pools.pools[0].realms = {{100, 100}, {300, 399}};
	scene.pools.pools.push_back({{address("198.18.0.1")}, 1024, 65535, {{200, 200}}});
	Nat nat(scene);
	EXPECT_EQ(text(nat.open_udp(kA, kR1, 100).address_be), "203.0.113.1");
	EXPECT_EQ(text(nat.open_udp(kA, kR1, 350).address_be), "203.0.113.1");
	EXPECT_EQ(text(nat.open_udp(kA, kR1, 200).address_be), "198.18.0.1");
	EXPECT_EQ(nat.refusal(udp(endpoint(kA), endpoint(kR1)), 500), VX_DROP_no_block);
	EXPECT_EQ(nat.refusal(udp(endpoint(kA), endpoint(kR1)), kPlainRealm), VX_DROP_no_block);
}

TEST(Pool, ABlockOnBothSidesOf1024GivesLowPortsToLowOnesUntilNoneIsLeftAndHighOnesToHigh)
{
	Scene scene = small_pool(1, 2048);
	scene.pools.pools[0].first_port = 0;
	scene.pools.pools[0].last_port = 2047;
	scene.config.sessions_per_subscriber = 4000;
	Nat nat(scene);
	std::set<uint16_t> used;
	for (uint32_t port = 1; port < 1024; port++) {
		const uint16_t mapped = nat.open_udp(from("10.0.0.5", port).c_str(), kR1).port;
		EXPECT_LT(mapped, 1024);
		used.insert(mapped);
	}
	EXPECT_EQ(used.size(), 1023u) << "all but port 0";
	for (uint32_t port = 1024; port < 2048; port++)
		used.insert(nat.open_udp(from("10.0.0.5", port).c_str(), kR1).port);
	EXPECT_EQ(used.size(), 2047u);
	EXPECT_EQ(nat.refusal(flow("10.0.0.5", 3000)), VX_DROP_no_block);
}

TEST(Pool, OfALimitOf128TheNextSessionIsRefusedAndAnotherSubscriberUnaffected)
{
	Scene scene = one_address();
	scene.config.sessions_per_subscriber = 128;
	Nat nat(scene);
	for (uint32_t i = 0; i < 128; i++)
		EXPECT_EQ(nat.refusal(flow("10.0.0.5", 2000 + i)), -1);
	EXPECT_EQ(nat.refusal(flow("10.0.0.5", 9000)), VX_DROP_subscriber_limit);
	EXPECT_EQ(nat.refusal(flow("10.0.0.6", 9000)), -1);
	EXPECT_EQ(nat.refusal(flow("10.0.0.5", 2000)), -1) << "live sessions go on";
	nat.advance(305);
	EXPECT_EQ(nat.refusal(flow("10.0.0.5", 9000)), -1) << "and make room when they end";
}

TEST(Pool, NewSessionsBeyondTheRateAreRefusedAndAnotherSubscriberUnaffected)
{
	Scene scene = one_address();
	scene.config.new_sessions_per_second = 50;
	Nat nat(scene);
	for (uint32_t i = 0; i < 50; i++)
		EXPECT_EQ(nat.refusal(flow("10.0.0.5", 2000 + i)), -1);
	EXPECT_EQ(nat.refusal(flow("10.0.0.5", 3000)), VX_DROP_session_rate);
	EXPECT_EQ(nat.refusal(flow("10.0.0.5", 2000)), -1) << "packets of live sessions are not new sessions";
	EXPECT_EQ(nat.refusal(flow("10.0.0.6", 3000)), -1);
	nat.advance(0.5);
	for (uint32_t i = 0; i < 25; i++)
		EXPECT_EQ(nat.refusal(flow("10.0.0.5", 4000 + i)), -1);
	EXPECT_EQ(nat.refusal(flow("10.0.0.5", 5000)), VX_DROP_session_rate);
}

TEST(Pool, AHostThatMayHaveNothingLeavesNothingBehind)
{
	for (const bool by_rate : {true, false}) {
		Scene scene = one_address();
		(by_rate ? scene.config.new_sessions_per_second : scene.config.sessions_per_subscriber) = 0;
		Nat nat(scene);
		EXPECT_EQ(nat.refusal(flow("10.0.0.5", 2000)),
			  by_rate ? VX_DROP_session_rate : VX_DROP_subscriber_limit);
		EXPECT_EQ(nat.engine().subscribers().count(), 0u);
	}
}

TEST(Pool, AFullTableRefusesAndEvictsNobody)
{
	Scene scene = one_address();
	scene.config.sessions_max = 100;
	Nat nat(scene);
	for (uint32_t i = 0; i < 100; i++)
		EXPECT_EQ(nat.refusal(flow("10.0.0.5", 2000 + i)), -1);
	EXPECT_EQ(nat.refusal(flow("10.0.0.6", 2000)), VX_DROP_session_table_full);
	EXPECT_EQ(nat.answers().size(), 1u);
	for (uint32_t i = 0; i < 100; i++)
		EXPECT_EQ(nat.refusal(flow("10.0.0.5", 2000 + i)), -1);
	EXPECT_EQ(nat.sessions(), 100u);
}

// Ports rest longer than these sessions live: what rests must not take the place of what could live.
TEST(Pool, AsManySessionsAsThereMayBeFitHoweverShortTheirTimersAreBesideWhatRests)
{
	for (const bool one_host : {true, false}) {
		Scene scene = addresses(16);
		scene.config.sessions_max = 1000;
		scene.config.blocks_per_subscriber = 100;
		scene.config.timeouts.udp = 30;
		Nat nat(scene);
		uint32_t refused = 0;
		for (uint32_t i = 0; i < 10000; i++) {
			if (i && i % 1000 == 0) {
				EXPECT_EQ(nat.sessions(), 1000u);
				nat.records();
				nat.advance(32);
			}
			const Endpoint host{htonl(0x0a000000 + (one_host ? 5 : i)), static_cast<uint16_t>(2000 + i)};
			refused += nat.refusal(udp(host, endpoint(kR1))) != -1;
		}
		EXPECT_EQ(refused, 0u);
	}
}

TEST(Pool, ExcludedDestinationsLeaveUntranslatedWhateverTheProtocol)
{
	Scene scene = one_address();
	scene.config.exclude = {{address("198.51.100.0"), 24}, {address("192.0.2.1"), 32}};
	Nat nat(scene);
	for (const Bytes &packet : {udp(endpoint(kA), endpoint(kR1)), tcp(endpoint(kA), endpoint(kR1), kSyn),
				    echo_request(endpoint(kA), address("192.0.2.1")),
				    other(47, address("10.0.0.5"), address("198.51.100.255")),
				    icmp_error(address("10.0.0.5"), address("198.51.100.7"), 3, 3,
					       udp(endpoint(kR1), endpoint(kA)))}) {
		const Out out = nat.inside(packet);
		ASSERT_TRUE(out.sent(Side::outside));
		EXPECT_EQ(source_of(out.packet), address("10.0.0.5"));
		EXPECT_EQ(out.packet[8], 63);
	}
	EXPECT_EQ(nat.sessions(), 0u);
	EXPECT_NE(nat.open_udp(kA, "192.0.2.2:53").address_be, address("10.0.0.5"));
}

TEST(Pool, AForgedSourceDoesNotLeaveToAnExcludedDestinationEither)
{
	Scene scene = one_address();
	scene.config.exclude = {{address("192.0.2.0"), 24}};
	Nat nat(scene);
	for (const char *forged : {"203.0.113.1:5000", "127.0.0.1:5000", "224.0.0.1:5000"})
		EXPECT_EQ(nat.refusal(udp(endpoint(forged), endpoint("192.0.2.9:53"))), VX_DROP_filtered);
	EXPECT_EQ(nat.refusal(udp(endpoint(kA), endpoint("192.0.2.9:53"))), -1);
}

TEST(Pool, AFreedPortRestsForEverybody)
{
	Nat nat(small_pool(1, 64));
	for (uint32_t i = 0; i < 64; i++)
		EXPECT_EQ(nat.refusal(flow("10.0.0.5", 2000 + i)), -1);
	nat.advance(302);
	EXPECT_EQ(nat.sessions(), 0u);
	EXPECT_EQ(nat.refusal(flow("10.0.0.5", 9000)), VX_DROP_no_block) << "its own other flow";
	EXPECT_EQ(nat.refusal(flow("10.0.0.6", 9000)), VX_DROP_no_block) << "another subscriber";
	nat.advance(117);
	EXPECT_EQ(nat.refusal(flow("10.0.0.6", 9000)), VX_DROP_no_block);
	nat.advance(5);
	EXPECT_EQ(nat.refusal(flow("10.0.0.6", 9000)), -1);
}

TEST(Pool, TheSameInsideTupleGetsItsRestingPortBack)
{
	Nat nat(one_address());
	const Endpoint mapped = nat.open_udp(kA, kR1);
	nat.advance(303);
	EXPECT_EQ(nat.sessions(), 0u);
	EXPECT_EQ(nat.outside(udp(endpoint(kR1), mapped)).verdict.reason, VX_DROP_no_session);
	nat.advance(100);
	EXPECT_EQ(nat.open_udp(kA, kR1), mapped);
	EXPECT_TRUE(nat.outside(udp(endpoint(kR1), mapped)).sent(Side::inside));
	nat.advance(303);
	nat.advance(122);
	EXPECT_EQ(nat.mappings(), 0u);
}

TEST(Pool, EveryBlockIsGrantedBeforeARefusalAndComesBackAfterItsPortsRested)
{
	Nat nat(small_pool(20, 64));
	for (uint32_t round = 0; round < 3; round++) {
		for (uint32_t host = 0; host < 20; host++)
			EXPECT_EQ(nat.refusal(udp({htonl(0x0a000100 + host), 5000}, endpoint(kR1))), -1) << host;
		EXPECT_EQ(nat.refusal(udp({htonl(0x0a000200), 5000}, endpoint(kR1))), VX_DROP_no_block);
		EXPECT_EQ(nat.blocks().free_blocks(0), 0u);
		nat.advance(300 + 120 + 3);
		EXPECT_EQ(nat.blocks().free_blocks(0), 20u);
		EXPECT_EQ(nat.engine().subscribers().count(), 0u);
	}
}

TEST(Pool, OfTwoBlocksOf128PortsEveryPortServesAndThe257thFlowFails)
{
	Scene scene = small_pool(10, 128, 2);
	Nat nat(scene);
	std::set<uint16_t> used;
	for (uint32_t i = 0; i < 256; i++)
		used.insert(nat.open_udp(from("10.0.0.5", 2000 + i).c_str(), kR1).port);
	EXPECT_EQ(used.size(), 256u);
	EXPECT_EQ(nat.refusal(flow("10.0.0.5", 9000)), VX_DROP_no_port);
	EXPECT_EQ(nat.open_tcp(kA, kR1).address_be, address("203.0.113.1"))
		<< "TCP has its ports of the blocks to itself";
}

TEST(Pool, TheOtherAddressIsUsedOnlyWherePoolingAllowsIt)
{
	for (const bool strict : {true, false}) {
		Scene scene = addresses(2);
		scene.pools.pools[0].first_port = 8192;
		scene.pools.pools[0].last_port = 8192 + 128 - 1;
		scene.config.pair_strictly = strict;
		Nat nat(scene);
		for (uint32_t i = 0; i < 128; i++)
			EXPECT_EQ(nat.refusal(flow("10.0.0.5", 2000 + i)), -1);
		EXPECT_EQ(nat.refusal(flow("10.0.0.5", 9000)), strict ? VX_DROP_no_block : -1);
	}
}

TEST(Pool, AnUnalignedRangeLosesItsPartialBlocks)
{
	Scene scene = one_address();
	scene.pools.pools[0].first_port = 8193;
	scene.pools.pools[0].last_port = 8192 + 4 * 128 - 2;
	Nat nat(scene);
	EXPECT_EQ(nat.blocks().free_blocks(0), 2u);
	const uint16_t port = nat.open_udp(kA, kR1).port;
	EXPECT_GE(port, 8192 + 128);
	EXPECT_LT(port, 8192 + 3 * 128);
}

TEST(Pool, PortsAreChosenAtRandomAndEachOfABlockAsOften)
{
	// Chi-square over the 64 even ports of a block, for 6,400 first flows of new subscribers: 63 degrees of
	// freedom, of which 120 is passed once in 30,000.
	Scene scene = small_pool(1, 128);
	scene.config.timeouts.udp = 1;
	scene.config.timeouts.port_hold = 1;
	Nat nat(scene);
	std::map<uint16_t, int> count;
	int steps_of_two = 0;
	uint16_t last = 0;
	for (int i = 0; i < 6400; i++) {
		const uint16_t port =
			nat.open_udp(text({htonl(0x0a010000 + static_cast<uint32_t>(i)), 5000}).c_str(), kR1).port;
		count[port]++;
		steps_of_two += port == last + 2;
		last = port;
		nat.advance(3);
		nat.records();
	}
	double chi = 0;
	for (uint16_t port = 8192; port < 8192 + 128; port += 2)
		chi += (count[port] - 100.0) * (count[port] - 100.0) / 100;
	EXPECT_EQ(count.size(), 64u);
	EXPECT_LT(chi, 120);
	EXPECT_LT(steps_of_two, 160) << "about one in 64 is expected: not a sequence";
}

TEST(Pool, LookingForAPortInVainIsLimitedLikeFindingOne)
{
	Scene scene = one_address();
	scene.config.new_sessions_per_second = 200;
	scene.config.blocks_per_subscriber = 1;
	Nat nat(scene);
	std::map<int, int> refused;
	for (uint16_t i = 0; i < 1000; i++)
		refused[nat.refusal(flow("10.0.0.5", 2000 + i))]++;
	EXPECT_EQ(refused[-1], 128);
	EXPECT_NEAR(refused[VX_DROP_no_port], 72, 1);
	EXPECT_NEAR(refused[VX_DROP_session_rate], 800, 1);
	nat.open_udp(kB, kR1);
}

TEST(Pool, AFullPoolServesAgainWhoeverReleasesTheBlock)
{
	Scene scene = small_pool(2);
	scene.pools.workers = 2;
	Nat nat(scene);
	const auto host_of = [](uint32_t worker, uint32_t from) {
		while (owner_of_subscriber(kVni, htonl(0x0a000000 + from), 2) != worker)
			from++;
		return text({htonl(0x0a000000 + from), 5000});
	};
	nat.open_udp(host_of(0, 1).c_str(), kR1);
	nat.advance(200);
	nat.open_udp(host_of(0, 50).c_str(), kR1);
	EXPECT_EQ(nat.refusal(udp(endpoint(host_of(1, 1).c_str()), endpoint(kR1))), VX_DROP_no_block);
	EXPECT_EQ(nat.refusal(udp(endpoint(host_of(1, 90).c_str()), endpoint(kR1))), VX_DROP_no_block);
	nat.advance(240);
	nat.open_udp(host_of(1, 1).c_str(), kR1);
	EXPECT_EQ(nat.refusal(udp(endpoint(host_of(1, 90).c_str()), endpoint(kR1))), VX_DROP_no_block);
}

TEST(Pool, SpoofedSourcesAndScansHarmNoLiveSession)
{
	Scene scene = small_pool(16, 64);
	Nat nat(scene);
	const Endpoint mapped = nat.open_udp(kA, kR1);
	for (uint32_t i = 0; i < 5000; i++)
		nat.inside(udp({htonl(0x0a400000 + i), 5000}, endpoint(kR1)));
	for (uint32_t port = 0; port < 65536; port += 7)
		nat.outside(udp(endpoint("192.0.2.66:4444"), {mapped.address_be, static_cast<uint16_t>(port)}));
	EXPECT_EQ(nat.sessions(), 16u);
	EXPECT_TRUE(nat.outside(udp(endpoint(kR1), mapped)).sent(Side::inside));
	EXPECT_EQ(nat.open_udp(kA, kR1), mapped);
}

TEST(Pool, OtherProtocolsAreANamedDropBothWays)
{
	Nat nat(one_address());
	for (const uint8_t protocol : std::initializer_list<uint8_t>{0, 2, 47, 50, 51, 132, 255}) {
		EXPECT_EQ(nat.refusal(other(protocol, address("10.0.0.5"), address("198.51.100.7"))), VX_DROP_protocol);
		EXPECT_EQ(nat.outside(other(protocol, address("198.51.100.7"), address("203.0.113.1"))).verdict.reason,
			  VX_DROP_protocol);
	}
}

TEST(Pool, WhatIsNotForAPoolAddressIsLeftToOthers)
{
	Nat nat(one_address());
	EXPECT_EQ(nat.outside(udp(endpoint(kR1), endpoint("203.0.113.2:5000"))).verdict.action, Action::pass);
}

TEST(Pool, EveryTruncationOfAPacketIsANamedDrop)
{
	Nat nat(one_address());
	for (const Bytes &whole : {udp(endpoint(kA), endpoint(kR1), 8), tcp(endpoint(kA), endpoint(kR1), kSyn, 4),
				   echo_request(endpoint(kA), address("198.51.100.7"), 8)})
		for (size_t length = 1; length < whole.size(); length++) {
			const int reason = nat.refusal(Bytes(whole.begin(), whole.begin() + static_cast<long>(length)));
			EXPECT_EQ(reason, length < 20 ? VX_DROP_malformed_inner : VX_DROP_truncated);
		}
	EXPECT_EQ(nat.sessions(), 0u);
}

}  // namespace
}  // namespace vx::nat::test
