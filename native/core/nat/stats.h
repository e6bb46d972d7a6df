// What one engine counts beside the ledger, whose drops and forwards its caller counts from the verdicts. Written by
// the worker's thread; others may read a torn moment of it.
#pragma once

#include <cstdint>

namespace vx::nat {

struct Stats {
	uint64_t sessions_created;
	uint64_t sessions_expired;
	uint64_t mappings_created;
	uint64_t mappings_expired;
	uint64_t mappings_revived;  // the same inside tuple came back while its port rested
	uint64_t blocks_granted;
	uint64_t blocks_released;
	uint64_t translated_out;
	uint64_t translated_in;
	uint64_t hairpinned;
	uint64_t misses;         // packets that no session matched
	uint64_t replies;        // ICMP of our own
	uint64_t replies_limited;
	uint64_t records_full;   // blocks not granted because the log lags
};

}  // namespace vx::nat
