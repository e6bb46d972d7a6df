/* SPDX-License-Identifier: (GPL-2.0 OR MIT) */
/* Source NAT, the way from inside: allowlist and next hop as without it, then the packet goes to the worker that owns its
 * subscriber, untouched but for its ECN. Fragments and what is larger than an MTU too: they are the engine's. Softirq.
 */
#ifndef VX_INSIDE_TRANSLATE_H
#define VX_INSIDE_TRANSLATE_H

#include "decide.h"
#include "rewrite.h"
#include "translate.h"

/* What the tunnel says of a packet and of the way back; `tunnel->offset` is where the inner frame starts. */
static __noinline int vx_note_inside(struct xdp_md *ctx, const struct vx_tunnel *tunnel, struct vx_translate *head)
{
	const struct vx_ethernet *inner;

	vx_note_ethernet(ctx, head);
	if (vx_plain_ethernet) {
		head->realm = VX_PLAIN_REALM;
		return 0;
	}
	head->realm = tunnel->vni;
	head->peer = tunnel->is_ipv6 ? tunnel->peer : vx_map_address4(tunnel->peer4_be);
	VX_OPAQUE(ctx); /* or the compiler would keep the address of one of its members, which the verifier refuses */
	inner = vx_at(ctx, tunnel->offset, sizeof(*inner));
	if (inner)
		__builtin_memcpy(head->inner_macs, inner->destination, sizeof(head->inner_macs));
	return 0;
}

/* An IPv4 packet from inside. */
static __noinline int vx_translate4(struct xdp_md *ctx, struct vx_slot *slot, const struct vx_tunnel *tunnel,
				    const struct vx_inner *inner, __u64 started_ns)
{
	struct vx_epoch epoch = vx_read_epoch();
	struct vx_parcel parcel = {.l3 = inner->l3, .length = inner->length};
	struct iphdr *ip = vx_at(ctx, inner->l3, sizeof(*ip));
	struct vx_host *hop;
	int stop;

	if (!ip)
		return vx_drop(ctx, slot, VX_DROP_malformed_inner);
	if (vx_plain_ethernet) {
		hop = vx_next_hop4(slot, ip->daddr, epoch.generation);
		if (hop && hop->verdict == VX_VERDICT_PASS)
			return vx_pass(slot);
	}
	if (!vx_allowed4(slot, ip->saddr, ip->daddr, epoch))
		return vx_drop(ctx, slot, VX_DROP_not_allowed);
	stop = vx_merge_ecn(ctx, inner, tunnel->ecn);
	if (stop != VX_GO_ON)
		return vx_drop(ctx, slot, VX_STOP_REASON(stop));
	hop = vx_next_hop4(slot, ip->daddr, epoch.generation);
	if (!hop)
		return XDP_ABORTED;
	if (hop->verdict == VX_VERDICT_PASS) /* its route has just become so */
		return vx_pass(slot);
	if (hop->verdict == VX_VERDICT_DROP)
		return vx_drop(ctx, slot, hop->drop);
	parcel.head.hop = hop->verdict;
	if (hop->verdict == VX_VERDICT_FORWARD)
		__builtin_memcpy(parcel.head.next_hop_mac, hop->destination_mac, sizeof(parcel.head.next_hop_mac));
	parcel.head.started_ns = started_ns;
	vx_note_inside(ctx, tunnel, &parcel.head);
	parcel.worker = vx_owner_of_subscriber(parcel.head.realm, ip->saddr, vx_workers);
	return vx_send_parcel(ctx, slot, &parcel);
}

/* A frame that is no packet, and the parser's verdict on it: ARP for an address that is ours inside is dropped as answered,
 * and a copy answered by worker 0. */
static __noinline int vx_answer_inside(struct xdp_md *ctx, struct vx_slot *slot, const struct vx_tunnel *tunnel, int stop)
{
	struct vx_cursor cursor;
	struct vx_parcel parcel = {};
	struct vx_gateway_key key = {};
	int drop;

	cursor.at = vx_at(ctx, tunnel->offset, 0);
	cursor.end = (void *)(long)ctx->data_end;
	cursor.left = cursor.at ? tunnel->left : 0;
	cursor.offset = tunnel->offset;
	if (vx_parse_ethernet(&cursor) == bpf_htons(ETH_P_ARP) && cursor.left >= sizeof(struct vx_arp))
		key.address_be = vx_arp_target(ctx, cursor.offset);
	key.realm = vx_plain_ethernet ? VX_PLAIN_REALM : tunnel->vni;
	if (!key.address_be || !bpf_map_lookup_elem(&nat_gateways, &key))
		return stop == VX_STOP_PASS ? vx_pass(slot) : vx_drop(ctx, slot, VX_STOP_REASON(stop));
	parcel.l3 = cursor.offset;
	vx_note_inside(ctx, tunnel, &parcel.head);
	drop = vx_copy_arp(ctx, &parcel);
	return vx_drop(ctx, slot, drop < 0 ? VX_DROP_answered : (__u32)drop);
}

#endif
