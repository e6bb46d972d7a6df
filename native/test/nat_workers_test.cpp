// Ownership: several engines, packets at random workers, and one engine's batches. Virtual clock, no kernel.
#include <gtest/gtest.h>

#include <map>
#include <random>
#include <set>

#include "../core/nat/steering.h"
#include "nat_bed.h"

namespace vx::nat::test {
namespace {

const char *const kR1 = "198.51.100.7:53";

Scene of_workers(uint32_t workers)
{
	Scene scene = addresses(3);
	scene.pools.workers = workers;
	scene.config.filtering = Filtering::endpoint_independent;
	return scene;
}

Endpoint host(uint32_t number, uint16_t port)
{
	return {htonl(0x0a000000 + number), port};
}

TEST(Workers, ScatteredPacketsOfOneHostAllReachItsOwnerAndComeBackToIt)
{
	for (const uint32_t workers : {2, 4, 8}) {
		Nat nat(of_workers(workers));
		for (uint32_t number = 1; number <= 30; number++) {
			std::set<std::pair<uint32_t, uint16_t>> endpoints;
			for (uint32_t at = 0; at < workers; at++) {
				const Out out = nat.inside(udp(host(number, 5000), endpoint(kR1)), kVni, at);
				ASSERT_TRUE(out.sent(Side::outside));
				EXPECT_LE(out.hops, 1u);
				const Endpoint mapped = from_of(out.packet);
				endpoints.emplace(mapped.address_be, mapped.port);
				const Out back = nat.outside(udp(endpoint(kR1), mapped), at);
				ASSERT_TRUE(back.sent(Side::inside));
				EXPECT_EQ(to_of(back.packet), host(number, 5000));
				EXPECT_LE(back.hops, 1u);
			}
			EXPECT_EQ(endpoints.size(), 1u);
		}
		EXPECT_EQ(nat.sessions(), 30u);
	}
}

TEST(Workers, ALimitHoldsForAHostWhosePacketsAreScattered)
{
	Scene scene = of_workers(4);
	scene.config.sessions_per_subscriber = 20;
	Nat nat(scene);
	int passed = 0;
	for (uint16_t i = 0; i < 100; i++)
		passed += nat.inside(udp(host(1, static_cast<uint16_t>(3000 + i)), endpoint(kR1)), kVni, i % 4)
				  .sent(Side::outside);
	EXPECT_EQ(passed, 20);
}

TEST(Workers, HairpinBetweenTwoOwnersIsDoneByHalves)
{
	Nat nat(of_workers(8));
	int two_owners = 0;
	for (uint32_t number = 1; number <= 20; number++) {
		const Out opened = nat.inside(udp(host(100 + number, 6000), endpoint(kR1)));
		const Endpoint b = from_of(opened.packet);
		const Out out = nat.inside(udp(host(number, 5000), b), kVni, number % 8);
		ASSERT_TRUE(out.sent(Side::inside));
		EXPECT_EQ(to_of(out.packet), host(100 + number, 6000));
		two_owners += owner_of_subscriber(kVni, host(number, 0).address_be, 8) !=
			      owner_of_subscriber(kVni, host(100 + number, 0).address_be, 8);
		const Out answer = nat.inside(udp(host(100 + number, 6000), from_of(out.packet)), kVni, 3);
		EXPECT_EQ(to_of(answer.packet), host(number, 5000));
		const Out error = nat.inside(
			icmp_error(host(100 + number, 0).address_be, source_of(out.packet), 3, 3, out.packet), kVni, 5);
		ASSERT_TRUE(error.sent(Side::inside));
		EXPECT_EQ(destination_of(error.packet), host(number, 0).address_be);
	}
	EXPECT_GT(two_owners, 10);
}

// The caller learns a subscriber's tunnel where this names it, and must not learn it from anybody else's packet.
TEST(Workers, WhoSentAPacketIsNamedWhoeverItGoesToAndWhateverBecomesOfIt)
{
	Scene scene = of_workers(8);
	scene.config.exclude = {{address("192.0.2.0"), 24}};
	Nat nat(scene);
	int two_owners = 0;
	for (uint32_t number = 1; number <= 20; number++) {
		const Endpoint a = host(number, 5000), b = host(100 + number, 6000);
		const Out first = nat.inside(udp(b, endpoint(kR1)));
		EXPECT_EQ(first.sender_be, b.address_be);
		const Endpoint public_b = from_of(first.packet);
		const Out out = nat.inside(udp(a, public_b));
		ASSERT_TRUE(out.sent(Side::inside));
		EXPECT_EQ(out.subscriber_be, b.address_be);
		EXPECT_EQ(out.sender_be, a.address_be) << "its only session is a hairpinned one";
		two_owners += out.hops > 1;
		EXPECT_EQ(nat.outside(udp(endpoint(kR1), public_b)).sender_be, 0u) << "nobody inside sent it";
		EXPECT_EQ(nat.inside(udp(a, endpoint("192.0.2.9:53"))).sender_be, a.address_be) << "excluded";
		// To a pool address's port that nobody has: dropped by the other half.
		const Endpoint nobody{public_b.address_be, 1024};
		EXPECT_EQ(nat.inside(udp(a, nobody)).sender_be, a.address_be);
	}
	EXPECT_GT(two_owners, 0);
}

TEST(Workers, IcmpErrorsAndEchoRepliesReachTheOwnerWhereverTheyArrive)
{
	Nat nat(of_workers(4));
	for (uint32_t at = 0; at < 4; at++)
		for (uint32_t number = 1; number <= 10; number++) {
			const Bytes sent = nat.inside(udp(host(number, 5000), endpoint(kR1)), kVni, at).packet;
			const Out error =
				nat.outside(icmp_error(address("192.0.2.1"), source_of(sent), 3, 4, sent, 28), at);
			EXPECT_EQ(destination_of(error.packet), host(number, 0).address_be);
			const Bytes ping =
				nat.inside(echo_request(host(number, 7), address("198.51.100.7")), kVni, at).packet;
			const Out reply = nat.outside(echo_reply(address("198.51.100.7"), from_of(ping)), 3 - at);
			EXPECT_EQ(to_of(reply.packet), host(number, 7));
			const Bytes received = nat.outside(udp(endpoint(kR1), from_of(sent)), at).packet;
			const Out back = nat.inside(
				icmp_error(address("10.9.9.9"), address("198.51.100.7"), 3, 1, received), kVni, at);
			EXPECT_EQ(source_of(back.packet), source_of(sent));
		}
}

TEST(Workers, AForwardIsItsHostsOwnersAndReachedFromAnyWorker)
{
	Scene scene = of_workers(4);
	for (uint16_t i = 0; i < 16; i++)
		scene.pools.forwards.push_back({address("203.0.113.2"), static_cast<uint16_t>(8000 + i), IPPROTO_UDP,
						kVni, host(i + 1u, 0).address_be, 53});
	Nat nat(scene);
	for (uint16_t i = 0; i < 16; i++) {
		nat.inside(udp(host(i + 1u, 999), endpoint(kR1)));
		const Out in = nat.outside(
			udp(endpoint("192.0.2.8:9"), {address("203.0.113.2"), static_cast<uint16_t>(8000 + i)}), i % 4);
		ASSERT_TRUE(in.sent(Side::inside));
		EXPECT_EQ(to_of(in.packet), host(i + 1u, 53));
	}
}

TEST(Workers, EveryBlockCanBeGrantedHoweverTheHashSpreadsTheHosts)
{
	Scene scene = of_workers(8);
	scene.pools.pools[0].addresses_be.resize(1);
	scene.pools.pools[0].last_port = 1024 + 40 * 128 - 1;
	Nat nat(scene);
	int granted = 0;
	for (uint32_t number = 1; granted < 40 && number < 10000; number++)  // all of one worker's
		if (owner_of_subscriber(kVni, host(number, 0).address_be, 8) == 5)
			granted += nat.inside(udp(host(number, 5000), endpoint(kR1))).sent(Side::outside);
	EXPECT_EQ(granted, 40) << "no worker keeps blocks for itself";
}

// A batch is its packets one after the other, whatever was fetched ahead.
// Block numbers are the engine's own affair; what XDP computes is (address, port / block size).
TEST(Workers, WhatXdpSteersByNamesTheOwnerOfEachPortWhileItsBlockIsGrantedAndNobodyAfter)
{
	for (const uint32_t block_size : {64, 128, 8192}) {
		Scene scene = of_workers(4);
		scene.pools.block_size = block_size;
		Nat nat(scene);
		std::map<std::pair<uint16_t, uint32_t>, uint8_t> expected;
		for (uint32_t number = 1; number <= 20; number++) {
			const Out out = nat.inside(udp(host(number, 5000), endpoint(kR1)));
			const Endpoint mapped = from_of(out.packet);
			expected[{nat.blocks().find_address(mapped.address_be), mapped.port / block_size}] =
				static_cast<uint8_t>(owner_of_subscriber(kVni, host(number, 0).address_be, 4) + 1);
		}
		const auto published = [&] {
			std::map<std::pair<uint16_t, uint32_t>, uint8_t> all;
			for (uint16_t address = 0; address < nat.blocks().addresses(); address++)
				for (uint32_t block = 0; block < VX_BLOCKS_PER_ADDRESS; block++)
					if (const uint8_t worker = nat.owners(address).worker[block])
						all[{address, block}] = worker;
			return all;
		};
		EXPECT_EQ(expected.size(), 20u);
		EXPECT_EQ(published(), expected) << "blocks of " << block_size;
		nat.advance(430);
		EXPECT_TRUE(published().empty());
	}
}

// Workers look at the clock once a turn, each when it gets to it.
TEST(Workers, ABlockIsNotGrantedBeforeTheTimeItWasReleasedAtHoweverTheWorkersClocksDiffer)
{
	Scene scene = of_workers(2);
	scene.pools.pools[0].addresses_be.resize(1);
	scene.pools.pools[0].last_port = 1024 + 128 - 1;
	Nat nat(scene);
	const auto of_worker = [](uint32_t worker) {
		uint32_t number = 1;
		while (owner_of_subscriber(kVni, host(number, 0).address_be, 2) != worker)
			number++;
		return host(number, 5000);
	};
	ASSERT_TRUE(nat.inside(udp(of_worker(0), endpoint(kR1))).sent(Side::outside));
	const uint64_t later_ns = nat.now_ns() + 500000000000;
	EXPECT_TRUE(nat.engine(0).tick(later_ns - 180000000000, 1000));  // the session ends
	EXPECT_TRUE(nat.engine(0).tick(later_ns, 1000));                 // its port has rested
	Bytes bytes = udp(of_worker(1), endpoint(kR1));
	Packet packet{.ip = bytes.data(), .length = static_cast<uint32_t>(bytes.size()), .realm = kVni, .from = Side::inside};
	ASSERT_EQ(nat.engine(1).process(packet, later_ns - 5000000).action, Action::forward);
	std::vector<LogRecord> all;
	for (uint32_t worker = 0; worker < 2; worker++)
		for (uint32_t i = 0; const LogRecord *record = nat.engine(worker).records().peek(i); i++)
			all.push_back(*record);
	ASSERT_EQ(all.size(), 3u);
	EXPECT_EQ(all[1].event, VX_NAT_BLOCK_RELEASED);
	EXPECT_EQ(all[2].event, VX_NAT_BLOCK_GRANTED);
	EXPECT_GT(all[2].time_ns, all[1].time_ns);
}

TEST(Workers, ABatchHasTheVerdictsAndBytesOfItsPacketsOneByOne)
{
	Scene scene = one_address();
	scene.config.sessions_max = 60;
	scene.config.sessions_per_subscriber = 7;
	std::mt19937 random(7);
	Nat one(scene), many(scene);
	for (int round = 0; round < 50; round++) {
		std::vector<Bytes> first, second;
		for (int i = 0; i < 100; i++) {
			const Endpoint from = host(1 + random() % 20, static_cast<uint16_t>(5000 + random() % 9));
			const bool out = random() % 2;
			Bytes packet = out ? udp(from, endpoint(kR1))
					   : udp(endpoint(kR1), {address("203.0.113.1"),
								 static_cast<uint16_t>(1024 + random() % 3000)});
			if (random() % 10 == 0)
				packet.resize(random() % packet.size() + 1);
			if (random() % 10 == 0)
				packet = tcp(from, endpoint(kR1), random() % 2 ? kSyn : kAck);
			first.push_back(packet);
			second.push_back(packet);
		}
		std::vector<Packet> batch;
		std::vector<Verdict> verdicts(100);
		for (Bytes &bytes : second)
			batch.push_back({.ip = bytes.data(),
					 .length = static_cast<uint32_t>(bytes.size()),
					 .realm = kVni,
					 .from = bytes[0] == 0x45 && bytes.size() > 12 && bytes[12] == 10
							 ? Side::inside
							 : Side::outside});
		many.engine().process_batch(batch, verdicts, many.now_ns());
		for (size_t i = 0; i < 100; i++) {
			Packet packet = batch[i];
			packet.ip = first[i].data();
			const Verdict verdict = one.engine().process(packet, one.now_ns());
			EXPECT_EQ(verdict.action, verdicts[i].action);
			EXPECT_EQ(verdict.reason, verdicts[i].reason);
			EXPECT_EQ(first[i], second[i]);
		}
		one.advance(1);
		many.advance(1);
		one.answers();
		many.answers();
	}
	EXPECT_GT(one.stats().translated_in, 0u);
}

}  // namespace
}  // namespace vx::nat::test
