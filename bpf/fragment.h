/* SPDX-License-Identifier: (GPL-2.0 OR MIT) */
/* Inner IPv4 fragments of a protocol that has a static rule: the first one's ports decide for the rest.
 *
 * The fate of a datagram stands in `fragments` from the first of its fragments seen to its timeout, so that all of
 * it is translated or all of it dropped, on whichever CPUs its fragments arrive:
 *   first fragment, nothing known  -> decide, remember DECIDED (or DROPPED), forward
 *   later fragment, nothing known  -> remember HELD; it waits at the worker
 *   first fragment, HELD           -> to the worker, which sends it, then what waits, and writes DECIDED
 *   later fragment, HELD / DECIDED / DROPPED -> worker / forward likewise / drop
 * A full table drops both kinds, so never half a datagram. Entries are inserted with BPF_NOEXIST: two CPUs that
 * see the two kinds at once agree on who was first. Softirq.
 */
#ifndef VX_FRAGMENT_H
#define VX_FRAGMENT_H

#include "decide.h"
#include "rewrite.h"

/* The entry as it was, with expired ones counted as absent; -1: there is none and none can be made. */
static __noinline int vx_claim_fragment(const struct vx_fragment_key *key, const struct vx_fragment *wanted,
					struct vx_fragment *found)
{
	struct vx_fragment *entry;

	if (!bpf_map_update_elem(&fragments, key, wanted, BPF_NOEXIST))
		return 0;
	entry = bpf_map_lookup_elem(&fragments, key);
	if (!entry)
		return -1;
	if (entry->expires_ns <= wanted->expires_ns - VX_FRAGMENT_TIMEOUT_NS) {
		if (bpf_map_update_elem(&fragments, key, wanted, BPF_ANY))
			return -1;
		return 0;
	}
	*found = *entry;
	return 1;
}

static __always_inline void vx_decide_fragment(const struct vx_inner *inner, const struct iphdr *ip, struct vx_flow *flow)
{
	flow->source_be = ip->saddr;
	flow->destination_be = ip->daddr;
	flow->source_port_be = inner->source_port_be;
	flow->destination_port_be = inner->destination_port_be;
	flow->protocol = inner->protocol;
}

/* What a later fragment inherits: the new destination and its next hop. */
static __noinline int vx_inherit4(struct vx_flow *flow, __be32 new_destination_be)
{
	struct vx_next_hop hop = {};

	flow->new_destination_be = new_destination_be ? new_destination_be : flow->destination_be;
	flow->translated = new_destination_be != 0;
	flow->address_delta = vx_delta32(flow->destination_be, flow->new_destination_be);
	vx_find_next_hop4(flow->new_destination_be, &hop);
	flow->verdict = hop.verdict;
	flow->drop = hop.drop;
	flow->mtu = hop.mtu;
	__builtin_memcpy(flow->destination_mac, hop.destination_mac, sizeof(hop.destination_mac));
	__builtin_memcpy(flow->source_mac, hop.source_mac, sizeof(hop.source_mac));
	return 0;
}

/* Rewrites a fragment as `flow` says and sends it the way `reason` or the flow's verdict asks for. */
static __noinline int vx_send_fragment4(struct xdp_md *ctx, struct vx_slot *slot, const struct vx_inner *inner,
					struct vx_flow *flow, __u32 reason)
{
	struct vx_exception exception = {.reason = (__u8)reason};
	__u32 length = inner->length;
	struct vx_rewrite rewrite = {
		.new_destination_be = flow->new_destination_be,
		.new_port_be = flow->new_port_be,
		.address_delta = flow->address_delta,
		.port_delta = flow->port_delta,
		.translated = flow->translated,
	};
	int stop;

	exception.original_destination_be = flow->destination_be;
	if (reason != VX_EXCEPTION_FRAGMENT_LATER) {
		stop = vx_rewrite4(ctx, slot, inner, &rewrite, flow->mtu);
		if (stop != VX_GO_ON)
			return vx_drop(ctx, slot, VX_STOP_REASON(stop));
		if (flow->translated)
			exception.new_destination_be = flow->new_destination_be;
		if (reason != VX_EXCEPTION_FRAGMENT_FIRST && flow->verdict == VX_VERDICT_FORWARD &&
		    length <= flow->mtu) {
			if (vx_decapsulate(ctx, inner->l3, length))
				return vx_drop(ctx, slot, VX_DROP_malformed_inner);
			return vx_forward(ctx, slot, flow->destination_mac, bpf_htons(ETH_P_IP), 0);
		}
	}
	return vx_send_exception(ctx, slot, &exception, inner->l3, length);
}

__noinline int vx_forward_fragment4(struct xdp_md *ctx, struct vx_slot *slot, const struct vx_inner *inner)
{
	struct vx_fragment wanted = {.expires_ns = bpf_ktime_get_ns() + VX_FRAGMENT_TIMEOUT_NS}, found = {};
	struct vx_fragment_key key = {};
	struct vx_flow flow = {};
	struct iphdr *ip;
	__u32 reason = VX_EXCEPTION_NEIGHBOUR;
	int claimed, is_first;

	if (!slot || !inner)
		return XDP_ABORTED;
	is_first = inner->fragment == VX_FIRST_FRAGMENT;
	ip = vx_at(ctx, inner->l3, sizeof(*ip));
	if (!ip)
		return vx_drop(ctx, slot, VX_DROP_malformed_inner);
	key.protocol = inner->protocol;
	key.source_be = ip->saddr;
	key.destination_be = ip->daddr;
	key.id_be = ip->id;
	vx_decide_fragment(inner, ip, &flow);
	if (is_first) {
		vx_decide4(&flow);
		wanted.state = flow.verdict == VX_VERDICT_DROP ? VX_FRAGMENT_DROPPED : VX_FRAGMENT_DECIDED;
		wanted.address_be = flow.translated ? flow.new_destination_be : 0;
	} else {
		if (!vx_allowed4(ip->saddr, ip->daddr, control.allowlist))
			return vx_drop(ctx, slot, VX_DROP_not_allowed);
		wanted.state = VX_FRAGMENT_HELD;
	}
	claimed = vx_claim_fragment(&key, &wanted, &found);
	if (claimed < 0 || (claimed > 0 && found.state == VX_FRAGMENT_DROPPED))
		return vx_drop(ctx, slot, VX_DROP_fragment_limit);
	if (claimed > 0 && found.state == VX_FRAGMENT_HELD)
		reason = is_first ? VX_EXCEPTION_FRAGMENT_FIRST : VX_EXCEPTION_FRAGMENT_LATER;
	else if (claimed > 0 && is_first)
		bpf_map_update_elem(&fragments, &key, &wanted, BPF_ANY); /* the sender reuses the id */
	else if (claimed == 0 && !is_first)
		reason = VX_EXCEPTION_FRAGMENT_LATER;
	if (!is_first && reason != VX_EXCEPTION_FRAGMENT_LATER)
		vx_inherit4(&flow, found.address_be);
	if (reason != VX_EXCEPTION_FRAGMENT_LATER) {
		if (flow.verdict == VX_VERDICT_PASS)
			return vx_pass(slot);
		if (flow.verdict == VX_VERDICT_DROP)
			return vx_drop(ctx, slot, flow.drop);
	}
	return vx_send_fragment4(ctx, slot, inner, &flow, reason);
}

#endif
