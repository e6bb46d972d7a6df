// What a later fragment gets that had to wait for its first one, and so came as it was: what XDP does to every other
// packet. Pure.
#pragma once

#include <cstdint>
#include <cstring>

#include "../../bpf/abi/abi.h"
#include "checksum.h"

namespace vx {

// Shorter than XDP's memory of the datagram by more than a tick: were XDP to forget first, a first fragment would
// pass there while later ones are dropped here.
constexpr uint64_t kHoldFragmentNs = VX_FRAGMENT_TIMEOUT_NS - 2000000000;

struct HeldChanges {
	uint32_t address_be;  // the new destination; 0: unchanged
	bool decrement_ttl;
	bool clear_dont_fragment;
};

// `ip` is an IPv4 header of at least 20 bytes. False: its TTL ran out, and nothing was touched.
inline bool change_held_fragment(uint8_t *ip, const HeldChanges &changes)
{
	uint16_t checksum;
	uint32_t destination_be;
	memcpy(&checksum, ip + 10, 2);
	memcpy(&destination_be, ip + 16, 4);
	if (changes.decrement_ttl) {
		if (ip[8] <= 1)
			return false;
		// As the word in memory that the sum has it in, whose other byte (the protocol) stays.
		uint16_t before, after;
		memcpy(&before, ip + 8, 2);
		ip[8]--;
		memcpy(&after, ip + 8, 2);
		checksum = checksum_after_change(checksum, before, after);
	}
	if (changes.clear_dont_fragment && (ip[6] & 0x40)) {
		uint16_t before, after;
		memcpy(&before, ip + 6, 2);
		ip[6] = static_cast<uint8_t>(ip[6] & ~0x40);
		memcpy(&after, ip + 6, 2);
		checksum = checksum_after_change(checksum, before, after);
	}
	if (changes.address_be) {
		checksum = checksum_after_change(checksum, destination_be, changes.address_be);
		memcpy(ip + 16, &changes.address_be, 4);
	}
	memcpy(ip + 10, &checksum, 2);
	return true;
}

}  // namespace vx
