// SPDX-License-Identifier: GPL-2.0 OR MIT
/* Tries whether an interface takes redirected frames (native/io/trial.cpp): BPF_PROG_RUN runs vx_trial_send on one live
 * frame, in the caller's thread with softirqs off, and the tracepoints tell what became of it before the call is back.
 * An object of its own, gone after the trial: the gateway's ledger sees nothing of it.
 */
#include <linux/bpf.h>

#include <bpf/bpf_core_read.h>
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_tracing.h>

#include "abi/abi.h"
#include "abi/trial.h"
#include "kernel_types.h"

struct vx_trial trial = {};

struct {
	__uint(type, BPF_MAP_TYPE_DEVMAP);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u32);
} trial_outlet SEC(".maps");

SEC("xdp")
int vx_trial_send(struct xdp_md *ctx)
{
	return bpf_redirect_map(&trial_outlet, 0, XDP_ABORTED);
}

SEC("tp_btf/xdp_devmap_xmit")
int BPF_PROG(vx_trial_xmit, const struct net_device *from, const struct net_device *to, int sent, int drops, int err)
{
	if (from->ifindex != VX_LOOPBACK_IFINDEX || (__u32)to->ifindex != trial.ifindex ||
	    to->nd_net.net->net_cookie != trial.netns_cookie)
		return 0;
	if (sent > 0)
		trial.taken += sent;
	else
		trial.err = err ? err : -VX_ENOBUFS;
	return 0;
}

SEC("tp_btf/xdp_redirect_err")
int BPF_PROG(vx_trial_redirect_err, const struct net_device *device, const struct bpf_prog *xdp, const void *target,
	     int err, int map_type)
{
	if (xdp->aux->id == trial.program)
		trial.err = err;
	return 0;
}

char LICENSE[] SEC("license") = "Dual MIT/GPL";
