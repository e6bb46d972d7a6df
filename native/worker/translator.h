// Source NAT at one worker: what XDP hands over for translation goes through the worker's engine and out of one of its two
// senders, to another worker, or nowhere. On the worker's thread.
//
//   inside  -> take -> engine -> Ethernet header in front -> `outside` sender (or worker 0, for the next hop)
//   outside -> take -> engine -> tunnel headers in front  -> `inside` sender
//
// A frame begins with its vx_translate until its packet's fate is known; the headers of its way out are written over that.
// Where an inside host's answers go (core/tunnel.h) is learned from its packets and kept beside the engine's subscriber.
#pragma once

#include <cstdint>
#include <vector>

#include "exceptions.h"
#include "nat.h"
#include "sender.h"
#include "shared.h"

namespace vx {

class Translator {
public:
	// `exceptions`: worker 0's; nullptr at the others.
	Translator(Nat &nat, Shared &shared, uint32_t number, Frames &frames, Sender &outside, Sender &inside,
		   Exceptions *exceptions, vx_slot &slot);

	// Takes a frame that begins with a vx_translate. `now_ns` is the engine's clock.
	void take(Frame frame, uint64_t now_ns) { add(frame, nat::Stage::arrived, now_ns); }
	// Takes a frame with an ARP request behind a vx_translate, and answers it. Worker 0's.
	void answer_arp(Frame frame);
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
	uint32_t held() const { return static_cast<uint32_t>(packets_.size()) + kept_; }

private:
	static constexpr uint32_t kBatch = 64;

	Nat &nat_;
	nat::Engine &engine_;
	Shared &shared_;
	const uint32_t number_;
	Frames &frames_;
	Sender &outside_, &inside_;
	Exceptions *const exceptions_;
	vx_slot &slot_;
	TunnelHost host_;
	std::vector<nat::Packet> packets_;
	std::vector<nat::Verdict> verdicts_;
	uint32_t kept_ = 0;
	uint16_t outer_id_ = 0;
	uint64_t woken_ = 0;  // workers to wake, by bit
	uint64_t handed_over_ = 0, taken_over_ = 0;
	uint64_t next_tick_ns_ = 0;

	vx_translate &header_of(Frame frame) { return *reinterpret_cast<vx_translate *>(frames_.at(frame.address)); }
	uint8_t *ip_of(Frame frame) { return frames_.at(frame.address) + sizeof(vx_translate); }

	// The interfaces' MAC addresses and MTUs as they are now.
	void follow_links();
	void append(Frame frame, nat::Stage stage);
	void add(Frame frame, nat::Stage stage, uint64_t now_ns);
	void process(uint64_t now_ns);
	void let_go();
	void act(const nat::Packet &packet, const nat::Verdict &verdict, Frame frame, uint64_t now_ns);
	void learn(uint32_t subscriber, Frame frame);
	void send_outside(Frame frame, uint64_t now_ns);
	void send_inside(Frame frame, const nat::Verdict &verdict);
	void send_pieces(Frame frame, const Tunnel &tunnel, uint32_t realm, uint32_t mtu);
	Frame encapsulated(Ledger ledger, uint8_t *ip, uint32_t length, const Tunnel &tunnel, uint32_t realm, uint32_t hash);
	void route(Frame frame, uint64_t now_ns);
	bool hand_over(uint32_t worker, const HandedOver &packet);
	void drop(Frame frame, vx_drop reason);
	void send_replies(uint64_t now_ns);
	void send_reply(const nat::Reply &reply, uint64_t now_ns);
	bool take_over(uint64_t now_ns);
	void wake_others();
	void publish();
};

}  // namespace vx
