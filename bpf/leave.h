/* SPDX-License-Identifier: (GPL-2.0 OR MIT) */
/* The ways a packet leaves the inside program; each one counts. Softirq, one CPU a packet. */
#ifndef VX_LEAVE_H
#define VX_LEAVE_H

#include "ingress_maps.h"
#include "parse.h"

/* Size classes of ring records: what the verifier wants known is not what a packet has. */
#define VX_RECORD_SMALL 104
#define VX_RECORD_MEDIUM 488
#define VX_RECORD_LARGE 1536

/* For those who watch. Each round has room for a few of a reason, and only a reader starts the next: what they cost is
 * bounded without a clock, and nothing piles up for one who went away. */
static __noinline int vx_sample_drop(struct xdp_md *ctx, __u32 reason, __u32 form)
{
	struct vx_slot *slot = vx_slot_here(); /* again: callers are short of registers, and of stack for more */
	struct vx_sample *sample;
	__u32 length, captured;

	if (!slot || reason >= VX_DROP_COUNT)
		return 0;
	if (slot->sampled[reason].round != control.sample_round) {
		slot->sampled[reason].round = control.sample_round;
		slot->sampled[reason].count = 0;
	}
	if (slot->sampled[reason].count >= control.sample_most)
		return 0;
	slot->sampled[reason].count++;
	sample = bpf_ringbuf_reserve(&packet_ringbuf, sizeof(*sample), 0);
	if (!sample)
		return 0;
	slot->direction[VX_INSIDE].sampled++;
	sample->time_ns = bpf_ktime_get_ns();
	length = vx_frame_length(ctx);
	captured = length < VX_SAMPLE_BYTES ? length : VX_SAMPLE_BYTES;
	sample->length = length;
	sample->drop = reason;
	sample->direction = VX_INSIDE;
	sample->form = form;
	VX_OPAQUE(captured);
	if (captured < 1 || captured > VX_SAMPLE_BYTES || bpf_xdp_load_bytes(ctx, 0, sample->bytes, captured))
		captured = 0;
	sample->captured = captured;
	bpf_ringbuf_submit(sample, BPF_RB_NO_WAKEUP);
	return 0;
}

static __always_inline int vx_drop_as(struct xdp_md *ctx, struct vx_slot *slot, __u32 reason, __u32 form)
{
	if (reason >= VX_DROP_COUNT)
		return XDP_ABORTED;
	slot->direction[VX_INSIDE].dropped[reason]++;
	if (control.sample_round)
		vx_sample_drop(ctx, reason, form);
	return XDP_DROP;
}

static __always_inline int vx_drop(struct xdp_md *ctx, struct vx_slot *slot, __u32 reason)
{
	return vx_drop_as(ctx, slot, reason, VX_SAMPLE_RECEIVED);
}

/* Of a frame that is decapsulated already. */
static __always_inline int vx_drop_leaving(struct xdp_md *ctx, struct vx_slot *slot, __u32 reason)
{
	return vx_drop_as(ctx, slot, reason, VX_SAMPLE_LEAVING);
}

static __always_inline int vx_pass(struct vx_slot *slot)
{
	slot->direction[VX_INSIDE].passed++;
	return XDP_PASS;
}

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

/* A copy of the frame, of at most `room` bytes (a constant), in the ring. */
static __always_inline int vx_put_record(struct xdp_md *ctx, struct vx_slot *slot, void *ring,
					 const struct vx_exception *exception, __u32 room)
{
	__u32 length = exception->length, sleeps;
	struct vx_exception *record = bpf_ringbuf_reserve(ring, sizeof(*record) + room, 0);

	if (!record)
		return vx_drop_leaving(ctx, slot, VX_DROP_ring_full);
	*record = *exception;
	VX_OPAQUE(length);
	if (length < ETH_HLEN || length > room || bpf_xdp_load_bytes(ctx, 0, record + 1, length)) {
		bpf_ringbuf_discard(record, BPF_RB_NO_WAKEUP);
		return vx_drop_leaving(ctx, slot, VX_DROP_redirect_error);
	}
	/* Read after the record was reserved: a worker that has begun to sleep since then finds it there. A locked
	 * addition keeps that order on x86; where it does not, a lone record may wait for the worker's next tick. */
	__sync_fetch_and_add(&slot->direction[VX_INSIDE].to_worker, 1);
	sleeps = *(volatile __u32 *)&control.worker_sleeps[exception->worker % VX_WORKERS_MAX];
	bpf_ringbuf_submit(record, sleeps ? BPF_RB_FORCE_WAKEUP : BPF_RB_NO_WAKEUP);
	return XDP_DROP; /* the copy goes on */
}

/* Hands a decapsulated frame to its worker: by the socket of its queue, else by this CPU's ring. */
static __noinline int vx_to_worker(struct xdp_md *ctx, struct vx_slot *slot, const struct vx_exception *exception)
{
	void *ring;
	__u32 at = bpf_get_smp_processor_id() * vx_workers + exception->worker;
	__u32 length = exception->length;

	VX_OPAQUE(length);
	if (length < ETH_HLEN || length > VX_EXCEPTION_BYTES_MAX)
		return vx_drop_leaving(ctx, slot, VX_DROP_too_big);
	if (vx_hand_over != VX_HAND_OVER_RINGS &&
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
	ring = bpf_map_lookup_elem(&percpu_ringbufs, &at);
	if (!ring)
		return vx_drop_leaving(ctx, slot, VX_DROP_redirect_error);
	if (length <= VX_RECORD_SMALL)
		return vx_put_record(ctx, slot, ring, exception, VX_RECORD_SMALL);
	if (length <= VX_RECORD_MEDIUM)
		return vx_put_record(ctx, slot, ring, exception, VX_RECORD_MEDIUM);
	if (length <= VX_RECORD_LARGE)
		return vx_put_record(ctx, slot, ring, exception, VX_RECORD_LARGE);
	return vx_put_record(ctx, slot, ring, exception, VX_EXCEPTION_BYTES_MAX);
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

/* Sends a decapsulated frame out: `macs` is destination then source, aligned to a word. Losses from here on show in bpf/losses.bpf.c. */
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
