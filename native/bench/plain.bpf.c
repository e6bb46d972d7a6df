// SPDX-License-Identifier: (GPL-2.0 OR MIT)
/* Everything to the socket of its queue, unread: the least an AF_XDP forwarder can do. Loaded by vxplain; runs in the
 * inside interface's NAPI context.
 */
#include <linux/bpf.h>

#include <bpf/bpf_helpers.h>

char LICENSE[] SEC("license") = "Dual MIT/GPL";

struct {
	__uint(type, BPF_MAP_TYPE_XSKMAP);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u32);
} sockets SEC(".maps");

SEC("xdp")
int plain_receive(struct xdp_md *ctx)
{
	return bpf_redirect_map(&sockets, ctx->rx_queue_index, XDP_PASS);
}
