// Many frames a system call: the outside program (bpf/egress.bpf.c) is run on XDP live frames, takes the worker's
// frames out of the UMEM and redirects them to the outside interface. Used by each worker on its thread.
//
// What the kernel does (net/bpf/test_run.c, Linux 5.18 and later) and the code here relies on:
// - A call has a fixed cost of some 13 us, a frame one of some 180 ns; AF_XDP has it the other way round.
// - It runs in the caller's context, on one CPU unless somebody moves the thread, a batch at a time with softirqs off; so
//   the tracepoints count on this thread (bpf/losses.bpf.c): when the call returns every frame the program took has its fate.
// - A pending signal or lack of memory ends it early. The program's own cursor says how far it came, not `repeat`.
// - A frame is a page: headroom, skb_shared_info and headers leave room for kInjectBytesMax.
#pragma once

#include <cstdint>

#include "../../bpf/abi/abi.h"

namespace vx {

constexpr uint32_t kInjectBytesMax = 3072;

// What leaves this way: nothing, packets of which many wait, or all it can carry, since AF_XDP TX loses them.
enum class Injection { never, many, always };

class Injector {
public:
	// `program_fd` -1: there is none, and ready() is false, as with Injection::never. `lane` is that of the CPU the worker
	// is pinned to; `slot` is the worker's.
	Injector(Injection injection, int program_fd, vx_injection *lane, int cpu, uint32_t worker, vx_slot *slot)
		: always_(injection == Injection::always),
		  program_fd_(injection == Injection::never ? -1 : program_fd), lane_(lane), cpu_(cpu), worker_(worker), slot_(slot)
	{
	}

	bool ready() const { return program_fd_ >= 0; }
	bool takes_all() const { return always_ && ready(); }
	// Takes the CPU's lane for one call, for frames that leave by interface `to` and were received on interface `ledger`.
	// False: another worker, stopped within its own call, has it, or somebody has moved this thread.
	bool begin(vx_direction to, vx_direction ledger);
	// At most VX_INJECTION_MAX.
	void add(uint64_t address, uint32_t length)
	{
		lane_->frames[lane_->count++] = {static_cast<uint32_t>(address), length};
	}
	// Sends what was added. Returns how many of them have their fate, counted; the rest is forgotten. Not all of them:
	// `error` says why.
	uint32_t run(int *error);
	// After an error that will come again.
	void give_up() { program_fd_ = -1; }

private:
	bool always_;
	int program_fd_;
	vx_injection *lane_;
	int cpu_;
	uint32_t worker_;
	vx_slot *slot_;
};

}  // namespace vx
