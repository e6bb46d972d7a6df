// Which worker owns a subscriber, and which puts a datagram's fragments in order. Pure; every worker computes the same.
//
// The owner depends only on the realm and the inside address: what translation never changes, and what decides pairing,
// limits, blocks and endpoint-independent mappings. 32-bit arithmetic, so that eBPF can do the same.
#pragma once

#include <cstdint>

namespace vx::nat {

inline uint32_t spread(uint32_t x)
{
	x ^= x >> 16;
	x *= 0x7feb352du;
	x ^= x >> 15;
	x *= 0x846ca68bu;
	return x ^ x >> 16;
}

inline uint32_t worker_of_hash(uint32_t hash, uint32_t workers)
{
	return static_cast<uint32_t>(uint64_t{hash} * workers >> 32);
}

inline uint32_t owner_of_subscriber(uint32_t realm, uint32_t inside_be, uint32_t workers)
{
	return worker_of_hash(spread(inside_be ^ spread(realm + 0x9e3779b9u)), workers);
}

inline uint32_t owner_of_fragments(uint32_t source_be, uint32_t destination_be, uint16_t id_be, uint8_t protocol,
				   uint32_t workers)
{
	const uint32_t last = uint32_t{id_be} << 8 | protocol;
	return worker_of_hash(spread(source_be ^ spread(destination_be ^ spread(last))), workers);
}

}  // namespace vx::nat
