// SPDX-License-Identifier: (GPL-2.0 OR MIT)
/* The ceiling: what XDP costs here without a gateway in it.
 *
 * Loaded by vxbare. `bare_redirect` sends every frame out of the outside interface unread, `bare_drop`
 * counts and drops it; `bare_pass` sits on the outside interface, without which a veth takes no redirect.
 */
#include <linux/bpf.h>

#include <bpf/bpf_helpers.h>

char LICENSE[] SEC("license") = "Dual MIT/GPL";

#define CPUS 128

struct {
	__uint(type, BPF_MAP_TYPE_DEVMAP);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u32);
} outlet SEC(".maps");

__u64 dropped[CPUS][8]; /* a cache line a CPU, of which the first word counts */

SEC("xdp")
int bare_redirect(struct xdp_md *ctx __attribute__((unused)))
{
	return bpf_redirect_map(&outlet, 0, 0);
}

SEC("xdp")
int bare_drop(struct xdp_md *ctx __attribute__((unused)))
{
	dropped[bpf_get_smp_processor_id() & (CPUS - 1)][0]++;
	return XDP_DROP;
}

SEC("xdp")
int bare_pass(struct xdp_md *ctx __attribute__((unused)))
{
	return XDP_PASS;
}
