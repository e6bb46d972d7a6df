/* SPDX-License-Identifier: (GPL-2.0 OR MIT) */
/* The ways a packet leaves a program for nowhere, the kernel or a worker; each one counts. Included by both programs, each
 * of which says before whose counters they are: VX_DIRECTION. Softirq, one CPU a packet.
 */
#ifndef VX_LEAVE_H
#define VX_LEAVE_H

#include "parse.h"
#include "worker_maps.h"

#ifndef VX_DIRECTION
#error "which enum vx_direction does this program receive?"
#endif

/* Size classes of ring records: what the verifier wants known is not what a packet has. */
#define VX_RECORD_SMALL 104
#define VX_RECORD_MEDIUM 488
#define VX_RECORD_LARGE 1536

/* How much of a vx_translate lies in front of where an Ethernet header would: 0 when the frame is not one for the engine. */
static __always_inline __u32 vx_translate_bytes(struct xdp_md *ctx)
{
	struct vx_translate *head = vx_at(ctx, 0, sizeof(*head));

	return head && head->mark_be == bpf_htons(VX_ETHERTYPE_TRANSLATE) ? sizeof(*head) - ETH_HLEN : 0;
}

/* For those who watch. Each round has room for a few of a reason, and only a reader starts the next: what they cost is
 * bounded without a clock, and nothing piles up for one who went away. */
static __noinline int vx_sample_drop(struct xdp_md *ctx, __u32 reason, __u32 form)
{
	struct vx_slot *slot = vx_slot_here(); /* again: callers are short of registers, and of stack for more */
	struct vx_sample *sample;
	__u32 length, captured, skip = 0;

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
	slot->direction[VX_DIRECTION].sampled++;
	sample->time_ns = bpf_ktime_get_ns();
	length = vx_frame_length(ctx);
	if (vx_translate && form == VX_SAMPLE_LEAVING)
		skip = vx_translate_bytes(ctx);
	length -= skip;
	captured = length < VX_SAMPLE_BYTES ? length : VX_SAMPLE_BYTES;
	sample->length = length;
	sample->drop = reason;
	sample->direction = VX_DIRECTION;
	sample->form = form;
	VX_OPAQUE(captured);
	if (captured < 1 || captured > VX_SAMPLE_BYTES || bpf_xdp_load_bytes(ctx, skip, sample->bytes, captured))
		captured = 0;
	if (skip) {
		__builtin_memset(sample->bytes, 0, ETH_HLEN - sizeof(__be16));
		*(__be16 *)(sample->bytes + ETH_HLEN - sizeof(__be16)) = bpf_htons(ETH_P_IP);
	}
	sample->captured = captured;
	bpf_ringbuf_submit(sample, BPF_RB_NO_WAKEUP);
	return 0;
}

static __always_inline int vx_drop_as(struct xdp_md *ctx, struct vx_slot *slot, __u32 reason, __u32 form)
{
	if (reason >= VX_DROP_COUNT)
		return XDP_ABORTED;
	slot->direction[VX_DIRECTION].dropped[reason]++;
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
	slot->direction[VX_DIRECTION].passed++;
	return XDP_PASS;
}

/* A copy of the frame, of at most `room` bytes (a constant), in the ring. */
static __always_inline int vx_put_record(struct xdp_md *ctx, struct vx_slot *slot, void *ring,
					 const struct vx_exception *exception, __u32 room)
{
	__u32 length = exception->length, wake;
	volatile __u32 *sleeps;
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
	__sync_fetch_and_add(&slot->direction[VX_DIRECTION].to_worker, 1);
	sleeps = (volatile __u32 *)&control.worker_sleeps[exception->worker % VX_WORKERS_MAX];
	wake = *sleeps;
	/* Once: it may sleep on this very CPU and not get it between the packets of a poll. Before the record is there to be
	 * read, so that a worker that has read it and sleeps again does not lose what it says then. */
	if (wake)
		*sleeps = 0;
	bpf_ringbuf_submit(record, wake ? BPF_RB_FORCE_WAKEUP : BPF_RB_NO_WAKEUP);
	return XDP_DROP; /* the copy goes on */
}

/* The place of the packet's ring in percpu_ringbufs. */
static __always_inline __u32 vx_ring_of(struct xdp_md *ctx, __u32 worker)
{
	const __u32 lanes = VX_DIRECTION == VX_OUTSIDE ? vx_outside_lanes : vx_inside_lanes;
	__u32 lane = ctx->rx_queue_index;

	if (lane >= lanes)
		lane = 0;
	if (VX_DIRECTION == VX_OUTSIDE)
		lane += vx_inside_lanes;
	return lane * vx_workers + worker;
}

/* A copy of the frame in its queue's ring of its worker. `more` (a constant) is added to the size classes. */
static __always_inline int vx_to_ring(struct xdp_md *ctx, struct vx_slot *slot, const struct vx_exception *exception,
				      __u32 more)
{
	__u32 at = vx_ring_of(ctx, exception->worker);
	__u32 length = exception->length;
	void *ring = bpf_map_lookup_elem(&percpu_ringbufs, &at);

	if (!ring)
		return vx_drop_leaving(ctx, slot, VX_DROP_redirect_error);
	if (length <= VX_RECORD_SMALL + more)
		return vx_put_record(ctx, slot, ring, exception, VX_RECORD_SMALL + more);
	if (length <= VX_RECORD_MEDIUM + more)
		return vx_put_record(ctx, slot, ring, exception, VX_RECORD_MEDIUM + more);
	if (length <= VX_RECORD_LARGE + more)
		return vx_put_record(ctx, slot, ring, exception, VX_RECORD_LARGE + more);
	return vx_put_record(ctx, slot, ring, exception, VX_EXCEPTION_BYTES_MAX);
}

#endif
