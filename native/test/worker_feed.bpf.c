// SPDX-License-Identifier: (GPL-2.0 OR MIT)
/* Feeds worker 0 in its tests, in the place of bpf/ingress.bpf.c: a frame whose ethertype is one of ours
 * carries a vx_exception and then the packet, and goes to the worker by socket or by ring. Run on the receive side
 * of the test's inside veth. Holds every map that the worker is given.
 */
#include <linux/bpf.h>
#include <linux/if_ether.h>

#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#include "abi/abi.h"

#define FEED_BY_SOCKET 0x88b5 /* IEEE 802 local experimental */
#define FEED_BY_RING 0x88b6

struct {
	__uint(type, BPF_MAP_TYPE_XSKMAP);
	__uint(max_entries, VX_QUEUES_MAX);
	__type(key, __u32);
	__type(value, __u32);
} sockets SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_LPM_TRIE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, 65536);
	__type(key, struct vx_prefix4);
	__type(value, struct vx_route);
} routes4 SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_LPM_TRIE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, 65536);
	__type(key, struct vx_prefix6);
	__type(value, struct vx_route);
} routes6 SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, VX_NEIGHBOURS_MAX);
	__type(key, struct vx_addr);
	__type(value, struct vx_neighbour);
} neighbours SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, VX_DIRECTIONS);
	__type(key, __u32);
	__type(value, struct vx_interface);
} interfaces SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, VX_FRAGMENTS_MAX);
	__type(key, struct vx_fragment_key);
	__type(value, struct vx_fragment);
} fragments SEC(".maps");

struct feed_ring {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 1 << 20);
} ring0 SEC(".maps"), ring1 SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY_OF_MAPS);
	__uint(max_entries, 2);
	__type(key, __u32);
	__array(values, struct feed_ring);
} rings SEC(".maps") = {.values = {[0] = &ring0, [1] = &ring1}};

struct vx_control control;
__u32 workers = 1;

static __always_inline int by_ring(struct xdp_md *ctx, __u32 length)
{
	__u32 first = bpf_get_smp_processor_id() & 1;
	void *ring = bpf_map_lookup_elem(&rings, &first);
	void *record;

	if (!ring)
		return XDP_ABORTED;
	record = bpf_ringbuf_reserve(ring, sizeof(struct vx_exception) + VX_EXCEPTION_BYTES_MAX, 0);
	if (!record)
		return XDP_ABORTED;
	if (length < 1 || length > VX_EXCEPTION_BYTES_MAX || bpf_xdp_load_bytes(ctx, ETH_HLEN, record, length))
		bpf_ringbuf_discard(record, 0);
	else
		bpf_ringbuf_submit(record, 0);
	return XDP_DROP;
}

static __always_inline int by_socket(struct xdp_md *ctx)
{
	struct vx_exception exception, *meta;

	if (bpf_xdp_load_bytes(ctx, ETH_HLEN, &exception, sizeof(exception)))
		return XDP_ABORTED;
	if (bpf_xdp_adjust_head(ctx, ETH_HLEN + sizeof(exception)) ||
	    bpf_xdp_adjust_meta(ctx, -(int)sizeof(exception)))
		return XDP_ABORTED;
	meta = (void *)(long)ctx->data_meta;
	if ((void *)(meta + 1) > (void *)(long)ctx->data)
		return XDP_ABORTED;
	*meta = exception;
	return bpf_redirect_map(&sockets, ctx->rx_queue_index * workers + exception.worker, XDP_ABORTED);
}

SEC("xdp")
int feed(struct xdp_md *ctx)
{
	struct ethhdr *ethernet = (void *)(long)ctx->data;
	__u64 length = (__u64)(long)ctx->data_end - (__u64)(long)ctx->data;

	if ((void *)(ethernet + 1) > (void *)(long)ctx->data_end)
		return XDP_PASS;
	switch (bpf_ntohs(ethernet->h_proto)) {
	case FEED_BY_SOCKET: return by_socket(ctx);
	case FEED_BY_RING: return by_ring(ctx, (__u32)(length - ETH_HLEN));
	default: return XDP_PASS;
	}
}

char LICENSE[] SEC("license") = "Dual MIT/GPL";
