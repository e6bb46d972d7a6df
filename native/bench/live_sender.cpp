// Load by XDP live frames: BPF_PROG_RUN runs generator.bpf.c once a packet and the frames go out by DEVMAP
// redirect, some 140 ns each with a dropping far end. Called by vxgen on its one thread.
//
// Truth about what left: `repeat` is only a wish (a signal ends a call early, hence all are blocked) and a
// full far ring refuses silently, so the program's own cursor says what was written and the tracepoint
// xdp_devmap_xmit what the driver took. If the two don't meet, redirects failed, and that is an error.
#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <sys/stat.h>
#include <time.h>

#include <algorithm>
#include <cerrno>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <vector>

#include "attach.h"
#include "senders.h"

#include "generator.skel.h" // needs the structs of traffic.h

namespace vx::bench {

namespace {

constexpr uint64_t kPacketsPerCall = 4096; // a call costs some 13 us of its own
constexpr uint32_t kLiveBatch = 64; // fewer: more flushes; more: the frames fall out of the first cache
constexpr double kPaceSeconds = 0.0005; // sleep between calls when paced

generator *load(const Interface &interface, const PacketPlan &plan)
{
	generator *skeleton = generator__open();
	if (!skeleton)
		fail("opening the generator's program", errno);
	struct stat netns = {};
	if (stat("/proc/self/ns/net", &netns) < 0)
		fail("/proc/self/ns/net", errno);
	skeleton->rodata->out_ifindex = interface.ifindex;
	skeleton->rodata->answers = !plan.turned.empty();
	skeleton->rodata->netns_inum = static_cast<uint32_t>(netns.st_ino);
	if (int err = generator__load(skeleton))
		fail("loading the generator's program", -err);
	uint32_t key = 0;
	if (bpf_map__update_elem(skeleton->maps.outlet, &key, sizeof(key), &interface.ifindex, sizeof(uint32_t), 0) < 0)
		fail("device map", errno);
	fill_traffic(plan, skeleton->bss->traffic);
	std::copy(plan.sources_be.begin(), plan.sources_be.end(), skeleton->bss->sources_be);
	static_assert(sizeof(skeleton->bss->turned[0]) == sizeof(Turned));
	if (!plan.turned.empty())
		memcpy(skeleton->bss->turned, plan.turned.data(), plan.turned.size() * sizeof(Turned));
	std::copy(plan.denied_sources_be.begin(), plan.denied_sources_be.end(), skeleton->bss->denied_sources_be);
	return skeleton;
}

// Attached for as long as the process lives; the links' descriptors close with it.
void attach(generator *skeleton, const Interface &interface)
{
	attach_native(skeleton->progs.generate, interface);
	if (!bpf_program__attach(skeleton->progs.count_sent))
		fail("attaching to xdp_devmap_xmit", errno);
}

void sleep_seconds(double seconds)
{
	timespec rest = {};
	rest.tv_sec = static_cast<time_t>(seconds);
	rest.tv_nsec = static_cast<long>((seconds - std::floor(seconds)) * 1e9);
	clock_nanosleep(CLOCK_MONOTONIC, 0, &rest, nullptr);
}

class Run {
public:
	Run(generator *skeleton, const PacketPlan &plan, const Limits &limits, uint64_t first)
	    : skeleton_(skeleton), limits_(limits), first_(first)
	{
		frame_.resize(plan.frame_bytes, 0);
	}

	double go()
	{
		double start = seconds_now();
		double now = start;
		uint64_t done = 0;
		while (done < limits_.count && now - start < limits_.seconds && !stop_asked()) {
			uint64_t due = std::min(kPacketsPerCall, limits_.count - done);
			if (limits_.rate > 0) {
				double wanted = (now - start) * limits_.rate + 1 - static_cast<double>(done);
				due = std::min(due, static_cast<uint64_t>(std::max(wanted, 0.0)));
			}
			if (due == 0)
				sleep_seconds(std::max(kPaceSeconds, std::min(1 / limits_.rate, 0.1)));
			else
				call(due);
			done = written();
			now = seconds_now();
		}
		return now - start;
	}

	uint64_t written() const { return skeleton_->bss->walk.sequence - first_; }

private:
	void call(uint64_t packets)
	{
		LIBBPF_OPTS(bpf_test_run_opts, options, .data_in = frame_.data(),
			    .data_size_in = static_cast<uint32_t>(frame_.size()), .repeat = static_cast<int>(packets),
			    .flags = BPF_F_TEST_XDP_LIVE_FRAMES, .batch_size = kLiveBatch);
		int err = bpf_prog_test_run_opts(bpf_program__fd(skeleton_->progs.generate), &options);
		if (err < 0 && err != -EINTR)
			fail("BPF_PROG_RUN with live frames", -err);
	}

	generator *skeleton_;
	Limits limits_;
	uint64_t first_;
	std::vector<uint8_t> frame_;
};

uint64_t recursion_misses(const bpf_program *program)
{
	bpf_prog_info info = {};
	uint32_t length = sizeof(info);
	if (bpf_obj_get_info_by_fd(bpf_program__fd(program), &info, &length) < 0)
		fail("program info", errno);
	return info.recursion_misses;
}

} // namespace

Report send_live(const Interface &interface, const PacketPlan &plan, const Limits &limits, uint64_t first)
{
	generator *skeleton = load(interface, plan);
	vx_walk &walk = skeleton->bss->walk;
	walk = {};
	walk.sequence = first;
	walk.sport = VX_SPORT_FIRST;
	attach(skeleton, interface);
	Run run(skeleton, plan, limits, first);
	Report report = {};
	double waited_before = seconds_waited();
	report.seconds = run.go();
	report.waited = seconds_waited() - waited_before;
	report.generated = run.written();
	report.sent = skeleton->bss->sent;
	count_classes(skeleton->bss->traffic, report.generated, report.classes);
	for (uint32_t i = 0; i < VX_CLASS_COUNT; i++)
		report.classes[i] -= skeleton->bss->refused[i];
	if (skeleton->bss->accounted != report.generated || recursion_misses(skeleton->progs.count_sent) != 0) {
		fprintf(stderr,
			"%llu packets written but the driver was offered %llu: the redirect itself failed (interface down, "
			"frame above its MTU, or a far end without XDP or GRO)\n",
			static_cast<unsigned long long>(report.generated),
			static_cast<unsigned long long>(skeleton->bss->accounted));
		exit(1);
	}
	generator__destroy(skeleton);
	return report;
}

} // namespace vx::bench
