// See injector.h. Runs on a worker's thread.
#include "injector.h"

#include <bpf/bpf.h>
#include <linux/bpf.h>
#include <sched.h>

#include <cerrno>

namespace vx {
namespace {

constexpr uint32_t kLiveBatch = 64;  // fewer: more flushes; more: the frames fall out of the first cache

}  // namespace

bool Injector::begin(vx_direction to, vx_direction ledger)
{
	uint32_t nobody = 0;
	if (sched_getcpu() != cpu_ || !__atomic_compare_exchange_n(&lane_->worker, &nobody, worker_ + 1, false,
								   __ATOMIC_ACQUIRE, __ATOMIC_RELAXED))
		return false;
	lane_->count = lane_->cursor = 0;
	lane_->to = to;
	lane_->ledger = ledger;
	return true;
}

uint32_t Injector::run(int *error)
{
	uint8_t empty[64] = {};
	LIBBPF_OPTS(bpf_test_run_opts, options, .data_in = empty, .data_size_in = sizeof(empty),
		    .repeat = static_cast<int>(lane_->count), .flags = BPF_F_TEST_XDP_LIVE_FRAMES,
		    .batch_size = kLiveBatch);
	const int failed = bpf_prog_test_run_opts(program_fd_, &options);
	const uint32_t taken = lane_->cursor;
	*error = taken == lane_->count ? 0 : failed ? -failed : EAGAIN;
	lane_->count = 0;
	// The kernel left the tracing program out: see Datapath::settle.
	const uint64_t unreported = lane_->taken - lane_->told;
	lane_->told += unreported;
	vx_counters &counters = slot_->direction[lane_->ledger];
	counters.forwarded += unreported;
	counters.injected += unreported;
	counters.unreported += unreported;
	__atomic_store_n(&lane_->worker, 0, __ATOMIC_RELEASE);
	return taken;
}

}  // namespace vx
