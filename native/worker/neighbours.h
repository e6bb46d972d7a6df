// Neighbours of the outside interface: resolves those that XDP does not know, holds their packets meanwhile, keeps
// those in use alive, follows changes. Used by worker 0 on its thread.
//
// The kernel does ARP and neighbour discovery. XDP traffic never confirms a neighbour to it, so those in use are
// made managed entries (NTF_EXT_MANAGED, Linux 5.16): the kernel probes them by itself, failed ones too, which is
// how a host that comes back is noticed. Entries that were there before are left as they were found.
//
// map `neighbours`: absent -> RESOLVING when a packet asks -> VALID or FAILED as the kernel says -> absent when it
// forgets or nobody used it for five minutes. Before VALID is written everything that waits has left, so that XDP
// cannot overtake it.
#pragma once

#include <cstdint>
#include <functional>
#include <unordered_map>
#include <vector>

#include "../core/route_table.h"
#include "../io/netlink.h"
#include "event_queue.h"
#include "neighbour_requests.h"
#include "sender.h"
#include "tables.h"

namespace vx {

class Neighbours {
public:
	Neighbours(Links &links, int map_fd, Netlink &requests, Sender &sender, Tables &tables, EventQueue &events);

	// Called before and after the packets of a neighbour are let go: empties the receive rings, so that what is in
	// them keeps its place.
	void set_drain(std::function<void()> drain) { drain_ = std::move(drain); }

	// Takes the frame: sends it to that neighbour, or holds it until the neighbour is known.
	void forward(const vx_addr &address, Frame frame, uint64_t now_ns);
	// Acts on what was learned while packets were handled. After them, so that nothing is drained within a batch.
	void settle(uint64_t now_ns);
	// The kernel's table from scratch; what it no longer has is forgotten.
	Result<void> read(Netlink &reads, uint64_t now_ns);
	void apply(const NeighbourMessage &message, uint64_t now_ns);
	void link_down();
	// Once a second.
	void tick(uint64_t now_ns);
	// Drops what waits and gives the kernel's table back.
	void stop();

	uint32_t waiting() const { return waiting_; }
	std::vector<NextHopView> view() const;

private:
	struct Neighbour {
		uint8_t mac[6] = {};
		vx_neighbour_state state = VX_NEIGHBOUR_RESOLVING;
		bool in_map = false;
		bool asked = false;      // we made the kernel look after it
		bool was_there = false;  // it stood in the kernel's table before we asked
		bool in_kernel = false;
		bool managed = false;    // as the kernel says
		bool seen = false;       // by the reading under way
		uint16_t kernel_state = 0;
		uint64_t deadline_ns = 0;
		uint64_t used_ns = 0;
		std::vector<Frame> waiting;
	};
	using Entries = std::unordered_map<vx_addr, Neighbour, AddressHash, SameAddress>;

	Links &links_;
	const int map_fd_;
	NeighbourRequests kernel_;
	Sender &sender_;
	Tables &tables_;
	EventQueue &events_;
	std::function<void()> drain_;
	Entries entries_;
	std::vector<NeighbourMessage> learned_;
	uint32_t waiting_ = 0;
	uint32_t resolving_ = 0;
	uint64_t refresh_ns_ = 0;
	uint64_t ageing_ns_ = 0;
	uint64_t purged_ns_ = 0;

	Neighbour *admit(const vx_addr &address, uint64_t now_ns);
	void hold(const vx_addr &address, Neighbour &neighbour, Frame frame, uint64_t now_ns);
	void ask(const vx_addr &address, Neighbour &neighbour, uint64_t now_ns);
	void give_back(const vx_addr &address, Neighbour &neighbour);
	void set_state(Neighbour &neighbour, vx_neighbour_state state);
	void write(const vx_addr &address, Neighbour &neighbour);
	void become_valid(const vx_addr &address, Neighbour &neighbour, const uint8_t mac[6], uint64_t now_ns);
	void become_failed(const vx_addr &address, Neighbour &neighbour, uint64_t now_ns);
	void become_unknown(Entries::iterator at, uint64_t now_ns);
	void drop_waiting(Neighbour &neighbour, vx_drop reason);
	Entries::iterator forget(Entries::iterator at);
	bool is_outdated(const NeighbourMessage &message);
	void purge_failed(uint64_t now_ns);
	void refresh(uint64_t now_ns);
	void age(uint64_t now_ns);
};

}  // namespace vx
