// Internet checksums (RFC 1071) and their incremental update (RFC 1624). Pure; any thread.
//
// Sums are taken over 16-bit words as they lie in memory, so no byte order appears here: a checksum is stored
// with memcpy exactly as it was computed.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>

namespace vx {

inline uint16_t fold(uint64_t sum)
{
	while (sum >> 16)
		sum = (sum & 0xffff) + (sum >> 16);
	return static_cast<uint16_t>(sum);
}

inline uint64_t sum_words(const uint8_t *bytes, size_t length)
{
	uint64_t sum = 0;
	for (size_t i = 0; i + 1 < length; i += 2) {
		uint16_t word;
		memcpy(&word, bytes + i, 2);
		sum += word;
	}
	if (length & 1)
		sum += bytes[length - 1];
	return sum;
}

inline uint16_t internet_checksum(const uint8_t *bytes, size_t length)
{
	return static_cast<uint16_t>(~fold(sum_words(bytes, length)));
}

// RFC 1624, equation 3: a checksum that was wrong stays wrong by the same amount.
inline uint16_t checksum_after_change(uint16_t checksum, uint32_t from_be, uint32_t to_be)
{
	uint64_t sum = static_cast<uint16_t>(~checksum);
	sum += static_cast<uint16_t>(~from_be) + static_cast<uint64_t>(static_cast<uint16_t>(~(from_be >> 16)));
	sum += (to_be & 0xffff) + (to_be >> 16);
	return static_cast<uint16_t>(~fold(sum));
}

}  // namespace vx
