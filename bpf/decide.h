/* SPDX-License-Identifier: (GPL-2.0 OR MIT) */
/* What becomes of a flow: allowlist, static rule, route, neighbour. Runs once a flow and generation; the answer
 * is remembered in the flow cache (bpf/ingress.bpf.c, softirq).
 */
#ifndef VX_DECIDE_H
#define VX_DECIDE_H

#include "checksum.h"
#include "ingress_maps.h"
#include "parse.h"

/* Where a packet goes next: a verdict, and for VX_VERDICT_FORWARD the Ethernet addresses. */
struct vx_next_hop {
	__u8 verdict;
	__u8 drop;
	__u8 destination_mac[6];
	__u8 source_mac[6];
	__u8 pad[2];
	__u32 mtu;
};

static __always_inline struct vx_addr vx_map_address4(__be32 address_be)
{
	struct vx_addr mapped = {.bytes = {[10] = 0xff, [11] = 0xff}};

	__builtin_memcpy(&mapped.bytes[12], &address_be, sizeof(address_be));
	return mapped;
}

static __always_inline int vx_in_table(void *outer, __u32 set, const void *key)
{
	void *table = bpf_map_lookup_elem(outer, &set);

	return table && bpf_map_lookup_elem(table, key);
}

static __noinline int vx_listed4(__be32 address_be, __u32 selector)
{
	struct vx_prefix4 prefix = {.length = 32, .address_be = address_be};
	__u32 set = selector & VX_ALLOW_SET;

	return ((selector & VX_ALLOW_EXACT4) && vx_in_table(&ip_allowlist, set, &address_be)) ||
	       ((selector & VX_ALLOW_PREFIX4) && vx_in_table(&prefix_allow, set, &prefix));
}

static __noinline int vx_listed6(const struct vx_addr *address, __u32 selector)
{
	struct vx_prefix6 prefix = {.length = 128, .address = *address};
	__u32 set = selector & VX_ALLOW_SET;

	return ((selector & VX_ALLOW_EXACT6) && vx_in_table(&ip_allowlist6, set, address)) ||
	       ((selector & VX_ALLOW_PREFIX6) && vx_in_table(&prefix_allow6, set, &prefix));
}

/* `selector` is read once a packet, so that it sees one whole list. */
static __always_inline int vx_allowed4(__be32 source_be, __be32 destination_be, __u32 selector)
{
	return !(selector & VX_ALLOW_ENFORCE) || (vx_match_source && vx_listed4(source_be, selector)) ||
	       (vx_match_destination && vx_listed4(destination_be, selector));
}

static __always_inline int vx_allowed6(const struct vx_addr *source, const struct vx_addr *destination, __u32 selector)
{
	return !(selector & VX_ALLOW_ENFORCE) || (vx_match_source && vx_listed6(source, selector)) ||
	       (vx_match_destination && vx_listed6(destination, selector));
}

static __always_inline void vx_next_hop_drop(struct vx_next_hop *hop, __u8 reason)
{
	hop->verdict = VX_VERDICT_DROP;
	hop->drop = reason;
}

/* The neighbour of that address: its MAC, or the worker finds it out. */
static __noinline int vx_find_neighbour(const struct vx_addr *address, struct vx_next_hop *hop)
{
	struct vx_neighbour *neighbour = bpf_map_lookup_elem(&neighbours, address);

	if (!neighbour || neighbour->state == VX_NEIGHBOUR_RESOLVING) {
		hop->verdict = VX_VERDICT_WORKER;
	} else if (neighbour->state == VX_NEIGHBOUR_VALID) {
		__builtin_memcpy(hop->destination_mac, neighbour->mac, sizeof(hop->destination_mac));
		hop->verdict = VX_VERDICT_FORWARD;
	} else {
		vx_next_hop_drop(hop, VX_DROP_no_neighbour);
	}
	if (neighbour)
		neighbour->used = 1;
	return 0;
}

/* The outside interface's part of a next hop; false while the worker has not described it. */
static __always_inline int vx_leave_by_outside(struct vx_next_hop *hop)
{
	__u32 outside = VX_OUTSIDE;
	struct vx_interface *interface = bpf_map_lookup_elem(&interface_map, &outside);

	if (!interface || !interface->ifindex)
		return 0;
	__builtin_memcpy(hop->source_mac, interface->mac, sizeof(hop->source_mac));
	hop->mtu = interface->mtu;
	return 1;
}

static __always_inline int vx_use_fixed_next_hop(struct vx_next_hop *hop)
{
	for (int i = 0; i < 6; i++)
		hop->destination_mac[i] = vx_next_hop_mac[i];
	hop->verdict = VX_VERDICT_FORWARD;
	return 0;
}

