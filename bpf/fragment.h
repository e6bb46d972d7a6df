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
 * see the two kinds at once agree on who was first (but for an id used again within the second that an expired entry
 * waits for the worker's sweep: then the datagram may wait in vain). Softirq.
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

/* Rewrites a fragment and sends it to its next hop, or to the worker where `reason` or the next hop asks for it. */
static __noinline int vx_send_fragment4(struct xdp_md *ctx, struct vx_slot *slot, const struct vx_inner *inner,
					const struct vx_rule *rule, __u32 reason)
{
	struct vx_exception exception = {.reason = (__u8)reason};
	struct iphdr *ip = vx_at(ctx, inner->l3, sizeof(*ip));
	__u32 macs[3];
	struct vx_host *hop;
	int stop;

	if (!ip)
		return vx_drop(ctx, slot, VX_DROP_malformed_inner);
	exception.original_destination_be = ip->daddr;
	if (reason == VX_EXCEPTION_FRAGMENT_LATER)
		return vx_send_exception(ctx, slot, &exception, inner->l3, inner->length);
	hop = vx_next_hop4(slot, rule ? rule->address_be : ip->daddr, vx_read_epoch().generation);
	if (!hop)
		return XDP_ABORTED;
	if (hop->verdict == VX_VERDICT_PASS) /* a rule's target that is this host */
		return vx_drop(ctx, slot, VX_DROP_no_route);
	if (hop->verdict == VX_VERDICT_DROP)
		return vx_drop(ctx, slot, hop->drop);
	vx_copy_macs(macs, (const __u32 *)hop->destination_mac);
	stop = vx_rewrite4(ctx, slot, inner, rule, hop->mtu);
	if (stop != VX_GO_ON)
		return vx_drop(ctx, slot, VX_STOP_REASON(stop));
	exception.new_destination_be = rule ? rule->address_be : 0;
	if (reason == VX_EXCEPTION_FRAGMENT_FIRST || hop->verdict == VX_VERDICT_WORKER || inner->length > hop->mtu)
		return vx_send_exception(ctx, slot, &exception, inner->l3, inner->length);
	if (vx_decapsulate(ctx, inner->l3, inner->length))
		return vx_drop(ctx, slot, VX_DROP_malformed_inner);
	return vx_forward(ctx, slot, (const __u8 *)macs, bpf_htons(ETH_P_IP), 0);
}

/* What the first fragment's ports, and whether it can leave itself, decide for all of the datagram. */
static __always_inline void vx_decide_datagram(struct vx_slot *slot, const struct iphdr *ip, const struct vx_inner *inner,
					       const struct vx_rule *rule, struct vx_fragment *wanted)
{
	struct vx_host *hop = vx_next_hop4(slot, rule ? rule->address_be : ip->daddr, vx_read_epoch().generation);

	wanted->state = hop && (hop->verdict == VX_VERDICT_FORWARD || hop->verdict == VX_VERDICT_WORKER) &&
					vx_refuse4(ip, inner, hop->mtu) == VX_GO_ON
				? VX_FRAGMENT_DECIDED
				: VX_FRAGMENT_DROPPED;
	wanted->address_be = rule ? rule->address_be : 0;
}

__noinline int vx_forward_fragment4(struct xdp_md *ctx, struct vx_slot *slot, const struct vx_inner *inner)
{
	struct vx_fragment wanted = {.expires_ns = bpf_ktime_get_ns() + VX_FRAGMENT_TIMEOUT_NS}, found = {};
	struct vx_fragment_key key = {};
	const struct vx_rule *rule = 0;
	struct vx_rule inherited = {};
	__u32 reason = VX_EXCEPTION_NEIGHBOUR;
	struct iphdr *ip;
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
	if (is_first) {
		rule = vx_find_rule(slot, inner, vx_read_epoch().generation);
		vx_decide_datagram(slot, ip, inner, rule, &wanted);
	} else {
		wanted.state = VX_FRAGMENT_HELD;
	}
	claimed = vx_claim_fragment(&key, &wanted, &found);
	if (claimed < 0 || (claimed > 0 && found.state == VX_FRAGMENT_DROPPED))
		return vx_drop(ctx, slot, VX_DROP_fragment_limit);
	if (claimed > 0 && found.state == VX_FRAGMENT_HELD) {
		reason = is_first ? VX_EXCEPTION_FRAGMENT_FIRST : VX_EXCEPTION_FRAGMENT_LATER;
	} else if (is_first) {
		if (claimed > 0) /* the sender uses the id again */
			bpf_map_update_elem(&fragments, &key, &wanted, BPF_ANY);
	} else if (claimed > 0) {
		inherited.address_be = found.address_be;
		rule = found.address_be ? &inherited : 0;
	} else {
		reason = VX_EXCEPTION_FRAGMENT_LATER;
	}
	return vx_send_fragment4(ctx, slot, inner, rule, reason);
}

#endif
