/* SPDX-License-Identifier: (GPL-2.0 OR MIT) */
/* Rewrites a packet in place: ECN, destination, DF, TTL, and the checksums that follow from them. Softirq.
 *
 * A checksum the sender left to hardware holds the sum of the pseudo-header, not complemented (Linux:
 * CHECKSUM_PARTIAL, include/linux/skbuff.h). XDP is not told, so a field with exactly that value is taken for one:
 * it is translated like any sum and then completed over the segment, and counted. A whole packet whose true
 * checksum happens to have that value (1 in 65,536) is recomputed to the same.
 */
#ifndef VX_REWRITE_H
#define VX_REWRITE_H

#include "checksum.h"
#include "forward.h"
#include "ingress_maps.h"
#include "parse.h"

#define VX_SUM_CHUNK 64
#define VX_SUM_CHUNKS_MAX (VX_FRAME_BYTES / VX_SUM_CHUNK)

/* What a rule changes: nothing when `rule` is 0; only the address in a later fragment. */
struct vx_rewrite {
	const struct vx_rule *rule;
	__u32 pseudo_sum;    /* addresses and protocol before translation, unfolded */
	__u32 address_delta; /* one's complement sum (bpf/checksum.h) */
};

/* See vx_merge_ecn; `outer` is ECT(1) or CE. */
static __noinline int vx_merge_marked(struct xdp_md *ctx, const struct vx_inner *inner, __u32 outer)
{
	__be16 *first = vx_at(ctx, inner->l3, sizeof(struct iphdr)); /* both versions have the field in their first word */
	const __u32 shift = inner->is_ipv6 ? 4 : 0;
	__u32 own;
	__be16 merged;

	if (!first)
		return VX_STOP_DROP(malformed_inner);
	own = bpf_ntohs(*first) >> shift & VX_ECN_MASK;
	if (own == VX_ECN_NOT_ECT)
		return outer == VX_ECN_CE ? VX_STOP_DROP(ecn) : VX_GO_ON;
	if (own == VX_ECN_CE || own == outer)
		return VX_GO_ON;
	merged = *first ^ bpf_htons((__u16)((own ^ outer) << shift));
	if (!inner->is_ipv6) {
		struct iphdr *ip = (struct iphdr *)first;

		ip->check = vx_checksum_add(ip->check, vx_delta16(*first, merged));
	}
	*first = merged;
	return VX_GO_ON;
}

/* RFC 6040 section 4.2: a tunnel that is CE or ECT(1) marks its packet so; CE around a packet without ECN is a drop. Called
 * behind the allowlist, since what is not allowed is that whatever its marks, and in front of all else, since what is
 * dropped here counts as lost on its way: rules, fragments and next hops know nothing of it. Only those two have the last
 * bit, which is all that most packets cost. */
static __always_inline int vx_merge_ecn(struct xdp_md *ctx, const struct vx_inner *inner, __u32 outer)
{
	return outer & VX_ECN_ECT1 ? vx_merge_marked(ctx, inner, outer) : VX_GO_ON;
}

/* One's complement sum of `length` bytes at `offset` of the frame; -1 when they are not all there. Not static: the
 * verifier then looks at it once, not once a caller. */
__noinline int vx_sum_bytes(struct xdp_md *ctx, __u32 offset, __u32 length)
{
	__u8 chunk[VX_SUM_CHUNK];
	__u32 sum = 0;

	for (int i = 0; i < VX_SUM_CHUNKS_MAX && length; i++) {
		__u32 size = length < VX_SUM_CHUNK ? length : VX_SUM_CHUNK;

		if (size < VX_SUM_CHUNK)
			__builtin_memset(chunk, 0, sizeof(chunk));
		VX_OPAQUE(size);
		if (size < 1 || size > VX_SUM_CHUNK || bpf_xdp_load_bytes(ctx, offset, chunk, size))
			return -1;
		sum = bpf_csum_diff(0, 0, (__be32 *)chunk, sizeof(chunk), sum);
		offset += size;
		length -= size;
	}
	return length ? -1 : vx_fold(sum);
}

/* The TCP or UDP checksum field; 0 when it is not in the frame (which the parser has ruled out). */
static __always_inline __u16 *vx_checksum_field(struct xdp_md *ctx, const struct vx_inner *inner)
{
	__u32 field = inner->protocol == IPPROTO_UDP ? __builtin_offsetof(struct udphdr, check)
						     : __builtin_offsetof(struct tcphdr, check);

	return vx_at(ctx, inner->l4 + field, sizeof(__u16));
}

/* Completes a checksum left to hardware: sums the segment with the pseudo-header's sum in its place. */
static __noinline int vx_complete_checksum(struct xdp_md *ctx, struct vx_slot *slot, const struct vx_inner *inner)
{
	int sum = vx_sum_bytes(ctx, inner->l4, inner->l4_length);
	__u16 *field = vx_checksum_field(ctx, inner);

	if (sum < 0 || !field)
		return VX_STOP_DROP(malformed_inner);
	*field = (__u16)~sum;
	if (inner->protocol == IPPROTO_UDP)
		*field = vx_udp_nonzero(*field);
	slot->direction[VX_INSIDE].checksum_completed++;
	return VX_GO_ON;
}

