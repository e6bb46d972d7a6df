// Copies packets that the worker drops, while somebody watches, as vx_sample_drop of bpf/leave.h does for XDP: a few of
// each reason in a round. Used by the sender on the worker's thread.
#pragma once

#include <algorithm>
#include <cstring>

#include "clock.h"
#include "event_queue.h"

namespace vx {

class Sampler {
public:
	// All of them outlive it; `slot` is the worker's.
	Sampler(const vx_control &control, vx_slot &slot, EventQueue &events)
		: control_(control), slot_(slot), events_(events)
	{
	}

	// After the drop was counted: who reads samples first and counters then never sees more samples than drops.
	void dropped(const uint8_t *frame, uint32_t length, vx_direction ledger, vx_drop reason)
	{
		if (const uint32_t round = __atomic_load_n(&control_.sample_round, __ATOMIC_RELAXED))
			sample(frame, length, ledger, reason, round);
	}

private:
	const vx_control &control_;
	vx_slot &slot_;
	EventQueue &events_;

	void sample(const uint8_t *frame, uint32_t length, vx_direction ledger, vx_drop reason, uint32_t round)
	{
		vx_sampled &sampled = slot_.sampled[reason];
		if (sampled.round != round)
			sampled = {round, 0};
		if (sampled.count >= __atomic_load_n(&control_.sample_most, __ATOMIC_RELAXED))
			return;
		sampled.count++;
		slot_.direction[ledger].sampled++;
		vx_sample copy{};
		copy.time_ns = monotonic_ns();
		copy.length = length;
		copy.captured = static_cast<uint8_t>(std::min<uint32_t>(length, VX_SAMPLE_BYTES));
		copy.drop = static_cast<uint8_t>(reason);
		copy.direction = static_cast<uint8_t>(ledger);
		copy.form = VX_SAMPLE_LEAVING;
		memcpy(copy.bytes, frame, copy.captured);
		events_.push_sample(copy);
	}
};

}  // namespace vx
