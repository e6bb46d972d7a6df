// The kernel's routes, mirrored into routes4 and routes6 as far as they matter to packets that leave by the outside
// interface. Used by worker 0 on its thread.
//
// What the kernel announces is not all that happens: IPv4 routes that vanish because an interface went down or an
// address was removed vanish silently, and a multipath IPv6 route is announced in pieces. Those cases ask for a
// full reading, which replaces route by route and leaves no moment without routes.
#pragma once

#include <cstdint>

#include "../core/route_table.h"
#include "../io/netlink.h"
#include "event_queue.h"
#include "tables.h"

namespace vx {

class Routes {
public:
	Routes(uint32_t outside_ifindex, int map4_fd, int map6_fd, Tables &tables, EventQueue &events);

	// All of the kernel's tables; `now_ns` 0: the first reading, which also clears what is left in the maps.
	Result<void> read(Netlink &reads, uint64_t now_ns);
	// Rules besides the three default ones choose tables that are not followed: says so, once.
	Result<void> read_rules(Netlink &reads, uint64_t now_ns);
	void apply(const RouteMessage &message, uint64_t now_ns);

	// A full reading is wanted: as soon as it is due.
	void distrust() { distrusted_ = true; }
	bool wants_reading(uint64_t now_ns) const { return distrusted_ && now_ns >= next_reading_ns_; }

	// As XDP sees it.
	vx_route find(const vx_addr &destination) const;
	uint32_t size() const { return static_cast<uint32_t>(table_.size()); }

private:
	RouteTable table_;
	const uint32_t outside_ifindex_;
	const int map4_fd_;
	const int map6_fd_;
	Tables &tables_;
	EventQueue &events_;
	bool distrusted_ = false;
	bool full_told_ = false;
	bool rules_told_ = false;
	uint64_t next_reading_ns_ = 0;

	void add_fixed();
	void mirror(const RoutePrefix &prefix, uint64_t now_ns);
	void sweep_maps();
};

}  // namespace vx
