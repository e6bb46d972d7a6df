// How packets leave a replay: as native/worker/sender.cpp sends them, where every interface takes what it is given at once.
// On the replay's thread.
#pragma once

#include <cstdint>
#include <functional>
#include <span>

#include "../../bpf/abi/abi.h"
#include "../core/frame.h"

namespace vx {

class ReplaySender {
public:
	using Emit = std::function<void(vx_direction to, uint64_t time_ns, std::span<const uint8_t> frame)>;

	// `slot` is the worker's.
	ReplaySender(Emit emit, const Face &outside, vx_slot &slot) : emit_(std::move(emit)), outside_(outside), slot_(slot) {}

	// When frames leave from now on.
	void set_time(uint64_t time_ns) { time_ns_ = time_ns; }
	// A whole IP packet behind room for an Ethernet header, out of the outside interface: in fragments if need be.
	void send(std::span<uint8_t> frame, const uint8_t destination_mac[6], Ledger ledger);
	// A frame that is complete.
	void send_ready(vx_direction to, std::span<const uint8_t> frame, Ledger ledger);
	// Frames that are complete and together are one packet.
	void begin_pieces() { first_piece_ = true; }
	void send_piece(vx_direction to, std::span<const uint8_t> frame, Ledger ledger);
	void drop(Ledger ledger, vx_drop reason);
	// A frame whose packet is counted already.
	void emit(vx_direction to, std::span<const uint8_t> frame) { emit_(to, time_ns_, frame); }
	vx_counters &counters(Ledger ledger) { return slot_.direction[ledger == Ledger::outside ? VX_OUTSIDE : VX_INSIDE]; }

private:
	const Emit emit_;
	const Face outside_;
	vx_slot &slot_;
	uint64_t time_ns_ = 0;
	bool first_piece_ = false;

	void send_fragments(std::span<uint8_t> frame, Ledger ledger);
};

}  // namespace vx
