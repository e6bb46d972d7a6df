// See parser_host.h. C, as the eBPF program is; built without the alignment check, since headers in a frame start
// anywhere and both eBPF and x86 read them there.
#include "parser_host.h"

#include "../../bpf/parse.h"

#include <string.h>

#include "../../bpf/checksum.h"

static struct vx_cursor cursor_at(const __u8 *frame, size_t size, __u32 offset, __u32 left)
{
	struct vx_cursor cursor = {.at = (void *)(frame + offset), .end = (void *)(frame + size), .offset = offset};

	cursor.left = offset <= size ? left : 0;
	return cursor;
}

/* As vx_open_vxlan and vx_outer6 do, without filters. */
static int open_vxlan(const __u8 *frame, size_t size, const struct parser_knobs *knobs, struct vx_cursor *cursor,
		      struct parser_answer *answer)
{
	const __be16 port_be = bpf_htons(knobs->port);
	struct vx_tunnel tunnel;
	int stop;

	memset(&tunnel, knobs->stale, sizeof(tunnel));
	stop = vx_parse_outer(cursor, port_be, &tunnel);
	if (stop == VX_IS_IPV6) {
		struct vx_cursor outer6 = cursor_at(frame, size, cursor->offset, cursor->left);

		stop = vx_parse_outer6(&outer6, port_be, &tunnel);
		*cursor = cursor_at(frame, size, outer6.offset, outer6.left);
	}
	if (stop == VX_GO_ON)
		stop = vx_parse_vxlan(cursor, &tunnel);
	if (stop != VX_GO_ON)
		return stop;
	answer->outer_is_ipv6 = tunnel.is_ipv6;
	answer->outer_ecn = tunnel.ecn;
	answer->vni = tunnel.vni;
	answer->flags = tunnel.flags;
	return tunnel.flags & VX_VXLAN_FLAG_VNI ? VX_GO_ON : VX_STOP_DROP(vxlan_flags);
}

/* As vx_ingress and vx_inner6 do. */
static int open_inner(const __u8 *frame, size_t size, const struct parser_knobs *knobs, struct vx_cursor *cursor,
		      struct vx_inner *inner)
{
	int stop = vx_parse_inner(cursor, inner);

	if (knobs->plain_ethernet && stop == VX_STOP_DROP(not_ip))
		return VX_STOP_PASS;
	if (stop == VX_IS_IPV6) {
		struct vx_cursor inner6 = cursor_at(frame, size, cursor->offset, cursor->left);

		return knobs->forward_ipv6 ? vx_parse_inner6(&inner6, inner) : VX_STOP_DROP(ipv6);
	}
	return stop;
}

void parser_run(const __u8 *frame, size_t size, const struct parser_knobs *knobs, struct parser_answer *answer)
{
	struct vx_cursor cursor = cursor_at(frame, size, 0, (__u32)size);
	struct vx_inner inner;
	int stop = VX_GO_ON;

	memset(answer, 0, sizeof(*answer)); /* padding too: answers are compared */
	memset(&inner, knobs->stale, sizeof(inner));
	if (!knobs->plain_ethernet)
		stop = open_vxlan(frame, size, knobs, &cursor, answer);
	else if (size < sizeof(struct ethhdr))
		stop = VX_STOP_PASS;
	if (stop == VX_GO_ON)
		stop = open_inner(frame, size, knobs, &cursor, &inner);
	answer->fate = stop == VX_GO_ON ? PARSER_PACKET : stop == VX_STOP_PASS ? PARSER_PASS : PARSER_DROP;
	if (answer->fate == PARSER_DROP)
		answer->drop = (__u32)VX_STOP_REASON(stop);
	if (answer->fate != PARSER_PACKET)
		return;
	answer->l3 = inner.l3;
	answer->l4 = inner.l4;
	answer->length = inner.length;
	answer->l4_length = inner.l4_length;
	answer->source_port = bpf_ntohs(inner.source_port_be);
	answer->destination_port = bpf_ntohs(inner.destination_port_be);
	answer->protocol = inner.protocol;
	answer->fragment = inner.fragment;
	answer->is_ipv6 = inner.is_ipv6;
}

static __u32 load16(const __u8 *at)
{
	return (__u32)at[0] << 8 | at[1];
}

#define PROMISE(holds)         \
	do {                   \
		if (!(holds))  \
			return #holds; \
	} while (0)

