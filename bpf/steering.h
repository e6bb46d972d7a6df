/* SPDX-License-Identifier: (GPL-2.0 OR MIT) */
/* Source NAT: which worker gets a packet. The one definition that the programs and the engine
 * (native/core/nat/steering.h) share, so that a packet from inside always comes to the worker that owns its subscriber.
 * Pure; 32-bit arithmetic. What lands at a wrong worker is handed over there.
 *
 * A subscriber's owner depends on nothing but its realm and its inside address: what translation never changes, and what
 * decides pairing, limits, blocks and endpoint-independent mappings.
 */
#ifndef VX_STEERING_H
#define VX_STEERING_H

#include <linux/types.h>

#ifndef __always_inline
#define __always_inline inline __attribute__((always_inline))
#endif

/* lowbias32 by C. Wellons: neighbours among addresses part. */
static __always_inline __u32 vx_spread(__u32 x)
{
	x ^= x >> 16;
	x *= 0x7feb352du;
	x ^= x >> 15;
	x *= 0x846ca68bu;
	return x ^ x >> 16;
}

static __always_inline __u32 vx_worker_of_hash(__u32 hash, __u32 workers)
{
	return (__u32)((__u64)hash * workers >> 32);
}

static __always_inline __u32 vx_owner_of_subscriber(__u32 realm, __u32 inside_be, __u32 workers)
{
	return vx_worker_of_hash(vx_spread(inside_be ^ vx_spread(realm + 0x9e3779b9u)), workers);
}

/* Who puts a datagram in order whose fragments come from outside. */
static __always_inline __u32 vx_owner_of_fragments(__u32 source_be, __u32 destination_be, __u16 id_be, __u8 protocol,
						   __u32 workers)
{
	const __u32 last = (__u32)id_be << 8 | protocol;

	return vx_worker_of_hash(vx_spread(source_be ^ vx_spread(destination_be ^ vx_spread(last))), workers);
}

/* Who gets what comes from outside and no port says whose it is. */
static __always_inline __u32 vx_worker_of_addresses(__u32 source_be, __u32 destination_be, __u32 workers)
{
	return vx_worker_of_hash(vx_spread(source_be ^ vx_spread(destination_be)), workers);
}

#endif
