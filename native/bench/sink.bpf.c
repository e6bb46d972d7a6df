// SPDX-License-Identifier: (GPL-2.0 OR MIT)
/* The far end's eBPF half: counts and checks what the gateway delivered.
 *
 * Attached by vxsink to the target's interface; runs in the NAPI context of the receiving CPU. A generated
 * packet (traffic.h) is judged, counted and dropped here; everything else is counted and left to the stack.
 * Each CPU writes its own slot, so plain increments are exact.
 */
#include <linux/bpf.h>

#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#include "sink.h"

char LICENSE[] SEC("license") = "Dual MIT/GPL";

#define ETH_IPV4 0x0800
#define ETH_IPV6 0x86dd
#define ETH_ARP 0x0806
#define PROTO_UDP 17
#define PROTO_ICMPV6 58
#define CHUNK 64

const volatile __u32 raw;            /* count every IPv4 frame and look no further */
const volatile __u32 check_every;    /* UDP checksum of one packet in so many; 0: of none */
const volatile __u32 check_order;
const volatile __u32 flows;          /* per class, capacity of last_sequence */
const volatile __u32 unchanged_be;   /* destination of packets without a rule; 0: not checked */

struct vx_sink_slot slots[VX_SINK_CPUS];
struct vx_sink_rule rules[65536];    /* by destination port before translation (network order) */

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, 1); /* set by vxsink: flows * VX_SINK_ORDERED */
	__type(key, __u32);
	__type(value, __u64);
} last_sequence SEC(".maps");

static __always_inline __u64 sum_chunk(const __u8 *at)
{
	__u64 sum = 0;

#pragma unroll
	for (int i = 0; i < CHUNK / 4; i++)
		sum += ((const __u32 *)at)[i];
	return sum;
}

/* One's complement sum of what follows `at`: the whole rest of the frame. */
static __always_inline __u64 sum_rest(const __u8 *at, const __u8 *end)
{
	__u64 sum = 0;

	for (int i = 0; i < VX_SINK_BYTES_MAX / CHUNK; i++) {
		if (at + CHUNK > end)
			break;
		sum += sum_chunk(at);
		at += CHUNK;
	}
	for (int i = 0; i < CHUNK / 2; i++) {
		if (at + 2 > end)
			break;
		sum += *(const __u16 *)at;
		at += 2;
	}
	if (at + 1 <= end)
		sum += *at;
	return sum;
}

static __always_inline void note_latency(struct vx_sink_slot *slot, __u64 ns)
{
	slot->latency_count++;
	slot->latency_sum_ns += ns;
	if (ns > slot->latency_max_ns)
		slot->latency_max_ns = ns;
	if (ns >= VX_SINK_LATENCY_LIMIT_NS)
		ns = VX_SINK_LATENCY_LIMIT_NS - 1;
	slot->latency[vx_sink_bucket((__u32)ns) & (VX_SINK_BUCKETS - 1)]++;
}

static __always_inline void note_order(struct vx_sink_slot *slot, __u32 class_of, __u32 flow, __u64 sequence)
{
	__u32 group = class_of == VX_CLASS_rule ? 0 : class_of == VX_CLASS_no_rule ? 1 : 2;
	__u32 key = group * flows + flow;

	if (flow >= flows)
		return;
	__u64 *last = bpf_map_lookup_elem(&last_sequence, &key);

	if (!last)
		return;
	/* Kept plus one, so that an untouched entry reads as "nothing yet". */
	if (sequence + 1 == *last)
		slot->duplicates++;
	else if (sequence + 1 < *last)
		slot->out_of_order++;
	else
		*last = sequence + 1;
}

struct arrival {
	const __u8 *l4; /* UDP header; UDP and payload's fields are within the frame */
	const __u8 *end;
	__u64 pseudo_sum;
	__u32 destination_be; /* IPv4 only */
	__u32 v6;
};

