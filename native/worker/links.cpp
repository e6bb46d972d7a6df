// Follows the two interfaces. Runs on worker 0's thread.
#include "links.h"

#include <linux/rtnetlink.h>
#include <sys/socket.h>

#include <algorithm>
#include <cstring>
#include <string>

namespace vx {
namespace {

constexpr uint32_t kMtuMax = 65535;  // IP has no longer packets

std::string describe(vx_direction direction, const Link &link)
{
	std::string text = direction == VX_INSIDE ? "inside interface" : "outside interface";
	if (!link.exists)
		return text + " is gone";
	text += !link.up ? " is down" : link.carrier ? " is up" : " has no carrier";
	return text + ", MTU " + std::to_string(link.mtu);
}

}  // namespace

Links::Links(uint32_t inside_ifindex, uint32_t outside_ifindex, int map_fd, Tables &tables, EventQueue &events)
	: map_fd_(map_fd), tables_(tables), events_(events)
{
	links_[VX_INSIDE].ifindex = inside_ifindex;
	links_[VX_OUTSIDE].ifindex = outside_ifindex;
}

// `now_ns` 0: the first reading, no news to anybody.
Result<void> Links::read(Netlink &reads, uint64_t now_ns)
{
	socklen_t length = sizeof netns_cookie_;
	getsockopt(reads.fd(), SOL_SOCKET, SO_NETNS_COOKIE, &netns_cookie_, &length);
	bool seen[VX_DIRECTIONS] = {};
	auto done = reads.dump(RTM_GETLINK, AF_UNSPEC, [&](NetlinkBytes bytes) {
		if (const auto message = parse_link(bytes)) {
			seen[VX_INSIDE] |= message->ifindex == inside().ifindex;
			seen[VX_OUTSIDE] |= message->ifindex == outside().ifindex;
			apply(*message, now_ns);
		}
	});
	if (!done)
		return done;
	for (const vx_direction direction : {VX_INSIDE, VX_OUTSIDE}) {
		if (!seen[direction]) {
			LinkMessage gone{};
			gone.ifindex = links_[direction].ifindex;
			gone.gone = true;
			apply(gone, now_ns);
		}
	}
	return {};
}

void Links::apply(const LinkMessage &message, uint64_t now_ns)
{
	for (const vx_direction direction : {VX_INSIDE, VX_OUTSIDE}) {
		Link &link = links_[direction];
		if (message.ifindex != link.ifindex)
			continue;
		const Link before = link;
		link.exists = !message.gone;
		link.up = !message.gone && message.up;
		link.carrier = !message.gone && message.carrier;
		if (message.mtu)
			link.mtu = message.mtu;
		if (message.has_mac)
			memcpy(link.mac, message.mac, sizeof link.mac);
		if (link.mtu != before.mtu || memcmp(link.mac, before.mac, sizeof link.mac))
			write(direction);
		const bool same = link.exists == before.exists && link.up == before.up &&
				  link.carrier == before.carrier && link.mtu == before.mtu;
		sends_[direction].store(link.exists && link.up && link.carrier, std::memory_order_relaxed);
		if (!same && now_ns)
			events_.push("link_changed", now_ns, describe(direction, link));
	}
}

void Links::write(vx_direction direction)
{
	const Link &link = links_[direction];
	vx_interface value{};
	value.ifindex = link.ifindex;
	value.mtu = link.mtu;
	memcpy(value.mac, link.mac, sizeof value.mac);
	value.netns_cookie = netns_cookie_;
	uint64_t packed = uint64_t{std::min(link.mtu, kMtuMax)} << 48;
	memcpy(&packed, link.mac, sizeof link.mac);
	faces_[direction].store(packed, std::memory_order_relaxed);
	tables_.put(map_fd_, static_cast<uint32_t>(direction), value);
}

Face Links::face(vx_direction direction) const
{
	const uint64_t packed = faces_[direction].load(std::memory_order_relaxed);
	Face face{{}, static_cast<uint32_t>(packed >> 48)};
	memcpy(face.mac, &packed, sizeof face.mac);
	return face;
}

bool Links::ask_carrier(vx_direction direction, Netlink &requests) const
{
	ifinfomsg body{};
	body.ifi_index = static_cast<int>(links_[direction].ifindex);
	bool sends = false;
	requests.request(RTM_GETLINK, 0, NetlinkBody(body).bytes(), [&](NetlinkBytes bytes) {
		if (const auto message = parse_link(bytes))
			sends = message->up && message->carrier;
	});
	return sends;
}

}  // namespace vx
