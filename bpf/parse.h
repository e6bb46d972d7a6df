/* SPDX-License-Identifier: (GPL-2.0 OR MIT) */
/* Header parsing: one cursor, and every bounds check there is.
 *
 * Included by bpf/ingress.bpf.c (softirq, one CPU a packet) and, unchanged, by the host build that is fuzzed
 * (native/fuzz). No helpers, no maps: bytes in, facts out. Each vx_parse_* takes what the one before it left.
 *
 * Two limits stop the cursor. `end` is where the frame's memory ends: the verifier wants that one compared before
 * each access. `left` is what the enclosing header said is there, which may be less (Ethernet padding, trailers).
 */
#ifndef VX_PARSE_H
#define VX_PARSE_H

#include <linux/if_ether.h>
#include <linux/in.h>
#include <linux/ip.h>
#include <linux/ipv6.h>
#include <linux/tcp.h>
#include <linux/types.h>
#include <linux/udp.h>

#include <bpf/bpf_endian.h>

#include "abi/abi.h"

#ifndef __always_inline
#define __always_inline inline __attribute__((always_inline))
#endif

/* What a parser says: go on, leave the frame to the kernel, or drop it with a reason. VX_IS_IPV6 stops in front of an
 * IPv6 header, for the caller to go on with vx_parse_outer6 or vx_parse_inner6: the eBPF program does that in a
 * function of its own, since walking extension headers multiplies the verifier's paths. */
#define VX_IS_IPV6 -1
#define VX_GO_ON 0
#define VX_STOP_PASS 1
#define VX_STOP_DROP(reason) (2 + VX_DROP_##reason)
#define VX_STOP_REASON(stop) ((stop)-2)

/* RFC 3168 section 5: the last two bits of the IPv4 TOS and of the IPv6 traffic class. */
#define VX_ECN_NOT_ECT 0
#define VX_ECN_ECT1 1
#define VX_ECN_ECT0 2
#define VX_ECN_CE 3
#define VX_ECN_MASK 3

#define VX_VLAN_TAGS_MAX 2
#define VX_EXTENSION_HEADERS_MAX 6
#define VX_IP_FRAGMENT_OFFSET 0x1fff
#define VX_IP_MORE_FRAGMENTS 0x2000
#define VX_IP_DONT_FRAGMENT 0x4000
#define VX_VXLAN_FLAG_VNI 0x08000000u /* RFC 7348 section 5: the I flag */

/* As struct ethhdr, but in 16-bit words: that one is packed, and eBPF reads and writes packed fields byte by byte. */
struct vx_ethernet {
	__be16 destination[3];
	__be16 source[3];
	__be16 protocol_be;
};

struct vx_vlan_tag {
	__be16 tci_be;
	__be16 protocol_be;
};

struct vx_vxlan_header {
	__be32 flags_be;
	__be32 vni_be; /* upper 24 bits */
};

struct vx_extension_header {
	__u8 next;
	__u8 length; /* in 8 bytes, the first not counted */
	__be16 fragment_be;
	__be32 id_be;
};

struct vx_cursor {
	void *at;
	void *end;
	__u32 left;
	__u32 offset; /* of `at` in the frame */
};

/* The outer headers of a UDP packet to the VXLAN port. */
struct vx_tunnel {
	struct vx_addr local; /* IPv4 mapped; filled only as far as `is_ipv6` says */
	struct vx_addr peer;
	__be32 local4_be;
	__be32 peer4_be;
	__u32 vni;
	__u32 flags; /* of the VXLAN header, host order */
	__u16 udp_room; /* bytes from the UDP header to the end of the IP packet; 0: contradicts the frame */
	__u16 udp_length;
	__u8 is_ipv6;
	__u8 ecn; /* VX_ECN_* */
	__u8 pad[2];
	__u32 offset; /* behind an outer IPv6 header: where the cursor stood */
	__u32 left;
};

enum vx_fragment_kind {
	VX_WHOLE,
	VX_FIRST_FRAGMENT,
	VX_LATER_FRAGMENT,
};

