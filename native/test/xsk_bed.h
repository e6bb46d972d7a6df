// The frames and AF_XDP sockets of a worker that is not there, for tests of its parts: inside receives, outside sends.
// Used by worker_*_test.cpp on the test's thread.
#pragma once

#include <net/if.h>

#include <memory>
#include <utility>

#include "../io/xsk.h"
#include "worker_bed.h"

namespace vx::test {

class XskBed : public WorkerBed {
protected:
	static constexpr uint32_t kFrames = 2048;

	// With the frames of that map.
	void open_sockets(int umem_fd)
	{
		auto umem = Umem::map(umem_fd);
		ASSERT_TRUE(umem);
		umem_ = std::move(*umem);
		frames_ = std::make_unique<Frames>(*umem_, UINT32_MAX);
		inside_rings_ = std::make_unique<QueueRings>(if_nametoindex("in0"), 0);
		outside_rings_ = std::make_unique<QueueRings>(if_nametoindex("out0"), 0);
		inside_ = std::make_unique<RxQueue>(*inside_rings_, 16);
		outside_ = std::make_unique<TxQueue>(*outside_rings_, 1);
		auto receiver = XskReceiver::open(*umem_, *inside_, 32, -1);
		ASSERT_TRUE(receiver) << receiver.error().op;
		receiver_ = std::move(*receiver);
		auto transmitter = XskTransmitter::open(*umem_, *outside_, receiver_.fd());
		ASSERT_TRUE(transmitter) << transmitter.error().op;
		transmitter_ = std::move(*transmitter);
	}
	void open_sockets()
	{
		umem_map_ = make_umem(kFrames);
		open_sockets(umem_map_.get());
	}

	std::unique_ptr<Umem> umem_;
	std::unique_ptr<Frames> frames_;
	std::unique_ptr<QueueRings> inside_rings_, outside_rings_;
	std::unique_ptr<RxQueue> inside_;
	std::unique_ptr<TxQueue> outside_;
	XskReceiver receiver_;
	XskTransmitter transmitter_;
};

}  // namespace vx::test