/* A route's kind, where it needs no neighbour; 1 when the neighbour decides. */
static __always_inline int vx_follow_route(const struct vx_route *route, struct vx_next_hop *hop)
{
	if (vx_plain_ethernet && route && route->kind == VX_ROUTE_LOCAL) {
		hop->verdict = VX_VERDICT_PASS;
		return 0;
	}
	if (!vx_fixed_next_hop && (!route || (route->kind != VX_ROUTE_ONLINK && route->kind != VX_ROUTE_GATEWAY))) {
		vx_next_hop_drop(hop, VX_DROP_no_route);
		return 0;
	}
	if (!vx_leave_by_outside(hop)) {
		vx_next_hop_drop(hop, VX_DROP_carrier_down);
		return 0;
	}
	return 1;
}

static __noinline int vx_find_next_hop4(__be32 destination_be, struct vx_next_hop *hop)
{
	struct vx_prefix4 key = {.length = 32, .address_be = destination_be};
	struct vx_route *route = 0;
	struct vx_addr neighbour;

	if (!vx_fixed_next_hop || vx_plain_ethernet)
		route = bpf_map_lookup_elem(&routes4, &key);
	if (!vx_follow_route(route, hop))
		return 0;
	if (vx_fixed_next_hop || !route)
		return vx_use_fixed_next_hop(hop);
	if ((destination_be & bpf_htonl(0xf0000000)) == bpf_htonl(0xe0000000)) { /* RFC 1112 section 6.4 */
		__u32 group = bpf_ntohl(destination_be);
		__u8 mac[6] = {0x01, 0x00, 0x5e, (group >> 16) & 0x7f, group >> 8, group};

		__builtin_memcpy(hop->destination_mac, mac, sizeof(mac));
		hop->verdict = VX_VERDICT_FORWARD;
		return 0;
	}
	neighbour = route->kind == VX_ROUTE_GATEWAY ? route->gateway : vx_map_address4(destination_be);
	return vx_find_neighbour(&neighbour, hop);
}

static __noinline int vx_find_next_hop6(const struct vx_addr *destination, struct vx_next_hop *hop)
{
	struct vx_prefix6 key = {.length = 128, .address = *destination};
	struct vx_route *route = 0;

	if (!vx_fixed_next_hop || vx_plain_ethernet)
		route = bpf_map_lookup_elem(&routes6, &key);
	if (!vx_follow_route(route, hop))
		return 0;
	if (vx_fixed_next_hop || !route)
		return vx_use_fixed_next_hop(hop);
	if (destination->bytes[0] == 0xff) { /* RFC 2464 section 7 */
		hop->destination_mac[0] = 0x33;
		hop->destination_mac[1] = 0x33;
		__builtin_memcpy(&hop->destination_mac[2], &destination->bytes[12], 4);
		hop->verdict = VX_VERDICT_FORWARD;
		return 0;
	}
	return vx_find_neighbour(route->kind == VX_ROUTE_GATEWAY ? &route->gateway : destination, hop);
}

static __always_inline int vx_rules_cover(__u8 protocol, __u32 rules)
{
	return (protocol == IPPROTO_UDP && (rules & VX_RULES_UDP)) || (protocol == IPPROTO_TCP && (rules & VX_RULES_TCP));
}

/* Fills in everything of `flow` behind its key. */
static __noinline int vx_decide4(struct vx_flow *flow)
{
	struct vx_rule_key key = {.port_be = flow->destination_port_be, .protocol = flow->protocol};
	struct vx_next_hop hop = {};
	struct vx_rule *rule = 0;

	flow->translated = 0;
	flow->address_delta = 0;
	flow->port_delta = 0;
	flow->new_destination_be = flow->destination_be;
	flow->new_port_be = flow->destination_port_be;
	flow->pseudo_sum = vx_fold(vx_sum32(flow->source_be) + vx_sum32(flow->destination_be) +
				   (__u32)bpf_htons(flow->protocol));
	if (!vx_allowed4(flow->source_be, flow->destination_be, control.allowlist)) {
		flow->verdict = VX_VERDICT_DROP;
		flow->drop = VX_DROP_not_allowed;
		return 0;
	}
	if (vx_rules_cover(flow->protocol, control.rules))
		rule = bpf_map_lookup_elem(&nat_map, &key);
	if (rule) {
		flow->translated = 1;
		flow->new_destination_be = rule->address_be;
		flow->new_port_be = rule->port_be;
		flow->address_delta = vx_delta32(flow->destination_be, rule->address_be);
		flow->port_delta = vx_delta16(flow->destination_port_be, rule->port_be);
	}
	vx_find_next_hop4(flow->new_destination_be, &hop);
	flow->verdict = hop.verdict;
	flow->drop = hop.drop;
	flow->mtu = hop.mtu;
	__builtin_memcpy(flow->destination_mac, hop.destination_mac, sizeof(hop.destination_mac));
	__builtin_memcpy(flow->source_mac, hop.source_mac, sizeof(hop.source_mac));
	return 0;
}

#endif
