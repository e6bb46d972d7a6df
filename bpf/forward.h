/* SPDX-License-Identifier: (GPL-2.0 OR MIT) */
/* The inside program's ways for a packet that is sent on: by the outside interface, or finished to a worker. Each one
 * counts. Softirq, one CPU a packet.
 */
#ifndef VX_FORWARD_H
#define VX_FORWARD_H

#include "ingress_maps.h"
#include "leave.h"
#include "parse.h"

/* Makes the frame an Ethernet header (to be filled in) and the IP packet of `length` bytes at `l3_offset`. */
static __always_inline int vx_decapsulate(struct xdp_md *ctx, __u32 l3_offset, __u32 length)
{
	__u32 frame = vx_frame_length(ctx);
	int tail = (int)(l3_offset + length) - (int)frame;
	int head = (int)l3_offset - ETH_HLEN;

	if (tail && bpf_xdp_adjust_tail(ctx, tail))
		return -1;
	return head ? bpf_xdp_adjust_head(ctx, head) : 0;
}

/* Whether an inside queue has sockets: what comes behind them in the map are the outside interface's. */
static __always_inline int vx_queue_has_sockets(const struct xdp_md *ctx)
{
	return !vx_translate || ctx->rx_queue_index * vx_workers < vx_outside_sockets;
}

/* Hands a decapsulated frame to its worker: by the socket of its queue, else by its ring. */
static __noinline int vx_to_worker(struct xdp_md *ctx, struct vx_slot *slot, const struct vx_exception *exception)
{
	__u32 length = exception->length;

	VX_OPAQUE(length);
	if (length < ETH_HLEN || length > VX_EXCEPTION_BYTES_MAX)
		return vx_drop_leaving(ctx, slot, VX_DROP_too_big);
	if (vx_hand_over != VX_HAND_OVER_RINGS && vx_queue_has_sockets(ctx) &&
	    bpf_redirect_map(&worker_sockets, ctx->rx_queue_index * vx_workers + exception->worker, XDP_ABORTED) ==
		    XDP_REDIRECT &&
	    !bpf_xdp_adjust_meta(ctx, -(int)sizeof(*exception))) {
		struct vx_exception *meta = (void *)(long)ctx->data_meta;
		struct vx_ethernet *ethernet = (void *)(long)ctx->data;

		if ((void *)(meta + 1) <= (void *)ethernet && (void *)(ethernet + 1) <= (void *)(long)ctx->data_end) {
			*meta = *exception;
			ethernet->protocol_be = VX_ETHERTYPE_EXCEPTION;
			slot->direction[VX_INSIDE].to_worker++;
			return XDP_REDIRECT;
		}
	}
	return vx_to_ring(ctx, slot, exception, 0);
}

/* Which worker has the flow: all packets between two addresses go to one, fragments too. */
static __always_inline __u32 vx_owner(struct xdp_md *ctx, __be16 protocol_be)
{
	__u32 hash = vx_cache_seed;

	if (vx_workers == 1)
		return 0;
	if (protocol_be == bpf_htons(ETH_P_IP)) {
		struct iphdr *ip = vx_at(ctx, ETH_HLEN, sizeof(*ip));

		if (ip)
			hash ^= ip->saddr ^ (ip->daddr << 16 | ip->daddr >> 16);
	} else {
		struct ipv6hdr *ip = vx_at(ctx, ETH_HLEN, sizeof(*ip));

		if (ip)
			for (int i = 0; i < 4; i++)
				hash = (hash ^ ip->saddr.in6_u.u6_addr32[i] ^ ip->daddr.in6_u.u6_addr32[3 - i]) * 0x9e3779b1;
	}
	hash = (hash ^ hash >> 16) * 0x7feb352d; /* lowbias32 by C. Wellons: neighbours among addresses part */
	hash = (hash ^ hash >> 15) * 0x846ca68b;
	return (__u64)(hash ^ hash >> 16) * vx_workers >> 32;
}

/* Hands over a complete frame with a header: to a ring, or because it is timed. */
static __noinline int vx_ready_with_header(struct xdp_md *ctx, struct vx_slot *slot, __u32 worker, __u64 started_ns)
{
	struct vx_exception exception = {.magic = VX_EXCEPTION_MAGIC,
					 .length = (__u16)vx_frame_length(ctx),
					 .reason = VX_EXCEPTION_READY,
					 .worker = worker,
					 .started_ns = started_ns};

	return vx_to_worker(ctx, slot, &exception);
}

/* Hands over a frame that is complete. */
static __always_inline int vx_ready(struct xdp_md *ctx, struct vx_slot *slot, __be16 protocol_be, __u64 started_ns)
{
	__u32 worker = vx_owner(ctx, protocol_be);

	if (vx_hand_over != VX_HAND_OVER_SOCKETS || started_ns ||
	    vx_frame_length(ctx) > VX_EXCEPTION_BYTES_MAX || /* or a socket would count it, and the tracepoint too */
	    (protocol_be == bpf_htons(ETH_P_IPV6) && !vx_queue_has_sockets(ctx)) || /* IPv4 is the engine's then */
	    bpf_redirect_map(&worker_sockets, ctx->rx_queue_index * vx_workers + worker, XDP_ABORTED) != XDP_REDIRECT)
		return vx_ready_with_header(ctx, slot, worker, started_ns);
	slot->direction[VX_INSIDE].to_worker++;
	return XDP_REDIRECT;
}

/* Two MAC addresses in three words. */
static __always_inline void vx_copy_macs(__u32 *to, const __u32 *from)
{
	to[0] = from[0];
	to[1] = from[1];
	to[2] = from[2];
}

/* Sends a decapsulated frame out: `macs` is destination then source, aligned to a word. Losses from here on show in
 * bpf/losses.bpf.c. */
static __always_inline int vx_forward(struct xdp_md *ctx, struct vx_slot *slot, const __u8 *macs, __be16 protocol_be,
				      __u64 started_ns)
{
	struct vx_ethernet *ethernet = (void *)(long)ctx->data;
	int action;

	if ((void *)(ethernet + 1) > (void *)(long)ctx->data_end)
		return vx_drop_leaving(ctx, slot, VX_DROP_malformed_inner);
	vx_copy_macs((__u32 *)ethernet, (const __u32 *)macs);
	ethernet->protocol_be = protocol_be;
	if (vx_hand_over != VX_HAND_OVER_EXCEPTIONS)
		return vx_ready(ctx, slot, protocol_be, started_ns);
	action = bpf_redirect_map(&redirect_map, VX_OUTSIDE, XDP_ABORTED);
	if (action != XDP_REDIRECT)
		return vx_drop_leaving(ctx, slot, VX_DROP_redirect_error);
	slot->direction[VX_INSIDE].redirected++;
	slot->direction[VX_INSIDE].redirected_bytes += vx_frame_length(ctx);
	if (started_ns)
		slot->latency_start_ns = started_ns;
	return action;
}

#endif