static __always_inline int judge(struct vx_sink_slot *slot, const struct arrival *in, __u32 bytes)
{
	const __u8 *payload = in->l4 + 8;
	__u32 tag = *(const __u32 *)(payload + VX_PAYLOAD_FLOW_AT);
	__u64 sequence = *(const __u64 *)(payload + VX_PAYLOAD_SEQUENCE_AT);
	__u16 port_be = *(const __u16 *)(payload + VX_PAYLOAD_PORT_AT);
	__u16 dport_be = *(const __u16 *)(in->l4 + 2);
	__u32 class_of = tag >> VX_FLOW_BITS;

	slot->packets++;
	slot->bytes += bytes;
	if (class_of >= VX_CLASS_COUNT) {
		slot->wrong_class++;
		return XDP_DROP;
	}
	slot->classes[class_of]++;
	if (class_of == VX_CLASS_rule) {
		const struct vx_sink_rule *rule = &rules[port_be];

		if (rule->set && (rule->address_be != in->destination_be || rule->port_be != dport_be))
			slot->wrong_destination++;
	} else if (class_of == VX_CLASS_no_rule) {
		if (unchanged_be && (unchanged_be != in->destination_be || port_be != dport_be))
			slot->wrong_destination++;
	} else if (class_of != VX_CLASS_ipv6) {
		slot->wrong_class++;
	}
	if (check_order)
		note_order(slot, class_of, tag & ((1u << VX_FLOW_BITS) - 1), sequence);
	if (check_every && (check_every == 1 || slot->packets % check_every == 0)) {
		__u16 length_be = *(const __u16 *)(in->l4 + 4);

		slot->udp_checked++;
		if (*(const __u16 *)(in->l4 + 6) == 0)
			slot->udp_unsummed++;
		else if (vx_fold(in->pseudo_sum + length_be + sum_rest(in->l4, in->end)) != 0xffff)
			slot->wrong_udp_checksum++;
	}
	if (!in->v6 && payload + VX_PAYLOAD_BYTES <= in->end) {
		__u64 stamp = *(const __u64 *)(payload + VX_PAYLOAD_STAMP_AT);

		if (stamp)
			note_latency(slot, bpf_ktime_get_ns() - stamp);
	}
	return XDP_DROP;
}

static __always_inline int arrive_ipv4(struct vx_sink_slot *slot, const __u8 *frame, const __u8 *end)
{
	const __u8 *ip = frame + 14;
	struct arrival in = {.end = end};
	__u64 sum = 0;

	if (ip + 20 + 8 + 16 > end || ip[0] != 0x45 || ip[9] != PROTO_UDP) {
		slot->other_ip++;
		return XDP_PASS;
	}
	if (*(const __u16 *)(ip + 6) & bpf_htons(0x3fff)) {
		slot->fragments++;
		return XDP_PASS;
	}
	if (*(const __u16 *)(ip + 28 + VX_PAYLOAD_MAGIC_AT) != VX_PAYLOAD_MAGIC) {
		slot->other_ip++;
		return XDP_PASS;
	}
#pragma unroll
	for (int i = 0; i < 5; i++)
		sum += ((const __u32 *)ip)[i];
	if (vx_fold(sum) != 0xffff)
		slot->wrong_ip_checksum++;
	if (bpf_ntohs(*(const __u16 *)(ip + 2)) != end - ip)
		slot->wrong_length++;
	in.l4 = ip + 20;
	in.destination_be = *(const __u32 *)(ip + 16);
	in.pseudo_sum = (__u64)*(const __u32 *)(ip + 12) + in.destination_be + bpf_htons(PROTO_UDP);
	return judge(slot, &in, (__u32)(end - frame));
}

static __always_inline int arrive_ipv6(struct vx_sink_slot *slot, const __u8 *frame, const __u8 *end)
{
	const __u8 *ip = frame + 14;
	struct arrival in = {.end = end, .v6 = 1};

	if (ip + 40 > end) {
		slot->other++;
		return XDP_PASS;
	}
	if (ip[6] == PROTO_ICMPV6 && ip[7] == 255) {
		slot->neighbour++;
		return XDP_PASS;
	}
	if (ip + 40 + 8 + 16 > end || ip[6] != PROTO_UDP ||
	    *(const __u16 *)(ip + 48 + VX_PAYLOAD_MAGIC_AT) != VX_PAYLOAD_MAGIC) {
		slot->other_ip++;
		return XDP_PASS;
	}
#pragma unroll
	for (int i = 0; i < 8; i++)
		in.pseudo_sum += *(const __u32 *)(ip + 8 + 4 * i);
	in.pseudo_sum += bpf_htons(PROTO_UDP);
	in.l4 = ip + 40;
	return judge(slot, &in, (__u32)(end - frame));
}

SEC("xdp")
int sink(struct xdp_md *ctx)
{
	const __u8 *frame = (const __u8 *)(long)ctx->data;
	const __u8 *end = (const __u8 *)(long)ctx->data_end;
	struct vx_sink_slot *slot = &slots[bpf_get_smp_processor_id() & (VX_SINK_CPUS - 1)];

	if (frame + 14 > end) {
		slot->other++;
		return XDP_PASS;
	}
	__u16 type_be = *(const __u16 *)(frame + 12);

	if (raw && type_be == bpf_htons(ETH_IPV4)) {
		slot->packets++;
		slot->bytes += end - frame;
		return XDP_DROP;
	}
	if (type_be == bpf_htons(ETH_IPV4))
		return arrive_ipv4(slot, frame, end);
	if (type_be == bpf_htons(ETH_IPV6))
		return arrive_ipv6(slot, frame, end);
	if (type_be == bpf_htons(ETH_ARP))
		slot->neighbour++;
	else
		slot->other++;
	return XDP_PASS;
}
