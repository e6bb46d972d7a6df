/* SPDX-License-Identifier: (GPL-2.0 OR MIT) */
/* Source NAT, the way from outside: what is addressed to one of our public addresses, and not to another station's MAC, goes
 * to the worker that has the port, as far as one packet tells; all else is the kernel's. Softirq.
 */
#ifndef VX_OUTSIDE_TRANSLATE_H
#define VX_OUTSIDE_TRANSLATE_H

#include "own_mac.h"
#include "translate.h"

/* <linux/icmp.h> needs a C library. */
#define VX_ICMP_ECHO_REPLY 0

struct vx_echo {
	__u8 type;
	__u8 code;
	__be16 check;
	__be16 id_be;
	__be16 sequence_be;
};

VX_KNOB __u32 vx_block_shift = 0; /* ports of a block, as a power of two */

/* Who has the ports of a pool address, by its number in pool_addresses: written by the workers, which map it
 * (native/core/nat/port_blocks.h). This one and nat_forwards are sized when the object is opened. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct vx_port_owners);
} port_owners SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 1);
	__type(key, struct vx_forward_key);
	__type(value, __u32);
} nat_forwards SEC(".maps");

/* The worker that has a port of the pool address with that number; -1: nobody. */
static __always_inline int vx_owner_of_port(__u32 number, __be16 port_be)
{
	const struct vx_port_owners *owners = bpf_map_lookup_elem(&port_owners, &number);
	__u32 block = bpf_ntohs(port_be) >> vx_block_shift & (VX_BLOCKS_PER_ADDRESS - 1);

	return owners ? (int)*(const volatile __u8 *)&owners->worker[block] - 1 : -1;
}

static __always_inline int vx_worker_of_forward(const struct iphdr *ip, __be16 port_be)
{
	struct vx_forward_key key = {.address_be = ip->daddr, .port_be = port_be, .protocol = ip->protocol};
	const __u32 *worker = bpf_map_lookup_elem(&nat_forwards, &key);

	return worker ? (int)*worker : -1;
}

/* Which worker the port, or the id of an echo reply, leads to; -1: none. */
static __always_inline int vx_worker_of_port(struct xdp_md *ctx, const struct iphdr *ip, const struct vx_inner *inner,
					     __u32 number)
{
	int worker;

	if (inner->l4) {
		worker = vx_worker_of_forward(ip, inner->destination_port_be);
		return worker >= 0 ? worker : vx_owner_of_port(number, inner->destination_port_be);
	}
	if (inner->protocol == IPPROTO_ICMP && inner->l4_length >= sizeof(struct vx_echo)) {
		const struct vx_echo *echo = vx_at(ctx, inner->l3 + inner->length - inner->l4_length, sizeof(*echo));

		if (echo && echo->type == VX_ICMP_ECHO_REPLY)
			return vx_owner_of_port(number, echo->id_be);
	}
	return -1;
}

/* The worker for a packet from outside; one that is not the owner's hands it over. */
static __always_inline __u32 vx_steer(struct xdp_md *ctx, const struct vx_inner *inner, __u32 number)
{
	struct iphdr *ip = vx_at(ctx, inner->l3, sizeof(*ip));
	int worker;

	if (!ip)
		return 0;
	if (inner->fragment != VX_WHOLE)
		return vx_owner_of_fragments(ip->saddr, ip->daddr, ip->id, ip->protocol, vx_workers);
	worker = vx_worker_of_port(ctx, ip, inner, number);
	if (worker >= 0 && (__u32)worker < vx_workers)
		return worker;
	return vx_worker_of_addresses(ip->saddr, ip->daddr, vx_workers);
}

/* ARP for an address of ours: worker 0 answers a copy; the request is left to the kernel, which knows nothing of it. A copy
 * that finds no room is not missed for long: who asks asks again. */
static __noinline int vx_answer_outside(struct xdp_md *ctx, struct vx_slot *slot, __u32 offset)
{
	struct vx_parcel parcel = {.l3 = offset};
	__be32 address_be = vx_arp_target(ctx, offset);

	if (address_be && bpf_map_lookup_elem(&pool_addresses, &address_be)) {
		vx_note_ethernet(ctx, &parcel.head);
		vx_copy_arp(ctx, &parcel);
	}
	return vx_pass(slot);
}

/* A packet to the pool address with that number; its parsing stands behind the Ethernet header. */
static __noinline int vx_translate_back(struct xdp_md *ctx, struct vx_slot *slot, const struct vx_inner *inner,
					__u32 number, __u64 started_ns)
{
	struct vx_parcel parcel = {.l3 = inner->l3, .length = inner->length};

	parcel.head.started_ns = started_ns;
	vx_note_ethernet(ctx, &parcel.head);
	parcel.worker = vx_steer(ctx, inner, number);
	return vx_send_parcel(ctx, slot, &parcel);
}

/* A frame from outside that has been counted. */
static __noinline int vx_from_outside(struct xdp_md *ctx, struct vx_slot *slot, __u64 started_ns)
{
	struct vx_cursor cursor = {.at = (void *)(long)ctx->data, .end = (void *)(long)ctx->data_end};
	const struct vx_ethernet *ethernet = vx_at(ctx, 0, sizeof(*ethernet));
	struct vx_inner inner;
	struct iphdr *ip;
	__u32 *number;
	__be16 protocol_be;
	int stop;

	if (!ethernet || (!vx_to_group_mac(ethernet) && !vx_to_own_mac(ethernet)))
		return vx_pass(slot);
	cursor.left = vx_frame_length(ctx);
	protocol_be = vx_parse_ethernet(&cursor);
	if (protocol_be == bpf_htons(ETH_P_ARP))
		return vx_answer_outside(ctx, slot, cursor.offset);
	ip = vx_at(ctx, cursor.offset, sizeof(*ip));
	if (protocol_be != bpf_htons(ETH_P_IP) || !ip)
		return vx_pass(slot);
	number = bpf_map_lookup_elem(&pool_addresses, &ip->daddr);
	if (!number)
		return vx_pass(slot);
	stop = vx_parse_inner4(&cursor, &inner);
	if (stop != VX_GO_ON)
		return vx_drop(ctx, slot, VX_STOP_REASON(stop));
	return vx_translate_back(ctx, slot, &inner, *number, started_ns);
}

#endif
