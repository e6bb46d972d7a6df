// AF_XDP sockets by the kernel's own ABI (linux/if_xdp.h): ones that receive from an interface's queue and ones that
// transmit by one, of the same interface or another, all on one UMEM. Each is one worker's: made on the starting thread,
// then used by its own. What the sockets of a queue have in common (QueueRings, and of those RxQueue and TxQueue) any of
// their workers uses, one at a time: who finds another there comes back in its next turn.
//
// Copy mode always: it works on every driver, leaves the link up, and exceptions are few. What the kernel does
// (net/xdp/xsk.c; provoked on 6.18 by worker_xsk_test) and the code here relies on:
// - In copy mode XDP metadata is copied too and lies right in front of the received packet; the kernel leaves 256
//   bytes of headroom, so a chunk of 4,096 takes packets of 3,840.
// - The first socket of an (interface, queue), bound with XDP_SHARED_UMEM, has fill and completion rings of its own and
//   must have both, even if it only transmits; further ones on that queue must have neither. The mode is the very
//   first socket's.
// - A TX kick works in the caller's context, one descriptor at a time, until one fails. The consumer index is
//   published only if some frame was sent or a batch ran out, so after an error it can lag behind what was consumed.
// - EBUSY: the descriptor it stopped at was consumed, completed and lost. EAGAIN, ENOBUFS: it is still queued.
//   ENETDOWN, ENXIO: nothing was looked at.
// - From Linux 6.6 until a fix of 2025 (xsk: Fix immature cq descriptor production) two sockets of one queue that send at
//   once can complete each other's frames: they send in turns.
// - Nothing but a kick reads the TX ring, so between kicks queued descriptors may be rewritten. One with an
//   impossible address is never sent: that is how queued frames are taken back. Kernels differ in the rest: older
//   ones pass over all of them at once, 6.18 over one a kick and completes it with the address it found. So a kick
//   that succeeds may have achieved nothing but one of those; and completions with that address are ignored.
// Sources: Documentation/networking/af_xdp.rst, net/xdp/xsk.c, net/core/dev.c (__dev_direct_xmit).
#pragma once

#include <linux/if_xdp.h>

#include <atomic>
#include <cstdint>
#include <functional>
#include <vector>

#include "fd.h"
#include "result.h"
#include "umem.h"

namespace vx {

// One mapped ring, ours at one end. Indexes run freely; `size` is a power of two.
template <typename Entry>
class XskRing {
public:
	XskRing() = default;
	XskRing(XskRing &&other) noexcept { *this = std::move(other); }
	XskRing &operator=(XskRing &&other) noexcept;
	~XskRing();

	Result<void> map(int fd, uint64_t page_offset, const xdp_ring_offset &offset, uint32_t size);
	uint32_t producer() const { return __atomic_load_n(producer_, __ATOMIC_ACQUIRE); }
	uint32_t consumer() const { return __atomic_load_n(consumer_, __ATOMIC_ACQUIRE); }
	void set_producer(uint32_t index) { __atomic_store_n(producer_, index, __ATOMIC_RELEASE); }
	void set_consumer(uint32_t index) { __atomic_store_n(consumer_, index, __ATOMIC_RELEASE); }
	Entry &operator[](uint32_t index) { return entries_[index & (size_ - 1)]; }
	uint32_t size() const { return size_; }

private:
	void *mapping_ = nullptr;
	size_t mapping_bytes_ = 0;
	uint32_t *producer_ = nullptr;
	uint32_t *consumer_ = nullptr;
	Entry *entries_ = nullptr;
	uint32_t size_ = 0;
};

// The fill and the completion ring of an interface's queue, which all sockets there have in common, whether they receive
// or transmit: the first one to be opened brings both, as large as the RxQueue and the TxQueue made by then want them.
class QueueRings {
public:
	QueueRings(uint32_t ifindex, uint32_t queue) : ifindex_(ifindex), queue_(queue) {}

private:
	friend class RxQueue;
	friend class TxQueue;
	friend class XskReceiver;
	friend class XskTransmitter;
	static constexpr uint32_t kUnused = 2;  // entries of a ring that the kernel demands and nobody uses

	const uint32_t ifindex_, queue_;
	uint32_t fill_entries_ = kUnused, completion_entries_ = kUnused;
	int first_fd_ = -1;
	XskRing<uint64_t> fill_, completion_;

