// SPDX-License-Identifier: GPL-2.0 OR MIT
/* What became of redirected packets: the ledger's other half.
 *
 * XDP_REDIRECT only queues a frame. Two tracepoints see its fate (kernel: include/trace/events/xdp.h):
 *   xdp_devmap_xmit   one bulk handed to the driver: so many sent, so many refused;
 *   xdp_redirect_err  a frame that did not even get that far: device down, larger than the MTU, no such
 *                     function in the driver. (What an AF_XDP socket refuses, the socket counts itself.)
 * They are host-wide. The first is filtered by the pair of interfaces (index and network namespace), the second by
 * the id of our inside program. Both run on the CPU, and in the softirq, that ran the program, so they write the
 * same slot without a lock.
 *
 * The kernel may leave a tracing program out: one that interrupted itself, or whatever runs on top of a process it
 * protects from tracing. The frames went their way all the same. Datapath::settle (native/io) finds them and counts
 * them as the last ones before.
 *
 * While one daemon takes over from another that was killed, both daemons' tracepoints see a bulk. Each counts no more
 * than its own program redirected and has not settled yet, so that no packet stands in both ledgers.
 */
#include <linux/bpf.h>

#include <bpf/bpf_core_read.h>
#include <bpf/bpf_tracing.h>

#include "kernel_types.h"
#include "maps.h"

extern struct vx_control control; /* bpf/worker_maps.h */

static __always_inline int vx_is_interface(const struct net_device *device, __u32 direction)
{
	struct vx_interface *interface = bpf_map_lookup_elem(&interface_map, &direction);

	return interface && (__u32)device->ifindex == interface->ifindex &&
	       device->nd_net.net->net_cookie == interface->netns_cookie;
}

static __always_inline void vx_note_latency(struct vx_slot *slot)
{
	__u64 elapsed_ns = bpf_ktime_get_ns() - slot->latency_start_ns;
	__u64 scaled = elapsed_ns >> 7;
	__u32 bucket = 0;

#pragma unroll
	for (int i = 0; i < VX_LATENCY_BUCKETS - 1; i++)
		bucket += (scaled >> i) != 0;
	slot->latency_start_ns = 0;
	slot->latency_sum_ns += elapsed_ns;
	if (bucket < VX_LATENCY_BUCKETS)
		slot->latency[bucket]++;
}

static __always_inline __u32 vx_refusal(const struct net_device *to, int err)
{
	return err == -VX_ENETDOWN || (to->state & (1ul << VX_LINK_STATE_NOCARRIER)) ? VX_DROP_carrier_down
										      : VX_DROP_tx_refused;
}

/* A bulk of a worker's, in the worker's own thread. */
static __always_inline int vx_injected(const struct net_device *to, __u64 taken, __u64 refused, int err)
{
	struct vx_injection *injection = vx_injection_here();
	struct vx_slot *slot = injection ? vx_slot_of_injection(injection) : 0;
	struct vx_counters *counters;
	__u64 ours;

	if (!injection || !slot || !vx_is_interface(to, injection->to))
		return 0;
	counters = &slot->direction[injection->ledger % VX_DIRECTIONS];
	ours = injection->taken - injection->told;
	if (taken > ours)
		taken = ours;
	if (refused > ours - taken)
		refused = ours - taken;
	counters->forwarded += taken;
	counters->injected += taken;
	if (refused)
		counters->dropped[vx_refusal(to, err)] += refused;
	injection->told += taken + refused;
	return 0;
}

SEC("tp_btf/xdp_devmap_xmit")
int BPF_PROG(vx_devmap_xmit, const struct net_device *from, const struct net_device *to, int sent, int drops, int err)
{
	struct vx_slot *slot;
	struct vx_counters *inside;
	__u64 ours, refused = drops > 0 ? drops : 0, taken = sent > 0 ? sent : 0;

	if (from->ifindex == VX_LOOPBACK_IFINDEX)
		return vx_injected(to, taken, refused, err);
	if (!vx_is_interface(to, VX_OUTSIDE) || !vx_is_interface(from, VX_INSIDE))
		return 0;
	slot = vx_slot_here();
	if (!slot)
		return 0;
	inside = &slot->direction[VX_INSIDE];
	ours = inside->redirected - slot->settled - inside->unreported;
	if (taken > ours)
		taken = ours;
	if (refused > ours - taken)
		refused = ours - taken;
	slot->settled += taken + refused;
	inside->forwarded += taken;
	if (taken || refused)
		slot->last_fate = refused > taken ? 1 + vx_refusal(to, err) : 0;
	if (refused)
		inside->dropped[vx_refusal(to, err)] += refused;
	if (!slot->latency_start_ns)
		return 0;
	/* One more than the bulk may be on its way: the one that found it full. */
	if (taken && ours - taken - refused <= 1)
		vx_note_latency(slot);
	else /* the timed packet is lost, or left with a bulk that was not reported: this one is not it */
		slot->latency_start_ns = 0;
	return 0;
}

SEC("tp_btf/xdp_redirect_err")
int BPF_PROG(vx_redirect_err, const struct net_device *device, const struct bpf_prog *xdp, const void *target, int err,
	     int map_type)
{
	struct vx_injection *injection = vx_injection_here();
	struct vx_slot *slot = 0;
	__u32 reason = VX_DROP_redirect_error, direction = VX_INSIDE;

	if (!control.ingress_prog_id)
		return 0;
	if (map_type != BPF_MAP_TYPE_XSKMAP)
		reason = err == -VX_ENETDOWN ? VX_DROP_carrier_down : err == -VX_EMSGSIZE ? VX_DROP_too_big : reason;
	else if (err == -VX_ENOBUFS || err == -VX_ENOMEM)
		return 0; /* XskReceiver::refused */
	if (xdp->aux->id == control.egress_prog_id && map_type == BPF_MAP_TYPE_XSKMAP) {
		slot = vx_slot_here();
		direction = VX_OUTSIDE;
	} else if (xdp->aux->id == control.egress_prog_id && injection) {
		slot = vx_slot_of_injection(injection);
		direction = injection->ledger % VX_DIRECTIONS;
		injection->told++;
	} else if (xdp->aux->id == control.ingress_prog_id) {
		slot = vx_slot_here();
	}
	if (!slot)
		return 0;
	if (map_type != BPF_MAP_TYPE_XSKMAP && xdp->aux->id == control.ingress_prog_id) {
		slot->settled++;
		slot->last_fate = 1 + reason;
		slot->latency_start_ns = 0;
	}
	slot->direction[direction].dropped[reason]++;
	return 0;
}

char LICENSE[] SEC("license") = "Dual MIT/GPL";
