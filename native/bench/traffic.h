/* SPDX-License-Identifier: (GPL-2.0 OR MIT) */
/* What the traffic tools agree on: the shape of a generated packet and its classes.
 *
 * Included by generator.bpf.c and sink.bpf.c (eBPF), and by vxgen and vxsink (C++). A frame is
 *   Ethernet 14 | IPv4 20 | UDP 8 | VXLAN 8 | Ethernet 14 | IPv4 20 (or IPv6 40) | UDP 8 | payload
 * Its first VX_HEAD_BYTES come from a template of the class; vx_stamp_frame() then writes what differs from
 * packet to packet. All of it is rewritten each time, because a recycled page keeps what the pipeline wrote.
 */
#ifndef VX_BENCH_TRAFFIC_H
#define VX_BENCH_TRAFFIC_H

#include <linux/types.h>

/* X(name, help): what the gateway is expected to do with the packet is the help text. */
#define VX_CLASSES(X)                                                                    \
	X(rule, "allowed source, a destination port with a static rule: forwarded, translated") \
	X(no_rule, "allowed source, a port without a rule: forwarded unchanged")             \
	X(denied, "source that is not on the allowlist: not_allowed")                        \
	X(no_flag, "VXLAN header without the I flag: vxlan_flags")                           \
	X(truncated, "inner IPv4 length beyond what the frame holds: truncated")             \
	X(ipv6, "inner IPv6: ipv6, or forwarded when packet.ipv6 is forward")                \
	X(other_vni, "a VNI that is not ours: passed to the kernel")

enum vx_class {
#define X(name, help) VX_CLASS_##name,
	VX_CLASSES(X)
#undef X
	VX_CLASS_COUNT,
};

#define VX_HEAD_BYTES 128      /* template: every header and the payload's fields, inner IPv6 included */
#define VX_OUTER_BYTES 50      /* Ethernet + IPv4 + UDP + VXLAN */
#define VX_INNER_BYTES_MIN 64  /* inner IP packet, headers included: the payload's fields fit behind IPv6 too */
#define VX_FLOWS_MAX 1000000
#define VX_TURNED_BYTES 72     /* of a packet turned round: its headers and the payload's fields; the rest are zeros */
#define VX_TURNED_MAX 65536
#define VX_SOURCES_MAX 65536
#define VX_PORTS_MAX 64
#define VX_SCHEDULE_MAX 1024
#define VX_TRUNCATED_BY 100    /* how far the inner length of class `truncated` overstates */
#define VX_SPORT_FIRST 1024
#define VX_SPORTS 64512

/* Offsets from the start of the frame. */
#define VX_AT_OUTER_SPORT 34
#define VX_AT_INNER_IP 64
#define VX_AT_IP_ID 68
#define VX_AT_IP_CHECK 74
#define VX_AT_IP_SOURCE 76
#define VX_AT_UDP 84
#define VX_AT_IP6_SOURCE_LOW 84
#define VX_AT_UDP6 104

/* The payload, right behind the inner UDP header. Host order but for the port. */
#define VX_PAYLOAD_MAGIC 0x5658
#define VX_PAYLOAD_MAGIC_AT 0
#define VX_PAYLOAD_PORT_AT 2     /* destination port before translation, network order */
#define VX_PAYLOAD_FLOW_AT 4     /* class << VX_FLOW_BITS | flow */
#define VX_PAYLOAD_SEQUENCE_AT 8 /* over all flows, so it grows within each */
#define VX_PAYLOAD_STAMP_AT 16   /* CLOCK_MONOTONIC when sent, 0: not stamped; not behind IPv6 of 64 bytes */
#define VX_PAYLOAD_BYTES 24
#define VX_FLOW_BITS 24

struct vx_template {
	__u8 bytes[VX_HEAD_BYTES];
	__u32 ip_sum;  /* one's complement sum of the inner IPv4 header, changing fields as zero */
	__u32 udp_sum; /* likewise pseudo header, UDP header and the whole payload; meaningless without checksum */
	__u8 checksum; /* write the inner UDP checksum; 0: leave it zero */
	__u8 v6;
	__u8 pad[6];
};

/* What changes from packet to packet. */
struct vx_stamp {
	__u32 flow;
	__u32 class_of;
	__u32 source;   /* IPv4 address (network order), or low 32 bits of the IPv6 one */
	__u16 sport_be;
	__u16 dport_be;
	__u64 sequence;
};

/* eBPF has no cheap unaligned memcpy, but its unaligned stores are fine; in C++ it is the other way round. */
#ifdef __bpf__
#define VX_STORE(type, at, value) (*(type *)(at) = (type)(value))
#define VX_LOAD(type, at) (*(const type *)(at))
#else
#define VX_STORE(type, at, value)                         \
	do {                                                  \
		type vx_stored = (type)(value);                   \
		__builtin_memcpy((at), &vx_stored, sizeof(type)); \
	} while (0)
#define VX_LOAD(type, at)                                       \
	({                                                          \
		type vx_loaded;                                         \
		__builtin_memcpy(&vx_loaded, (at), sizeof(vx_loaded)); \
		vx_loaded;                                              \
	})
#endif