/* The inner packet. `l3` and `l4` are offsets in the frame; l4 is 0 where there is no TCP or UDP header to touch. */
struct vx_inner {
	__u32 l3;
	__u32 l4;
	__u32 length; /* of the IP packet */
	__u16 l4_length;
	__be16 source_port_be;
	__be16 destination_port_be;
	__u8 protocol;
	__u8 fragment; /* enum vx_fragment_kind */
	__u8 is_ipv6;
};

/* The next `size` bytes (a constant), or 0 when they are not there. */
static __always_inline void *vx_take(struct vx_cursor *cursor, __u32 size)
{
	char *at = (char *)cursor->at;

	if (cursor->left < size || at + size > (char *)cursor->end)
		return 0;
	cursor->at = at + size;
	cursor->left -= size;
	cursor->offset += size;
	return at;
}

/* Skips `size` bytes (known only at run time); false when they are not there. */
static __always_inline int vx_skip(struct vx_cursor *cursor, __u32 size)
{
	if (cursor->left < size || (char *)cursor->at + size > (char *)cursor->end)
		return 0;
	cursor->at = (char *)cursor->at + size;
	cursor->left -= size;
	cursor->offset += size;
	return 1;
}

static __always_inline int vx_is_vlan(__be16 protocol_be)
{
	return protocol_be == bpf_htons(ETH_P_8021Q) || protocol_be == bpf_htons(ETH_P_8021AD);
}

/* An Ethernet header and up to two VLAN tags. Gives the EtherType behind them; 0 when cut short. */
static __always_inline __be16 vx_parse_ethernet(struct vx_cursor *cursor)
{
	struct vx_ethernet *header = (struct vx_ethernet *)vx_take(cursor, sizeof(*header));
	__be16 protocol_be;

	if (!header)
		return 0;
	protocol_be = header->protocol_be;
#pragma unroll
	for (int i = 0; i < VX_VLAN_TAGS_MAX; i++) {
		struct vx_vlan_tag *tag;

		if (!vx_is_vlan(protocol_be))
			break;
		tag = (struct vx_vlan_tag *)vx_take(cursor, sizeof(*tag));
		if (!tag)
			return 0;
		protocol_be = tag->protocol_be;
	}
	return protocol_be;
}

/* Walks IPv6 extension headers to the one that is none of them. Returns the fragment kind, or -1 when cut short.
 * After a later fragment's header nothing further can be parsed. */
static __always_inline int vx_skip_extensions(struct vx_cursor *cursor, __u8 *protocol)
{
	int kind = VX_WHOLE;

#pragma unroll
	for (int i = 0; i < VX_EXTENSION_HEADERS_MAX; i++) {
		struct vx_extension_header *header;

		if (*protocol != IPPROTO_HOPOPTS && *protocol != IPPROTO_ROUTING && *protocol != IPPROTO_DSTOPTS &&
		    *protocol != IPPROTO_FRAGMENT)
			break;
		header = (struct vx_extension_header *)vx_take(cursor, sizeof(*header));
		if (!header)
			return -1;
		if (*protocol == IPPROTO_FRAGMENT) {
			*protocol = header->next;
			if (header->fragment_be & bpf_htons(0xfff8))
				return VX_LATER_FRAGMENT;
			if (header->fragment_be & bpf_htons(1))
				kind = VX_FIRST_FRAGMENT;
			continue;
		}
		*protocol = header->next;
		if (!vx_skip(cursor, (__u32)header->length * 8))
			return -1;
	}
	return kind;
}

/* A UDP header with destination port `port_be`. */
static __always_inline int vx_parse_udp(struct vx_cursor *cursor, __be16 port_be, struct vx_tunnel *tunnel)
{
	struct udphdr *udp = (struct udphdr *)vx_take(cursor, sizeof(*udp));

	if (!udp || udp->dest != port_be)
		return VX_STOP_PASS;
	tunnel->udp_length = bpf_ntohs(udp->len);
	return VX_GO_ON;
}

/* Outer IPv4 up to a UDP header. Anything else is the kernel's: other protocols,
 * outer fragments, headers too damaged to tell. */
