// The checksum arithmetic of translation, on top of core/checksum.h. Pure; the worker's thread.
//
// A delta is what RFC 1624's equation 3 adds to the complement of a checksum: ~m + m', folded. It is taken once, when a
// session is made; the way back adds its complement, since in ones' complement that is its negative.
#pragma once

#include <netinet/in.h>

#include "../checksum.h"
#include "headers.h"

namespace vx::nat {

inline uint64_t words_of(uint32_t value)
{
	return (value & 0xffff) + (value >> 16);
}

inline uint16_t delta_of_address(uint32_t from_be, uint32_t to_be)
{
	return fold(words_of(~from_be) + words_of(to_be));
}

inline uint16_t delta_of_word(uint16_t from, uint16_t to)
{
	return fold(uint64_t{static_cast<uint16_t>(~from)} + to);
}

inline uint16_t sum_of(uint16_t a, uint16_t b)
{
	return fold(uint64_t{a} + b);
}

inline void apply(uint8_t *checksum, uint64_t delta)
{
	store(checksum,
	      static_cast<uint16_t>(~fold(uint64_t{static_cast<uint16_t>(~load<uint16_t>(checksum))} + delta)));
}

// Where a transport header keeps its checksum, or nullptr: not within `length`, or UDP without one.
inline uint8_t *transport_checksum(uint8_t protocol, uint8_t *l4, uint32_t length)
{
	const uint32_t offset = protocol == IPPROTO_TCP ? 16 : protocol == IPPROTO_UDP ? 6 : 2;
	if (offset + 2 > length)
		return nullptr;
	if (protocol == IPPROTO_UDP && load<uint16_t>(l4 + offset) == 0)
		return nullptr;
	return l4 + offset;
}

inline void apply_transport(uint8_t protocol, uint8_t *l4, uint32_t length, uint64_t delta)
{
	uint8_t *checksum = transport_checksum(protocol, l4, length);
	if (!checksum)
		return;
	apply(checksum, delta);
	if (protocol == IPPROTO_UDP && load<uint16_t>(checksum) == 0)
		store<uint16_t>(checksum, 0xffff);  // RFC 768: 0 would say there is none
}

// A checksum that the sender left to hardware holds the sum of the pseudo-header, not complemented (Linux: CHECKSUM_PARTIAL).
// Nothing else tells that it did, so a field with that value is taken for one, as in bpf/rewrite.h. Of TCP and UDP, whole.
inline bool is_left_to_hardware(const Headers &h)
{
	const bool udp = h.protocol == IPPROTO_UDP;
	const uint16_t length = udp ? load<uint16_t>(h.l4 + 4) : host16(static_cast<uint16_t>(h.l4_length));
	uint64_t sum = uint64_t{h.source_be} + h.destination_be + length + host16(h.protocol);
	sum = (sum & UINT32_MAX) + (sum >> 32);
	sum = (sum & 0xffff) + (sum >> 16 & 0xffff) + (sum >> 32);
	sum = (sum & 0xffff) + (sum >> 16);
	return load<uint16_t>(h.l4 + (udp ? 6 : 16)) == sum;
}

// Sums it up, before anything is translated.
[[gnu::noinline]] inline void complete_checksum(const Headers &h)
{
	const bool udp = h.protocol == IPPROTO_UDP;
	const uint32_t length = udp ? host16(load<uint16_t>(h.l4 + 4)) : h.l4_length;
	const auto sum = static_cast<uint16_t>(~fold(sum_words(h.l4, length)));
	store<uint16_t>(h.l4 + (udp ? 6 : 16), udp && !sum ? 0xffff : sum);
}

}  // namespace vx::nat
