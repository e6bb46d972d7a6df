/* SPDX-License-Identifier: (GPL-2.0 OR MIT) */
/* Whom a frame is addressed to, by its Ethernet header: a NIC in promiscuous mode, or a switch that floods, brings frames for
 * other stations too. Included by both programs. Softirq.
 */
#ifndef VX_OWN_MAC_H
#define VX_OWN_MAC_H

#include "leave.h"

/* To the MAC of the interface it came by, as the workers have described it. */
static __always_inline int vx_to_own_mac(const struct vx_ethernet *ethernet)
{
	__u32 direction = VX_DIRECTION;
	const struct vx_interface *interface = bpf_map_lookup_elem(&interface_map, &direction);

	if (!interface)
		return 0;
	for (int i = 0; i < ETH_ALEN / 2; i++)
		if (ethernet->destination[i] != ((const __be16 *)interface->mac)[i])
			return 0;
	return 1;
}

/* To a group's MAC: all stations', or those that want it. */
static __always_inline int vx_to_group_mac(const struct vx_ethernet *ethernet)
{
	return *(const __u8 *)ethernet->destination & 1;
}

#endif
