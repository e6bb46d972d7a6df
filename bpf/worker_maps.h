/* SPDX-License-Identifier: (GPL-2.0 OR MIT) */
/* What both programs need to hand packets to workers: knobs, `control`, the ways there, and of source NAT whose
 * address is ours. Who writes what: control plane = native/io/datapath.cpp, workers = native/worker. All of it is weak,
 * as in maps.h: linked, it is there once.
 */
#ifndef VX_WORKER_MAPS_H
#define VX_WORKER_MAPS_H

#include "maps.h"

/* Set before the verifier sees the programs, so that it deletes the branches a configuration does not need; the host build
 * (native/replay/program.c) sets them at run time. */
#ifndef VX_KNOB
#define VX_KNOB const volatile
#endif
VX_KNOB __u8 vx_hand_over __weak = VX_HAND_OVER_EXCEPTIONS;
VX_KNOB __u32 vx_workers __weak = 1;
VX_KNOB __u8 vx_translate __weak = 0;          /* source NAT: what goes out, or comes back, is the workers' */
VX_KNOB __u32 vx_outside_sockets __weak = 0;   /* worker_sockets: where those of the outside interface begin */
VX_KNOB __u32 vx_inside_lanes __weak = 0;      /* receive queues with rings of their own; the others use the first one's */
VX_KNOB __u32 vx_outside_lanes __weak = 0;     /* of the outside interface, likewise */

struct vx_control control __weak = {}; /* in .bss; written by the control plane and (the generation) the worker */

/* The workers' sockets: receive queue * workers + worker; from vx_outside_sockets on likewise, those of the outside
 * interface. Sized when the object is opened, as percpu_ringbufs. */
struct {
	__uint(type, BPF_MAP_TYPE_XSKMAP);
	__uint(max_entries, VX_QUEUES_MAX);
	__type(key, __u32);
	__type(value, __u32);
} worker_sockets VX_MAP;

/* The other way to a worker: receive queue * workers + worker, first those of the inside interface. Every packet's in the
 * datapath ringbuf, else of a queue without a socket (queues added at run time). Sized when made. One CPU at a time serves a
 * queue, so nobody waits for a ring's lock; and a queue that moves to another CPU does not overtake itself, as it would if
 * each CPU had a ring. */
struct vx_exception_ring {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, VX_RING_BYTES);
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY_OF_MAPS);
	__uint(max_entries, VX_CPUS_MAX);
	__type(key, __u32);
	__array(values, struct vx_exception_ring);
} percpu_ringbufs VX_MAP;

/* Source NAT: our public addresses, in network order; the value is the address's number in port_owners. Sized when the
 * object is opened. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 1);
	__type(key, __be32);
	__type(value, __u32);
} pool_addresses VX_MAP;

#endif
