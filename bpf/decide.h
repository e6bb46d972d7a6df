/* SPDX-License-Identifier: (GPL-2.0 OR MIT) */
/* What becomes of a packet: allowlist, static rule, route, neighbour. Softirq, one CPU a packet.
 *
 * The answers for an IPv4 address, and for a port with or without a rule, are remembered in two small caches, each
 * with a region per CPU, so that nobody locks and the lines stay in the core that uses them. They are why a packet
 * costs about the same however many lists, rules and routes there are. Addresses and ports are remembered rather
 * than flows because there are fewer of them: what is touched per packet stays in the core's own cache at 10,000
 * flows, where a table of flows did not (docs/adr/0002-caches.md).
 *
 * A new generation (`control.epoch`) invalidates all of it at once: who changes an input of a decision changes the map
 * first and the generation after, and an answer is stored under the generation that was read before it was looked up.
 */
#ifndef VX_DECIDE_H
#define VX_DECIDE_H

#include "checksum.h"
#include "ingress_maps.h"
#include "parse.h"

static __always_inline struct vx_addr vx_map_address4(__be32 address_be)
{
	struct vx_addr mapped = {.bytes = {[10] = 0xff, [11] = 0xff}};

	__builtin_memcpy(&mapped.bytes[12], &address_be, sizeof(address_be));
	return mapped;
}

