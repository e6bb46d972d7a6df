// What the workers of a queue have in common, with the kernel at its other end: two transmit by one queue, whoever is there
// takes the frames that came free, and lends the receive queue new ones. Nobody waits for the other; nothing may be lost
// for that. Under ThreadSanitizer also. Bounded by counts; needs root.
#include <net/if.h>

#include <atomic>
#include <cstring>
#include <thread>

#include "../io/xsk.h"
#include "worker_bed.h"

namespace vx::test {
namespace {

constexpr uint32_t kFrames = 512, kKeepMost = 32;
constexpr uint32_t kPackets = 3000;  // of each worker
constexpr uint32_t kAtOnce = 16;
constexpr uint32_t kShare = 64;

// One worker's way out of the shared queue.
struct Way {
	Way(Umem &umem, XskTransmitter opened) : frames(umem, kKeepMost), transmitter(std::move(opened)) {}

	Frames frames;
	XskTransmitter transmitter;
	uint32_t fates[3] = {};

	uint32_t fate(TxFate which) const { return fates[static_cast<int>(which)]; }
	void queue(const Bytes &frame)
	{
		const uint64_t address = frames.take();
		memcpy(frames.at(address), frame.data(), frame.size());
		transmitter.queue({address, static_cast<uint32_t>(frame.size())}, 0);
	}
	void send(const Bytes &frame, uint32_t count, RxQueue &inside)
	{
		for (uint32_t next = 0; next < count || transmitter.queued();) {
			for (uint32_t i = 0; i < kAtOnce && next < count && transmitter.has_room() && frames.has(); i++, next++)
				queue(frame);
			transmitter.kick([this](TxFate what, uint32_t, uint32_t) { fates[static_cast<int>(what)]++; });
			transmitter.reap(frames);
			inside.refill(frames);
			frames.share();
		}
	}
};

class SharedQueues : public WorkerBed {};

TEST_F(SharedQueues, TwoWorkersAtOneQueueLoseNeitherPacketsNorFrames)
{
	const Fd map = make_umem(kFrames);
	auto umem = Umem::map(map.get());
	ASSERT_TRUE(umem);
	RxQueue inside(if_nametoindex("in0"), 0, kShare);
	TxQueue outside(if_nametoindex("out0"), 0, 2);
	auto receiver = XskReceiver::open(**umem, inside, 2 * kShare, -1);
	ASSERT_TRUE(receiver) << receiver.error().op;
	auto first = XskTransmitter::open(outside, receiver->fd()), second = XskTransmitter::open(outside, receiver->fd());
	ASSERT_TRUE(first && second);
	Way ways[2] = {{**umem, std::move(*first)}, {**umem, std::move(*second)}};

	Bytes frame = {2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1, 8, 0};
	const Bytes packet = make_ipv4({});
	frame.insert(frame.end(), packet.begin(), packet.end());

	std::atomic<int> sending{2};
	std::thread threads[2];
	for (int i = 0; i < 2; i++)
		threads[i] = std::thread([&, i] {
			ways[i].send(frame, kPackets, inside);
			sending--;
		});
	size_t count = 0;
	while (sending)
		count += arrived().size();
	for (std::thread &thread : threads)
		thread.join();

	uint32_t sent = 0;
	for (const Way &way : ways) {
		EXPECT_EQ(way.fate(TxFate::sent) + way.fate(TxFate::refused), kPackets);
		sent += way.fate(TxFate::sent);
	}
	EXPECT_GT(sent, 0u);
	if (count < sent)
		count += arrived(sent - count).size();
	EXPECT_EQ(count, sent);
	EXPECT_TRUE(eventually([&] {
		outside.reap(ways[0].frames);
		return outside.in_kernel() == 0;
	}));
	EXPECT_EQ(inside.lent(), kShare);
	EXPECT_EQ(ways[0].frames.free_count() + ways[1].frames.free_count() + (*umem)->stored() + kShare, kFrames);
}

}  // namespace
}  // namespace vx::test
