// Lowers the MSS option of a TCP SYN, for paths that lose "fragmentation needed". Pure; the worker's thread.
#pragma once

#include <algorithm>

#include "checksums.h"

namespace vx::nat {

inline uint32_t mss_that_fits(uint32_t mtu)
{
	constexpr uint32_t kIpv4AndTcp = 40, kMssMin = 88;  // as small as may be configured
	return std::max(mtu, kIpv4AndTcp + kMssMin) - kIpv4AndTcp;
}

inline void clamp_mss(const Headers &h, uint32_t mss)
{
	constexpr uint8_t kEnd = 0, kNoOperation = 1, kMss = 2, kMssLength = 4;
	const uint32_t header = (h.l4[12] >> 4) * 4u;
	for (uint32_t at = 20; at < header && h.l4[at] != kEnd;) {
		if (h.l4[at] == kNoOperation) {
			at++;
			continue;
		}
		const uint32_t length = at + 1 < header ? h.l4[at + 1] : 0;
		if (length < 2 || at + length > header)
			return;
		if (h.l4[at] == kMss && length == kMssLength) {
			uint8_t *value = h.l4 + at + 2;
			const uint16_t before = load<uint16_t>(value);
			if (host16(before) <= mss)
				return;
			const uint16_t after = host16(static_cast<uint16_t>(mss));
			store(value, after);
			// At an odd offset the value's bytes lie in two of the checksum's words, each in the other's
			// half.
			const uint16_t delta = delta_of_word(before, after);
			apply(h.l4 + 16, at % 2 ? host16(delta) : delta);
			return;
		}
		at += length;
	}
}

}  // namespace vx::nat