static __always_inline struct vx_epoch vx_read_epoch(void)
{
	__u64 word = *(volatile __u64 *)&control.epoch;
	struct vx_epoch epoch;

	__builtin_memcpy(&epoch, &word, sizeof(epoch));
	return epoch;
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

static __always_inline int vx_allowed6(const struct vx_addr *source, const struct vx_addr *destination, __u32 selector)
{
	return !(selector & VX_ALLOW_ENFORCE) || (vx_match_source && vx_listed6(source, selector)) ||
	       (vx_match_destination && vx_listed6(destination, selector));
}

static __always_inline void vx_host_drop(struct vx_host *hop, __u8 reason)
{
	hop->verdict = VX_VERDICT_DROP;
	hop->drop = reason;
}

/* The neighbour of that address: its MAC, or the worker finds it out. */
static __noinline int vx_find_neighbour(const struct vx_addr *address, struct vx_host *hop)
{
	struct vx_neighbour *neighbour = bpf_map_lookup_elem(&neighbours, address);

	if (!neighbour || neighbour->state == VX_NEIGHBOUR_RESOLVING) {
		hop->verdict = VX_VERDICT_WORKER;
	} else if (neighbour->state == VX_NEIGHBOUR_VALID) {
		__builtin_memcpy(hop->destination_mac, neighbour->mac, sizeof(hop->destination_mac));
		hop->verdict = VX_VERDICT_FORWARD;
	} else {
		vx_host_drop(hop, VX_DROP_no_neighbour);
	}
	if (neighbour)
		neighbour->used = 1;
	return 0;
}

/* The outside interface's part of a next hop; false while the worker has not described it. */
static __always_inline int vx_leave_by_outside(struct vx_host *hop)
{
	__u32 outside = VX_OUTSIDE;
	struct vx_interface *interface = bpf_map_lookup_elem(&interface_map, &outside);

	if (!interface || !interface->ifindex)
		return 0;
	__builtin_memcpy(hop->source_mac, interface->mac, sizeof(hop->source_mac));
	hop->mtu = interface->mtu;
	return 1;
}

static __always_inline int vx_use_fixed_next_hop(struct vx_host *hop)
{
	for (int i = 0; i < 6; i++)
		hop->destination_mac[i] = vx_next_hop_mac[i];
	hop->verdict = VX_VERDICT_FORWARD;
	return 0;
}

/* A route's kind, where it needs no neighbour; 1 when the neighbour decides. */
static __always_inline int vx_follow_route(const struct vx_route *route, struct vx_host *hop)
{
	if (vx_plain_ethernet && route && route->kind == VX_ROUTE_LOCAL) {
		hop->verdict = VX_VERDICT_PASS;
		return 0;
	}
	if (!vx_fixed_next_hop && (!route || (route->kind != VX_ROUTE_ONLINK && route->kind != VX_ROUTE_GATEWAY))) {
		vx_host_drop(hop, VX_DROP_no_route);
		return 0;
	}
	if (!vx_leave_by_outside(hop)) {
		vx_host_drop(hop, VX_DROP_carrier_down);
		return 0;
	}
	return 1;
}

static __noinline int vx_find_next_hop4(__be32 destination_be, struct vx_host *hop)
{
	struct vx_prefix4 key = {.length = 32, .address_be = destination_be};
	struct vx_route *route = 0;
	struct vx_addr neighbour;

	if (vx_translate && bpf_map_lookup_elem(&pool_addresses, &destination_be)) {
		hop->verdict = VX_VERDICT_POOL;
		return 0;
	}
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

static __noinline int vx_find_next_hop6(const struct vx_addr *destination, struct vx_host *hop)
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

/* What is known of an IPv4 address; 0 only when the map is smaller than the CPU number. */
static __always_inline struct vx_host *vx_find_host(struct vx_slot *slot, __be32 address_be, __u32 generation)
{
	__u32 hash = (__u32)((address_be ^ vx_cache_seed) * 0x9e3779b97f4a7c15ull >> 40);
	__u32 way0 = bpf_get_smp_processor_id() * VX_HOSTS_PER_CPU + (hash & (VX_HOSTS_PER_CPU - 2));
	__u32 way1 = way0 + 1;
	struct vx_host *host = bpf_map_lookup_elem(&host_cache, &way0);
	struct vx_host *other;

	if (!host)
		return 0;
	if (host->address_be == address_be && host->generation == generation)
		return host;
	other = bpf_map_lookup_elem(&host_cache, &way1);
	if (!other)
		return 0;
	if (other->address_be == address_be && other->generation == generation)
		return other;
	if (host->generation == generation &&
	    (other->generation != generation || slot->direction[VX_INSIDE].received & 1))
		host = other;
	host->address_be = address_be;
	host->generation = generation;
	host->known = 0;
	slot->direction[VX_INSIDE].cache_misses++;
	return host;
}

static __noinline int vx_look_up_listed4(struct vx_host *host, __u32 selector)
{
	host->listed = vx_listed4(host->address_be, selector);
	host->known |= VX_HOST_LISTED_KNOWN;
	return 0;
}

static __always_inline int vx_is_listed4(struct vx_slot *slot, __be32 address_be, struct vx_epoch epoch)
{
	struct vx_host *host = vx_find_host(slot, address_be, epoch.generation);

	if (!host)
		return 0;
	if (!(host->known & VX_HOST_LISTED_KNOWN))
		vx_look_up_listed4(host, epoch.allowlist);
	return host->listed;
}

static __always_inline int vx_allowed4(struct vx_slot *slot, __be32 source_be, __be32 destination_be,
				       struct vx_epoch epoch)
{
	return !(epoch.allowlist & VX_ALLOW_ENFORCE) || (vx_match_source && vx_is_listed4(slot, source_be, epoch)) ||
	       (vx_match_destination && vx_is_listed4(slot, destination_be, epoch));
}

/* The next hop of an IPv4 destination. */
static __always_inline struct vx_host *vx_next_hop4(struct vx_slot *slot, __be32 destination_be, __u32 generation)
{
	struct vx_host *host = vx_find_host(slot, destination_be, generation);

	if (host && !(host->known & VX_HOST_HOP_KNOWN)) {
		vx_find_next_hop4(destination_be, host);
		host->known |= VX_HOST_HOP_KNOWN;
	}
	return host;
}

static __always_inline int vx_rules_cover(__u8 protocol, __u32 rules)
{
	return (protocol == IPPROTO_UDP && (rules & VX_RULES_UDP)) || (protocol == IPPROTO_TCP && (rules & VX_RULES_TCP));
}

static __noinline int vx_look_up_rule(struct vx_slot *slot, struct vx_rule_memo *memo)
{
	struct vx_rule *rule = bpf_map_lookup_elem(&nat_map, &memo->key);

	memo->has_rule = rule != 0;
	if (rule)
		memo->rule = *rule;
	slot->direction[VX_INSIDE].cache_misses++;
	return 0;
}

/* The static rule for a packet; 0: it keeps its destination. */
static __always_inline const struct vx_rule *vx_find_rule(struct vx_slot *slot, const struct vx_inner *inner,
							   __u32 generation)
{
	struct vx_rule_memo *memo;
	__u32 index;

	if (!vx_rules_cover(inner->protocol, control.rules) || !inner->l4)
		return 0;
	index = bpf_get_smp_processor_id() * VX_RULE_MEMOS_PER_CPU +
		((bpf_ntohs(inner->destination_port_be) ^ inner->protocol << 4) & (VX_RULE_MEMOS_PER_CPU - 1));
	memo = bpf_map_lookup_elem(&rule_cache, &index);
	if (!memo)
		return 0;
	if (memo->generation != generation || memo->key.port_be != inner->destination_port_be ||
	    memo->key.protocol != inner->protocol) {
		memo->key.port_be = inner->destination_port_be;
		memo->key.protocol = inner->protocol;
		memo->key.pad = 0;
		vx_look_up_rule(slot, memo);
		memo->generation = generation;
	}
	return memo->has_rule ? &memo->rule : 0;
}

#endif
