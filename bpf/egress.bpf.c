// SPDX-License-Identifier: GPL-2.0 OR MIT
/* The outside interface's program. One way there is nothing to do with what arrives there but to count it and leave
 * it to the kernel. It has to be there all the same: ENA, and veth by its far end, refuse redirected frames for an
 * interface without a program of its own (-ENXIO). Softirq.
 */
#include "maps.h"

SEC("xdp")
int vx_egress(struct xdp_md *ctx)
{
	struct vx_slot *slot = vx_slot_here();

	if (!slot)
		return XDP_ABORTED;
	slot->direction[VX_OUTSIDE].received++;
	slot->direction[VX_OUTSIDE].received_bytes += vx_frame_length(ctx);
	slot->direction[VX_OUTSIDE].passed++;
	return XDP_PASS;
}

char LICENSE[] SEC("license") = "Dual MIT/GPL";
