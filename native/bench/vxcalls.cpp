// vxcalls: how many system calls threads make, as the kernel's tracepoint sys_enter counts them for each. Costs them next to
// nothing, where strace would stop them at every one. Run by the bench beside a measurement until a signal or the end of
// standard input; prints {"ready":true}, then {"calls":N}.
#include <linux/perf_event.h>
#include <sched.h>
#include <sys/mount.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <fstream>
#include <vector>

#include "attach.h"
#include "options.h"

namespace vx::bench {

namespace {

// 0: not there.
uint64_t read_id()
{
	std::ifstream file("/sys/kernel/tracing/events/raw_syscalls/sys_enter/id");
	uint64_t id = 0;
	file >> id;
	return id;
}

// Not every host has mounted tracefs; then it is for this process alone.
uint64_t tracepoint_id()
{
	if (uint64_t id = read_id())
		return id;
	if (unshare(CLONE_NEWNS) || mount("none", "/", nullptr, MS_REC | MS_PRIVATE, nullptr) ||
	    mount("none", "/sys/kernel/tracing", "tracefs", 0, nullptr))
		fail("mounting tracefs", errno);
	if (uint64_t id = read_id())
		return id;
	fail("the tracepoint raw_syscalls:sys_enter", ENOENT);
}

int open_counter(pid_t thread, uint64_t id)
{
	perf_event_attr attributes = {};
	attributes.type = PERF_TYPE_TRACEPOINT;
	attributes.size = sizeof(attributes);
	attributes.config = id;
	long fd = syscall(SYS_perf_event_open, &attributes, thread, -1, -1, PERF_FLAG_FD_CLOEXEC);
	if (fd < 0)
		fail("counting the system calls of thread " + std::to_string(thread), errno);
	return static_cast<int>(fd);
}

} // namespace

int run(int argc, char **argv)
{
	Options options(argc, argv, "vxcalls: counts the system calls of threads",
			{{"threads", "TID,TID", "whose (required)"}});
	block_signals();
	uint64_t id = tracepoint_id();
	std::vector<int> counters;
	for (const std::string &thread : split(options.required("threads"), ','))
		counters.push_back(open_counter(static_cast<pid_t>(parse_number(thread, 1, 1u << 30, "--threads")), id));
	printf("{\"ready\":true}\n");
	fflush(stdout);
	wait_for_end();
	unsigned long long calls = 0;
	for (int counter : counters) {
		uint64_t count = 0;
		if (read(counter, &count, sizeof(count)) != sizeof(count))
			fail("reading a counter", errno);
		calls += count;
	}
	printf("{\"calls\":%llu}\n", calls);
	return 0;
}

} // namespace vx::bench

int main(int argc, char **argv)
{
	return vx::bench::run(argc, argv);
}
