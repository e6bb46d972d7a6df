// What is logged of a NAT (RFC 6888 section 4): of blocks always, of sessions where that is wanted, and what happens while it
// cannot be. Virtual clock, no kernel.
#include <gtest/gtest.h>

#include "../worker/nat.h"
#include "nat_bed.h"

namespace vx::nat::test {
namespace {

const char *const kA = "10.0.0.5:5000";
const char *const kB = "10.0.0.6:6000";
const char *const kR1 = "198.51.100.7:53";

TEST(Records, OneRecordABlockNamesSubscriberAddressRangeAndTime)
{
	Nat nat(small_pool(4));
	const uint64_t start = nat.now_ns();
	const Endpoint mapped = nat.open_udp(kA, kR1);
	for (uint32_t i = 0; i < 100; i++)
		nat.open_udp(("10.0.0.5:" + std::to_string(7000 + i)).c_str(), kR1);
	auto records = nat.records();
	ASSERT_EQ(records.size(), 1u) << "sessions leave none";
	EXPECT_EQ(records[0].event, VX_NAT_BLOCK_GRANTED);
	EXPECT_EQ(records[0].time_ns, start);
	EXPECT_EQ(records[0].realm, kVni);
	EXPECT_EQ(text(records[0].inside_be), "10.0.0.5");
	EXPECT_EQ(records[0].public_be, mapped.address_be);
	EXPECT_EQ(records[0].last_port - records[0].first_port, 127);
	EXPECT_LE(records[0].first_port, mapped.port);
	EXPECT_GE(records[0].last_port, mapped.port);
	nat.advance(430);
	records = nat.records();
	ASSERT_EQ(records.size(), 1u);
	EXPECT_EQ(records[0].event, VX_NAT_BLOCK_RELEASED);
	EXPECT_GE(records[0].time_ns, start + 420000000000);
}

TEST(Records, WhereItIsWantedASessionLeavesARecordWhenItIsCreatedAndOneWhenItEnds)
{
	Scene scene = small_pool(4);
	scene.config.record_sessions = true;
	Nat nat(scene);
	const uint64_t start = nat.now_ns();
	const Endpoint mapped = nat.open_udp(kA, kR1);
	auto records = nat.records();
	ASSERT_EQ(records.size(), 2u);
	EXPECT_EQ(records[0].event, VX_NAT_BLOCK_GRANTED);
	const LogRecord created = records[1];
	EXPECT_EQ(created.event, VX_NAT_SESSION_CREATED);
	EXPECT_EQ(created.time_ns, start);
	EXPECT_EQ(created.realm, kVni);
	EXPECT_EQ(created.protocol, IPPROTO_UDP);
	EXPECT_EQ(text({created.inside_be, created.inside_port}), kA);
	EXPECT_EQ(text({created.public_be, created.first_port}), text(mapped));
	EXPECT_EQ(created.last_port, created.first_port);
	EXPECT_EQ(text({created.remote_be, created.remote_port}), kR1);
	nat.advance(430);
	records = nat.records();
	ASSERT_EQ(records.size(), 2u);
	EXPECT_EQ(records[0].event, VX_NAT_SESSION_ENDED);
	EXPECT_GE(records[0].time_ns, start + 300000000000);
	EXPECT_EQ(records[0].first_port, created.first_port);
	EXPECT_EQ(records[1].event, VX_NAT_BLOCK_RELEASED);
	nat.check();
}

TEST(Records, NoSessionIsCreatedAndNoneEndsWhileItsRecordHasNoRoom)
{
	Scene scene = small_pool(4);
	scene.config.record_sessions = true;
	scene.config.sessions_per_subscriber = scene.config.records = 8;
	Nat nat(scene);
	for (uint32_t i = 0; i < 4; i++)
		nat.open_udp(("10.0.0.5:" + std::to_string(7000 + i)).c_str(), kR1);
	EXPECT_EQ(nat.refusal(udp(endpoint("10.0.0.5:7004"), endpoint(kR1))), VX_DROP_session_table_full) << "5 of 8 are taken";
	EXPECT_EQ(nat.stats().sessions_unrecorded, 1u);
	nat.advance(430);
	EXPECT_EQ(nat.sessions(), 1u) << "three ends had room";
	nat.check();
	EXPECT_EQ(nat.records().size(), 8u);
	nat.advance(1);
	EXPECT_EQ(nat.sessions(), 0u);
	nat.check();
	nat.open_udp(kB, kR1);
	nat.check();
}

TEST(Records, WhatGoesWithAMappingGoesOnlyWhenAllOfItCanBeRecorded)
{
	Scene scene = small_pool(4);
	scene.config.record_sessions = true;
	scene.config.filtering = Filtering::endpoint_independent;
	scene.config.sessions_per_subscriber = scene.config.records = 40;
	Nat nat(scene);
	const Endpoint mapped = nat.open_udp(kA, kR1);
	nat.advance(290);
	for (uint32_t i = 0; i < 20; i++)
		nat.outside(udp({address("198.51.100.9"), static_cast<uint16_t>(2000 + i)}, mapped, 20));
	EXPECT_EQ(nat.sessions(), 21u);
	nat.advance(20);
	EXPECT_EQ(nat.sessions(), 21u) << "18 records have room, 21 would be needed";
	nat.check();
	nat.records();
	nat.advance(1);
	EXPECT_EQ(nat.sessions(), 0u);
	nat.check();
}

TEST(Records, NothingIsGrantedOrForgottenWhileTheLogLags)
{
	Scene scene = small_pool(8);
	scene.config.records = 2;
	Nat nat(scene);
	nat.open_udp(kA, kR1);
	nat.open_udp(kB, kR1);
	EXPECT_EQ(nat.refusal(udp(endpoint("10.0.0.7:5000"), endpoint(kR1))), VX_DROP_no_block);
	EXPECT_EQ(nat.stats().records_full, 1u);
	nat.advance(430);
	EXPECT_EQ(nat.mappings(), 0u);
	EXPECT_EQ(nat.blocks().free_blocks(0), 6u) << "released only once that can be written down";
	EXPECT_EQ(nat.records().size(), 2u);
	nat.advance(1);
	const auto released = nat.records();
	ASSERT_EQ(released.size(), 2u);
	EXPECT_EQ(released[0].event, VX_NAT_BLOCK_RELEASED);
	EXPECT_EQ(released[1].event, VX_NAT_BLOCK_RELEASED);
	EXPECT_EQ(nat.blocks().free_blocks(0), 8u);
	EXPECT_EQ(nat.engine().subscribers().count(), 0u);
}

TEST(Records, ABlockWhoseReleaseWaitedServesItsSubscriberAgain)
{
	Scene scene = small_pool(8);
	scene.config.records = 1;
	Nat nat(scene);
	const Endpoint first = nat.open_udp(kA, kR1);
	nat.advance(430);
	const Endpoint again = nat.open_udp(kA, kR1);
	EXPECT_EQ(first.port / 128, again.port / 128);
	nat.advance(430);  // free a second time, and still nobody has read
	EXPECT_EQ(nat.open_udp(kA, kR1).port / 128, again.port / 128);
	nat.records();
	nat.advance(10);
	EXPECT_TRUE(nat.outside(udp(endpoint(kR1), nat.open_udp(kA, kR1))).sent(Side::inside));
	EXPECT_TRUE(nat.records().empty());
	nat.advance(430);
	EXPECT_EQ(nat.records().size(), 1u);
	EXPECT_EQ(nat.blocks().free_blocks(0), 8u);
}

LogRecord granted_at(uint64_t time_ns)
{
	return {.time_ns = time_ns, .event = VX_NAT_BLOCK_GRANTED};
}

TEST(Records, AWorkerThatHasMoreThanFitsDoesNotKeepAnothersFromBeingRead)
{
	SourceNat plan;
	plan.pools = one_address().pools;
	plan.engine.sessions_max = 1024;
	const std::vector<int> cpus = {0, 0};
	std::vector<vx_port_owners> owners(PortBlocks::addresses_most(plan.pools));
	auto made = vx::Nat::make(plan, cpus, owners);
	ASSERT_TRUE(made);
	vx::Nat &nat = **made;
	for (uint64_t i = 0; i < 8; i++)
		nat.engine(0).records().write(granted_at(i));
	nat.engine(1).records().write(granted_at(100));

	std::multiset<uint64_t> read;
	for (uint32_t batch = 0; batch < 2; batch++) {
		for (const LogRecord &record : nat.log_records(4))
			read.insert(record.time_ns);
		nat.log_records_done();
	}
	EXPECT_EQ(read.count(100), 1u);
	for (const LogRecord &record : nat.log_records(8))
		read.insert(record.time_ns);
	EXPECT_EQ(read, (std::multiset<uint64_t>{0, 1, 2, 3, 4, 5, 6, 7, 100}));
}

}  // namespace
}  // namespace vx::nat::test
