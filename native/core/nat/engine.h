// NAT44 for one worker: a packet goes in, a verdict comes out. The way in for workers, replay, tests and fuzzers.
//
// Pure: no I/O, no clock, no randomness of its own, no memory but what it is given at start, no lock. One engine
// belongs to one worker's thread; engines share only PortBlocks.
//
// Who owns what. A subscriber (realm, inside address) belongs to one worker, by hash; with it its blocks, mappings,
// sessions and limits. A packet at the wrong worker is handed over before anything is looked up, created or rewritten,
// by a verdict: the caller has the rings. Hairpin has two owners, and each does its half: the first translates the
// source and hands over what then looks like a packet from outside, in stage `hairpin`. Fragments from outside have a
// third: the worker chosen by (source, destination, identification, protocol) learns from the first one whose the
// datagram is.
//
// The tables. Two indexes lead from the inside tuple and from the outside tuple straight to the session, one line each;
// it has everything to rewrite the packet. So a packet that hits costs two lines in either direction, and its only
// write is last_seen. What is made on a miss (subscriber, block, mapping, session) is in tables.h, with its costs.
//
// Time. Packets write last_seen, from inside only (RFC 4787 REQ-6); tick() ends what has timed out. A mapping ends with
// the last of its sessions that was used from inside, and then rests.
//
// Refusals are verdicts with a named reason. Where the RFCs ask for an ICMP answer it waits in replies().
#pragma once

#include <algorithm>

#include "config.h"
#include "datagram_ids.h"
#include "fragments.h"
#include "headers.h"
#include "icmp_quote.h"
#include "mappings.h"
#include "replies.h"
#include "sessions.h"
#include "stats.h"
#include "subscribers.h"
#include "unsolicited_syns.h"

namespace vx::nat {

class Engine {
public:
	static size_t bytes_needed(const Config &config, PortBlocks &blocks, const std::vector<Forward> &forwards);
	// `memory` is zeroed; it and `blocks` outlive the engine. `forwards` are those `blocks` was made with.
	Engine(const Config &config, PortBlocks &blocks, const std::vector<Forward> &forwards,
	       std::span<std::byte> memory, uint64_t now_ns);
	Engine(const Engine &) = delete;

	// Rewrites the packet in place as far as the verdict says. A clock that goes back, as in a capture, stands
	// still.
	Verdict process(Packet &packet, uint64_t now_ns);
	// The same for many, whose table lines are fetched while others are worked on.
	void process_batch(std::span<Packet> packets, std::span<Verdict> verdicts, uint64_t now_ns);
	// Of IPv4 packets: inside that is the interface's less the encapsulation.
	void set_mtu(Side side, uint32_t mtu) { mtu_[static_cast<int>(side)] = std::max(mtu, kMtuMin); }
	// Ends what has timed out, looking at no more than `budget` records of a kind. False: there is more to do.
	bool tick(uint64_t now_ns, uint32_t budget);

	// Lets go of all fragments that wait, as lost: before the end.
	void give_up_fragments() { fragments_.give_up(); }

	// Fragments that were held and are let go: to be drained after each batch and tick.
	bool take_fragment(KeptFragment &fragment) { return fragments_.take(fragment); }
	Replies &replies() { return replies_; }
	LogRecords &records() { return subscribers_.records(); }
	Subscriber &subscriber(uint32_t number) { return subscribers_[number]; }
	Stats stats() const;

	// To look, on the worker's thread: listing.h, tests.
	uint32_t worker() const { return config_.worker; }
	Ticks now() const { return now_; }
	const Sessions &sessions() const { return sessions_; }
	const Mappings &mappings() const { return mappings_; }
	const Subscribers &subscribers() const { return subscribers_; }
	const Fragments &fragments() const { return fragments_; }

private:
	Engine(const Config &config, PortBlocks &blocks, const std::vector<Forward> &forwards, Arena arena);

	static constexpr uint32_t kMtuMin = 68;  // RFC 791: every link carries that

	uint32_t mtu_inside() const { return mtu_[static_cast<int>(Side::inside)]; }
	uint32_t mtu_outside() const { return mtu_[static_cast<int>(Side::outside)]; }
	void set_time(uint64_t now_ns)
	{
		now_ns_ = std::max(now_ns_, now_ns);
		now_ = ticks_of(now_ns_ - start_ns_);
	}

	// engine.cpp
	uint64_t flow_hash(const Packet &packet, const Headers &h) const;
	void prefetch_flow(const Packet &packet, uint64_t hash) const;
	void prefetch_opening(const Packet &packet, const Headers &h) const;
	bool prefetch_session(const Packet &packet, uint64_t hash) const;
	Verdict dispatch(Packet &packet, Headers &h, uint64_t hash);
	Verdict translate(Packet &packet, Headers &h, uint64_t hash);
	Verdict fragment(Packet &packet, Headers &h);
	uint32_t incarnation(uint32_t number) const
	{
		return number == kNone ? 0 : subscribers_[number].incarnation;
	}
	Verdict apply_fate(Packet &packet, const Headers &h, const Fate &fate);
	// Before the packet is changed.
	void complete_left_checksum(const Headers &h)
	{
		if (!has_ports(h.protocol) || h.piece != Piece::whole || !is_left_to_hardware(h)) [[likely]]
			return;
		complete_checksum(h);
		stats_.checksums_completed++;
	}
	void follow_tcp(uint32_t number, const Headers &h, bool from_inside);
	bool pass_mtu(const Packet &packet, const Headers &h, Side to, const IcmpError &error, Subscriber *subscriber,
		      Verdict &verdict);

	// outbound.cpp
	Verdict outbound(Packet &packet, Headers &h, uint64_t hash);
	Verdict open_from_inside(Packet &packet, Headers &h, uint64_t hash);
	Verdict refuse_inside(const Packet &packet, const Headers &h, vx_drop reason);
	Verdict send_out(Packet &packet, Headers &h, uint32_t number);
	Verdict send_untranslated(Packet &packet, Headers &h);
	Verdict hairpin(Packet &packet, Headers &h);
	bool excluded(uint32_t destination_be) const;
	uint32_t our_address(uint32_t realm, const Subscriber *subscriber) const;

	// inbound.cpp
	Verdict inbound(Packet &packet, Headers &h, uint64_t hash);
	bool is_elsewhere(Packet &packet, uint16_t address, uint8_t protocol, uint16_t port, Verdict &verdict);
	Verdict open_from_outside(Packet &packet, Headers &h, uint16_t address);
	Verdict refuse_outside(const Packet &packet, const Headers &h, vx_drop reason);
	Verdict send_in(Packet &packet, Headers &h, uint32_t number);
	bool admits(uint32_t mapping, uint32_t remote_be) const;
	void answer_unsolicited();

	// icmp_errors.cpp
	Verdict error_from_inside(Packet &packet, Headers &h);
	Verdict error_from_outside(Packet &packet, Headers &h, uint16_t address);
	uint32_t mapping_of_quote(const Packet &packet, const Quote &quote) const;

	const Config config_;
	PortBlocks &blocks_;
	Stats stats_{};
	Subscribers subscribers_;
	Mappings mappings_;
	Sessions sessions_;
	Fragments fragments_;
	Replies replies_;
	UnsolicitedSyns syns_;
	DatagramIds ids_;
	Rate session_rate_;
	uint32_t mtu_[2] = {};  // by Side
	size_t bytes_;
	uint64_t start_ns_ = 0, now_ns_ = 0;
	Ticks now_ = 0;
};

}  // namespace vx::nat
