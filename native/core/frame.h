// A frame of the UMEM: where its Ethernet header starts and how long it is. Whoever holds one owns its chunk.
// Used by the worker's rooms on the worker's thread.
#pragma once

#include <cstdint>

namespace vx {

struct Frame {
	uint64_t address;
	uint32_t length;
};

inline constexpr uint32_t kEthernetBytes = 14;
inline constexpr uint32_t kEtherTypeAt = 12;

}  // namespace vx
