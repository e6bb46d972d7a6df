// Asks the kernel about neighbours. Runs on worker 0's thread.
#include "neighbour_requests.h"

#include <linux/neighbour.h>
#include <linux/rtnetlink.h>
#include <sys/socket.h>

#include <cerrno>

namespace vx {

NetlinkBody NeighbourRequests::body_for(const vx_addr &address, uint8_t flags) const
{
	const bool ipv4 = is_mapped(address);
	ndmsg header{};
	header.ndm_family = ipv4 ? AF_INET : AF_INET6;
	header.ndm_ifindex = static_cast<int>(ifindex_);
	header.ndm_flags = flags;
	NetlinkBody body(header);
	if (ipv4)
		body.attribute(NDA_DST, address.bytes + 12, 4);
	else
		body.attribute(NDA_DST, address.bytes, sizeof address.bytes);
	return body;
}

std::optional<NeighbourMessage> NeighbourRequests::look_up(const vx_addr &address)
{
	std::optional<NeighbourMessage> found;
	requests_.request(RTM_GETNEIGH, 0, body_for(address, 0).bytes(),
			  [&](NetlinkBytes bytes) { found = parse_neighbour(bytes); });
	return found;
}

// Without the flag, a request takes it off an entry that has it.
int NeighbourRequests::use(const vx_addr &address, bool managed)
{
	NetlinkBody body = body_for(address, NTF_USE);
	const uint32_t extended = NTF_EXT_MANAGED;
	if (managed)
		body.attribute(NDA_FLAGS_EXT, &extended, sizeof extended);
	return requests_.request(RTM_NEWNEIGH, NLM_F_CREATE | NLM_F_REPLACE, body.bytes());
}

int NeighbourRequests::look_after(const vx_addr &address)
{
	const int err = use(address, kernel_manages_);
	if (err != EINVAL || !kernel_manages_)
		return err;
	const int without = use(address, false);
	kernel_manages_ = without == EINVAL;  // then it was not the flag that it disliked
	return without;
}

void NeighbourRequests::remove(const vx_addr &address)
{
	requests_.request(RTM_DELNEIGH, 0, body_for(address, 0).bytes());
}

}  // namespace vx
