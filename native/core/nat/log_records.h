// Who had which ports from when to when: the log that answers for a public endpoint (RFC 6888 section 4, RFC 7422's
// volume argument: blocks; sessions too only where that is wanted). One writer, the worker; one reader, whoever makes it
// durable. Lock-free.
//
// Durable before it is lost from memory: the reader peeks, writes, and only then drops what it wrote. While the ring is
// full no block is granted (the flow is refused as no_block), and a block that could be released stays with its
// subscriber, its owner published, until there is room. With records of sessions none is created (session_table_full) and
// none ends meanwhile. So nothing that happened can be missing from the log.
#pragma once

#include <atomic>
#include <cstdint>

#include "../../../bpf/abi/abi.h"
#include "memory.h"

namespace vx::nat {

using LogRecord = vx_nat_record;

class LogRecords {
public:
	LogRecords(Arena &arena, uint32_t capacity) : ring_(arena.take<LogRecord>(capacity)), capacity_(capacity) {}

	// The worker's.
	uint64_t room() const
	{
		return capacity_ - (written_.load(std::memory_order_relaxed) - done_.load(std::memory_order_acquire));
	}
	bool full() const { return room() == 0; }
	void write(const LogRecord &record)
	{
		require(!full());
		const uint64_t at = written_.load(std::memory_order_relaxed);
		ring_[at % capacity_] = record;
		written_.store(at + 1, std::memory_order_release);
	}

	// The reader's: the i-th of those not yet done, nullptr when there are not so many.
	const LogRecord *peek(uint32_t i) const
	{
		const uint64_t at = done_.load(std::memory_order_relaxed) + i;
		return at < written_.load(std::memory_order_acquire) ? &ring_[at % capacity_] : nullptr;
	}
	void done(uint32_t count)
	{
		const uint64_t at = done_.load(std::memory_order_relaxed) + count;
		require(at <= written_.load(std::memory_order_acquire));
		done_.store(at, std::memory_order_release);
	}

private:
	LogRecord *ring_;
	uint64_t capacity_;
	alignas(kCacheLine) std::atomic<uint64_t> written_{0};
	alignas(kCacheLine) std::atomic<uint64_t> done_{0};
};

}  // namespace vx::nat
