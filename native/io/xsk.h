// AF_XDP sockets by the kernel's own ABI (linux/if_xdp.h): one that receives from an interface's queue and one that
// transmits to another interface, on one UMEM. Used by the exception worker: made on the starting thread, then
// used by its own.
//
// Copy mode always: it works on every driver, leaves the link up, and exceptions are few. What the kernel does
// (net/xdp/xsk.c; provoked on 6.18 by worker_xsk_test) and the code here relies on:
// - In copy mode XDP metadata is copied too and lies right in front of the received packet; the kernel leaves 256
//   bytes of headroom, so a chunk of 4,096 takes packets of 3,840.
// - A socket bound to another (interface, queue) with XDP_SHARED_UMEM has fill and completion rings of its own and
//   must have both, even if it only transmits; the mode is the first socket's.
// - A TX kick works in the caller's context, one descriptor at a time, until one fails. The consumer index is
//   published only if some frame was sent or a batch ran out, so after an error it can lag behind what was consumed.
// - EBUSY: the descriptor it stopped at was consumed, completed and lost. EAGAIN, ENOBUFS: it is still queued.
//   ENETDOWN, ENXIO: nothing was looked at.
// - Nothing but a kick reads the TX ring, so between kicks queued descriptors may be rewritten. One with an
//   impossible address is never sent: that is how queued frames are taken back. Kernels differ in the rest: older
//   ones pass over all of them at once, 6.18 over one a kick and completes it with the address it found. So a kick
//   that succeeds may have achieved nothing but one of those; and completions with that address are ignored.
// Sources: Documentation/networking/af_xdp.rst, net/xdp/xsk.c, net/core/dev.c (__dev_direct_xmit).
#pragma once

#include <linux/if_xdp.h>

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

// Receives from one queue. Frames it holds for the kernel: in_kernel().
class XskReceiver {
public:
	// `first`: the socket that brings the UMEM; the others name it by `shared_fd`. At most `share` frames are lent
	// to the kernel at once.
	static Result<XskReceiver> open(Umem &umem, uint32_t ifindex, uint32_t queue, uint32_t share, int shared_fd);

	int fd() const { return fd_.get(); }
	void refill(Umem &umem);
	// Up to `most` received frames, which the caller owns from then on.
	uint32_t receive(Frame *out, uint32_t most);
	uint32_t in_kernel() const { return in_kernel_; }
	// Packets the socket refused since the last call: its ring was full, or there was no free frame for them.
	struct Refused {
		uint64_t ring_full, fill_empty;
	};
	Refused refused();

private:
	Fd fd_;
	XskRing<uint64_t> fill_, completion_;
	XskRing<xdp_desc> rx_;
	Refused seen_{};
	uint32_t share_ = 0;
	uint32_t in_kernel_ = 0;
};

enum class TxFate { sent, refused, taken_back };

// Transmits to queue 0 of an interface, in order.
class XskTransmitter {
public:
	static Result<XskTransmitter> open(uint32_t ifindex, int shared_fd);

	int fd() const { return fd_.get(); }
	// Tells each queued frame's fate once, in order; `tag` is the one given to queue().
	using Tell = std::function<void(TxFate fate, uint32_t length, uint32_t tag)>;

	bool has_room() const { return produced_ - tx_.consumer() < tx_.size() && in_kernel_ < completion_.size(); }
	// Frames whose fate is open.
	uint32_t queued() const { return queued_; }
	void queue(Frame frame, uint32_t tag);
	// One kick. Returns the errno that ended it, 0: everything queued was taken.
	int kick(const Tell &tell);
	// Frames the driver is done with go back to the UMEM.
	void reap(Umem &umem);
	// Gives up on everything queued: the frames go back to the UMEM at once and are never sent.
	void take_back(Umem &umem, const Tell &tell);
	uint32_t in_kernel() const { return in_kernel_; }

private:
	struct Slot {
		uint32_t length;
		uint32_t tag;
		bool taken_back;
	};

	Fd fd_;
	XskRing<uint64_t> fill_, completion_;
	XskRing<xdp_desc> tx_;
	std::vector<Slot> slots_;
	uint32_t produced_ = 0;
	uint32_t consumed_ = 0;   // descriptors whose fate is known, whether the kernel has published it or not
	uint32_t queued_ = 0;     // of those behind consumed_, the ones not taken back
	uint32_t in_kernel_ = 0;  // frames not completed yet

	void skip_taken_back();
	void settle_until(uint32_t index, const Tell &tell);
};

}  // namespace vx
