// SPDX-License-Identifier: GPL-2.0 OR MIT
/* The inside interface's program: VXLAN in, inner packets out.
 *
 * One frame's way, top to bottom: count it; parse the tunnel and the packet in it (bpf/parse.h); find its flow in
 * the cache or decide it (bpf/decide.h); rewrite in place with incremental checksums; decapsulate; redirect to the
 * outside interface, hand it to the exception worker, or drop it with a name (bpf/leave.h). Run to completion in
 * softirq on the receiving CPU: no lock, and nothing shared with another CPU but the lookups.
 *
 * The flow cache holds a decision for an IPv4 5-tuple, one cache line, two ways, a region per CPU (RSS keeps a flow
 * on a CPU; when it moves, it is decided anew there). It is why the cost of a packet hardly depends on how many
 * lists, rules and routes there are. `control.generation` invalidates all of it at once: who changes an input of a
 * decision changes the map first and the generation after, and a decision is stored under the generation read
 * before it was made.
 *
 * IPv6, and fragments of protocols that have a rule, are decided packet by packet.
 */
#include "decide.h"
#include "fragment.h"
#include "leave.h"

static __always_inline __u64 vx_flow_hash(__u64 addresses, __u64 rest)
{
	__u64 hash = (addresses ^ vx_flow_seed) * 0x9e3779b97f4a7c15ull;

	hash = (hash ^ (hash >> 32) ^ rest) * 0xd6e8feb86659fd93ull;
	return hash ^ (hash >> 32);
}

/* The cache entry of this flow, decided. 0 only when the map is smaller than the CPU number. */
static __always_inline struct vx_flow *vx_find_flow(struct vx_slot *slot, const struct iphdr *ip,
						    const struct vx_inner *inner)
{
	__u32 generation = *(volatile __u32 *)&control.generation;
	__u64 ports = (__u64)inner->source_port_be << 16 | inner->destination_port_be;
	__u64 hash = vx_flow_hash((__u64)ip->saddr << 32 | ip->daddr, ports << 8 | inner->protocol);
	__u32 way0 = bpf_get_smp_processor_id() * VX_FLOWS_PER_CPU + (hash & (VX_FLOWS_PER_CPU - 2));
	__u32 way1 = way0 + 1;
	struct vx_flow *flow = bpf_map_lookup_elem(&flow_cache, &way0);
	struct vx_flow *other;

#define VX_IS_FLOW(f)                                                                                           \
	((f)->source_be == ip->saddr && (f)->destination_be == ip->daddr &&                                     \
	 (f)->source_port_be == inner->source_port_be && (f)->destination_port_be == inner->destination_port_be && \
	 (f)->protocol == inner->protocol && (f)->generation == generation)
	if (!flow)
		return 0;
	if (VX_IS_FLOW(flow))
		return flow;
	other = bpf_map_lookup_elem(&flow_cache, &way1);
	if (!other)
		return 0;
	if (VX_IS_FLOW(other))
		return other;
#undef VX_IS_FLOW
	if (flow->generation == generation && (other->generation != generation || (hash >> 63)))
		flow = other;
	slot->direction[VX_INSIDE].flow_misses++;
	flow->generation = generation - 1; /* not valid while half written */
	flow->source_be = ip->saddr;
	flow->destination_be = ip->daddr;
	flow->source_port_be = inner->source_port_be;
	flow->destination_port_be = inner->destination_port_be;
	flow->protocol = inner->protocol;
	vx_decide4(flow);
	flow->generation = generation;
	return flow;
}

static __always_inline int vx_forward4(struct xdp_md *ctx, struct vx_slot *slot, const struct vx_inner *inner,
				       __u64 started_ns)
{
	struct iphdr *ip = vx_at(ctx, inner->l3, sizeof(*ip));
	__u32 length = inner->length;
	struct vx_exception exception = {};
	struct vx_rewrite rewrite = {};
	struct vx_flow *flow;
	__u8 macs[2 * ETH_ALEN];

	if (!ip)
		return vx_drop(ctx, slot, VX_DROP_malformed_inner);
	if (inner->fragment != VX_WHOLE && vx_rules_cover(inner->protocol, control.rules))
		return vx_forward_fragment4(ctx, slot, inner);
	flow = vx_find_flow(slot, ip, inner);
	if (!flow)
		return XDP_ABORTED;
	if (flow->verdict == VX_VERDICT_PASS)
		return vx_pass(slot);
	if (flow->verdict == VX_VERDICT_DROP)
		return vx_drop(ctx, slot, flow->drop);
	rewrite.new_destination_be = flow->new_destination_be;
	rewrite.new_port_be = flow->new_port_be;
	rewrite.address_delta = flow->address_delta;
	rewrite.port_delta = flow->port_delta;
	rewrite.pseudo_sum = flow->pseudo_sum;
	rewrite.translated = flow->translated;
	int stop = vx_rewrite4(ctx, slot, inner, &rewrite, flow->mtu);

	if (stop != VX_GO_ON)
		return vx_drop(ctx, slot, VX_STOP_REASON(stop));
	if (flow->verdict == VX_VERDICT_WORKER || length > flow->mtu) {
		exception.reason = flow->verdict == VX_VERDICT_WORKER ? VX_EXCEPTION_NEIGHBOUR : VX_EXCEPTION_TOO_BIG;
		exception.original_destination_be = flow->destination_be;
		return vx_send_exception(ctx, slot, &exception, inner->l3, length);
	}
	__builtin_memcpy(macs, flow->destination_mac, sizeof(macs));
	if (vx_decapsulate(ctx, inner->l3, length))
		return vx_drop(ctx, slot, VX_DROP_malformed_inner);
	return vx_forward(ctx, slot, macs, bpf_htons(ETH_P_IP), started_ns);
}

