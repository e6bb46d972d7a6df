// Mirrors routes into the maps. Runs on worker 0's thread.
#include "routes.h"

#include <arpa/inet.h>
#include <linux/fib_rules.h>
#include <linux/rtnetlink.h>

#include <algorithm>
#include <cstring>
#include <string>

#include "clock.h"

namespace vx {
namespace {

constexpr uint64_t kReadingPauseNs = 250000000;
constexpr uint32_t kLastMetric = UINT32_MAX;

vx_prefix4 key4(const RoutePrefix &prefix)
{
	vx_prefix4 key{prefix.length, 0};
	memcpy(&key.address_be, prefix.address.bytes + 12, 4);
	return key;
}

vx_prefix6 key6(const RoutePrefix &prefix)
{
	return {prefix.length, prefix.address};
}

std::string prefix_text(const RoutePrefix &prefix)
{
	return address_text(prefix.address) + "/" + std::to_string(prefix.length);
}

std::string route_text(const vx_route *route)
{
	if (!route)
		return " has no route";
	switch (route->kind) {
	case VX_ROUTE_ONLINK: return " is on the outside link";
	case VX_ROUTE_GATEWAY: return " goes by " + address_text(route->gateway);
	case VX_ROUTE_LOCAL: return " is local";
	default: return " does not go outside";
	}
}

}  // namespace

Routes::Routes(uint32_t outside_ifindex, int map4_fd, int map6_fd, Tables &tables, EventQueue &events)
	: outside_ifindex_(outside_ifindex), map4_fd_(map4_fd), map6_fd_(map6_fd), tables_(tables), events_(events)
{
}

// What the kernel knows without a route: these never leave by a default route.
void Routes::add_fixed()
{
	struct {
		uint8_t address[4];
		uint8_t length;
		vx_route_kind kind;
	} const fixed[] = {
		{{0, 0, 0, 0}, 8, VX_ROUTE_NONE},
		{{127, 0, 0, 0}, 8, VX_ROUTE_NONE},
		{{255, 255, 255, 255}, 32, VX_ROUTE_LOCAL},  // to us as to all: an answer of DHCP, say
	};
	for (const auto &one : fixed) {
		const RoutePrefix prefix{AF_INET, one.length, mapped(one.address)};
		RouteCandidate candidate{};
		candidate.table = RT_TABLE_MAIN;
		candidate.metric = kLastMetric;
		candidate.route.kind = one.kind;
		if (table_.add(prefix, candidate, RoutePlace::after))
			mirror(prefix, 0);
	}
}

Result<void> Routes::read(Netlink &reads, uint64_t now_ns)
{
	const uint64_t began_ns = monotonic_ns();
	distrusted_ = false;
	table_.begin_resync();
	add_fixed();
	for (const uint8_t family : {uint8_t{AF_INET}, uint8_t{AF_INET6}}) {
		auto done = reads.dump(RTM_GETROUTE, family, [&](NetlinkBytes bytes) {
			const auto message = parse_route(bytes, outside_ifindex_);
			if (message && table_.add(message->prefix, message->candidate, RoutePlace::after))
				mirror(message->prefix, now_ns);
		});
		if (!done)
			return done;
	}
	for (const RoutePrefix &prefix : table_.end_resync())
		mirror(prefix, now_ns);
	if (!now_ns)
		sweep_maps();
	// A big table under constant change costs a tenth of the worker's time at most.
	const uint64_t ended_ns = monotonic_ns();
	next_reading_ns_ = ended_ns + std::max(kReadingPauseNs, 10 * (ended_ns - began_ns));
	return {};
}

void Routes::sweep_maps()
{
	tables_.sweep<vx_prefix4>(map4_fd_, [&](const vx_prefix4 &key) {
		RoutePrefix prefix{AF_INET, static_cast<uint8_t>(key.length), {}};
		prefix.address = mapped(reinterpret_cast<const uint8_t *>(&key.address_be));
		return table_.best(prefix) != nullptr;
	});
	tables_.sweep<vx_prefix6>(map6_fd_, [&](const vx_prefix6 &key) {
		return table_.best({AF_INET6, static_cast<uint8_t>(key.length), key.address}) != nullptr;
	});
}

Result<void> Routes::read_rules(Netlink &reads, uint64_t now_ns)
{
	bool others = false;
	const auto look_at = [&](NetlinkBytes bytes) {
		const auto rule = parse_rule(bytes);
		if (!rule)
			return;
		const bool is_default = rule->action == FR_ACT_TO_TBL &&
					((rule->priority == 0 && rule->table == RT_TABLE_LOCAL) ||
					 (rule->priority == 32766 && rule->table == RT_TABLE_MAIN) ||
					 (rule->priority == 32767 && rule->table == RT_TABLE_DEFAULT));
		others |= !is_default;
	};
	// Not all families at once: multicast routing has rules of its own.
	for (const uint8_t family : {uint8_t{AF_INET}, uint8_t{AF_INET6}})
		if (auto done = reads.dump(RTM_GETRULE, family, look_at); !done)
			return done;
	if (others && !rules_told_)
		events_.push("policy_routing", now_ns,
			     "ip rule has entries of its own: only the tables main and local are followed");
	rules_told_ = others;
	return {};
}

void Routes::apply(const RouteMessage &message, uint64_t now_ns)
{
	const RoutePrefix &prefix = message.prefix;
	const bool pieces = message.candidate.multipath || table_.has_multipath(prefix) ||
			    (!message.gone && message.place == RoutePlace::after);
	if (prefix.family == AF_INET6 && pieces)
		return distrust();
	if (message.gone ? table_.remove(prefix, message.candidate)
			 : table_.add(prefix, message.candidate, message.place)) {
		mirror(prefix, now_ns);
		events_.push("route_changed", now_ns, prefix_text(prefix) + route_text(table_.best(prefix)));
	} else if (message.gone && table_.best(prefix)) {
		// It removed a route we know otherwise, or one we never learned of.
		distrust();
	}
}

void Routes::mirror(const RoutePrefix &prefix, uint64_t now_ns)
{
	const vx_route *best = table_.best(prefix);
	bool written = true;
	if (prefix.family == AF_INET && best)
		written = tables_.put(map4_fd_, key4(prefix), *best);
	else if (prefix.family == AF_INET)
		tables_.erase(map4_fd_, key4(prefix));
	else if (best)
		written = tables_.put(map6_fd_, key6(prefix), *best);
	else
		tables_.erase(map6_fd_, key6(prefix));
	if (!written && !full_told_) {
		full_told_ = true;
		events_.push("route_table_full", now_ns, "more than " + std::to_string(VX_ROUTES_MAX) + " routes");
	}
}

vx_route Routes::find(const vx_addr &destination) const
{
	vx_route route{};
	if (is_mapped(destination)) {
		const vx_prefix4 key = key4({AF_INET, 32, destination});
		bpf_map_lookup_elem(map4_fd_, &key, &route);
	} else {
		const vx_prefix6 key{128, destination};
		bpf_map_lookup_elem(map6_fd_, &key, &route);
	}
	return route;
}

}  // namespace vx