static const char *broken_packet_promise(const __u8 *frame, size_t size, const struct parser_answer *answer)
{
	const __u8 *ip = frame + answer->l3;
	__u32 header = answer->is_ipv6 ? 40 : 20;
	__u32 l4_header = answer->protocol == IPPROTO_UDP ? 8 : 20;

	PROMISE(answer->l3 >= 14);
	PROMISE(answer->length >= header);
	PROMISE(answer->l3 + answer->length <= size);
	PROMISE(ip[0] >> 4 == (answer->is_ipv6 ? 6 : 4));
	PROMISE(answer->length == (answer->is_ipv6 ? 40 + load16(ip + 4) : load16(ip + 2)));
	PROMISE(answer->fragment <= VX_LATER_FRAGMENT);
	if (!answer->is_ipv6) {
		__u32 bits = load16(ip + 6) & 0x3fff;

		PROMISE(answer->protocol == ip[9]);
		PROMISE(answer->fragment == (bits & 0x1fff ? VX_LATER_FRAGMENT : bits ? VX_FIRST_FRAGMENT : VX_WHOLE));
	}
	if (!answer->l4) {
		PROMISE(!answer->source_port && !answer->destination_port);
		PROMISE(answer->fragment == VX_LATER_FRAGMENT ||
			(answer->protocol != IPPROTO_UDP && answer->protocol != IPPROTO_TCP));
		return NULL;
	}
	PROMISE(answer->protocol == IPPROTO_UDP || answer->protocol == IPPROTO_TCP);
	PROMISE(answer->fragment != VX_LATER_FRAGMENT);
	PROMISE(answer->l4 >= answer->l3 + header);
	PROMISE(answer->is_ipv6 || answer->l4 == answer->l3 + (ip[0] & 15u) * 4);
	PROMISE(answer->l4 + l4_header <= answer->l3 + answer->length);
	PROMISE(answer->l4_length >= l4_header);
	PROMISE(answer->fragment == VX_FIRST_FRAGMENT ||
		answer->l4 + answer->l4_length <= answer->l3 + answer->length);
	if (answer->protocol == IPPROTO_UDP) {
		PROMISE(answer->l4_length == load16(frame + answer->l4 + 4));
	} else {
		__u32 tcp_header = (frame[answer->l4 + 12] >> 4) * 4u;

		PROMISE(tcp_header >= 20 && tcp_header <= answer->l4_length);
	}
	PROMISE(answer->source_port == load16(frame + answer->l4));
	PROMISE(answer->destination_port == load16(frame + answer->l4 + 2));
	return NULL;
}

const char *parser_broken_promise(const __u8 *frame, size_t size, const struct parser_knobs *knobs,
				  const struct parser_answer *answer)
{
	if (answer->fate == PARSER_DROP) {
		PROMISE(answer->drop < VX_DROP_COUNT);
		PROMISE(answer->drop == VX_DROP_malformed_outer || answer->drop == VX_DROP_vxlan_flags ||
			answer->drop == VX_DROP_malformed_inner || answer->drop == VX_DROP_not_ip ||
			answer->drop == VX_DROP_truncated || answer->drop == VX_DROP_ipv6);
		PROMISE(answer->drop != VX_DROP_ipv6 || !knobs->forward_ipv6);
	}
	if (answer->fate != PARSER_PACKET)
		return NULL;
	/* Ethernet, IPv4, UDP, VXLAN, Ethernet */
	PROMISE(knobs->plain_ethernet || answer->l3 >= 14 + (answer->outer_is_ipv6 ? 40 : 20) + 8 + 8 + 14);
	PROMISE(knobs->plain_ethernet || answer->flags & VX_VXLAN_FLAG_VNI);
	PROMISE(answer->vni < 1u << 24);
	PROMISE(answer->outer_ecn <= VX_ECN_CE);
	return broken_packet_promise(frame, size, answer);
}

__u16 parser_fold(__u32 sum)
{
	return vx_fold(sum);
}

__u32 parser_sum32(__u32 word)
{
	return vx_sum32(word);
}

__u16 parser_delta32(__u32 from, __u32 to)
{
	return vx_delta32(from, to);
}

__u16 parser_delta16(__u16 from, __u16 to)
{
	return vx_delta16(from, to);
}

__u16 parser_checksum_add(__u16 check, __u32 delta)
{
	return vx_checksum_add(check, delta);
}

__u16 parser_udp_nonzero(__u16 check)
{
	return vx_udp_nonzero(check);
}
