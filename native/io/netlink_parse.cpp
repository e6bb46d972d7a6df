// Reads rtnetlink messages. Pure; called by worker 0 on its thread and by tests.
#include "netlink_parse.h"

#include <linux/fib_rules.h>
#include <linux/if_link.h>
#include <linux/neighbour.h>
#include <linux/rtnetlink.h>
#include <net/if.h>
#include <sys/socket.h>

#include <cstring>

namespace vx {
namespace {

constexpr uint32_t kLowerUp = 1u << 16;  // IFF_LOWER_UP: glibc's net/if.h and linux/if.h can't both be included

template <typename T>
std::optional<T> load(NetlinkBytes bytes, size_t offset = 0)
{
	if (bytes.size() < offset + sizeof(T))
		return std::nullopt;
	T value;
	memcpy(&value, bytes.data() + offset, sizeof value);
	return value;
}

uint32_t load32(NetlinkBytes bytes)
{
	return load<uint32_t>(bytes).value_or(0);
}

// The attributes behind `offset`, until they end or one is broken.
template <typename Visit>
void each_attribute(NetlinkBytes bytes, size_t offset, Visit visit)
{
	while (true) {
		offset = NLMSG_ALIGN(offset);
		const auto header = load<nlattr>(bytes, offset);
		if (!header || header->nla_len < sizeof *header || header->nla_len > bytes.size() - offset)
			return;
		visit(header->nla_type & NLA_TYPE_MASK,
		      bytes.subspan(offset + sizeof *header, header->nla_len - sizeof *header));
		offset += header->nla_len;
	}
}

bool load_address(uint8_t family, NetlinkBytes bytes, vx_addr &out)
{
	if (family == AF_INET && bytes.size() == 4)
		out = mapped(bytes.data());
	else if (family == AF_INET6 && bytes.size() == sizeof out)
		memcpy(&out, bytes.data(), sizeof out);
	else
		return false;
	return true;
}

bool load_mac(NetlinkBytes bytes, uint8_t out[6])
{
	if (bytes.size() != 6)
		return false;
	memcpy(out, bytes.data(), 6);
	return true;
}

// RTA_VIA: a gateway of another family than the route's.
bool load_via(NetlinkBytes bytes, vx_addr &out)
{
	const auto family = load<uint16_t>(bytes);
	return family && load_address(static_cast<uint8_t>(*family), bytes.subspan(2), out);
}

struct Nexthop {
	uint32_t ifindex = 0;
	bool has_gateway = false;
	vx_addr gateway{};
};

// The first nexthop through outside that is alive; else the first, which only says that it is somebody else's.
Nexthop choose_nexthop(uint8_t family, NetlinkBytes multipath, uint32_t outside_ifindex)
{
	Nexthop chosen;
	while (true) {
		const auto header = load<rtnexthop>(multipath);
		if (!header || header->rtnh_len < sizeof *header || header->rtnh_len > multipath.size())
			return chosen;
		Nexthop hop;
		hop.ifindex = static_cast<uint32_t>(header->rtnh_ifindex);
		each_attribute(multipath.first(header->rtnh_len), sizeof *header, [&](int type, NetlinkBytes value) {
			if (type == RTA_GATEWAY)
				hop.has_gateway |= load_address(family, value, hop.gateway);
			else if (type == RTA_VIA)
				hop.has_gateway |= load_via(value, hop.gateway);
		});
		const bool alive = !(header->rtnh_flags & RTNH_F_DEAD);
		if (alive && hop.ifindex == outside_ifindex)
			return hop;
		if (alive && chosen.ifindex == 0)
			chosen = hop;
		const size_t step = RTNH_ALIGN(header->rtnh_len);
		multipath = multipath.subspan(step < multipath.size() ? step : multipath.size());
	}
}

vx_route decide(uint8_t type, const Nexthop &hop, uint32_t outside_ifindex)
{
	vx_route route{};
	if (type == RTN_LOCAL || type == RTN_BROADCAST) {
		route.kind = VX_ROUTE_LOCAL;
	} else if ((type == RTN_UNICAST || type == RTN_MULTICAST) && hop.ifindex == outside_ifindex) {
		route.kind = hop.has_gateway ? VX_ROUTE_GATEWAY : VX_ROUTE_ONLINK;
		route.gateway = hop.gateway;
	} else {
		route.kind = VX_ROUTE_NONE;
	}
	return route;
}

RoutePlace place_of(uint16_t flags)
{
	if (flags & NLM_F_REPLACE)
		return RoutePlace::instead;
	// A dump (NLM_F_MULTI) lists equal ones in order; so does an append.
	return flags & (NLM_F_APPEND | NLM_F_MULTI) ? RoutePlace::after : RoutePlace::before;
}

}  // namespace

NetlinkBytes next_message(NetlinkBytes &rest)
{
	const auto header = load<nlmsghdr>(rest);
	if (!header || header->nlmsg_len < sizeof *header || header->nlmsg_len > rest.size())
		return {};
	const NetlinkBytes message = rest.first(header->nlmsg_len);
	const size_t step = NLMSG_ALIGN(header->nlmsg_len);
	rest = rest.subspan(step < rest.size() ? step : rest.size());
	return message;
}

nlmsghdr header_of(NetlinkBytes message)
{
	return load<nlmsghdr>(message).value_or(nlmsghdr{});
}

std::optional<LinkMessage> parse_link(NetlinkBytes message)
{
	const nlmsghdr header = header_of(message);
	const auto body = load<ifinfomsg>(message, NLMSG_HDRLEN);
	if ((header.nlmsg_type != RTM_NEWLINK && header.nlmsg_type != RTM_DELLINK) || !body || body->ifi_index <= 0)
		return std::nullopt;
	// A bridge says DELLINK with its own family when a port leaves it; the port itself stays.
	if (body->ifi_family != AF_UNSPEC)
		return std::nullopt;
	LinkMessage link{};
	link.ifindex = static_cast<uint32_t>(body->ifi_index);
	link.gone = header.nlmsg_type == RTM_DELLINK;
	link.up = body->ifi_flags & IFF_UP;
	link.carrier = body->ifi_flags & kLowerUp;
	each_attribute(message, NLMSG_HDRLEN + sizeof(ifinfomsg), [&](int type, NetlinkBytes value) {
		if (type == IFLA_MTU)
			link.mtu = load32(value);
		else if (type == IFLA_ADDRESS)
			link.has_mac = load_mac(value, link.mac);
		else if (type == IFLA_CARRIER && !value.empty())
			link.carrier = value[0];
	});
	return link;
}

std::optional<NeighbourMessage> parse_neighbour(NetlinkBytes message)
{
	const nlmsghdr header = header_of(message);
	const auto body = load<ndmsg>(message, NLMSG_HDRLEN);
	if ((header.nlmsg_type != RTM_NEWNEIGH && header.nlmsg_type != RTM_DELNEIGH) || !body)
		return std::nullopt;
	// NTF_PROXY entries are answers given for others, not neighbours.
	if ((body->ndm_family != AF_INET && body->ndm_family != AF_INET6) || body->ndm_flags & NTF_PROXY)
		return std::nullopt;
	NeighbourMessage neighbour{};
	neighbour.ifindex = static_cast<uint32_t>(body->ndm_ifindex);
	neighbour.gone = header.nlmsg_type == RTM_DELNEIGH;
	neighbour.state = body->ndm_state;
	bool has_address = false;
	each_attribute(message, NLMSG_HDRLEN + sizeof(ndmsg), [&](int type, NetlinkBytes value) {
		if (type == NDA_DST)
			has_address = load_address(body->ndm_family, value, neighbour.address);
		else if (type == NDA_LLADDR)
			neighbour.has_mac = load_mac(value, neighbour.mac);
		else if (type == NDA_FLAGS_EXT)
			neighbour.managed = load32(value) & NTF_EXT_MANAGED;
	});
	if (!has_address)
		return std::nullopt;
	return neighbour;
}

std::optional<RouteMessage> parse_route(NetlinkBytes message, uint32_t outside_ifindex)
{
	const nlmsghdr header = header_of(message);
	const auto body = load<rtmsg>(message, NLMSG_HDRLEN);
	if ((header.nlmsg_type != RTM_NEWROUTE && header.nlmsg_type != RTM_DELROUTE) || !body)
		return std::nullopt;
	const uint8_t family = body->rtm_family;
	if ((family != AF_INET && family != AF_INET6) || body->rtm_tos || body->rtm_flags & RTM_F_CLONED)
		return std::nullopt;
	if (body->rtm_src_len || body->rtm_dst_len > (family == AF_INET ? 32 : 128))
		return std::nullopt;

	RouteMessage route{};
	route.gone = header.nlmsg_type == RTM_DELROUTE;
	route.place = place_of(header.nlmsg_flags);
	route.prefix.family = family;
	route.prefix.length = body->rtm_dst_len;
	static constexpr uint8_t any4[4] = {};
	if (family == AF_INET)
		route.prefix.address = mapped(any4);
	route.candidate.table = body->rtm_table;
	route.candidate.type = body->rtm_type;
	Nexthop hop;
	bool sane = true;
	each_attribute(message, NLMSG_HDRLEN + sizeof(rtmsg), [&](int type, NetlinkBytes value) {
		switch (type) {
		case RTA_DST: sane &= load_address(family, value, route.prefix.address); break;
		case RTA_TABLE: route.candidate.table = load32(value); break;
		case RTA_PRIORITY: route.candidate.metric = load32(value); break;
		case RTA_OIF: hop.ifindex = load32(value); break;
		case RTA_GATEWAY: hop.has_gateway = load_address(family, value, hop.gateway); break;
		case RTA_VIA: hop.has_gateway = load_via(value, hop.gateway); break;
		case RTA_MULTIPATH:
			hop = choose_nexthop(family, value, outside_ifindex);
			route.candidate.multipath = true;
			break;
		default: break;
		}
	});
	if (!sane || (route.candidate.table != RT_TABLE_MAIN && route.candidate.table != RT_TABLE_LOCAL))
		return std::nullopt;
	// One dead nexthop (its interface is down) stays listed with a flag.
	if (!route.candidate.multipath && body->rtm_flags & RTNH_F_DEAD)
		hop.ifindex = 0;
	route.candidate.ifindex = hop.ifindex;
	route.candidate.route = decide(body->rtm_type, hop, outside_ifindex);
	return route;
}

std::optional<RuleMessage> parse_rule(NetlinkBytes message)
{
	const nlmsghdr header = header_of(message);
	const auto body = load<fib_rule_hdr>(message, NLMSG_HDRLEN);
	if (header.nlmsg_type != RTM_NEWRULE || !body)
		return std::nullopt;
	RuleMessage rule{body->table, 0, body->action};
	each_attribute(message, NLMSG_HDRLEN + sizeof(fib_rule_hdr), [&](int type, NetlinkBytes value) {
		if (type == FRA_TABLE)
			rule.table = load32(value);
		else if (type == FRA_PRIORITY)
			rule.priority = load32(value);
	});
	return rule;
}

int parse_error(NetlinkBytes message)
{
	const auto code = load<int32_t>(message, NLMSG_HDRLEN);
	return code && *code != INT32_MIN ? -*code : EBADMSG;
}

}  // namespace vx
