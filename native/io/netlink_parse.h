// What rtnetlink says about links, routes and neighbours, as values. Pure; called by worker 0 on its
// thread and by tests with recorded bytes.
//
// Nothing in a message is trusted: an attribute that runs over its message ends the reading of it, and a message
// without what it is about is no message.
#pragma once

#include <linux/netlink.h>

#include <cstdint>
#include <optional>
#include <span>

#include "../core/address.h"
#include "../core/route_table.h"

namespace vx {

struct LinkMessage {
	uint32_t ifindex;
	bool gone;
	bool up;
	bool carrier;
	bool has_mac;
	uint8_t mac[6];
	uint32_t mtu;  // 0: not said
};

struct NeighbourMessage {
	uint32_t ifindex;
	bool gone;
	bool managed;
	bool has_mac;
	uint8_t mac[6];
	uint16_t state;  // NUD_*
	vx_addr address;
};

struct RouteMessage {
	bool gone;
	RoutePlace place;
	RoutePrefix prefix;
	RouteCandidate candidate;
};

struct RuleMessage {
	uint32_t table;
	uint32_t priority;
	uint8_t action;  // FR_ACT_*
};

// A message: header and everything its length covers. Each returns nothing for other types and broken messages.
using NetlinkBytes = std::span<const uint8_t>;

// Cuts the first message off `rest`; empty: none left, or what is left is no message.
NetlinkBytes next_message(NetlinkBytes &rest);
nlmsghdr header_of(NetlinkBytes message);

std::optional<LinkMessage> parse_link(NetlinkBytes message);
std::optional<NeighbourMessage> parse_neighbour(NetlinkBytes message);
// Only routes of main and local that any packet may take (TOS 0, not a cached clone).
std::optional<RouteMessage> parse_route(NetlinkBytes message, uint32_t outside_ifindex);
std::optional<RuleMessage> parse_rule(NetlinkBytes message);
// NLMSG_ERROR and NLMSG_DONE: the errno it carries, 0 for an acknowledgement.
int parse_error(NetlinkBytes message);

}  // namespace vx
