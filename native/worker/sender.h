// Sends frames out of an interface, in order, and counts what became of the packets they carry. Each worker has one for the
// outside interface, and with source NAT one for the inside; on its thread.
//
// Few frames go by AF_XDP, at once and one by one: the lowest latency. Many go by injection, up to 1,024 a system call
// (native/io/injector.h), or, where AF_XDP TX loses frames, all it can carry. Neither starts before the other is through, so
// a flow's packets keep their order.
//
// The ledger wants exactly one fate for every packet received and as many frames at the far end as `forwarded` and
// `fragments_extra` say. A packet that leaves as several fragments is therefore a group: when the fate of its last
// frame is known, all sent makes one forwarded and n-1 extra; any lost makes one dropped, and the n frames that did
// leave are all extra. Either way frames that left = forwarded + fragments_extra, and the packet counted once.
#pragma once

#include <cstdint>
#include <vector>

#include "../core/frame.h"
#include "../io/injector.h"
#include "../io/netlink.h"
#include "../io/umem.h"
#include "../io/xsk.h"
#include "event_queue.h"
#include "links.h"
#include "sampler.h"

namespace vx {

class Sender {
public:
	// Everything outlives the sender. It sends out of the interface `to`; `slot` is the worker's.
	Sender(vx_direction to, Frames &frames, XskTransmitter &transmitter, Injector injector, Links &links,
	       Netlink &requests, vx_slot &slot, EventQueue &events, Sampler sampler);

	// Takes the frame, a whole IP packet behind room for an Ethernet header; fills that in and fragments if need
	// be.
	void send(Frame frame, const uint8_t destination_mac[6]);
	// Takes a frame that is complete.
	void send_ready(Frame frame);
	// Takes frames that are complete and together are one packet: one call of send_piece for each.
	uint32_t begin_pieces(uint32_t frames);
	void send_piece(Frame frame, uint32_t pieces) { append(frame, pieces); }
	// Takes the frame of a packet that is not sent, from its Ethernet header on, whose EtherType is filled in.
	void drop(Frame frame, vx_drop reason);
	// Counts a packet that never got a frame.
	void drop_frameless(vx_direction ledger, vx_drop reason) { slot_.direction[ledger].dropped[reason]++; }
	// Hands everything to the kernel, as far as it takes it.
	void flush(uint64_t now_ns);
	// Drops what flush() could not get rid of.
	void give_up();

	bool backlogged() const { return held() || transmitter_.queued(); }
	// Frames that wait here, the transmitter's not included.
	uint32_t held() const { return tail_ - head_; }

private:
	static constexpr uint32_t kAlone = UINT32_MAX >> 2;  // a group and a ledger are one tag of the transmitter's

	struct Waiting {
		Frame frame;
		uint32_t group;
	};
	struct Group {
		uint32_t open;  // frames whose fate is not known
		uint32_t sent;
		bool lost;
		vx_drop reason;
	};

	const vx_direction to_;
	Frames &frames_;
	XskTransmitter &transmitter_;
	Links &links_;
	Netlink &requests_;
	vx_slot &slot_;
	Injector injector_;
	EventQueue &events_;
	Sampler sampler_;
	std::vector<Waiting> backlog_;  // a ring with room for every frame there is
	uint32_t head_ = 0, tail_ = 0;
	uint32_t inject_most_;  // one until the driver has taken some
	uint64_t inject_pause_ns_ = 0;  // after refusals in a row; doubles with each
	uint64_t inject_after_ns_ = 0;
	std::vector<Group> groups_;
	std::vector<uint32_t> free_groups_;
	uint64_t stalled_since_ns_ = 0;
	vx_drop refusal_ = VX_DROP_tx_refused;
	bool refusal_known_ = false;

	void send_fragments(Frame frame);
	void put_ethernet(uint8_t *frame, const uint8_t destination_mac[6]) const;
	void tell(TxFate fate, uint32_t length, uint32_t tag);
	void tell_group(TxFate fate, Group &group, vx_counters &counters);
	vx_drop refusal();
	Waiting &waiting(uint32_t at) { return backlog_[at & (backlog_.size() - 1)]; }
	static uint32_t tag_of(const Waiting &one) { return one.group << 2 | static_cast<uint32_t>(one.frame.ledger); }
	void append(Frame frame, uint32_t group) { waiting(tail_++) = {frame, group}; }
	static bool injectable(const Waiting &one);
	bool inject(uint64_t now_ns);
	void judge_injection(uint32_t gone, const vx_counters &before, const vx_counters &counters, int error, uint64_t now_ns);
	void fill_ring();
	void abandon(vx_drop reason);
};

}  // namespace vx
