// Source NAT in XDP: which worker gets a packet. BPF_PROG_TEST_RUN, root.
#include <arpa/inet.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>
#include <random>

#include "../core/nat/steering.h"
#include "xdp_nat_bed.h"

namespace vx::test {
namespace {

TEST_F(XdpNat, EverySubscriberComesToTheWorkerTheEngineSaysIncludingItsFragments)
{
	const uint32_t seed = std::random_device{}();
	std::mt19937 random(seed);
	std::vector<uint32_t> seen(kWorkers);
	for (int i = 0; i < 2000; i++) {
		const uint32_t vni = random() & 0xffffff, source_be = static_cast<uint32_t>(random());
		Ip ip{.fragment = static_cast<uint16_t>(i % 4 == 0 ? 0x2000 : i % 4 == 1 ? 0x00b9 : 0)};
		Bytes bytes = packet(ip, udp(static_cast<uint16_t>(random()), static_cast<uint16_t>(random())));
		memcpy(&bytes[12], &source_be, 4);
		Bytes frame = tunnel4(inner(bytes));
		for (int k = 0; k < 3; k++)
			frame[46 + k] = static_cast<uint8_t>(vni >> (16 - 8 * k));
		const Handed got = from_inside(frame);
		ASSERT_EQ(got.head.realm, vni);
		ASSERT_EQ(got.worker, nat::owner_of_subscriber(vni, source_be, kWorkers)) << "seed " << seed;
		seen[got.worker]++;
	}
	EXPECT_GT(*std::min_element(seen.begin(), seen.end()), 400u);
}

TEST_F(XdpNat, AReplyComesToTheWorkerThatHasItsPort)
{
	for (uint32_t worker = 0; worker < kWorkers; worker++) {
		own(0, static_cast<uint16_t>(2048 + worker * kBlock), worker);
		own(1, static_cast<uint16_t>(2048 + worker * kBlock), (worker + 1) % kWorkers);
	}
	for (uint16_t port = 2048; port < 2048 + kWorkers * kBlock; port++) {
		const uint32_t worker = (port - 2048u) / kBlock;
		ASSERT_EQ(from_outside(packet({"198.51.100.7", kPool}, udp(53, port))).worker, worker) << port;
		ASSERT_EQ(from_outside(packet({"198.51.100.7", kPool, 6}, tcp(80, port))).worker, worker) << port;
		ASSERT_EQ(from_outside(packet({"198.51.100.7", kPool, 1}, icmp(0, port))).worker, worker) << port;
		const Handed other = from_outside(packet({"198.51.100.7", kOtherPool, 17, 1, 0, 8}, udp(53, port)));
		ASSERT_EQ(other.worker, (worker + 1) % kWorkers) << port;
	}
	const Bytes echo = packet({"198.51.100.7", kPool, 1, 1, 0, 12}, icmp(0, 2048 + kBlock));  // behind options
	EXPECT_EQ(from_outside(echo).worker, 1u);
}

TEST_F(XdpNat, AForwardGoesBeforeTheOwnerOfItsBlock)
{
	own(0, 8080, 1);
	EXPECT_EQ(from_outside(packet({"198.51.100.7", kPool, 6}, tcp(80, 8080))).worker, 2u);
	EXPECT_EQ(from_outside(packet({"198.51.100.7", kPool}, udp(80, 8080))).worker, 1u);
	EXPECT_EQ(from_outside(packet({"198.51.100.7", kPool, 6}, tcp(80, 8081))).worker, 1u);
}

TEST_F(XdpNat, WhatNoPortTellsIsSharedOutByAddressesAndFragmentsByDatagram)
{
	const uint32_t seed = std::random_device{}();
	std::mt19937 random(seed);
	const uint32_t pool_be = ipv4_from(kPool);
	std::vector<uint32_t> seen(kWorkers);
	for (vx_port_owners &owners : bed_.datapath().port_owners())
		std::fill(std::begin(owners.worker), std::end(owners.worker), uint8_t{kWorkers + 1});  // nobody there is
	for (int i = 0; i < 1000; i++) {
		const uint32_t source_be = static_cast<uint32_t>(random());
		const auto id = static_cast<uint16_t>(random());
		const auto of = [&](Ip ip, const Bytes &payload) {
			ip.destination = kPool;
			ip.id = id;
			Bytes bytes = packet(ip, payload);
			memcpy(&bytes[12], &source_be, 4);
			return from_outside(bytes);
		};
		const uint32_t by_addresses = nat::worker_of_hash(nat::spread(source_be ^ nat::spread(pool_be)), kWorkers);
		for (const Handed &got : {of({}, udp(53, id)), of({.protocol = 1}, icmp(0, id)), of({.protocol = 1}, icmp(3, id)),
					  of({.protocol = 1}, icmp(8, id)), of({.protocol = 47}, Bytes(8))})
			ASSERT_EQ(got.worker, by_addresses) << "seed " << seed;
		const uint32_t by_datagram = nat::owner_of_fragments(source_be, pool_be, htons(id), 17, kWorkers);
		ASSERT_EQ(of({.fragment = 0x2000}, udp(53, id)).worker, by_datagram) << "seed " << seed;
		ASSERT_EQ(of({.fragment = 0x0010}, Bytes(9)).worker, by_datagram) << "seed " << seed;
		seen[by_datagram]++;
	}
	EXPECT_GT(*std::min_element(seen.begin(), seen.end()), 200u);
}

TEST_F(XdpNat, FragmentsFromOutsideAreNotSteeredByTheirPorts)
{
	for (uint32_t block = 0; block < 65536 / kBlock; block++)
		own(0, static_cast<uint16_t>(block * kBlock), 0);
	for (uint16_t id = 0; id < 50; id++)
		ASSERT_EQ(from_outside(packet({"198.51.100.7", kPool, 17, id, 0x2000}, udp(53, 2048))).worker,
			  nat::owner_of_fragments(ipv4_from("198.51.100.7"), ipv4_from(kPool), htons(id), 17, kWorkers));
}

TEST(Steering, TheProgramsAndTheEngineShareOneDefinitionWhoseValuesStay)
{
	EXPECT_EQ(nat::spread(0), 0u);
	EXPECT_EQ(nat::spread(1), 0x688990c0u);
	for (uint32_t workers = 1; workers <= VX_WORKERS_MAX; workers++)
		EXPECT_EQ(nat::worker_of_hash(UINT32_MAX, workers), workers - 1);
}

}  // namespace
}  // namespace vx::test
