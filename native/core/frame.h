// A frame of the UMEM: where it starts, how long it is, and in whose ledger its packet stands. Whoever holds one owns its
// chunk. Used by the worker's rooms on the worker's thread.
#pragma once

#include <cstdint>

namespace vx {

// Where a packet was received, or that nobody sent it to us.
enum class Ledger : uint8_t { inside, outside, originated };

struct Frame {
	uint64_t address;
	uint32_t length;
	Ledger ledger = Ledger::inside;
};

// What frames that leave by an interface have to fit.
struct Face {
	uint8_t mac[6];
	uint32_t mtu;
};

inline constexpr uint32_t kEthernetBytes = 14;
inline constexpr uint32_t kEtherTypeAt = 12;

}  // namespace vx
