// Splits one IPv4 packet into fragments that fit an MTU (RFC 791 section 3.2). Pure; used by worker 0.
//
// The packet may itself be a fragment: offsets go on from its own and the last piece keeps its MF bit. Pieces
// after the first carry only the options with the copied flag.
#pragma once

#include <cstdint>
#include <span>

#include "ip.h"

namespace vx {

class Ipv4Fragments {
public:
	// `packet` starts at the IPv4 header and outlives this object; bytes beyond its total length are padding.
	Ipv4Fragments(std::span<const uint8_t> packet, uint32_t mtu);

	// False: the header contradicts itself, DF is set, or the MTU leaves no room for eight bytes.
	bool possible() const { return count_ != 0; }
	uint32_t count() const { return count_; }
	// Writes the next fragment, at most `mtu` bytes; returns its length, 0 when there is none left.
	uint32_t next(uint8_t *out);

private:
	std::span<const uint8_t> packet_;
	uint8_t later_header_[kIpv4HeaderBytesMax];
	uint32_t first_header_length_ = 0;
	uint32_t later_header_length_ = 0;
	uint32_t payload_length_ = 0;
	uint32_t mtu_ = 0;
	uint32_t count_ = 0;
	uint32_t sent_ = 0;  // payload bytes written so far
	uint16_t flags_and_offset_ = 0;

	void make_later_header();
};

}  // namespace vx
