// SPDX-License-Identifier: GPL-2.0 OR MIT
/* The inside interface's program: VXLAN in, inner packets out.
 *
 * One frame's way, top to bottom: count it; parse the tunnel and the packet in it (bpf/parse.h); decide
 * about it (bpf/decide.h); rewrite in place with incremental checksums, the tunnel's ECN too; decapsulate; redirect to the
 * outside interface, hand it to worker 0, or drop it with a name (bpf/forward.h, bpf/leave.h). Run to completion in
 * softirq on the receiving CPU: no lock, and nothing shared with another CPU but the lookups.
 *
 * Fragments of protocols that have a rule take a way of their own (bpf/fragment.h), as do all IPv6 packets, which
 * are looked up each.
 */
#define VX_DIRECTION VX_INSIDE

#include "decide.h"
#include "forward.h"
#include "fragment.h"
#include "inside_translate.h"
#include "own_mac.h"

static __always_inline int vx_forward4(struct xdp_md *ctx, struct vx_slot *slot, const struct vx_inner *inner,
				       const struct vx_tunnel *tunnel, __u64 started_ns)
{
	struct vx_epoch epoch = vx_read_epoch();
	struct iphdr *ip = vx_at(ctx, inner->l3, sizeof(*ip));
	const struct vx_rule *rule;
	struct vx_host *hop;
	__be32 destination_be;
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
	if (inner->fragment != VX_WHOLE && vx_rules_cover(inner->protocol, control.rules))
		return vx_forward_fragment4(ctx, slot, inner);
	rule = vx_find_rule(slot, inner, epoch.generation);
	hop = vx_next_hop4(slot, rule ? rule->address_be : ip->daddr, epoch.generation);
	if (!hop)
		return XDP_ABORTED;
	if (hop->verdict == VX_VERDICT_PASS) /* a rule's target that is this host */
		return vx_drop(ctx, slot, VX_DROP_no_route);
	if (hop->verdict == VX_VERDICT_DROP)
		return vx_drop(ctx, slot, hop->drop);
	destination_be = ip->daddr;
	stop = vx_rewrite4(ctx, slot, inner, rule, hop->mtu);
	if (stop != VX_GO_ON)
		return vx_drop(ctx, slot, VX_STOP_REASON(stop));
	if (hop->verdict == VX_VERDICT_WORKER || inner->length > hop->mtu) {
		struct vx_exception exception = {.original_destination_be = destination_be};

		exception.reason = hop->verdict == VX_VERDICT_WORKER ? VX_EXCEPTION_NEIGHBOUR : VX_EXCEPTION_TOO_BIG;
		return vx_send_exception(ctx, slot, &exception, inner->l3, inner->length);
	}
	if (vx_decapsulate(ctx, inner->l3, inner->length))
		return vx_drop(ctx, slot, VX_DROP_malformed_inner);
	return vx_forward(ctx, slot, hop->destination_mac, bpf_htons(ETH_P_IP), started_ns);
}

static __always_inline int vx_forward6(struct xdp_md *ctx, struct vx_slot *slot, const struct vx_inner *inner, __u32 ecn)
{
	struct ipv6hdr *ip = vx_at(ctx, inner->l3, sizeof(*ip));
	struct vx_exception exception = {.reason = VX_EXCEPTION_NEIGHBOUR};
	struct vx_host hop = {};
	struct vx_addr source, destination;
	int stop;

	if (!ip)
		return vx_drop(ctx, slot, VX_DROP_malformed_inner);
	__builtin_memcpy(&source, &ip->saddr, sizeof(source));
	__builtin_memcpy(&destination, &ip->daddr, sizeof(destination));
	if (!vx_allowed6(&source, &destination, vx_read_epoch().allowlist))
		return vx_drop(ctx, slot, VX_DROP_not_allowed);
	stop = vx_merge_ecn(ctx, inner, ecn);
	if (stop != VX_GO_ON)
		return vx_drop(ctx, slot, VX_STOP_REASON(stop));
	vx_find_next_hop6(&destination, &hop);
	if (hop.verdict == VX_VERDICT_DROP)
		return vx_drop(ctx, slot, hop.drop);
	if (inner->length > hop.mtu)
		return vx_drop(ctx, slot, VX_DROP_too_big);
	stop = vx_rewrite6(ctx, slot, inner);
	if (stop != VX_GO_ON)
		return vx_drop(ctx, slot, VX_STOP_REASON(stop));
	if (hop.verdict == VX_VERDICT_WORKER)
		return vx_send_exception(ctx, slot, &exception, inner->l3, inner->length);
	if (vx_decapsulate(ctx, inner->l3, inner->length))
		return vx_drop(ctx, slot, VX_DROP_malformed_inner);
	return vx_forward(ctx, slot, hop.destination_mac, bpf_htons(ETH_P_IPV6), 0);
}