/* TCP or UDP header: destination port and checksum. Fragments keep a partial checksum: their sender cannot have
 * left it to hardware. */
static __always_inline int vx_rewrite_l4(struct xdp_md *ctx, struct vx_slot *slot, const struct vx_inner *inner,
					 const struct vx_rewrite *rewrite)
{
	__u16 *check = vx_checksum_field(ctx, inner);
	__be16 *ports = vx_at(ctx, inner->l4, 2 * sizeof(*ports));
	int partial, is_udp = inner->protocol == IPPROTO_UDP;

	if (!check || !ports)
		return VX_STOP_DROP(malformed_inner);
	partial = inner->fragment == VX_WHOLE && *check == vx_fold(rewrite->pseudo_sum + bpf_htons(inner->l4_length));
	if (rewrite->rule) {
		__u32 delta = rewrite->address_delta + vx_delta16(ports[1], rewrite->rule->port_be);

		ports[1] = rewrite->rule->port_be;
		if (partial)
			*check = vx_fold((__u32)*check + rewrite->address_delta);
		else if (!is_udp)
			*check = vx_checksum_add(*check, delta);
		else if (*check) /* RFC 768: 0 says there is none, and stays */
			*check = vx_udp_nonzero(vx_checksum_add(*check, delta));
	}
	return partial ? vx_complete_checksum(ctx, slot, inner) : VX_GO_ON;
}

/* What must not leave; `mtu` is the outside one. */
static __always_inline int vx_refuse4(const struct iphdr *ip, const struct vx_inner *inner, __u32 mtu)
{
	if (vx_decrement_ttl && ip->ttl <= 1)
		return VX_STOP_DROP(ttl_expired);
	if (inner->length > mtu && !vx_clear_df && (ip->frag_off & bpf_htons(VX_IP_DONT_FRAGMENT)))
		return VX_STOP_DROP(too_big);
	return VX_GO_ON;
}

/* Refuses before it touches anything. */
static __always_inline int vx_rewrite4(struct xdp_md *ctx, struct vx_slot *slot, const struct vx_inner *inner,
				       const struct vx_rule *rule, __u32 mtu)
{
	struct vx_rewrite rewrite = {.rule = rule};
	struct iphdr *ip = vx_at(ctx, inner->l3, sizeof(*ip));
	__u32 delta = 0;
	int stop;

	if (!ip)
		return VX_STOP_DROP(malformed_inner);
	stop = vx_refuse4(ip, inner, mtu);
	if (stop != VX_GO_ON)
		return stop;
	if (vx_decrement_ttl) {
		ip->ttl--;
		delta += (__u16)~bpf_htons(0x0100);
	}
	if (vx_clear_df && (ip->frag_off & bpf_htons(VX_IP_DONT_FRAGMENT))) {
		ip->frag_off &= ~bpf_htons(VX_IP_DONT_FRAGMENT);
		delta += (__u16)~bpf_htons(VX_IP_DONT_FRAGMENT);
	}
	rewrite.pseudo_sum = vx_sum32(ip->saddr) + vx_sum32(ip->daddr) + bpf_htons(inner->protocol);
	if (rule) {
		rewrite.address_delta = vx_delta32(ip->daddr, rule->address_be);
		delta += rewrite.address_delta;
		ip->daddr = rule->address_be;
		slot->direction[VX_INSIDE].translated++;
	}
	if (delta)
		ip->check = vx_checksum_add(ip->check, delta);
	return inner->l4 ? vx_rewrite_l4(ctx, slot, inner, &rewrite) : VX_GO_ON;
}

static __noinline int vx_rewrite6(struct xdp_md *ctx, struct vx_slot *slot, const struct vx_inner *inner)
{
	struct ipv6hdr *ip = vx_at(ctx, inner->l3, sizeof(*ip));
	struct vx_rewrite rewrite = {};
	__u32 words[8], sum = bpf_htons(inner->protocol);

	if (!ip)
		return VX_STOP_DROP(malformed_inner);
	if (vx_decrement_ttl) {
		if (ip->hop_limit <= 1)
			return VX_STOP_DROP(ttl_expired);
		ip->hop_limit--;
	}
	if (!inner->l4)
		return VX_GO_ON;
	__builtin_memcpy(words, &ip->saddr, sizeof(words));
#pragma unroll
	for (int i = 0; i < 8; i++)
		sum += vx_sum32(words[i]);
	rewrite.pseudo_sum = sum;
	return vx_rewrite_l4(ctx, slot, inner, &rewrite);
}

/* Decapsulates and hands to the worker; fills in what every exception carries. */
static __noinline int vx_send_exception(struct xdp_md *ctx, struct vx_slot *slot, struct vx_exception *exception,
					__u32 l3_offset, __u32 length)
{
	exception->magic = VX_EXCEPTION_MAGIC;
	exception->length = (__u16)(length + ETH_HLEN);
	if (vx_decapsulate(ctx, l3_offset, length))
		return vx_drop(ctx, slot, VX_DROP_malformed_inner);
	return vx_to_worker(ctx, slot, exception);
}

#endif
