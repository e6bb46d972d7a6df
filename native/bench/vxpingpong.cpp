// vxpingpong: how far apart two CPUs are now, as the round trip of one cache line between two pinned threads.
// Run by the bench beside each measurement, because a virtual host may move its CPUs between caches; two-core
// figures mean little without it. Prints one line of JSON with the best and the median of short batches.
#include <sched.h>

#include <algorithm>
#include <atomic>
#include <cstdio>
#include <thread>
#include <vector>

#include "options.h"

namespace vx::bench {

namespace {

constexpr int kBatches = 41;
constexpr uint32_t kRoundTrips = 2000;
constexpr double kGiveUpSeconds = 2;

struct alignas(64) Line {
	std::atomic<uint32_t> value{0};
};

} // namespace

int run(int argc, char **argv)
{
	Options options(argc, argv, "vxpingpong: round trip of a cache line between two CPUs",
			{{"cpus", "A,B", "the two CPUs (0,1)"}});
	std::vector<std::string> cpus = split(options.text("cpus", "0,1"), ',');
	if (cpus.size() != 2)
		usage_error("--cpus: two numbers, A,B");
	uint64_t here = parse_number(cpus[0], 0, CPU_SETSIZE - 1, "--cpus");
	uint64_t there = parse_number(cpus[1], 0, CPU_SETSIZE - 1, "--cpus");
	Line line;
	std::atomic<bool> over{false};
	std::thread other([&] {
		pin_to_cpu(there);
		for (uint32_t expected = 1; !over.load(std::memory_order_relaxed);)
			if (line.value.load(std::memory_order_acquire) == expected) {
				line.value.store(expected + 1, std::memory_order_release);
				expected += 2;
			}
	});
	pin_to_cpu(here);
	std::vector<double> batches;
	double started = seconds_now();
	uint32_t turn = 0;
	while (batches.size() < kBatches && seconds_now() - started < kGiveUpSeconds) {
		double from = seconds_now();
		for (uint32_t i = 0; i < kRoundTrips; i++) {
			line.value.store(turn + 1, std::memory_order_release);
			while (line.value.load(std::memory_order_acquire) != turn + 2)
				;
			turn += 2;
		}
		batches.push_back((seconds_now() - from) * 1e9 / kRoundTrips);
	}
	over = true;
	other.join();
	std::sort(batches.begin(), batches.end());
	printf("{\"bestNs\":%.1f,\"medianNs\":%.1f}\n", batches.front(), batches[batches.size() / 2]);
	return 0;
}

} // namespace vx::bench

int main(int argc, char **argv)
{
	return vx::bench::run(argc, argv);
}
