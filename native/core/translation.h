// Source NAT of one worker, between who receives frames and who sends them: what XDP handed over for translation goes
// through the engine, and its verdicts become bytes. Pure; on the worker's thread, or replay's.
//
//   inside  -> take -> engine -> Ethernet header in front -> outside (or whoever finds the next hop)
//   outside -> take -> engine -> tunnel headers in front  -> inside
//
// A frame begins with its vx_translate until its packet's fate is known; the headers of its way out are written over that.
// Where an inside host's answers go (tunnel.h) is learned from its packets and kept beside the engine's subscriber.
#pragma once

#include <cstdint>
#include <vector>

#include "frame.h"
#include "nat/engine.h"
#include "tunnel.h"

namespace vx {

// Frames a worker's engine may keep.
inline constexpr uint32_t kNatFragmentsHeld = 1024;

class Translation {
public:
	static constexpr uint64_t kTickNs = 100000000;  // how often tick() is due

	// Who has the free frames, and takes those whose fate is known.
	class Ways {
	public:
		virtual bool has_frames(uint32_t count) = 0;
		// Start of a free chunk; there is one.
		virtual uint64_t take_frame() = 0;
		// Any address within the chunk.
		virtual void put_frame(uint64_t address) = 0;
		// A whole IP packet behind room for an Ethernet header, out of the outside interface.
		virtual void send_outside(Frame frame, const uint8_t destination_mac[6]) = 0;
		// The same, to a next hop that is to be found.
		virtual void route(Frame frame, uint64_t now_ns) = 0;
		// A frame that is complete.
		virtual void send_ready(vx_direction to, Frame frame) = 0;
		// Frames that are complete and together are one packet, inside.
		virtual bool inside_sends() = 0;
		virtual uint32_t begin_pieces(uint32_t count) = 0;
		virtual void send_piece(Frame frame, uint32_t pieces) = 0;
		// From its Ethernet header on, whose EtherType is filled in.
		virtual void drop(Frame frame, vx_drop reason) = 0;
		// False: there is no room.
		virtual bool hand_over(uint32_t worker, Frame frame, nat::Stage stage) = 0;

	protected:
		~Ways() = default;
	};

	// `memory` is where frames' addresses begin. Our MAC in `host` comes with set_faces().
	Translation(nat::Engine &engine, const TunnelHost &host, uint8_t *memory, Ways &ways);

	void set_faces(const Face &inside, const Face &outside);
	// Takes a frame that begins with a vx_translate. `now_ns` is the engine's clock.
	void take(Frame frame, nat::Stage stage, uint64_t now_ns);
	// Takes a frame with an ARP request behind a vx_translate, and answers it.
	void answer_arp(Frame frame);
	// Translates what was taken and what that sets free.
	void settle(uint64_t now_ns)
	{
		while (!packets_.empty())
			process(now_ns);
	}
	// Ends what has timed out, in slices; true: there is more to do.
	bool tick(uint64_t now_ns);
	// Drops what the engine keeps.
	void give_up(uint64_t now_ns);

	// Frames held.
	uint32_t held() const { return static_cast<uint32_t>(packets_.size()) + kept_; }

private:
	nat::Engine &engine_;
	TunnelHost host_;
	uint8_t *const memory_;
	Ways &ways_;
	uint8_t outside_mac_[6] = {};
	std::vector<nat::Packet> packets_;
	std::vector<nat::Verdict> verdicts_;
	uint32_t kept_ = 0;
	uint16_t outer_id_ = 0;

	uint8_t *at(uint64_t address) { return memory_ + address; }
	vx_translate &header_of(Frame frame) { return *reinterpret_cast<vx_translate *>(at(frame.address)); }
	uint8_t *ip_of(Frame frame) { return at(frame.address) + sizeof(vx_translate); }

	void append(Frame frame, nat::Stage stage);
	void process(uint64_t now_ns);
	void let_go();
	void act(const nat::Packet &packet, const nat::Verdict &verdict, Frame frame, uint64_t now_ns);
	void learn(uint32_t subscriber, Frame frame);
	void send_outside(Frame frame, uint64_t now_ns);
	void send_inside(Frame frame, const nat::Verdict &verdict);
	void send_pieces(Frame frame, const Tunnel &tunnel, uint32_t realm, uint32_t mtu);
	Frame encapsulated(Ledger ledger, uint8_t *ip, uint32_t length, const Tunnel &tunnel, uint32_t realm, uint32_t hash);
	void drop(Frame frame, vx_drop reason);
	void send_replies(uint64_t now_ns);
	void send_reply(const nat::Reply &reply, uint64_t now_ns);
};

}  // namespace vx
