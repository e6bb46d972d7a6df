/* SPDX-License-Identifier: (GPL-2.0 OR MIT) */
/* The maps, and the counters' way into them. Included by every XDP program; the objects are linked into one
 * (`bpftool gen object`), where equal definitions become one map.
 */
#ifndef VX_MAPS_H
#define VX_MAPS_H

#include <linux/bpf.h>

#include <bpf/bpf_helpers.h>

#include "abi/abi.h"

#define VX_MAP SEC(".maps") __weak

/* Where the counters live. Memory that user space maps: reading costs no system call. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, VX_SLOTS_MAX);
	__type(key, __u32);
	__type(value, struct vx_slot);
} stats_map VX_MAP;

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, VX_DIRECTIONS);
	__type(key, __u32);
	__type(value, struct vx_interface);
} interface_map VX_MAP;

struct {
	__uint(type, BPF_MAP_TYPE_DEVMAP);
	__uint(max_entries, VX_DIRECTIONS);
	__type(key, __u32); /* enum vx_direction: the interface to leave by */
	__type(value, __u32);
} redirect_map VX_MAP;

/* The frames that workers inject, by CPU; sized when the object is opened. A worker has its CPU's to itself during a call,
 * and everything that the call runs, runs on that CPU. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct vx_injection);
} injections VX_MAP;

/* Samples of drops, for people, while somebody watches. */
struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, VX_RING_BYTES);
} packet_ringbuf VX_MAP;

/* Keeps the compiler from reasoning about a value, so that the bounds check after it stays for the verifier. */
#define VX_OPAQUE(value) asm volatile("" : "+r"(value))

/* The frame from `offset` on, at least `size` bytes of it; 0 when they are not there. */
static __always_inline void *vx_at(struct xdp_md *ctx, __u32 offset, __u32 size)
{
	char *at = (char *)(long)ctx->data;

	VX_OPAQUE(offset);
	if (offset > VX_FRAME_BYTES)
		return 0;
	at += offset;
	return at + size <= (char *)(long)ctx->data_end ? at : 0;
}

/* The frame's length. */
static __always_inline __u32 vx_frame_length(struct xdp_md *ctx)
{
	void *data = (void *)(long)ctx->data;
	__u64 length;

	VX_OPAQUE(data); /* 64 bits all the way: half a pointer is nothing to the verifier */
	length = (__u64)(void *)(long)ctx->data_end - (__u64)data;
	VX_OPAQUE(length);
	return (__u32)length;
}

static __always_inline struct vx_slot *vx_slot_here(void)
{
	__u32 cpu = bpf_get_smp_processor_id();

	return cpu < VX_CPUS_MAX ? bpf_map_lookup_elem(&stats_map, &cpu) : 0;
}

static __always_inline struct vx_injection *vx_injection_here(void)
{
	__u32 cpu = bpf_get_smp_processor_id();

	return bpf_map_lookup_elem(&injections, &cpu);
}

/* The slot of the worker that injects. */
static __always_inline struct vx_slot *vx_slot_of_injection(const struct vx_injection *injection)
{
	__u32 slot = VX_CPUS_MAX + injection->worker - 1;

	return injection->worker ? bpf_map_lookup_elem(&stats_map, &slot) : 0;
}

#endif