static __always_inline int vx_forward6(struct xdp_md *ctx, struct vx_slot *slot, const struct vx_inner *inner)
{
	struct ipv6hdr *ip = vx_at(ctx, inner->l3, sizeof(*ip));
	struct vx_exception exception = {.reason = VX_EXCEPTION_NEIGHBOUR};
	struct vx_next_hop hop = {};
	struct vx_addr source, destination;
	int stop;

	if (!ip)
		return vx_drop(ctx, slot, VX_DROP_malformed_inner);
	__builtin_memcpy(&source, &ip->saddr, sizeof(source));
	__builtin_memcpy(&destination, &ip->daddr, sizeof(destination));
	if (!vx_allowed6(&source, &destination, control.allowlist))
		return vx_drop(ctx, slot, VX_DROP_not_allowed);
	vx_find_next_hop6(&destination, &hop);
	if (hop.verdict == VX_VERDICT_PASS)
		return vx_pass(slot);
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

/* An inner IPv6 packet from its header on. Not static, as the other functions that are off the fast path: the
 * verifier looks at them once, not once a way of getting there. */
__noinline int vx_inner6(struct xdp_md *ctx, struct vx_slot *slot, __u32 offset, __u32 left)
{
	struct vx_cursor cursor;
	struct vx_inner inner = {};
	int stop;

	if (!slot)
		return XDP_ABORTED;
	if (!vx_forward_ipv6)
		return vx_drop(ctx, slot, VX_DROP_ipv6);
	vx_cursor_at(ctx, &cursor, offset, left);
	stop = vx_parse_inner6(&cursor, &inner);
	return stop == VX_GO_ON ? vx_forward6(ctx, slot, &inner) : vx_drop(ctx, slot, VX_STOP_REASON(stop));
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

static __always_inline int vx_open_vxlan(struct xdp_md *ctx, struct vx_cursor *cursor)
{
	struct vx_tunnel tunnel = {};
	int stop = vx_parse_outer(cursor, vx_port_be, &tunnel);

	if (stop == VX_IS_IPV6) {
		tunnel.offset = cursor->offset;
		tunnel.left = cursor->left;
		stop = vx_outer6(ctx, &tunnel);
		vx_cursor_at(ctx, cursor, tunnel.offset, tunnel.left);
	}
	return stop == VX_GO_ON ? vx_open_tunnel(cursor, &tunnel) : stop;
}

/* Plain Ethernet inside: what is addressed to the interface and is IP; the host's own is sorted out by route. */
static __always_inline int vx_open_plain(const struct vx_cursor *cursor)
{
	__u32 inside = VX_INSIDE;
	struct vx_interface *interface = bpf_map_lookup_elem(&interface_map, &inside);
	struct ethhdr *ethernet = cursor->at;

	if (!interface || (void *)(ethernet + 1) > cursor->end)
		return VX_STOP_PASS;
	for (int i = 0; i < ETH_ALEN; i++)
		if (ethernet->h_dest[i] != interface->mac[i])
			return VX_STOP_PASS;
	return VX_GO_ON;
}

SEC("xdp")
int vx_ingress(struct xdp_md *ctx)
{
	struct vx_slot *slot = vx_slot_here();
	struct vx_cursor cursor = {.at = (void *)(long)ctx->data, .end = (void *)(long)ctx->data_end};
	struct vx_inner inner = {};
	__u64 started_ns = 0;
	int stop;

	if (!slot)
		return XDP_ABORTED;
	cursor.left = vx_frame_length(ctx);
	slot->direction[VX_INSIDE].received++;
	slot->direction[VX_INSIDE].received_bytes += cursor.left;
	if (!(slot->latency_tick++ & VX_LATENCY_SAMPLE_MASK))
		started_ns = bpf_ktime_get_ns();
	stop = vx_plain_ethernet ? vx_open_plain(&cursor) : vx_open_vxlan(ctx, &cursor);
	if (stop == VX_GO_ON) {
		stop = vx_parse_inner(&cursor, &inner);
		if (vx_plain_ethernet && stop == VX_STOP_DROP(not_ip))
			stop = VX_STOP_PASS;
	}
	if (stop == VX_GO_ON)
		return vx_forward4(ctx, slot, &inner, started_ns);
	if (stop == VX_IS_IPV6)
		return vx_inner6(ctx, slot, cursor.offset, cursor.left);
	return stop == VX_STOP_PASS ? vx_pass(slot) : vx_drop(ctx, slot, VX_STOP_REASON(stop));
}

char LICENSE[] SEC("license") = "Dual MIT/GPL";
