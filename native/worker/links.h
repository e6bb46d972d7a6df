// The inside and outside interfaces as the kernel has them now: MTU, MAC, carrier, there or gone. Follows netlink,
// fills interface_map. Used by worker 0 on its thread.
#pragma once

#include <atomic>
#include <cstdint>

#include "../core/frame.h"
#include "../io/netlink.h"
#include "event_queue.h"
#include "tables.h"

namespace vx {

struct Link {
	uint32_t ifindex = 0;
	bool exists = true;
	bool up = false;
	bool carrier = false;
	uint32_t mtu = 0;
	uint8_t mac[6] = {};
};

class Links {
public:
	Links(uint32_t inside_ifindex, uint32_t outside_ifindex, int map_fd, Tables &tables, EventQueue &events);

	Result<void> read(Netlink &reads, uint64_t now_ns);
	void apply(const LinkMessage &message, uint64_t now_ns);
	// ifindex never changes.
	const Link &inside() const { return links_[VX_INSIDE]; }
	const Link &outside() const { return links_[VX_OUTSIDE]; }
	// What other threads than worker 0's may ask, besides what never changes.
	bool sends(vx_direction direction) const { return sends_[direction].load(std::memory_order_relaxed); }
	Face face(vx_direction direction) const;
	// Asks the kernel instead of waiting for its announcement.
	bool ask_carrier(vx_direction direction, Netlink &requests) const;

private:
	Link links_[VX_DIRECTIONS];
	const int map_fd_;
	Tables &tables_;
	EventQueue &events_;
	uint64_t netns_cookie_ = 0;
	std::atomic<bool> sends_[VX_DIRECTIONS] = {};
	std::atomic<uint64_t> faces_[VX_DIRECTIONS] = {};  // MAC, then 16 bits of MTU

	void write(vx_direction direction);
};

}  // namespace vx
