// How much memory packets get, by workers and queues.
#include <gtest/gtest.h>

#include "../worker/packet_memory.h"

namespace vx {
namespace {

constexpr uint64_t kMebibyte = 1 << 20;

PacketMemory by_socket(uint32_t workers, uint32_t queues)
{
	return {.workers = workers, .hand_over = VX_HAND_OVER_SOCKETS, .inside_queues = queues, .outside_queues = queues};
}

TEST(PacketMemory, IsWhatTheDocumentationSays)
{
	EXPECT_EQ(PacketMemory{.inside_queues = 1}.frames() * uint64_t{VX_FRAME_BYTES} / kMebibyte, 16u);
	EXPECT_EQ(PacketMemory{.inside_queues = 128}.frames() * uint64_t{VX_FRAME_BYTES} / kMebibyte, 76u);
	EXPECT_EQ(by_socket(1, 1).bytes() / kMebibyte, 29u);
	EXPECT_EQ(by_socket(4, 4).bytes() / kMebibyte, 85u);
	EXPECT_EQ(by_socket(8, 16).bytes() / kMebibyte, 343u);
	EXPECT_EQ(by_socket(16, 64).bytes() / kMebibyte, 2254u);
}

TEST(PacketMemory, OfManyQueuesIsNotThatManyTimesThatOfOne)
{
	EXPECT_LE(by_socket(1, 128).frames(), 4 * by_socket(1, 4).frames());
}

TEST(PacketMemory, HasFramesThatCanBeNamedUnlessThereAreMoreWorkersAndQueuesThanAnyHostHas)
{
	PacketMemory memory = by_socket(16, 128);
	memory.outside_rx_queues = memory.inside_tx_queues = 128;
	EXPECT_LT(memory.frames(), kFramesMax);
	memory.workers = 64;
	EXPECT_GT(memory.frames(), kFramesMax);
}

TEST(PacketMemory, LendsEachWorkerOfAQueueAPollsWorth)
{
	for (const uint32_t workers : {1u, 2u, 4u, 16u, 64u})
		for (const uint32_t queues : {1u, 2u, 4u, 16u, 64u, 128u})
			EXPECT_GE(by_socket(workers, queues).receive_share(queues), workers * 64)
				<< workers << " workers, " << queues << " queues";
}

TEST(PacketMemory, HasMoreFramesThanItLends)
{
	for (const uint32_t workers : {1u, 4u, 64u})
		for (const uint32_t queues : {1u, 16u, 128u}) {
			const PacketMemory memory = by_socket(workers, queues);
			EXPECT_GT(memory.frames(), queues * memory.receive_share(queues));
		}
}

}  // namespace
}  // namespace vx
