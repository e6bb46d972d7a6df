// Packets from worker to worker: a ring for each pair of them, one writer, one reader, no lock. For what XDP cannot steer
// (fragments, ICMP errors, hairpin, blocks that change hands) and for the next hops only worker 0 can find.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <vector>

#include "../core/frame.h"
#include "../core/nat/packet.h"

namespace vx {

struct HandedOver {
	Frame frame;
	enum : uint8_t { translate, route } what;
	nat::Stage stage;  // translate: how far it has come
};

// What became of the packets of one pair.
struct HandoffCounts {
	uint32_t from, to;
	uint64_t enqueued, dequeued, dropped;
};

class Handoff {
public:
	explicit Handoff(uint32_t room) : room_(room), ring_(std::make_unique<HandedOver[]>(room)) {}

	// The writer's. False: no room, counted; the packet stays the caller's.
	bool push(const HandedOver &packet)
	{
		const uint32_t at = written_.load(std::memory_order_relaxed);
		if (at - read_.load(std::memory_order_acquire) == room_) {
			dropped_.store(dropped_.load(std::memory_order_relaxed) + 1, std::memory_order_relaxed);
			return false;
		}
		ring_[at & (room_ - 1)] = packet;
		enqueued_.store(enqueued_.load(std::memory_order_relaxed) + 1, std::memory_order_relaxed);
		written_.store(at + 1, std::memory_order_release);
		return true;
	}
	// The reader's. False: there is none.
	bool pop(HandedOver &packet)
	{
		const uint32_t at = read_.load(std::memory_order_relaxed);
		if (at == written_.load(std::memory_order_acquire))
			return false;
		packet = ring_[at & (room_ - 1)];
		dequeued_.store(dequeued_.load(std::memory_order_relaxed) + 1, std::memory_order_relaxed);
		read_.store(at + 1, std::memory_order_release);
		return true;
	}
	// Any thread.
	uint32_t size() const
	{
		const uint32_t read = read_.load(std::memory_order_acquire);
		return written_.load(std::memory_order_acquire) - read;
	}
	void add_to(HandoffCounts &counts) const
	{
		counts.enqueued = enqueued_.load(std::memory_order_relaxed);
		counts.dequeued = dequeued_.load(std::memory_order_relaxed);
		counts.dropped = dropped_.load(std::memory_order_relaxed);
	}

private:
	const uint32_t room_;  // a power of two
	const std::unique_ptr<HandedOver[]> ring_;
	alignas(64) std::atomic<uint32_t> written_{0};
	std::atomic<uint64_t> enqueued_{0}, dropped_{0};
	alignas(64) std::atomic<uint32_t> read_{0};
	std::atomic<uint64_t> dequeued_{0};
};

class Handoffs {
public:
	explicit Handoffs(uint32_t workers) : workers_(workers)
	{
		for (uint32_t i = 0; i < workers * workers; i++)
			pairs_.push_back(std::make_unique<Handoff>(i % (workers + 1) == 0 ? 1 : kRoom));
	}

	uint32_t workers() const { return workers_; }
	Handoff &between(uint32_t from, uint32_t to) { return *pairs_[from * workers_ + to]; }
	// Frames in them; exact when nobody writes.
	uint32_t size() const
	{
		uint32_t all = 0;
		for (const auto &pair : pairs_)
			all += pair->size();
		return all;
	}
	// Of those pairs that had any.
	std::vector<HandoffCounts> counts() const
	{
		std::vector<HandoffCounts> all;
		for (uint32_t i = 0; i < pairs_.size(); i++) {
			HandoffCounts one{i / workers_, i % workers_, 0, 0, 0};
			pairs_[i]->add_to(one);
			if (one.enqueued || one.dropped)
				all.push_back(one);
		}
		return all;
	}

private:
	static constexpr uint32_t kRoom = 1024;  // what a turn of the writer's may bring while the reader wakes up

	const uint32_t workers_;
	std::vector<std::unique_ptr<Handoff>> pairs_;
};

}  // namespace vx
