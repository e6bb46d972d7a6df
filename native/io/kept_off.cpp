// See kept_off.h.
#include "kept_off.h"

#include <unistd.h>

#include <cstdlib>
#include <filesystem>

namespace vx {
namespace {

// Whoever is pinned elsewhere has a reason.
void move_threads(const cpu_set_t &from, const cpu_set_t &to)
{
	std::error_code error;

	for (const auto &entry : std::filesystem::directory_iterator("/proc/self/task", error)) {
		const pid_t thread = atoi(entry.path().filename().c_str());
		cpu_set_t now;

		if (!sched_getaffinity(thread, sizeof now, &now) && CPU_EQUAL(&now, &from))
			sched_setaffinity(thread, sizeof to, &to);
	}
}

}  // namespace

KeptOff::KeptOff(std::span<const int> cpus)
{
	if (sched_getaffinity(getpid(), sizeof before_, &before_))
		return;
	since_ = before_;
	for (const int cpu : cpus)
		CPU_CLR(static_cast<size_t>(cpu), &since_);
	if (!CPU_COUNT(&since_))
		since_ = before_;
	move_threads(before_, since_);
}

KeptOff::~KeptOff()
{
	move_threads(since_, before_);
}

}  // namespace vx
