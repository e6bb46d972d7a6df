// What is asked of the kernel about a neighbour: look, look after it, stop that, delete it. Used by Neighbours on the
// exception worker's thread.
#pragma once

#include <cstdint>
#include <optional>

#include "../io/netlink.h"

namespace vx {

class NeighbourRequests {
public:
	NeighbourRequests(Netlink &requests, uint32_t ifindex) : requests_(requests), ifindex_(ifindex) {}

	std::optional<NeighbourMessage> look_up(const vx_addr &address);
	// Makes the kernel resolve it now and, where it can (Linux 5.16), keep it alive from then on. Returns the
	// errno. Never for an entry that the operator made permanent: this would make it an ordinary one.
	int look_after(const vx_addr &address);
	void stop_looking_after(const vx_addr &address) { use(address, false); }
	void remove(const vx_addr &address);

private:
	Netlink &requests_;
	const uint32_t ifindex_;
	bool kernel_manages_ = true;

	int use(const vx_addr &address, bool managed);
	NetlinkBody body_for(const vx_addr &address, uint8_t flags) const;
};

}  // namespace vx