static inline __attribute__((always_inline)) __u16 vx_fold(__u64 sum)
{
	sum = (sum & 0xffffffff) + (sum >> 32);
	sum = (sum & 0xffff) + (sum >> 16);
	sum = (sum & 0xffff) + (sum >> 16);
	sum = (sum & 0xffff) + (sum >> 16);
	return (__u16)sum;
}

static inline __attribute__((always_inline)) __u16 vx_swap16(__u16 value)
{
	return (__u16)__builtin_bswap16(value);
}

static inline __attribute__((always_inline)) void vx_stamp_payload(__u8 *payload, const struct vx_stamp *stamp,
								     __u32 tag)
{
	VX_STORE(__u16, payload + VX_PAYLOAD_MAGIC_AT, VX_PAYLOAD_MAGIC);
	VX_STORE(__u16, payload + VX_PAYLOAD_PORT_AT, stamp->dport_be);
	VX_STORE(__u32, payload + VX_PAYLOAD_FLOW_AT, tag);
	VX_STORE(__u64, payload + VX_PAYLOAD_SEQUENCE_AT, stamp->sequence);
}

/* Writes one packet's own fields over a copy of its template. `frame` has VX_HEAD_BYTES. */
static inline __attribute__((always_inline)) void vx_stamp_frame(__u8 *frame, const struct vx_template *template_of,
								   const struct vx_stamp *stamp)
{
	__u32 tag = stamp->class_of << VX_FLOW_BITS | stamp->flow;
	__u64 udp_sum = (__u64)template_of->udp_sum + stamp->source + stamp->sport_be + 2u * (__u32)stamp->dport_be +
			tag + (stamp->sequence & 0xffffffff) + (stamp->sequence >> 32);
	__u16 udp_check = (__u16)~vx_fold(udp_sum);

	if (udp_check == 0)
		udp_check = 0xffff;
	if (!template_of->checksum)
		udp_check = 0;
	/* Multiplicative hash of the flow into 49152-65535, as RFC 7348 section 5 asks of the outer source port. */
	VX_STORE(__u16, frame + VX_AT_OUTER_SPORT, vx_swap16((__u16)(0xc000 | stamp->flow * 2654435761u >> 18)));
	if (template_of->v6) {
		VX_STORE(__u32, frame + VX_AT_IP6_SOURCE_LOW, stamp->source);
		VX_STORE(__u16, frame + VX_AT_UDP6, stamp->sport_be);
		VX_STORE(__u16, frame + VX_AT_UDP6 + 2, stamp->dport_be);
		VX_STORE(__u16, frame + VX_AT_UDP6 + 6, udp_check);
		vx_stamp_payload(frame + VX_AT_UDP6 + 8, stamp, tag);
		return;
	}
	__u16 id = (__u16)stamp->sequence;

	VX_STORE(__u16, frame + VX_AT_IP_ID, id);
	VX_STORE(__u16, frame + VX_AT_IP_CHECK, ~vx_fold((__u64)template_of->ip_sum + id + stamp->source));
	VX_STORE(__u32, frame + VX_AT_IP_SOURCE, stamp->source);
	VX_STORE(__u16, frame + VX_AT_UDP, stamp->sport_be);
	VX_STORE(__u16, frame + VX_AT_UDP + 2, stamp->dport_be);
	VX_STORE(__u16, frame + VX_AT_UDP + 6, udp_check);
	vx_stamp_payload(frame + VX_AT_UDP + 8, stamp, tag);
}

/* Walks the flows: one state a sender, advanced once a packet, no division on the way. */
struct vx_walk {
	__u64 sequence;
	__u32 schedule_at;
	__u32 flow;
	__u32 source_at;
	__u32 denied_at;
	__u32 port_at;
	__u32 other_port_at;
	__u16 sport;
	__u8 pad[6];
};

/* What a run sends, fixed while it lasts. */
struct vx_traffic {
	__u32 flows;
	__u32 sources;
	__u32 denied_sources;
	__u32 ports;
	__u32 other_ports;
	__u32 schedule_length;
	__u16 port_be[VX_PORTS_MAX];
	__u16 other_port_be[VX_PORTS_MAX];
	__u8 schedule[VX_SCHEDULE_MAX]; /* class of packet i is schedule[i % schedule_length] */
	struct vx_template templates[VX_CLASS_COUNT];
};

static inline __attribute__((always_inline)) void vx_walk_on(struct vx_walk *walk, const struct vx_traffic *traffic)
{
	walk->sequence++;
	if (++walk->schedule_at >= traffic->schedule_length)
		walk->schedule_at = 0;
	if (++walk->port_at >= traffic->ports)
		walk->port_at = 0;
	if (++walk->other_port_at >= traffic->other_ports)
		walk->other_port_at = 0;
	if (++walk->denied_at >= traffic->denied_sources)
		walk->denied_at = 0;
	if (++walk->source_at >= traffic->sources) {
		walk->source_at = 0;
		walk->sport++;
	}
	if (++walk->flow >= traffic->flows) {
		/* Everything that makes up the 5-tuple starts again with flow 0. */
		walk->flow = 0;
		walk->source_at = 0;
		walk->denied_at = 0;
		walk->port_at = 0;
		walk->other_port_at = 0;
		walk->sport = VX_SPORT_FIRST;
	}
}

#endif
