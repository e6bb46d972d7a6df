// Inbound SYNs nobody asked for, until they may be answered: RFC 5382 REQ-4 wants six seconds of silence, since the
// inside host's own SYN may be on its way (simultaneous open). Pure; the worker's thread.
//
// Bounded: what does not fit is never answered, which is always allowed.
#pragma once

#include "headers.h"
#include "memory.h"
#include "tables.h"

namespace vx::nat {

struct UnsolicitedSyn {
	Ticks due;
	uint32_t length;
	uint8_t quote[68];  // the longest IP header and eight bytes
};

class UnsolicitedSyns {
public:
	UnsolicitedSyns(Arena &arena, Ticks wait) : ring_(arena.take<UnsolicitedSyn>(kRing)), wait_(wait) {}

	void remember(const Headers &h, Ticks now)
	{
		if (end_ - first_ == kRing)
			return;
		UnsolicitedSyn &syn = ring_[end_++ % kRing];
		syn.due = now + wait_;
		syn.length = static_cast<uint32_t>(h.l4 - h.ip) + 8;
		memcpy(syn.quote, h.ip, syn.length);
	}

	// The next one whose time has come; nullptr: none. Valid until the next call.
	const UnsolicitedSyn *take_due(Ticks now)
	{
		if (first_ == end_ || now < ring_[first_ % kRing].due)
			return nullptr;
		return &ring_[first_++ % kRing];
	}

private:
	static constexpr uint32_t kRing = 512;

	UnsolicitedSyn *ring_;
	uint32_t first_ = 0, end_ = 0;
	Ticks wait_;
};

}  // namespace vx::nat