/* A cursor at `offset` with `left` bytes of the enclosing packet to come. */
static __always_inline void vx_cursor_at(struct xdp_md *ctx, struct vx_cursor *cursor, __u32 offset, __u32 left)
{
	cursor->at = vx_at(ctx, offset, 0);
	cursor->end = (void *)(long)ctx->data_end;
	cursor->left = cursor->at ? left : 0;
	cursor->offset = offset;
}

/* Whether the IPv6 packet at `offset` is for this host itself. */
static __noinline int vx_is_local6(struct xdp_md *ctx, __u32 offset)
{
	struct ipv6hdr *ip = vx_at(ctx, offset, sizeof(*ip));
	struct vx_prefix6 key = {.length = 128};
	struct vx_route *route;

	if (!ip)
		return 0;
	__builtin_memcpy(&key.address, &ip->daddr, sizeof(key.address));
	route = bpf_map_lookup_elem(&routes6, &key);
	return route && route->kind == VX_ROUTE_LOCAL;
}

/* An inner IPv6 packet from its header on, and its tunnel's ECN field. Not static, as the other functions that are off the
 * fast path: the verifier looks at them once, not once a way of getting there. */
__noinline int vx_inner6(struct xdp_md *ctx, struct vx_slot *slot, __u32 offset, __u32 left, __u32 ecn)
{
	struct vx_cursor cursor;
	struct vx_inner inner = {};
	int stop;

	if (!slot)
		return XDP_ABORTED;
	if (vx_plain_ethernet && vx_is_local6(ctx, offset))
		return vx_pass(slot);
	if (!vx_forward_ipv6)
		return vx_drop(ctx, slot, VX_DROP_ipv6);
	vx_cursor_at(ctx, &cursor, offset, left);
	stop = vx_parse_inner6(&cursor, &inner);
	return stop == VX_GO_ON ? vx_forward6(ctx, slot, &inner, ecn) : vx_drop(ctx, slot, VX_STOP_REASON(stop));
}

/* An outer IPv6 header at `tunnel->offset`; leaves there where the UDP payload starts. */
__noinline int vx_outer6(struct xdp_md *ctx, struct vx_tunnel *tunnel)
{
	struct vx_cursor cursor;
	int stop;

	if (!tunnel)
		return VX_STOP_PASS;
	vx_cursor_at(ctx, &cursor, tunnel->offset, tunnel->left);
	stop = vx_parse_outer6(&cursor, vx_port_be, tunnel);
	tunnel->offset = cursor.offset;
	tunnel->left = cursor.left;
	return stop;
}

/* Whether a tunnel, parsed up to its UDP header, is ours; leaves the cursor at the inner frame. */
static __always_inline int vx_open_tunnel(struct vx_cursor *cursor, struct vx_tunnel *tunnel)
{
	int stop;

	if ((!vx_any_local || !vx_any_peer) && !tunnel->is_ipv6) {
		tunnel->local = vx_map_address4(tunnel->local4_be);
		tunnel->peer = vx_map_address4(tunnel->peer4_be);
	}
	if (!vx_any_local) {
		for (int i = 0; i < 16; i++)
			if (tunnel->local.bytes[i] != vx_local.bytes[i])
				return VX_STOP_PASS;
	}
	stop = vx_parse_vxlan(cursor, tunnel);
	if (stop != VX_GO_ON)
		return stop;
	if (!vx_any_vni) {
		__u32 word = tunnel->vni >> 6;
		__u64 *vnis = bpf_map_lookup_elem(&vni_set, &word);

		if (!vnis || !(*vnis >> (tunnel->vni & 63) & 1))
			return VX_STOP_PASS;
	}
	if (!vx_any_peer) {
		struct vx_prefix6 peer = {.length = 128, .address = tunnel->peer};

		if (!bpf_map_lookup_elem(&peers, &peer))
			return VX_STOP_DROP(peer_not_allowed);
	}
	return tunnel->flags & VX_VXLAN_FLAG_VNI ? VX_GO_ON : VX_STOP_DROP(vxlan_flags);
}

