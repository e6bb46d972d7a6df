// Identifications for datagrams that may be fragmented: hosts that share an address must not use the same one towards
// one remote (RFC 6864 section 5.3). Pure; the worker's thread.
//
// A counter for each of 2,048 hashes of (address, remote, protocol); each worker has its own residue, so that workers
// which share an address need not know of one another. Where a remote's count begins is a secret (RFC 7739 section 5.3,
// of IPv6): who can guess the next identification can have his own fragment put into somebody else's datagram.
#pragma once

#include "memory.h"
#include "random.h"

namespace vx::nat {

class DatagramIds {
public:
	DatagramIds(Arena &arena, uint32_t worker, uint32_t workers, const Key &key)
		: counters_(arena.take<uint16_t>(kCounters)), worker_(worker), workers_(workers),
		  turns_(65536 / workers), key_{key.words[1], ~key.words[0]}
	{
	}

	uint16_t next(uint32_t public_be, uint32_t remote_be, uint8_t protocol)
	{
		const uint64_t hash = hash_words(key_, uint64_t{public_be} << 32 | remote_be, protocol);
		uint16_t &counter = counters_[hash % kCounters];
		counter = counter + 1u >= turns_ ? 0 : static_cast<uint16_t>(counter + 1);
		const uint32_t turn = (counter + static_cast<uint32_t>(hash >> 32)) % turns_;
		return static_cast<uint16_t>(turn * workers_ + worker_);
	}

private:
	static constexpr uint32_t kCounters = 2048;

	uint16_t *counters_;
	uint32_t worker_, workers_, turns_;
	Key key_;
};

}  // namespace vx::nat
