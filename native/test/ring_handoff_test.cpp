// The rings by which workers hand packets to each other: nothing is lost, doubled or overtaken, and the counts say so.
#include <gtest/gtest.h>

#include <thread>

#include "../worker/handoffs.h"

namespace vx::test {
namespace {

constexpr uint32_t kPackets = 200000;

HandedOver packet(uint64_t number)
{
	return {{number, static_cast<uint32_t>(number % 1500), Ledger::outside}, HandedOver::translate, nat::Stage::to_owner};
}

HandoffCounts counts_of(Handoffs &handoffs, uint32_t from, uint32_t to)
{
	for (const HandoffCounts &counts : handoffs.counts())
		if (counts.from == from && counts.to == to)
			return counts;
	return {from, to, 0, 0, 0};
}

TEST(Handoff, PacketsOfTwoThreadsArriveInOrderAndOnce)
{
	Handoffs handoffs(3);
	std::thread writer([&] {
		for (uint64_t number = 0; number < kPackets;)
			if (handoffs.between(0, 2).push(packet(number)))
				number++;
			else
				std::this_thread::yield();
	});
	for (uint64_t expected = 0; expected < kPackets;) {
		HandedOver got;
		if (!handoffs.between(0, 2).pop(got)) {
			std::this_thread::yield();
			continue;
		}
		ASSERT_EQ(got.frame.address, expected);
		ASSERT_EQ(got.frame.length, expected % 1500);
		expected++;
	}
	writer.join();
	const HandoffCounts counts = counts_of(handoffs, 0, 2);
	EXPECT_EQ(counts.enqueued, kPackets);
	EXPECT_EQ(counts.dequeued, kPackets);
	EXPECT_EQ(handoffs.size(), 0u);
}

TEST(Handoff, AFullRingRefusesAndCountsWhatItRefused)
{
	Handoffs handoffs(2);
	uint32_t taken = 0;
	while (handoffs.between(1, 0).push(packet(taken)))
		taken++;
	EXPECT_EQ(handoffs.size(), taken);
	EXPECT_GE(taken, uint32_t{VX_INJECTION_MAX}) << "what a turn of a worker brings, while the other wakes up";
	EXPECT_FALSE(handoffs.between(1, 0).push(packet(taken)));
	EXPECT_EQ(counts_of(handoffs, 1, 0).dropped, 2u);
	HandedOver got;
	ASSERT_TRUE(handoffs.between(1, 0).pop(got));
	EXPECT_EQ(got.frame.address, 0u);
	EXPECT_TRUE(handoffs.between(1, 0).push(packet(taken)));
	EXPECT_FALSE(handoffs.between(0, 1).pop(got)) << "a pair's packets belong to it alone";
}

}  // namespace
}  // namespace vx::test