static __always_inline int vx_open_vxlan(struct xdp_md *ctx, struct vx_cursor *cursor, struct vx_tunnel *tunnel)
{
	int stop = vx_parse_outer(cursor, vx_port_be, tunnel);

	if (stop == VX_IS_IPV6) {
		__builtin_memset(tunnel, 0, sizeof(*tunnel));
		tunnel->offset = cursor->offset;
		tunnel->left = cursor->left;
		stop = vx_outer6(ctx, tunnel);
		vx_cursor_at(ctx, cursor, tunnel->offset, tunnel->left);
	}
	return stop == VX_GO_ON ? vx_open_tunnel(cursor, tunnel) : stop;
}

/* Plain Ethernet inside: what is addressed to the interface and is IP; the host's own is told by its route, before
 * the allowlist and the rules see it. */
static __always_inline int vx_open_plain(const struct vx_cursor *cursor)
{
	const struct vx_ethernet *ethernet = cursor->at;

	return (void *)(ethernet + 1) <= cursor->end && vx_to_own_mac(ethernet) ? VX_GO_ON : VX_STOP_PASS;
}

/* Counts a frame; 0 unless it is one whose latency is measured. */
static __always_inline __u64 vx_count_received(struct xdp_md *ctx, struct vx_slot *slot)
{
	slot->direction[VX_INSIDE].received_bytes += vx_frame_length(ctx);
	return slot->direction[VX_INSIDE].received++ & VX_LATENCY_SAMPLE_MASK ? 0 : bpf_ktime_get_ns();
}

static __always_inline struct vx_cursor vx_cursor_of_frame(struct xdp_md *ctx)
{
	struct vx_cursor cursor = {.at = (void *)(long)ctx->data, .end = (void *)(long)ctx->data_end};

	cursor.left = vx_frame_length(ctx);
	return cursor;
}

static __always_inline int vx_parse_packet(struct vx_cursor *cursor, struct vx_inner *inner)
{
	int stop = vx_parse_inner(cursor, inner);

	return vx_plain_ethernet && stop == VX_STOP_DROP(not_ip) ? VX_STOP_PASS : stop;
}

SEC("xdp")
int vx_ingress(struct xdp_md *ctx)
{
	struct vx_slot *slot = vx_slot_here();
	struct vx_cursor cursor = vx_cursor_of_frame(ctx);
	struct vx_tunnel tunnel;
	struct vx_inner inner;
	__u64 started_ns;
	int stop;

	if (!slot)
		return XDP_ABORTED;
	started_ns = vx_count_received(ctx, slot);
	tunnel.ecn = VX_ECN_NOT_ECT; /* what plain Ethernet has */
	stop = vx_plain_ethernet ? vx_open_plain(&cursor) : vx_open_vxlan(ctx, &cursor, &tunnel);
	if (stop == VX_GO_ON)
		stop = vx_parse_packet(&cursor, &inner);
	if (stop == VX_GO_ON)
		return vx_forward4(ctx, slot, &inner, &tunnel, started_ns);
	if (stop == VX_IS_IPV6)
		return vx_inner6(ctx, slot, cursor.offset, cursor.left, tunnel.ecn);
	return stop == VX_STOP_PASS ? vx_pass(slot) : vx_drop(ctx, slot, VX_STOP_REASON(stop));
}

/* In its place with source NAT. A program of its own: remembering the tunnel for the way back takes stack, of which the
 * other has none left. */
SEC("xdp")
int vx_ingress_nat(struct xdp_md *ctx)
{
	struct vx_slot *slot = vx_slot_here();
	struct vx_cursor cursor = vx_cursor_of_frame(ctx);
	struct vx_tunnel tunnel = {};
	struct vx_inner inner;
	__u64 started_ns;
	int stop;

	if (!slot)
		return XDP_ABORTED;
	started_ns = vx_count_received(ctx, slot);
	stop = vx_plain_ethernet ? vx_open_plain(&cursor) : vx_open_vxlan(ctx, &cursor, &tunnel);
	tunnel.offset = cursor.offset;
	tunnel.left = cursor.left;
	if (stop == VX_GO_ON)
		stop = vx_parse_packet(&cursor, &inner);
	else if (!vx_plain_ethernet || stop != VX_STOP_PASS)
		return stop == VX_STOP_PASS ? vx_pass(slot) : vx_drop(ctx, slot, VX_STOP_REASON(stop));
	if (stop == VX_GO_ON)
		return vx_translate4(ctx, slot, &tunnel, &inner, started_ns);
	if (stop == VX_IS_IPV6)
		return vx_inner6(ctx, slot, cursor.offset, cursor.left, tunnel.ecn);
	return vx_answer_inside(ctx, slot, &tunnel, stop);
}

char LICENSE[] SEC("license") = "Dual MIT/GPL";
