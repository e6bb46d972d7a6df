// What goes into the NAT engine and what comes out: one packet, one verdict. Pure; the worker's thread.
#pragma once

#include <cstdint>

#include "../../../bpf/abi/abi.h"
#include "memory.h"

namespace vx::nat {

enum class Side : uint8_t { inside, outside };

// How far a packet has come. Part of the packet, because another worker may do the rest: a ring that carries this
// struct from worker to worker carries all there is to know.
enum class Stage : uint8_t {
	arrived,       // as it was received
	to_fragments,  // from outside: at the worker that puts this datagram's fragments in order
	to_owner,      // from outside: at the owner of the mapping, told by the worker above
	hairpin,       // from inside to a pool address: the source is translated, the destination is not
};

struct Packet {
	uint8_t *ip;      // IPv4 header; at least `length` bytes
	uint32_t length;  // captured; bytes beyond the header's total length are padding
	uint32_t realm;   // of a packet from inside; for others of no meaning
	Side from;        // where it was received: whose ledger it is in
	Stage stage = Stage::arrived;
	uint64_t cookie = 0;  // the caller's name for it, given back for packets the engine kept
};

enum class Action : uint8_t {
	forward,    // send it to side `to`, to `subscriber` when that is the inside
	drop,       // count `reason`
	hand_over,  // give it to `worker`; not counted yet
	hold,       // keep its memory until the cookie comes back from take_fragment()
	pass,       // from outside and not for a pool address: not ours
};

struct Verdict {
	Action action = Action::drop;
	uint8_t reason = 0;  // enum vx_drop
	Side to = Side::outside;
	uint8_t worker = 0;
	uint32_t fragment_mtu = 0;     // not 0: too long for the way out, DF clear; to be sent in pieces of this size
	uint32_t subscriber = kNone;   // whose packet it is; Engine::subscriber() tells more
	// Who sent it, when that is a subscriber of this engine: its tunnel is the one this packet came by, whatever
	// becomes of it. By hairpin it is not who the packet goes to.
	uint32_t sender = kNone;
};

inline Verdict drop(vx_drop reason)
{
	return {.action = Action::drop, .reason = static_cast<uint8_t>(reason)};
}

// A fragment the engine kept and lets go. `again`: process it now; else it is lost, as fragment_limit.
struct KeptFragment {
	uint64_t cookie;
	bool again;
};

}  // namespace vx::nat
