// See injector.h. Runs on the worker's thread.
#include "injector.h"

#include <bpf/bpf.h>
#include <linux/bpf.h>

#include <cerrno>

namespace vx {
namespace {

constexpr uint32_t kLiveBatch = 64;  // fewer: more flushes; more: the frames fall out of the first cache

}  // namespace

uint32_t Injector::run(int *error)
{
	uint8_t empty[64] = {};
	LIBBPF_OPTS(bpf_test_run_opts, options, .data_in = empty, .data_size_in = sizeof(empty),
		    .repeat = static_cast<int>(injection_->count), .flags = BPF_F_TEST_XDP_LIVE_FRAMES,
		    .batch_size = kLiveBatch);
	injection_->cursor = 0;
	const int failed = bpf_prog_test_run_opts(program_fd_, &options);
	const uint32_t taken = injection_->cursor;
	*error = taken == injection_->count ? 0 : failed ? -failed : EAGAIN;
	injection_->count = 0;
	// The kernel left the tracing program out: see Datapath::settle.
	const uint64_t unreported = injection_->taken - injection_->told;
	injection_->told += unreported;
	counters_->forwarded += unreported;
	counters_->injected += unreported;
	counters_->unreported += unreported;
	return taken;
}

}  // namespace vx
