/* SPDX-License-Identifier: (GPL-2.0 OR MIT) */
/* Source NAT: packets for the engine, and ARP that the workers answer. Included by both programs. Softirq.
 *
 * XDP decides which worker a packet is for and tells it what its headers were; all translating is the engine's. The frame
 * is cut so that a vx_translate takes the place right in front of the IPv4 header: of the usual tunnel's headers, exactly.
 */
#ifndef VX_TRANSLATE_H
#define VX_TRANSLATE_H

#include "leave.h"
#include "parse.h"
#include "steering.h"
#include "worker_maps.h"

/* Ring records hold the vx_translate where READY frames have an Ethernet header: 48 instead of 50, since records are
 * multiples of 8. */
#define VX_RECORD_TRANSLATE 48

struct vx_arp {
	__be16 hardware_be;
	__be16 protocol_be;
	__u8 hardware_length;
	__u8 protocol_length;
	__be16 operation_be;
	__be16 sender[5]; /* MAC, address */
	__be16 target_mac[3];
	__be16 target[2];
};

/* What goes to a worker: `head`, and `length` bytes of the frame from `l3` on. */
struct vx_parcel {
	struct vx_translate head;
	__u32 l3;
	__u32 length;
	__u32 worker;
	__u32 pad;
};

/* What the received frame's Ethernet header says; the frame is still whole. */
static __always_inline void vx_note_ethernet(struct xdp_md *ctx, struct vx_translate *head)
{
	const struct vx_ethernet *ethernet = vx_at(ctx, 0, sizeof(*ethernet) + 2 * sizeof(struct vx_vlan_tag));
	const struct vx_vlan_tag *tags = (const void *)(ethernet + 1);

	head->mark_be = bpf_htons(VX_ETHERTYPE_TRANSLATE);
	head->direction = VX_DIRECTION;
	if (!ethernet)
		return;
	__builtin_memcpy(head->peer_mac, ethernet->source, sizeof(head->peer_mac));
	if (!vx_is_vlan(ethernet->protocol_be))
		return;
	head->tags[0].protocol_be = ethernet->protocol_be;
	head->tags[0].tci_be = tags[0].tci_be;
	if (!vx_is_vlan(tags[0].protocol_be))
		return;
	head->tags[1].protocol_be = tags[0].protocol_be;
	head->tags[1].tci_be = tags[1].tci_be;
}

/* A function of its own: inlined, clang 14 leaves out the store of the header's first word (tests find it). */
static __noinline int vx_parcel_to_ring(struct xdp_md *ctx, struct vx_slot *slot, const struct vx_exception *exception)
{
	return vx_to_ring(ctx, slot, exception, VX_RECORD_TRANSLATE);
}

/* By the socket of the queue, else by its ring. */
static __always_inline int vx_to_engine(struct xdp_md *ctx, struct vx_slot *slot, const struct vx_parcel *parcel)
{
	struct vx_exception exception = {.magic = VX_EXCEPTION_MAGIC, .reason = VX_EXCEPTION_TRANSLATE};
	__u32 socket = ctx->rx_queue_index * vx_workers + parcel->worker;
	__u32 length = parcel->length + (__u32)sizeof(parcel->head);

	if (length > VX_EXCEPTION_BYTES_MAX)
		return vx_drop_leaving(ctx, slot, VX_DROP_too_big);
	if (vx_hand_over != VX_HAND_OVER_RINGS) {
		/* An inside queue without sockets must not find the outside interface's. */
		int is_one = VX_DIRECTION == VX_OUTSIDE || socket < vx_outside_sockets;

		if (VX_DIRECTION == VX_OUTSIDE)
			socket += vx_outside_sockets;
		if (is_one && bpf_redirect_map(&worker_sockets, socket, XDP_ABORTED) == XDP_REDIRECT) {
			slot->direction[VX_DIRECTION].to_worker++;
			return XDP_REDIRECT;
		}
	}
	exception.length = (__u16)length;
	exception.worker = (__u8)parcel->worker;
	return vx_parcel_to_ring(ctx, slot, &exception);
}

/* Cuts the frame and hands it to its worker. */
static __noinline int vx_send_parcel(struct xdp_md *ctx, struct vx_slot *slot, const struct vx_parcel *parcel)
{
	int tail = (int)(parcel->l3 + parcel->length) - (int)vx_frame_length(ctx);
	int head = (int)parcel->l3 - (int)sizeof(parcel->head);
	struct vx_translate *at;

	if (tail && bpf_xdp_adjust_tail(ctx, tail))
		return vx_drop(ctx, slot, VX_DROP_redirect_error);
	if (head && bpf_xdp_adjust_head(ctx, head)) /* a driver that leaves less room in front than XDP asks for */
		return vx_drop(ctx, slot, VX_DROP_redirect_error);
	at = vx_at(ctx, 0, sizeof(*at));
	if (!at)
		return vx_drop(ctx, slot, VX_DROP_redirect_error);
	*at = parcel->head;
	return vx_to_engine(ctx, slot, parcel);
}

/* The address an ARP request at `offset` asks for; 0: it is none. */
static __noinline __be32 vx_arp_target(struct xdp_md *ctx, __u32 offset)
{
	const struct vx_arp *arp = vx_at(ctx, offset, sizeof(*arp));

	if (!arp || arp->hardware_be != bpf_htons(1) || arp->protocol_be != bpf_htons(ETH_P_IP) ||
	    arp->hardware_length != ETH_ALEN || arp->protocol_length != 4 || arp->operation_be != bpf_htons(1))
		return 0;
	return arp->target[0] | (__u32)arp->target[1] << 16;
}

/* A copy of the ARP request of a parcel to worker 0; the request itself stays. Returns the enum vx_drop that kept the copy
 * from going, or -1. */
static __noinline int vx_copy_arp(struct xdp_md *ctx, const struct vx_parcel *parcel)
{
	const __u32 length = sizeof(parcel->head) + sizeof(struct vx_arp);
	__u32 at = vx_ring_of(ctx, 0);
	void *ring = bpf_map_lookup_elem(&percpu_ringbufs, &at);
	struct vx_exception *record;
	struct vx_translate *head;

	if (!ring)
		return VX_DROP_redirect_error;
	record = bpf_ringbuf_reserve(ring, sizeof(*record) + sizeof(*head) + sizeof(struct vx_arp), 0);
	if (!record)
		return VX_DROP_ring_full;
	__builtin_memset(record, 0, sizeof(*record));
	record->magic = VX_EXCEPTION_MAGIC;
	record->length = length;
	record->reason = VX_EXCEPTION_ARP;
	head = (struct vx_translate *)(record + 1);
	*head = parcel->head;
	if (bpf_xdp_load_bytes(ctx, parcel->l3, head + 1, sizeof(struct vx_arp))) {
		bpf_ringbuf_discard(record, BPF_RB_NO_WAKEUP);
		return VX_DROP_redirect_error;
	}
	bpf_ringbuf_submit(record, BPF_RB_FORCE_WAKEUP); /* rare: no need to know who sleeps */
	return -1;
}

#endif
