// The kernel's end of a BPF ring buffer, in user space, step by step as kernel/bpf/ringbuf.c has it (Linux 6.18), on memory
// laid out as the kernel maps it. ThreadSanitizer sees what threads do and not what a kernel does: this is for it.
// Used by ring_*_test.cpp, by as many producing threads as there are.
#pragma once

#include <linux/bpf.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cstdint>
#include <cstdlib>
#include <mutex>

#include "../io/ring_reader.h"

namespace vx::test {

class BpfRingTwin {
public:
	explicit BpfRingTwin(uint32_t bytes) : bytes_(bytes)
	{
		const size_t page = static_cast<size_t>(sysconf(_SC_PAGESIZE));
		span_ = 2 * page + 2 * size_t{bytes};
		Fd file(memfd_create("ring", MFD_CLOEXEC));
		if (!file || ftruncate(file.get(), static_cast<off_t>(2 * page + bytes)))
			abort();
		void *room = mmap(nullptr, span_, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
		if (room == MAP_FAILED)
			abort();
		base_ = static_cast<uint8_t *>(room);
		place(file.get(), base_, 2 * page + bytes, 0);
		place(file.get(), base_ + 2 * page + bytes, bytes, 2 * page);
		consumer_ = reinterpret_cast<uint64_t *>(base_);
		producer_ = reinterpret_cast<uint64_t *>(base_ + page);
		data_ = base_ + 2 * page;
	}
	BpfRingTwin(const BpfRingTwin &) = delete;
	~BpfRingTwin() { munmap(base_, span_); }

	// As user space sees it.
	RingMemory memory() const { return {consumer_, producer_, data_, bytes_}; }
	// What poll(2) asks.
	bool readable() const
	{
		return __atomic_load_n(consumer_, __ATOMIC_ACQUIRE) != __atomic_load_n(producer_, __ATOMIC_ACQUIRE);
	}

	// __bpf_ringbuf_reserve. Null: no room.
	uint8_t *reserve(uint32_t size)
	{
		const uint64_t consumer = __atomic_load_n(consumer_, __ATOMIC_ACQUIRE);
		const std::lock_guard lock(spinlock_);
		const uint64_t from = __atomic_load_n(producer_, __ATOMIC_RELAXED);
		const uint64_t to = from + whole(size);
		for (; pending_ < from; pending_ += whole(length_at(pending_) & ~BPF_RINGBUF_DISCARD_BIT))
			if (length_at(pending_) & BPF_RINGBUF_BUSY_BIT)
				break;
		if (to - consumer > bytes_ - 1 || to - pending_ > bytes_ - 1)
			return nullptr;
		*head_at(from) = size | BPF_RINGBUF_BUSY_BIT;  // plain, as there: who reads it has read `producer_` first
		__atomic_store_n(producer_, to, __ATOMIC_RELEASE);
		return data_ + (from & (bytes_ - 1)) + BPF_RINGBUF_HDR_SZ;
	}
	// bpf_ringbuf_commit.
	static void commit(uint8_t *record, bool discard)
	{
		auto *head = reinterpret_cast<uint32_t *>(record - BPF_RINGBUF_HDR_SZ);
		const uint32_t busy = __atomic_load_n(head, __ATOMIC_RELAXED);
		const uint32_t length = busy ^ BPF_RINGBUF_BUSY_BIT;
		__atomic_exchange_n(head, discard ? length | BPF_RINGBUF_DISCARD_BIT : length, __ATOMIC_SEQ_CST);
	}

private:
	uint32_t bytes_;
	size_t span_;
	uint8_t *base_;
	uint64_t *consumer_, *producer_;
	uint8_t *data_;
	uint64_t pending_ = 0;  // the oldest record that may not be committed
	std::mutex spinlock_;

	static void place(int file, uint8_t *at, size_t bytes, size_t offset)
	{
		if (mmap(at, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, file, static_cast<off_t>(offset)) != at)
			abort();
	}
	static uint64_t whole(uint32_t size) { return (uint64_t{size} + BPF_RINGBUF_HDR_SZ + 7) & ~uint64_t{7}; }
	uint32_t *head_at(uint64_t at) { return reinterpret_cast<uint32_t *>(data_ + (at & (bytes_ - 1))); }
	uint32_t length_at(uint64_t at) { return __atomic_load_n(head_at(at), __ATOMIC_RELAXED); }
};

}  // namespace vx::test