static __always_inline int vx_parse_outer4(struct vx_cursor *cursor, struct vx_tunnel *tunnel)
{
	struct iphdr *ip = (struct iphdr *)vx_take(cursor, sizeof(*ip));
	__u32 header, total;

	if (!ip || ip->version != 4 || ip->ihl < 5 || ip->protocol != IPPROTO_UDP ||
	    (ip->frag_off & bpf_htons(VX_IP_MORE_FRAGMENTS | VX_IP_FRAGMENT_OFFSET)))
		return VX_STOP_PASS;
	header = (__u32)ip->ihl * 4;
	total = bpf_ntohs(ip->tot_len);
	if (header > sizeof(*ip) && !vx_skip(cursor, header - (__u32)sizeof(*ip)))
		return VX_STOP_PASS;
	tunnel->is_ipv6 = 0;
	tunnel->ecn = ip->tos & VX_ECN_MASK;
	tunnel->local4_be = ip->daddr;
	tunnel->peer4_be = ip->saddr;
	tunnel->udp_room = total >= header && total - header <= cursor->left ? (__u16)(total - header) : 0;
	return VX_GO_ON;
}

/* Outer IPv6, up to behind a UDP header with destination port `port_be`. */
static __always_inline int vx_parse_outer6(struct vx_cursor *cursor, __be16 port_be, struct vx_tunnel *tunnel)
{
	struct ipv6hdr *ip = (struct ipv6hdr *)vx_take(cursor, sizeof(*ip));
	__u32 before, room;
	__u8 protocol;

	if (!ip || ip->version != 6)
		return VX_STOP_PASS;
	protocol = ip->nexthdr;
	before = cursor->left;
	room = bpf_ntohs(ip->payload_len);
	if (vx_skip_extensions(cursor, &protocol) != VX_WHOLE || protocol != IPPROTO_UDP)
		return VX_STOP_PASS;
	before -= cursor->left; /* bytes of extension headers */
	tunnel->is_ipv6 = 1;
	tunnel->ecn = ip->flow_lbl[0] >> 4 & VX_ECN_MASK;
	__builtin_memcpy(&tunnel->local, &ip->daddr, sizeof(tunnel->local));
	__builtin_memcpy(&tunnel->peer, &ip->saddr, sizeof(tunnel->peer));
	tunnel->udp_room = room >= before && room - before <= cursor->left ? (__u16)(room - before) : 0;
	return vx_parse_udp(cursor, port_be, tunnel);
}

/* From the start of the frame to behind a UDP header with destination port `port_be`. */
static __always_inline int vx_parse_outer(struct vx_cursor *cursor, __be16 port_be, struct vx_tunnel *tunnel)
{
	__be16 protocol_be = vx_parse_ethernet(cursor);
	int stop;

	if (protocol_be == bpf_htons(ETH_P_IPV6))
		return VX_IS_IPV6;
	if (protocol_be != bpf_htons(ETH_P_IP))
		return VX_STOP_PASS;
	stop = vx_parse_outer4(cursor, tunnel);
	return stop == VX_GO_ON ? vx_parse_udp(cursor, port_be, tunnel) : stop;
}

/* The VXLAN header, behind a UDP header that is for us. Trims the cursor to what UDP says is inside. */
static __always_inline int vx_parse_vxlan(struct vx_cursor *cursor, struct vx_tunnel *tunnel)
{
	struct vx_vxlan_header *vxlan;

	if (tunnel->udp_length < sizeof(struct udphdr) + sizeof(*vxlan) || tunnel->udp_length > tunnel->udp_room)
		return VX_STOP_DROP(malformed_outer);
	cursor->left = tunnel->udp_length - (__u32)sizeof(struct udphdr);
	vxlan = (struct vx_vxlan_header *)vx_take(cursor, sizeof(*vxlan));
	if (!vxlan)
		return VX_STOP_DROP(malformed_outer);
	tunnel->flags = bpf_ntohl(vxlan->flags_be);
	tunnel->vni = bpf_ntohl(vxlan->vni_be) >> 8;
	return VX_GO_ON;
}

