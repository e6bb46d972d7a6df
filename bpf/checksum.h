/* SPDX-License-Identifier: (GPL-2.0 OR MIT) */
/* One's complement sums: incremental update by RFC 1624 equation 3, HC' = ~(~HC + ~m + m').
 * Included by the inside program and by the host build of its tests. Pure.
 */
#ifndef VX_CHECKSUM_H
#define VX_CHECKSUM_H

#include <linux/types.h>

static __always_inline __u16 vx_fold(__u32 sum)
{
	sum = (sum & 0xffff) + (sum >> 16);
	return (__u16)((sum & 0xffff) + (sum >> 16));
}

static __always_inline __u32 vx_sum32(__u32 word)
{
	return (word & 0xffff) + (word >> 16);
}

/* The sum that replacing `from` by `to` adds. */
static __always_inline __u16 vx_delta32(__u32 from, __u32 to)
{
	return vx_fold(vx_sum32(~from) + vx_sum32(to));
}

static __always_inline __u16 vx_delta16(__u16 from, __u16 to)
{
	return vx_fold((__u32)(__u16)~from + to);
}

/* A checksum field after its data's sum changed by `delta` (any number of deltas added up, unfolded). */
static __always_inline __u16 vx_checksum_add(__u16 check, __u32 delta)
{
	return (__u16)~vx_fold((__u32)(__u16)~check + vx_fold(delta));
}

/* UDP: a checksum that comes out as 0 is sent as all ones (RFC 768). */
static __always_inline __u16 vx_udp_nonzero(__u16 check)
{
	return check ? check : 0xffff;
}

#endif
