// Identifications for datagrams that may be fragmented: hosts that share an address must not use the same one towards
// one remote (RFC 6864 section 5.3). Pure; the worker's thread.
//
// A counter for each of 2,048 hashes of (address, remote, protocol); each worker has its own residue, so that workers
// which share an address need not know of one another.
#pragma once

#include "memory.h"
#include "random.h"
#include "steering.h"

namespace vx::nat {

class DatagramIds {
public:
	DatagramIds(Arena &arena, uint32_t worker, uint32_t workers, const Key &key)
		: counters_(arena.take<uint16_t>(kCounters)), worker_(worker), workers_(workers),
		  turns_(static_cast<uint16_t>(65536 / workers - 1)), secret_(static_cast<uint32_t>(key.words[0]))
	{
	}

	uint16_t next(uint32_t public_be, uint32_t remote_be, uint8_t protocol)
	{
		uint16_t &counter = counters_[spread(public_be ^ spread(remote_be ^ protocol ^ secret_)) % kCounters];
		counter = counter >= turns_ ? 0 : static_cast<uint16_t>(counter + 1);
		return static_cast<uint16_t>(counter * workers_ + worker_);
	}

private:
	static constexpr uint32_t kCounters = 2048;

	uint16_t *counters_;
	uint32_t worker_, workers_;
	uint16_t turns_;
	uint32_t secret_;
};

}  // namespace vx::nat