/* TCP or UDP at the cursor, `inner->l4_length` bytes of it; other protocols are left alone. */
static __always_inline int vx_parse_l4(struct vx_cursor *cursor, struct vx_inner *inner)
{
	__u32 offset = cursor->offset;

	inner->l4 = 0;
	inner->source_port_be = 0;
	inner->destination_port_be = 0;
	if (inner->fragment == VX_LATER_FRAGMENT)
		return VX_GO_ON;
	if (inner->protocol == IPPROTO_UDP) {
		struct udphdr *udp = (struct udphdr *)vx_take(cursor, sizeof(*udp));
		__u32 length;

		if (!udp)
			return VX_STOP_DROP(malformed_inner);
		length = bpf_ntohs(udp->len);
		if (length < sizeof(*udp) || (inner->fragment == VX_WHOLE && length > inner->l4_length))
			return VX_STOP_DROP(malformed_inner);
		inner->l4_length = (__u16)length;
		inner->l4 = offset;
		inner->source_port_be = udp->source;
		inner->destination_port_be = udp->dest;
	} else if (inner->protocol == IPPROTO_TCP) {
		struct tcphdr *tcp = (struct tcphdr *)vx_take(cursor, sizeof(*tcp));

		if (!tcp || tcp->doff < 5 || (__u32)tcp->doff * 4 > inner->l4_length)
			return VX_STOP_DROP(malformed_inner);
		inner->l4 = offset;
		inner->source_port_be = tcp->source;
		inner->destination_port_be = tcp->dest;
	}
	return VX_GO_ON;
}

static __always_inline int vx_parse_inner4(struct vx_cursor *cursor, struct vx_inner *inner)
{
	__u32 available = cursor->left, offset = cursor->offset, header, fragment;
	struct iphdr *ip = (struct iphdr *)vx_take(cursor, sizeof(*ip));

	if (!ip || ip->version != 4 || ip->ihl < 5)
		return VX_STOP_DROP(malformed_inner);
	header = (__u32)ip->ihl * 4;
	inner->l3 = offset;
	inner->is_ipv6 = 0;
	inner->protocol = ip->protocol;
	inner->length = bpf_ntohs(ip->tot_len);
	if (inner->length < header)
		return VX_STOP_DROP(malformed_inner);
	if (inner->length > available)
		return VX_STOP_DROP(truncated);
	cursor->left = inner->length - (__u32)sizeof(*ip);
	if (header > sizeof(*ip) && !vx_skip(cursor, header - (__u32)sizeof(*ip)))
		return VX_STOP_DROP(malformed_inner);
	inner->l4_length = (__u16)(inner->length - header);
	fragment = bpf_ntohs(ip->frag_off);
	inner->fragment = fragment & VX_IP_FRAGMENT_OFFSET  ? VX_LATER_FRAGMENT
			  : fragment & VX_IP_MORE_FRAGMENTS ? VX_FIRST_FRAGMENT
							    : VX_WHOLE;
	return vx_parse_l4(cursor, inner);
}

static __always_inline int vx_parse_inner6(struct vx_cursor *cursor, struct vx_inner *inner)
{
	__u32 available = cursor->left, offset = cursor->offset;
	struct ipv6hdr *ip = (struct ipv6hdr *)vx_take(cursor, sizeof(*ip));
	int kind;

	if (!ip || ip->version != 6)
		return VX_STOP_DROP(malformed_inner);
	inner->l3 = offset;
	inner->is_ipv6 = 1;
	inner->length = (__u32)sizeof(*ip) + bpf_ntohs(ip->payload_len);
	if (inner->length > available)
		return VX_STOP_DROP(truncated);
	cursor->left = bpf_ntohs(ip->payload_len);
	inner->protocol = ip->nexthdr;
	kind = vx_skip_extensions(cursor, &inner->protocol);
	if (kind < 0)
		return VX_STOP_DROP(malformed_inner);
	inner->fragment = (__u8)kind;
	inner->l4_length = (__u16)cursor->left;
	return vx_parse_l4(cursor, inner);
}

/* An inner frame (or, with plain Ethernet inside, the frame itself). */
static __always_inline int vx_parse_inner(struct vx_cursor *cursor, struct vx_inner *inner)
{
	__be16 protocol_be = vx_parse_ethernet(cursor);

	if (protocol_be == bpf_htons(ETH_P_IP))
		return vx_parse_inner4(cursor, inner);
	if (protocol_be == bpf_htons(ETH_P_IPV6))
		return VX_IS_IPV6;
	return protocol_be ? VX_STOP_DROP(not_ip) : VX_STOP_DROP(malformed_inner);
}

#endif
