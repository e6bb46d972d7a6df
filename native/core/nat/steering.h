// Which worker owns a subscriber, and which puts a datagram's fragments in order: bpf/steering.h under the engine's names.
// Pure; every worker, and XDP, compute the same.
#pragma once

#include <cstdint>

#include "../../../bpf/steering.h"

namespace vx::nat {

inline uint32_t spread(uint32_t x)
{
	return vx_spread(x);
}

inline uint32_t worker_of_hash(uint32_t hash, uint32_t workers)
{
	return vx_worker_of_hash(hash, workers);
}

inline uint32_t owner_of_subscriber(uint32_t realm, uint32_t inside_be, uint32_t workers)
{
	return vx_owner_of_subscriber(realm, inside_be, workers);
}

inline uint32_t owner_of_fragments(uint32_t source_be, uint32_t destination_be, uint16_t id_be, uint8_t protocol,
				   uint32_t workers)
{
	return vx_owner_of_fragments(source_be, destination_be, id_be, protocol, workers);
}

}  // namespace vx::nat
