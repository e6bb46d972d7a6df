// Source NAT at one worker: what lies around core/translation.h there. Frames are the UMEM's, leave by the worker's two
// senders, and go to and come from other workers by rings. On the worker's thread.
#pragma once

#include <cstdint>

#include "../core/translation.h"
#include "exceptions.h"
#include "nat.h"
#include "sender.h"
#include "shared.h"

namespace vx {

class Translator final : Translation::Ways {
public:
	// `exceptions`: worker 0's; nullptr at the others.
	Translator(Nat &nat, Shared &shared, uint32_t number, Frames &frames, Sender &outside, Sender &inside,
		   Exceptions *exceptions, vx_slot &slot);

	// Takes a frame that begins with a vx_translate. `now_ns` is the engine's clock.
	void take(Frame frame, uint64_t now_ns) { translate(frame, nat::Stage::arrived, now_ns); }
	// Takes a frame with an ARP request behind a vx_translate, and answers it. Worker 0's.
	void answer_arp(Frame frame) { translation_.answer_arp(frame); }
	// After packets were taken: translates what is left of them and what other workers handed over. True: there may be
	// more.
	bool settle(uint64_t now_ns);
	// Ends what has timed out, in slices. True: there is more to do.
	bool tick(uint64_t now_ns);
	// Whether another worker has handed over something.
	bool pending();
	// Drops what the engine keeps and what still lies in the rings towards this worker.
	void finish(uint64_t now_ns);

	// Frames held, the rings' not included.
	uint32_t held() const { return translation_.held(); }

private:
	static constexpr uint32_t kLeast = 64;  // packets that are taken over from another worker in a turn

	Nat &nat_;
	nat::Engine &engine_;
	Shared &shared_;
	const uint32_t number_;
	Frames &frames_;
	Sender &outside_, &inside_;
	Exceptions *const exceptions_;
	vx_slot &slot_;
	Translation translation_;
	uint64_t woken_ = 0;  // workers to wake, by bit
	uint64_t handed_over_ = 0, taken_over_ = 0;
	uint64_t next_tick_ns_ = 0;

	bool has_frames(uint32_t count) override { return frames_.has(count); }
	uint64_t take_frame() override { return frames_.take(); }
	void put_frame(uint64_t address) override { frames_.put(address); }
	void send_outside(Frame frame, const uint8_t destination_mac[6]) override { outside_.send(frame, destination_mac); }
	void route(Frame frame, uint64_t now_ns) override;
	void send_ready(vx_direction to, Frame frame) override { (to == VX_INSIDE ? inside_ : outside_).send_ready(frame); }
	bool inside_sends() override { return shared_.links.sends(VX_INSIDE); }
	uint32_t begin_pieces(uint32_t count) override { return inside_.begin_pieces(count); }
	void send_piece(Frame frame, uint32_t pieces) override { inside_.send_piece(frame, pieces); }
	void drop(Frame frame, vx_drop reason) override { outside_.drop(frame, reason); }
	bool hand_over(uint32_t worker, Frame frame, nat::Stage stage) override;

	void translate(Frame frame, nat::Stage stage, uint64_t now_ns);
	bool push(uint32_t worker, const HandedOver &packet);
	bool take_over(uint64_t now_ns);
	void wake_others();
	void publish();
	// The interfaces' MAC addresses and MTUs as they are now.
	void follow_links();
};

}  // namespace vx
