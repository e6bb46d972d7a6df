// See datapath.h: what no tracepoint told (bpf/losses.bpf.c), in this run and in that of a killed daemon.
//
// A frame is on its way between redirect and report only within one NAPI poll, which on a kernel without PREEMPT_RT
// nothing but an interrupt interrupts. Whoever runs on that CPU outside of softirqs sees no frame on its way, so what is
// not reported by then never will be. Where this process may not run, a grace period does: what was redirected before
// it and is not reported after it never will be either, though reports of later frames hide some of it under load.
#include <linux/membarrier.h>
#include <sched.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>

#include "datapath.h"

namespace vx {
namespace {

constexpr int kGlances = 1000;

// received less everything that has a fate.
uint64_t count_pending(const vx_slot *slots, uint32_t direction)
{
	uint64_t received = 0, settled = 0;

	for (int i = 0; i < VX_SLOTS_MAX; i++) {
		const vx_counters &counters = slots[i].direction[direction];

		received += counters.received;
		settled += counters.passed + counters.forwarded;
		for (uint64_t dropped : counters.dropped)
			settled += dropped;
	}
	return received > settled ? received - settled : 0;
}

// Redirected by this CPU, of the first `redirected_most`, and not reported: on their way, or never to be.
uint64_t count_unreported(const vx_slot &slot, uint64_t redirected_most = UINT64_MAX)
{
	const vx_counters &inside = slot.direction[VX_INSIDE];
	uint64_t settled, redirected;

	do {
		settled = __atomic_load_n(&slot.settled, __ATOMIC_ACQUIRE);
		redirected = __atomic_load_n(&inside.redirected, __ATOMIC_ACQUIRE);
	} while (settled != __atomic_load_n(&slot.settled, __ATOMIC_ACQUIRE));
	redirected = std::min(redirected, redirected_most);
	settled += inside.unreported;
	return redirected > settled ? redirected - settled : 0;
}

// At the end of each NAPI poll nothing is on its way.
bool seems_settled(const vx_slot &slot)
{
	for (int i = 0; i < kGlances; i++)
		if (!count_unreported(slot))
			return true;
	return false;
}

// Moves the calling thread, and back in the end.
class Visit {
public:
	Visit() { known_ = !sched_getaffinity(0, sizeof(home_), &home_); }
	~Visit()
	{
		if (moved_)
			sched_setaffinity(0, sizeof(home_), &home_);
	}
	bool move_to(int cpu)
	{
		cpu_set_t there;

		CPU_ZERO(&there);
		CPU_SET(static_cast<size_t>(cpu), &there);
		return known_ && (!sched_setaffinity(0, sizeof(there), &there) && (moved_ = true));
	}

private:
	cpu_set_t home_;
	bool known_, moved_ = false;
};

}  // namespace

vx_slot *map_slots_of(int map_fd, int protection)
{
	void *memory = mmap(nullptr, Datapath::slots_bytes(), protection, MAP_SHARED, map_fd, 0);

	return memory == MAP_FAILED ? nullptr : static_cast<vx_slot *>(memory);
}

void wait_for_softirqs()
{
	if (syscall(SYS_membarrier, MEMBARRIER_CMD_GLOBAL, 0, 0))
		usleep(100'000);  // nohz_full kernels refuse; a softirq lasts milliseconds at most
}

std::optional<CrashLost> Datapath::settle_predecessor()
{
	wait_for_softirqs();
	// A pin holds its link: while the old tracepoints are there, bulks of the new program could settle old debts.
	unlink(pin("link_devmap_xmit").c_str());
	unlink(pin("link_redirect_err").c_str());
	old_devmap_xmit_.reset();
	old_redirect_err_.reset();
	if (!old_stats_)
		return std::nullopt;
	wait_for_softirqs();
	vx_slot *old = map_slots_of(old_stats_.get(), PROT_READ);
	CrashLost crash_lost{};

	if (!old)
		return std::nullopt;
	for (uint32_t direction = 0; direction < VX_DIRECTIONS; direction++) {
		uint64_t lost = count_pending(old, direction);
		vx_counters &opening = slots_[VX_CONTROL_SLOT].direction[direction];

		for (int cpu = 0; direction == VX_INSIDE && cpu < VX_CPUS_MAX; cpu++)
			lost -= std::min(lost, count_unreported(old[cpu]));

		// They were received once and are lost now: both sides of this run's ledger.
		opening.received += lost;
		opening.dropped[VX_DROP_crash_lost] += lost;
		crash_lost[direction] = lost;
	}
	munmap(old, slots_bytes());
	old_stats_.reset();
	return crash_lost;
}

void Datapath::settle()
{
	const std::lock_guard lock(settling_);
	Visit visit;

	for (int cpu = 0; cpu < VX_CPUS_MAX; cpu++) {
		vx_slot &slot = slots_[cpu];
		if (seems_settled(slot))
			continue;
		uint64_t redirected = slot.direction[VX_INSIDE].redirected;
		if (!receiving_ || visit.move_to(cpu))
			redirected = UINT64_MAX;
		else
			wait_for_softirqs();
		settle_slot(slot, count_unreported(slot, redirected));
	}
}

void Datapath::settle_slot(vx_slot &slot, uint64_t count)
{
	vx_counters &settled = slots_[VX_CONTROL_SLOT].direction[VX_INSIDE];
	uint64_t fate = slot.last_fate;

	slot.direction[VX_INSIDE].unreported += count;
	(fate ? settled.dropped[fate - 1] : settled.forwarded) += count;
}

}  // namespace vx
