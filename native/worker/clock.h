// CLOCK_MONOTONIC, as XDP's bpf_ktime_get_ns. The worker reads it here and hands it down.
#pragma once

#include <cstdint>
#include <ctime>

namespace vx {

inline uint64_t monotonic_ns()
{
	timespec now{};
	clock_gettime(CLOCK_MONOTONIC, &now);
	return static_cast<uint64_t>(now.tv_sec) * 1000000000 + static_cast<uint64_t>(now.tv_nsec);
}

}  // namespace vx
