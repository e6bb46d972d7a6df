// SPDX-License-Identifier: GPL-2.0 OR MIT
/* The outside interface's program. What arrives there is counted and left to the kernel, but with source NAT what is
 * addressed to the pool: that goes to the workers (bpf/outside_translate.h). Without, it has to be there all the same: ENA,
 * and veth by its far end, refuse redirected frames for an interface without a program of its own (-ENXIO). Softirq.
 *
 * It is also how a worker injects many frames a system call (native/io/injector.h): BPF_PROG_RUN runs it on live
 * frames, which show the loopback device as their origin, in the worker's thread with softirqs off. A program that is
 * attached nowhere would cost 24 ms a call, hence this one. bpf/losses.bpf.c sees what becomes of the frames.
 */
#define VX_DIRECTION VX_OUTSIDE

#include "outside_translate.h"

/* The workers' frames; sized when the object is opened. AF_XDP receives into the same memory. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct vx_chunk);
} umem SEC(".maps");

static __noinline int vx_not_injected(struct vx_injection *injection)
{
	struct vx_slot *slot;

	if (!injection)
		return XDP_ABORTED;
	slot = vx_slot_of_injection(injection);
	injection->told++;
	if (slot)
		slot->direction[injection->ledger % VX_DIRECTIONS].dropped[VX_DROP_redirect_error]++;
	return XDP_ABORTED;
}

/* The next frame of the worker that runs here in place of this empty one. */
static __noinline int vx_inject(struct xdp_md *ctx)
{
	struct vx_injection *injection = vx_injection_here();
	__u32 at, chunk, offset, length;
	struct vx_chunk *from;

	if (!injection)
		return XDP_DROP;
	at = injection->cursor;
	if (at >= injection->count || at >= VX_INJECTION_MAX)
		return XDP_DROP;
	injection->cursor = at + 1;
	injection->taken++;
	chunk = injection->frames[at].address / VX_FRAME_BYTES;
	offset = injection->frames[at].address % VX_FRAME_BYTES;
	length = injection->frames[at].length;
	from = bpf_map_lookup_elem(&umem, &chunk);
	VX_OPAQUE(offset);
	VX_OPAQUE(length);
	if (!from || offset > VX_FRAME_OFFSET_MAX || length < 14 || length > VX_EXCEPTION_BYTES_MAX ||
	    bpf_xdp_adjust_tail(ctx, (int)length - (int)vx_frame_length(ctx)) ||
	    bpf_xdp_store_bytes(ctx, 0, from->bytes + offset, length))
		return vx_not_injected(injection);
	return bpf_redirect_map(&redirect_map, injection->to, XDP_ABORTED) == XDP_REDIRECT ? XDP_REDIRECT
											   : vx_not_injected(injection);
}

SEC("xdp")
int vx_egress(struct xdp_md *ctx)
{
	struct vx_slot *slot;
	__u64 started_ns = 0;

	if (ctx->ingress_ifindex == VX_LOOPBACK_IFINDEX)
		return vx_inject(ctx);
	slot = vx_slot_here();
	if (!slot)
		return XDP_ABORTED;
	slot->direction[VX_OUTSIDE].received_bytes += vx_frame_length(ctx);
	if (!(slot->direction[VX_OUTSIDE].received++ & VX_LATENCY_SAMPLE_MASK) && vx_translate)
		started_ns = bpf_ktime_get_ns();
	return vx_translate ? vx_from_outside(ctx, slot, started_ns) : vx_pass(slot);
}

char LICENSE[] SEC("license") = "Dual MIT/GPL";
