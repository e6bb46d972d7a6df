// ICMP errors of our own: written into a queue the caller drains after each batch. Pure; the worker's thread.
//
// Rate-limited by side and, inside, by subscriber, so that one who provokes them does not use up the others' share. Hosts that
// have no block yet, of which anybody can make up as many as there are addresses, have half of a side's together.
// Silence towards what RFC 1122 section 3.2.2 forbids to answer: ICMP errors, later fragments, what does not come from one
// host or is not for one.
#pragma once

#include "config.h"
#include "headers.h"
#include "memory.h"
#include "rate.h"
#include "stats.h"
#include "tables.h"

namespace vx::nat {

inline constexpr uint32_t kReplyBytesMax = 576;  // RFC 1812 section 4.3.2.3

struct Reply {
	Side to;
	uint16_t length;
	uint32_t realm;   // inside: of the packet that provoked it
	uint64_t cookie;  // of that packet, whose tunnel leads back; 0 for one that is long gone
	uint8_t bytes[kReplyBytesMax];  // from the IP header on
};

struct IcmpError {
	uint8_t type, code;
	uint16_t next_mtu;
	uint32_t source_be;  // who says so
};

inline constexpr IcmpError ttl_exceeded(uint32_t source_be) { return {11, 0, 0, source_be}; }
inline constexpr IcmpError prohibited(uint32_t source_be) { return {3, 13, 0, source_be}; }
inline constexpr IcmpError port_unreachable(uint32_t source_be) { return {3, 3, 0, source_be}; }
inline constexpr IcmpError too_big(uint32_t source_be, uint32_t mtu)
{
	return {3, 4, static_cast<uint16_t>(mtu), source_be};
}

// False: addresses that no single host has (RFC 1812 section 5.3.7).
inline bool is_host(uint32_t address_be)
{
	const uint8_t first = static_cast<uint8_t>(address_be);  // as it lies in memory
	return first != 0 && first != 127 && first < 224;
}

class Replies {
public:
	Replies(Arena &arena, const Config &config, Stats &stats);

	// An error about the packet, as it is in memory now: before anything of it was translated.
	void answer(const Packet &packet, const Headers &headers, Side to, const IcmpError &error,
		    Subscriber *subscriber, uint64_t now_ns);
	// The same about a packet of which only `quote` is left.
	void answer_quote(std::span<const uint8_t> quote, const IcmpError &error, uint64_t now_ns);

	// The oldest one; nullptr: none. It stays until done().
	const Reply *peek() const { return first_ == end_ ? nullptr : &ring_[first_ % kRing]; }
	void done() { first_++; }

private:
	static constexpr uint32_t kRing = 256;

	Reply *next();
	void write(Reply &reply, std::span<const uint8_t> quote, const IcmpError &error);

	const Config &config_;
	Reply *ring_;
	uint32_t first_ = 0, end_ = 0;
	Rate side_, subscriber_, newcomers_;
	uint64_t due_ns_[2] = {};  // by Side
	uint64_t newcomers_due_ns_ = 0;
	uint16_t id_ = 0;
	Stats &stats_;
};

}  // namespace vx::nat
