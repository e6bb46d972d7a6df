/* SPDX-License-Identifier: (GPL-2.0 OR MIT) */
/* What sink.bpf.c counts and vxsink reads: one slot a CPU in the program's .bss, mapped by the skeleton. */
#ifndef VX_BENCH_SINK_H
#define VX_BENCH_SINK_H

#include "traffic.h"

#define VX_SINK_CPUS 128
#define VX_SINK_BYTES_MAX 4096
#define VX_SINK_ORDERED 3 /* groups of flows whose order is followed: rule, no_rule, ipv6 */

/* Log-linear histogram: 64 buckets an octave (1.6 %), below 64 ns exact, up to one second. */
#define VX_SINK_SUB_BITS 6
#define VX_SINK_BUCKETS 2048
#define VX_SINK_LATENCY_LIMIT_NS (1u << 30)

struct vx_sink_slot {
	__u64 packets; /* generated packets, or with `raw` every IPv4 frame */
	__u64 bytes;   /* of their Ethernet frames */
	__u64 classes[VX_CLASS_COUNT];
	__u64 fragments; /* IPv4 fragments of UDP */
	__u64 other_ip;  /* not generated: real senders */
	__u64 neighbour; /* ARP and neighbour discovery */
	__u64 other;
	__u64 wrong_class; /* a class that had to be dropped arrived */
	__u64 wrong_destination;
	__u64 wrong_ip_checksum;
	__u64 wrong_udp_checksum;
	__u64 wrong_length;
	__u64 out_of_order;
	__u64 duplicates;
	__u64 udp_checked;
	__u64 udp_unsummed; /* of these: checksum zero */
	__u64 latency_count;
	__u64 latency_sum_ns;
	__u64 latency_max_ns;
	__u64 latency[VX_SINK_BUCKETS];
};

/* What a destination port is translated to. */
struct vx_sink_rule {
	__u32 address_be;
	__u16 port_be;
	__u16 set;
};

static inline __attribute__((always_inline)) __u32 vx_sink_bucket(__u32 ns)
{
	__u32 octave = 0; /* highest set bit */
	__u32 rest = ns;

	if (ns < (1u << VX_SINK_SUB_BITS))
		return ns;
	if (rest >= 1u << 16) {
		octave += 16;
		rest >>= 16;
	}
	if (rest >= 1u << 8) {
		octave += 8;
		rest >>= 8;
	}
	if (rest >= 1u << 4) {
		octave += 4;
		rest >>= 4;
	}
	if (rest >= 1u << 2) {
		octave += 2;
		rest >>= 2;
	}
	if (rest >= 1u << 1)
		octave += 1;
	return ((octave - VX_SINK_SUB_BITS + 1) << VX_SINK_SUB_BITS) +
	       ((ns >> (octave - VX_SINK_SUB_BITS)) & ((1u << VX_SINK_SUB_BITS) - 1));
}

/* The largest value of a bucket. */
static inline __u64 vx_sink_bucket_top(__u32 bucket)
{
	__u32 octave = bucket >> VX_SINK_SUB_BITS;
	__u64 sub = bucket & ((1u << VX_SINK_SUB_BITS) - 1);

	if (octave == 0)
		return sub;
	return (((1ull << VX_SINK_SUB_BITS) + sub + 1) << (octave - 1)) - 1;
}

#endif
