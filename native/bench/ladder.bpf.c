// SPDX-License-Identifier: GPL-2.0 OR MIT
/* The gateway's inside program taken apart: each program here does one thing more than the one before it.
 *
 * Loaded by vxbare --stage, for the bench's table of what each thing costs. Composed of the headers bpf/ingress.bpf.c
 * is made of, so that what is measured is what runs; linked with bpf/losses.bpf.c, the ledger's tracepoints, which
 * --ledger attaches. What is missing here against vx_ingress is marked tunnels' ECN, and what needs a configured gateway:
 * the VNI's lookup, the caches, routes, neighbours, allowlist and rules. Frames that are not tunnelled IPv4 are left to the
 * kernel: the bench sends none. Softirq, one CPU a packet.
 */
#pragma clang diagnostic ignored "-Wunused-function" /* the headers' ways for IPv6 and exceptions */
#define VX_DIRECTION VX_INSIDE
#include "forward.h"
#include "rewrite.h"

/* Set by vxbare before the programs are loaded. */
const volatile __u32 stage_mtu = 0;
const volatile struct vx_host stage_hop = {};

static __always_inline int stage_parse(struct xdp_md *ctx, struct vx_cursor *cursor, struct vx_inner *inner)
{
	struct vx_tunnel tunnel;
	int stop;

	cursor->at = (void *)(long)ctx->data;
	cursor->end = (void *)(long)ctx->data_end;
	cursor->left = vx_frame_length(ctx);
	cursor->offset = 0;
	tunnel.ecn = VX_ECN_NOT_ECT;
	stop = vx_parse_outer(cursor, vx_port_be, &tunnel);
	if (stop == VX_GO_ON)
		stop = vx_parse_vxlan(cursor, &tunnel);
	if (stop == VX_GO_ON && !(tunnel.flags & VX_VXLAN_FLAG_VNI))
		stop = VX_STOP_DROP(vxlan_flags);
	if (stop == VX_GO_ON)
		stop = vx_parse_inner(cursor, inner);
	/* What was found out counts as used, or the compiler would leave out finding it. */
	asm volatile("" : : "r"(inner), "r"(tunnel.vni), "r"(tunnel.ecn) : "memory");
	return stop;
}

static __always_inline void stage_copy_hop(__u32 *macs)
{
	const volatile __u32 *from = (const volatile __u32 *)stage_hop.destination_mac;

	macs[0] = from[0];
	macs[1] = from[1];
	macs[2] = from[2];
}

/* The end of the steps that count: as the product leaves. */
static __always_inline int stage_count(struct xdp_md *ctx, int with_check)
{
	struct vx_slot *slot = vx_slot_here();
	struct vx_cursor cursor;
	struct vx_inner inner;
	__u64 started_ns = 0;
	__u32 macs[3];
	int stop;

	if (!slot)
		return XDP_ABORTED;
	slot->direction[VX_INSIDE].received_bytes += vx_frame_length(ctx);
	if (!(slot->direction[VX_INSIDE].received++ & VX_LATENCY_SAMPLE_MASK))
		started_ns = bpf_ktime_get_ns();
	if (stage_parse(ctx, &cursor, &inner) != VX_GO_ON)
		return vx_pass(slot);
	if (with_check) {
		stop = vx_rewrite4(ctx, slot, &inner, 0, stage_mtu);
		if (stop != VX_GO_ON)
			return vx_drop(ctx, slot, VX_STOP_REASON(stop));
	}
	if (vx_decapsulate(ctx, inner.l3, inner.length))
		return vx_drop(ctx, slot, VX_DROP_malformed_inner);
	stage_copy_hop(macs);
	return vx_forward(ctx, slot, (const __u8 *)macs, bpf_htons(ETH_P_IP), started_ns);
}

SEC("xdp")
int parse(struct xdp_md *ctx)
{
	struct vx_cursor cursor;
	struct vx_inner inner;

	if (stage_parse(ctx, &cursor, &inner) != VX_GO_ON)
		return XDP_PASS;
	return bpf_redirect_map(&redirect_map, VX_OUTSIDE, XDP_ABORTED);
}

SEC("xdp")
int decapsulate(struct xdp_md *ctx)
{
	struct vx_cursor cursor;
	struct vx_inner inner;
	struct vx_ethernet *ethernet;

	if (stage_parse(ctx, &cursor, &inner) != VX_GO_ON)
		return XDP_PASS;
	if (vx_decapsulate(ctx, inner.l3, inner.length))
		return XDP_ABORTED;
	ethernet = (void *)(long)ctx->data;
	if ((void *)(ethernet + 1) > (void *)(long)ctx->data_end)
		return XDP_ABORTED;
	stage_copy_hop((__u32 *)ethernet);
	ethernet->protocol_be = bpf_htons(ETH_P_IP);
	return bpf_redirect_map(&redirect_map, VX_OUTSIDE, XDP_ABORTED);
}

SEC("xdp")
int count(struct xdp_md *ctx)
{
	return stage_count(ctx, 0);
}

SEC("xdp")
int check(struct xdp_md *ctx)
{
	return stage_count(ctx, 1);
}

SEC("xdp")
int outside_pass(struct xdp_md *ctx __attribute__((unused)))
{
	return XDP_PASS;
}

char LICENSE[] SEC("license") = "Dual MIT/GPL";
