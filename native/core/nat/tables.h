// The records of one worker, and how many bytes each costs. Pure; written by the worker's thread only.
//
//                          bytes   per session
//   Session                   64   1         match, rewrite, checksum deltas, timer: all in one line, no cold half
//   its two index entries     16   1         inside tuple, outside tuple
//   Mapping                   32   <= 1.5    live or resting; up to 5 where timers are shorter than port_hold
//   its index entry            8   likewise
//   ------------------------------------
//   all-in                   140   of 192; and 18 more where filtering is address-dependent. A port costs 4 bytes of
//                                  PortBlocks, a subscriber 128 here.
//
// Mapping and session are two things. A mapping is (subscriber, protocol, inside port) <-> (P, protocol, p): it owns
// the port, and admits remotes. A session is a mapping and one remote: it has the TCP state, and it is what packets
// find.
#pragma once

#include <algorithm>
#include <cstdint>

#include "memory.h"

namespace vx::nat {

// Time in the tables: 2^26 ns since the start. 32 bits of them last nine years; then time stands still.
using Ticks = uint32_t;
inline constexpr int kTickShift = 26;

inline Ticks ticks_of(uint64_t ns)
{
	return static_cast<Ticks>(std::min<uint64_t>(ns >> kTickShift, UINT32_MAX / 16 * 15));
}

// Never shorter than the seconds asked for.
inline Ticks ticks_for_seconds(uint32_t seconds)
{
	return static_cast<Ticks>((uint64_t{seconds} * 1000000000 >> kTickShift) + 2);
}

enum class TcpState : uint8_t {
	none,            // not TCP
	opening,         // SYN from one side, or segments from the middle of a connection from one side
	established,
	fin_inside,      // one side is done: RFC 6146 section 3.5.2.2 keeps the long timer
	fin_outside,
	closing,         // both are
	reset,           // RST seen; anything but another one shows it was not believed
};

struct alignas(64) Session {
	// what a packet must match, and what it gets instead
	uint32_t realm;
	uint32_t inside_be;
	uint32_t remote_be;
	uint32_t public_be;
	uint16_t inside_port_be;
	uint16_t remote_port_be;  // ICMP queries: 0
	uint16_t public_port_be;
	uint8_t protocol;
	TcpState tcp;
	// RFC 1624: added to the complement of a checksum on the way out; its complement on the way in
	uint16_t address_delta;
	uint16_t transport_delta;
	Ticks last_seen;  // from inside; the only thing every packet writes
	uint32_t subscriber;
	uint32_t mapping;
	Ticks created;
	uint32_t timer_next;
	uint32_t timer_previous;
	uint32_t mapping_next;
	uint32_t mapping_previous;
	uint16_t timer_slot;
	uint16_t flags;
};
static_assert(sizeof(Session) == 64);

enum : uint16_t {
	kSessionLive = 1,
	kSessionToPool = 2,       // the remote is a pool address: hairpin
	kSessionHolds = 4,        // has been used from inside, so it keeps its mapping
	kSessionSeenInside = 8,  // TCP: SYN, or a segment of an older connection, from this side
	kSessionSeenOutside = 16,
};

enum class MappingState : uint8_t { free, live, resting, forward };

struct MappingRecord {
	uint32_t subscriber;
	uint16_t inside_port_be;
	uint8_t protocol;
	MappingState state;
	uint16_t address;  // number in PortBlocks
	uint16_t public_port;
	uint32_t next_same_port;  // of another protocol; number + 1
	uint32_t holders;         // sessions used from inside
	uint32_t list;            // live: first session; resting: next in the order of resting
	uint32_t list_previous;   // resting only
	Ticks resting_since;
};
static_assert(sizeof(MappingRecord) == 32);

struct alignas(64) Subscriber {
	uint32_t realm;
	uint32_t inside_be;
	uint32_t sessions;
	uint32_t mappings;     // resting ones too
	uint32_t first_block;  // number in PortBlocks + 1
	uint16_t blocks;
	uint16_t address;      // the one it is paired with
	uint64_t sessions_due_ns;  // virtual time of the rate limiters (GCRA)
	uint64_t icmp_due_ns;
	bool in_use;
	bool permanent;  // has a forward
	bool heard;      // a packet came from it, so its tunnel is known
	uint8_t pad;
	uint32_t incarnation;  // no other subscriber that ever had this record had the same
	uint32_t free_next;
	uint32_t pad2;
	uint64_t strangers_due_ns;  // likewise, of sessions opened from outside
	uint8_t way[64];  // the caller's: how packets reach it; zero until the caller writes it
};
static_assert(sizeof(Subscriber) == 128);

}  // namespace vx::nat
