// A rate limit in eight bytes: the generic cell rate algorithm, a virtual time that each event pushes on. Pure.
#pragma once

#include <algorithm>
#include <cstdint>

namespace vx::nat {

struct Rate {
	uint64_t interval_ns;  // between events in the long run
	uint64_t burst_ns;     // how far ahead of that a burst may run

	static Rate per_second(uint32_t events)
	{
		return {events ? 1000000000u / events : UINT64_MAX / 4, 1000000000u};
	}

	bool allows(uint64_t due_ns, uint64_t now_ns) const
	{
		return std::max(due_ns, now_ns) - now_ns + interval_ns <= burst_ns;
	}
	void charge(uint64_t &due_ns, uint64_t now_ns) const { due_ns = std::max(due_ns, now_ns) + interval_ns; }
	bool take(uint64_t &due_ns, uint64_t now_ns) const
	{
		if (!allows(due_ns, now_ns))
			return false;
		charge(due_ns, now_ns);
		return true;
	}
};

}  // namespace vx::nat
