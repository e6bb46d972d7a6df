// SPDX-License-Identifier: (GPL-2.0 OR MIT)
/* The load generator's eBPF half: writes packets into live frames and counts what the driver took.
 *
 * `generate` is run by vxgen through BPF_PROG_RUN with BPF_F_TEST_XDP_LIVE_FRAMES (those frames show the
 * loopback device as their origin) in vxgen's one sending thread. It is also attached to the sending
 * interface, where it passes everything: a program that is attached nowhere costs 24 ms a call.
 * `count_sent` runs after each bulk of the DEVMAP and is the only witness of what a full ring refused.
 */
#include <linux/bpf.h>

#include <bpf/bpf_helpers.h>
#include <bpf/bpf_tracing.h>

#include "traffic.h"

/* BPF_PROG names parameters that this program has no use for. */
#pragma clang diagnostic ignored "-Wunused-parameter"

char LICENSE[] SEC("license") = "Dual MIT/GPL";

#define LOOPBACK_IFINDEX 1
#define BULK_MAX 64 /* the kernel's DEV_MAP_BULK_SIZE is 16 */

/* The kernel's own structs, as far as the tracepoint needs them; offsets are relocated by CO-RE. */
struct ns_common {
	unsigned int inum;
} __attribute__((preserve_access_index));

struct net {
	struct ns_common ns;
} __attribute__((preserve_access_index));

typedef struct {
	struct net *net;
} __attribute__((preserve_access_index)) possible_net_t;

struct net_device {
	int ifindex;
	possible_net_t nd_net;
} __attribute__((preserve_access_index));

struct {
	__uint(type, BPF_MAP_TYPE_DEVMAP);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u32);
} outlet SEC(".maps");

const volatile __u32 out_ifindex;
const volatile __u32 netns_inum;

struct vx_traffic traffic;
/* --answers: heads of the packets to send, one a flow, instead of stamped ones. */
const volatile __u32 answers;
struct {
	__u64 words[VX_TURNED_BYTES / 8];
} turned[VX_TURNED_MAX];
__u32 sources_be[VX_SOURCES_MAX];
__u32 denied_sources_be[VX_SOURCES_MAX];
struct vx_walk walk;

__u64 sent;                     /* frames ndo_xdp_xmit took */
__u64 refused[VX_CLASS_COUNT];  /* frames it did not */
__u64 accounted;                /* frames of either kind: the place in the schedule of the next bulk */

SEC("xdp")
int generate(struct xdp_md *ctx)
{
	__u8 *frame = (__u8 *)(long)ctx->data;
	struct vx_stamp stamp;

	if (ctx->ingress_ifindex != LOOPBACK_IFINDEX)
		return XDP_PASS;
	if (answers) {
		if (frame + VX_TURNED_BYTES > (__u8 *)(long)ctx->data_end)
			return XDP_ABORTED;
#pragma unroll
		for (int i = 0; i < VX_TURNED_BYTES / 8; i++)
			((__u64 *)frame)[i] = turned[walk.flow & (VX_TURNED_MAX - 1)].words[i];
		vx_walk_on(&walk, &traffic);
		return bpf_redirect_map(&outlet, 0, 0);
	}
	if (frame + VX_HEAD_BYTES > (__u8 *)(long)ctx->data_end)
		return XDP_ABORTED;

	__u32 class_of = traffic.schedule[walk.schedule_at & (VX_SCHEDULE_MAX - 1)];

	if (class_of >= VX_CLASS_COUNT)
		return XDP_ABORTED;
	const struct vx_template *template_of = &traffic.templates[class_of];

#pragma unroll
	for (int i = 0; i < VX_HEAD_BYTES / 8; i++)
		((__u64 *)frame)[i] = ((const __u64 *)template_of->bytes)[i];
	stamp.flow = walk.flow;
	stamp.class_of = class_of;
	stamp.sequence = walk.sequence;
	stamp.sport_be = vx_swap16(walk.sport);
	stamp.source = class_of == VX_CLASS_denied ? denied_sources_be[walk.denied_at & (VX_SOURCES_MAX - 1)]
						   : sources_be[walk.source_at & (VX_SOURCES_MAX - 1)];
	stamp.dport_be = class_of == VX_CLASS_no_rule
				 ? traffic.other_port_be[walk.other_port_at & (VX_PORTS_MAX - 1)]
				 : traffic.port_be[walk.port_at & (VX_PORTS_MAX - 1)];
	vx_stamp_frame(frame, template_of, &stamp);
	vx_walk_on(&walk, &traffic);
	return bpf_redirect_map(&outlet, 0, 0);
}

SEC("tp_btf/xdp_devmap_xmit")
int BPF_PROG(count_sent, const struct net_device *from, const struct net_device *to, int took, int drops)
{
	if (to->ifindex != (int)out_ifindex || to->nd_net.net->ns.inum != netns_inum)
		return 0;
	sent += took;
	/* ndo_xdp_xmit stops at the first frame it cannot take: the refused ones are the bulk's tail. */
	if (drops > 0) {
		__u64 first = accounted + took;
		__u32 length = traffic.schedule_length;

		for (int i = 0; i < BULK_MAX && i < drops; i++) {
			__u32 at = length ? (__u32)((first + i) % length) : 0;
			__u32 class_of = traffic.schedule[at & (VX_SCHEDULE_MAX - 1)];

			if (class_of < VX_CLASS_COUNT)
				refused[class_of]++;
		}
	}
	accounted += took + drops;
	return 0;
}
