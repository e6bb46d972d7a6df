// Worker 0's exceptions, and what it follows of the kernel. See exceptions.h.
#include "exceptions.h"

#include <linux/rtnetlink.h>

#include <cerrno>
#include <cstring>
#include <utility>

#include "../core/ip.h"
#include "../core/broken.h"

namespace vx {
Exceptions::Exceptions(Shared &shared, Frames &frames, Sender &sender, Netlink &requests, std::function<void()> drain)
	: shared_(shared), frames_(frames), sender_(sender),
	  routes_(shared.links.outside().ifindex, shared.config.routes4_fd, shared.config.routes6_fd, shared.tables,
		  shared.events),
	  neighbours_(shared.links, shared.config.neighbours_fd, requests, sender, shared.tables, shared.events),
	  fragments_(frames, sender, shared.config, [this](Frame frame, uint64_t now_ns) { forward(frame, now_ns); })
{
	neighbours_.set_drain(std::move(drain));
}

Result<std::unique_ptr<Exceptions>> Exceptions::open(Shared &shared, Frames &frames, Sender &sender, Netlink &requests,
						     std::function<void()> drain)
{
	std::unique_ptr<Exceptions> self(new Exceptions(shared, frames, sender, requests, std::move(drain)));
	// Announcements first: what changes while the tables are read is then not missed.
	auto announcements = Netlink::open({RTNLGRP_LINK, RTNLGRP_NEIGH, RTNLGRP_IPV4_ROUTE, RTNLGRP_IPV6_ROUTE,
					    RTNLGRP_IPV4_RULE, RTNLGRP_IPV6_RULE, RTNLGRP_IPV4_IFADDR});
	auto reads = Netlink::open({});
	for (auto *one : {&announcements, &reads})
		if (!*one)
			return one->error();
	self->announcements_ = std::move(*announcements);
	self->reads_ = std::move(*reads);
	if (auto done = self->read_kernel(0); !done)
		return done.error();
	if (!shared.links.outside().exists || !shared.links.inside().exists)
		return Error{"WORKER_FAILED", "RTM_GETLINK", ENODEV, "an interface is gone"};
	shared.tables.publish();
	self->publish_snapshot();
	return self;
}

void Exceptions::handle(const vx_exception &exception, Frame frame, uint64_t now_ns)
{
	now_ns_ = now_ns;
	const uint8_t version = ip_version(frames_.at(frame.address) + kEthernetBytes);
	const uint32_t header = version == 4 ? kIpv4HeaderBytes : kIpv6HeaderBytes;
	if ((version != 4 && version != 6) || frame.length < kEthernetBytes + header)
		return sender_.drop(frame, VX_DROP_malformed_inner);
	switch (exception.reason) {
	case VX_EXCEPTION_NEIGHBOUR:
	case VX_EXCEPTION_TOO_BIG: return forward(frame, now_ns_);
	case VX_EXCEPTION_FRAGMENT_FIRST: return fragments_.first(exception, frame, now_ns_);
	case VX_EXCEPTION_FRAGMENT_LATER: return fragments_.later(exception, frame, now_ns_);
	default: broken("an exception without a reason");
	}
}

void Exceptions::forward(Frame frame, uint64_t now_ns)
{
	now_ns_ = now_ns;
	if (!shared_.config.follow_routes)
		return sender_.send(frame, shared_.config.fixed_mac);
	const uint8_t *ip = frames_.at(frame.address) + kEthernetBytes;
	vx_addr destination;
	if (ip_version(ip) == 4)
		destination = mapped(ip + 16);
	else
		memcpy(&destination, ip + 24, sizeof destination);
	const vx_route route = routes_.find(destination);
	if (route.kind != VX_ROUTE_ONLINK && route.kind != VX_ROUTE_GATEWAY)
		return sender_.drop(frame, VX_DROP_no_route);
	if (is_multicast(destination)) {
		uint8_t mac[6];
		multicast_mac(destination, mac);
		return sender_.send(frame, mac);
	}
	neighbours_.forward(route.kind == VX_ROUTE_GATEWAY ? route.gateway : destination, frame, now_ns_);
}

void Exceptions::settle(uint64_t now_ns)
{
	now_ns_ = now_ns;
	neighbours_.settle(now_ns);
	shared_.tables.publish();
}

Result<void> Exceptions::read_kernel(uint64_t now_ns)
{
	if (auto done = shared_.links.read(reads_, now_ns); !done)
		return done;
	if (auto done = routes_.read(reads_, now_ns); !done)
		return done;
	if (auto done = routes_.read_rules(reads_, now_ns); !done)
		return done;
	return shared_.config.follow_routes ? neighbours_.read(reads_, now_ns) : Result<void>();
}

void Exceptions::follow(uint64_t now_ns)
{
	now_ns_ = now_ns;
	if (announcements_.receive([this](NetlinkBytes bytes) { dispatch(bytes); }) == ENOBUFS)
		announcements_lost_ = true;
	catch_up();
	shared_.tables.publish();
}

void Exceptions::dispatch(NetlinkBytes bytes)
{
	if (const auto link = parse_link(bytes)) {
		const bool sent = shared_.links.sends(VX_OUTSIDE);
		shared_.links.apply(*link, now_ns_);
		if (sent && !shared_.links.sends(VX_OUTSIDE))
			neighbours_.link_down();
		publish_snapshot();
		// IPv4 routes that die with a link, and nexthops that come back with it, are not announced.
		return routes_.distrust();
	}
	if (const auto neighbour = parse_neighbour(bytes)) {
		if (shared_.config.follow_routes)
			neighbours_.apply(*neighbour, now_ns_);
		return;
	}
	if (const auto route = parse_route(bytes, shared_.links.outside().ifindex))
		return routes_.apply(*route, now_ns_);
	const uint16_t type = header_of(bytes).nlmsg_type;
	rules_changed_ |= type == RTM_NEWRULE || type == RTM_DELRULE;
	if (type == RTM_DELADDR)
		routes_.distrust();
}

// Full readings that are due. One that fails is due again.
void Exceptions::catch_up()
{
	if (announcements_lost_) {
		announcements_lost_ = !read_kernel(now_ns_);
	} else if (routes_.wants_reading(now_ns_) && !routes_.read(reads_, now_ns_)) {
		routes_.distrust();
	}
	if (rules_changed_)
		rules_changed_ = !routes_.read_rules(reads_, now_ns_);
}

void Exceptions::tick(uint64_t now_ns)
{
	now_ns_ = now_ns;
	fragments_.tick(now_ns_);
	neighbours_.tick(now_ns_);
	catch_up();
	shared_.tables.publish();
	publish_snapshot();
}

void Exceptions::stop(uint64_t now_ns)
{
	now_ns_ = now_ns;
	neighbours_.settle(now_ns_);
	neighbours_.stop();
	fragments_.stop(now_ns_);
}

void Exceptions::publish_snapshot()
{
	const Links &links = shared_.links;
	WorkerSnapshot fresh{};
	fresh.alive = true;
	fresh.inside_carrier = links.inside().up && links.inside().carrier;
	fresh.outside_carrier = links.sends(VX_OUTSIDE);
	fresh.outside_mtu = links.outside().mtu;
	fresh.waiting = waiting();
	fresh.routes = routes_.size();
	fresh.next_hops = neighbours_.view();
	const std::lock_guard lock(snapshot_mutex_);
	std::swap(snapshot_, fresh);
}

WorkerSnapshot Exceptions::snapshot()
{
	const std::lock_guard lock(snapshot_mutex_);
	return snapshot_;
}

}  // namespace vx
