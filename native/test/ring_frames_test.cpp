// Who has the UMEM's free frames: none is lost or doubled between workers and store, none stays where nobody needs it.
#include <algorithm>
#include <atomic>
#include <thread>

#include "../io/umem.h"
#include "worker_bed.h"

namespace vx::test {
namespace {

constexpr uint32_t kChunks = 4096, kKept = 512;

class FreeFrames : public testing::Test {
protected:
	void SetUp() override
	{
		map_ = make_umem(kChunks);
		auto umem = Umem::map(map_.get());
		ASSERT_TRUE(umem) << umem.error().op;
		umem_ = std::move(*umem);
	}
	static std::vector<uint64_t> take_all(Frames &frames)
	{
		std::vector<uint64_t> taken;
		while (frames.has())
			taken.push_back(frames.take());
		return taken;
	}

	Fd map_;
	std::unique_ptr<Umem> umem_;
};

TEST_F(FreeFrames, EveryChunkIsThereOnce)
{
	Frames frames(*umem_, kKept);
	std::vector<uint64_t> taken = take_all(frames);
	std::sort(taken.begin(), taken.end());
	ASSERT_EQ(taken.size(), kChunks);
	for (uint32_t i = 0; i < kChunks; i++)
		EXPECT_EQ(taken[i], uint64_t{i} * VX_FRAME_BYTES);
}

TEST_F(FreeFrames, WhatPilesUpAtOneIsBroughtToTheStoreForTheOthers)
{
	Frames hoarder(*umem_, kKept), other(*umem_, kKept);
	for (const uint64_t address : take_all(hoarder))
		hoarder.put(address);
	EXPECT_FALSE(other.has());
	hoarder.share();
	EXPECT_EQ(hoarder.free_count(), kKept / 2);
	EXPECT_EQ(umem_->stored(), kChunks - kKept / 2);
	EXPECT_TRUE(other.has(64));
}

TEST_F(FreeFrames, OneThatHasFewFetchesBeforeItNeedsThem)
{
	Frames frames(*umem_, kKept);
	EXPECT_EQ(frames.free_count(), 0u);
	frames.share();
	EXPECT_GE(frames.free_count(), 128u);
}

// Frames change hands as a receiver's and a sender's do: one takes what the other gives back.
TEST_F(FreeFrames, NoneIsLostOrDoubledBetweenThreads)
{
	constexpr int kTurns = 200000;
	std::vector<std::atomic<int>> users(kChunks);
	std::atomic<bool> doubled = false;
	const auto work = [&](Frames &frames) {
		std::vector<uint64_t> held;
		for (int turn = 0; turn < kTurns; turn++) {
			if (turn % 64 < 40 && frames.has()) {
				held.push_back(frames.take());
				if (users[held.back() / VX_FRAME_BYTES]++)
					doubled = true;
			} else if (!held.empty()) {
				users[held.back() / VX_FRAME_BYTES]--;
				frames.put(held.back());
				held.pop_back();
			}
			if (turn % 64 == 0)
				frames.share();
		}
		for (const uint64_t address : held)
			frames.put(address);
	};
	Frames first(*umem_, kKept), second(*umem_, kKept), third(*umem_, kKept);
	std::thread a(work, std::ref(first)), b(work, std::ref(second)), c(work, std::ref(third));
	a.join();
	b.join();
	c.join();
	EXPECT_FALSE(doubled);
	EXPECT_EQ(first.free_count() + second.free_count() + third.free_count() + umem_->stored(), kChunks);
}

}  // namespace
}  // namespace vx::test