	std::string where() const;
	Error failed(const char *op) const;
	Error not_bound() const;
	// Before a socket is opened there.
	void want_fill(uint32_t entries);
	void want_completion(uint32_t entries);
	// Binds a socket that has its own ring. `umem_fd`: any socket that has the UMEM; -1: this one brings it.
	Result<void> bind(int fd, const xdp_mmap_offsets &offsets, Umem &umem, int umem_fd);
};

// A receive queue's frames for the kernel, shared by the sockets there.
class RxQueue {
public:
	// At most `share` frames are lent to the kernel at once.
	RxQueue(QueueRings &rings, uint32_t share);

	uint32_t share() const { return share_; }
	void refill(Frames &frames);
	// Lent and not received: in the fill ring or a socket's.
	uint32_t lent() const { return lent_.load(std::memory_order_relaxed); }

private:
	friend class XskReceiver;
	QueueRings &rings_;
	const uint32_t share_;
	std::atomic_flag visited_;
	// Its order is also that of a frame's bytes between the worker that gave it to the kernel and the one that gets it.
	std::atomic<uint32_t> lent_{0};
};

// Receives from one queue what XDP redirects to this socket.
class XskReceiver {
public:
	// It can hold `entries` packets, a power of two. `umem_fd`: any socket that has the UMEM; -1: this one brings it.
	static Result<XskReceiver> open(Umem &umem, RxQueue &queue, uint32_t entries, int umem_fd);

	int fd() const { return fd_.get(); }
	// How much of the ring is received frames.
	uint32_t full_permille() const { return (rx_.producer() - rx_.consumer()) * 1000 / rx_.size(); }
	// Up to `most` received frames, which the caller owns from then on.
	uint32_t receive(Frame *out, uint32_t most);
	RxQueue &queue() const { return *queue_; }
	// Packets the socket refused since the last call: its ring was full, or there was no free frame for them.
	struct Refused {
		uint64_t ring_full, fill_empty;
	};
	Refused refused();

private:
	Fd fd_;
	RxQueue *queue_ = nullptr;
	XskRing<xdp_desc> rx_;
	Refused seen_{};
};

enum class TxFate { sent, refused, taken_back };

// A transmit queue's frames that the driver has, shared by the sockets there.
class TxQueue {
public:
	// At most `sockets` of them.
	TxQueue(QueueRings &rings, uint32_t sockets);

	// Frames the driver is done with, whoever sent them, become the caller's.
	void reap(Frames &frames);
	// Queued, and not reaped or taken back.
	uint32_t in_kernel() const { return in_kernel_.load(std::memory_order_relaxed); }

private:
	friend class XskTransmitter;
	QueueRings &rings_;
	std::atomic_flag visited_, sending_;
	std::atomic<uint32_t> in_kernel_{0};  // orders as lent_ does
};

// Transmits to one queue, in order.
class XskTransmitter {
public:
	// `umem_fd`: as a receiver's.
	static Result<XskTransmitter> open(Umem &umem, TxQueue &queue, int umem_fd);

	int fd() const { return fd_.get(); }
	// Tells each queued frame's fate once, in order; `tag` is the one given to queue().
	using Tell = std::function<void(TxFate fate, uint32_t length, uint32_t tag)>;

	// The completion ring is everybody's there: where it overflows after all, the kernel says EAGAIN.
	bool has_room() const
	{
		return produced_ - tx_.consumer() < tx_.size() && queue_->in_kernel() < queue_->rings_.completion_.size();
	}
	// Frames whose fate is open.
	uint32_t queued() const { return queued_; }
	void queue(Frame frame, uint32_t tag);
	// One kick. Returns the errno that ended it, 0: everything queued was taken. EAGAIN also while another socket of
	// the queue sends.
	int kick(const Tell &tell);
	void reap(Frames &frames) { queue_->reap(frames); }
	// Gives up on everything queued: the frames are the caller's at once and are never sent.
	void take_back(Frames &frames, const Tell &tell);

private:
	struct Slot {
		uint32_t length;
		uint32_t tag;
		bool taken_back;
	};

	Fd fd_;
	TxQueue *queue_ = nullptr;
	XskRing<xdp_desc> tx_;
	std::vector<Slot> slots_;
	uint32_t produced_ = 0;
	uint32_t consumed_ = 0;  // descriptors whose fate is known, whether the kernel has published it or not
	uint32_t queued_ = 0;    // of those behind consumed_, the ones not taken back

	void skip_taken_back();
	void settle_until(uint32_t index, const Tell &tell);
};

}  // namespace vx
