// What the workers of a queue have in common, with the kernel at its other end: two transmit by one queue, or receive and
// transmit by one, whoever is there takes the frames that came free, and lends the receive queue new ones. Nobody waits for
// the other; nothing may be lost for that. Under ThreadSanitizer also. Bounded by counts; needs root.
#include <bpf/bpf.h>
#include <net/if.h>

#include <algorithm>
#include <atomic>
#include <cstring>
#include <string>
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
		// A turn that met the other at the store has kept them, and there is no next one.
		while (frames.free_count() > kKeepMost)
			frames.share();
	}
};

class SharedQueues : public WorkerBed {};

TEST_F(SharedQueues, TwoWorkersAtOneQueueLoseNeitherPacketsNorFrames)
{
	const Fd map = make_umem(kFrames);
	auto umem = Umem::map(map.get());
	ASSERT_TRUE(umem);
	QueueRings inside_rings(if_nametoindex("in0"), 0), outside_rings(if_nametoindex("out0"), 0);
	RxQueue inside(inside_rings, kShare);
	TxQueue outside(outside_rings, 2);
	auto receiver = XskReceiver::open(**umem, inside, 2 * kShare, -1);
	ASSERT_TRUE(receiver) << receiver.error().op;
	auto first = XskTransmitter::open(**umem, outside, receiver->fd()), second = XskTransmitter::open(**umem, outside, receiver->fd());
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

// Sends back what it receives, by the queue it came from.
struct Echo {
	explicit Echo(Umem &umem) : frames(umem, kKeepMost) {}

	Frames frames;
	XskReceiver receiver;
	XskTransmitter transmitter;
	uint32_t received = 0, fates[3] = {};

	void turn()
	{
		Frame batch[kAtOnce];
		const uint32_t count = transmitter.has_room() ? receiver.receive(batch, kAtOnce) : 0;
		received += count;
		for (uint32_t i = 0; i < count; i++)
			transmitter.queue(batch[i], 0);
		if (transmitter.queued())
			transmitter.kick([this](TxFate what, uint32_t, uint32_t) { fates[static_cast<int>(what)]++; });
		transmitter.reap(frames);
		receiver.queue().refill(frames);
		frames.share();
	}
};

// Which sockets of one queue are opened in which order: those of worker 0 are R and T, of worker 1 r and t. The first one
// brings the frames and the queue's rings.
class SharedQueue : public WorkerBed, public testing::WithParamInterface<const char *> {
protected:
	static constexpr uint32_t kUnderWay = kShare / 2;  // so few that nothing overflows
	static constexpr uint32_t kEchoes = 2000;

	Fd map_ = make_umem(kFrames);
	std::unique_ptr<Umem> umem_;
	std::unique_ptr<QueueRings> rings_;
	std::unique_ptr<RxQueue> received_;
	std::unique_ptr<TxQueue> sent_;
	std::vector<std::unique_ptr<Echo>> echoes_;

	void SetUp() override
	{
		WorkerBed::SetUp();
		auto umem = Umem::map(map_.get());
		ASSERT_TRUE(umem);
		umem_ = std::move(*umem);
		rings_ = std::make_unique<QueueRings>(if_nametoindex("in0"), 0);
		received_ = std::make_unique<RxQueue>(*rings_, kShare);
		sent_ = std::make_unique<TxQueue>(*rings_, 2);
		for (int i = 0; i < 2; i++)
			echoes_.push_back(std::make_unique<Echo>(*umem_));
		int umem_socket = -1;
		for (const char *socket = GetParam(); *socket; socket++)
			ASSERT_NO_FATAL_FAILURE(open(*socket, umem_socket));
		feeder_->data->workers = 2;
		for (uint32_t i = 0; i < 2; i++) {
			const int fd = echoes_[i]->receiver.fd();
			ASSERT_EQ(bpf_map_update_elem(bpf_map__fd(feeder_->maps.sockets), &i, &fd, BPF_ANY), 0);
		}
	}
	void open(char socket, int &umem_socket)
	{
		Echo &echo = *echoes_[socket == 'r' || socket == 't'];
		int fd = -1;
		if (socket == 'R' || socket == 'r') {
			auto receiver = XskReceiver::open(*umem_, *received_, 2 * kShare, umem_socket);
			ASSERT_TRUE(receiver) << socket << ": " << receiver.error().op << ": " << strerror(receiver.error().err);
			echo.receiver = std::move(*receiver);
			fd = echo.receiver.fd();
			received_->refill(echo.frames);
		} else {
			auto transmitter = XskTransmitter::open(*umem_, *sent_, umem_socket);
			ASSERT_TRUE(transmitter) << socket << ": " << transmitter.error().op << ": " << strerror(transmitter.error().err);
			echo.transmitter = std::move(*transmitter);
			fd = echo.transmitter.fd();
		}
		if (umem_socket < 0)
			umem_socket = fd;
	}
};

TEST_P(SharedQueue, WorkersThatReceiveAndTransmitThereLoseNeitherPacketsNorFrames)
{
	std::atomic<bool> stop{false};
	std::thread threads[2];
	for (int i = 0; i < 2; i++)
		threads[i] = std::thread([&stop, &echo = *echoes_[static_cast<size_t>(i)]] {
			while (!stop)
				echo.turn();
		});
	std::vector<uint32_t> times(kEchoes);
	uint32_t fed = 0, back = 0;
	EXPECT_TRUE(eventually([&] {
		for (; fed < kEchoes && fed - back < kUnderWay; fed++) {
			vx_exception exception{};
			exception.worker = fed % 3 == 0;
			feed(make_ipv4({.number = fed}), exception);
		}
		for (const Bytes &frame : returned()) {
			uint32_t number;
			memcpy(&number, &frame[14 + 28], sizeof number);
			EXPECT_EQ(Bytes(frame.begin() + 14, frame.end()), make_ipv4({.number = number}));
			if (number < kEchoes)
				times[number]++;
			back++;
		}
		return back == kEchoes;
	}, 30)) << back << " of " << fed << " came back";
	stop = true;
	for (std::thread &thread : threads)
		thread.join();
	EXPECT_EQ(std::count(times.begin(), times.end(), 1), kEchoes);

	uint32_t free = 0;
	for (const auto &echo : echoes_) {
		EXPECT_GT(echo->received, 0u);
		EXPECT_EQ(echo->fates[static_cast<int>(TxFate::sent)], echo->received);
	}
	EXPECT_TRUE(eventually([&] {
		echoes_[0]->turn();
		return sent_->in_kernel() == 0 && received_->lent() == kShare;
	}));
	for (const auto &echo : echoes_)
		free += echo->frames.free_count();
	EXPECT_EQ(free + umem_->stored() + kShare, kFrames);
}

INSTANTIATE_TEST_SUITE_P(Order, SharedQueue, testing::Values("RTrt", "TRtr", "TtRr", "rRtT"),
			 [](const auto &order) { return std::string(order.param); });

}  // namespace
}  // namespace vx::test
