/* SPDX-License-Identifier: (GPL-2.0 OR MIT) */
/* What the tracepoint programs read of the kernel's own structs: only the fields they use; the loader finds where those
 * are in the running kernel. Included by bpf/losses.bpf.c and bpf/trial.bpf.c.
 */
#ifndef VX_KERNEL_TYPES_H
#define VX_KERNEL_TYPES_H

#include <linux/types.h>

#define VX_LINK_STATE_NOCARRIER 2 /* include/linux/netdevice.h: enum netdev_state_t */
#define VX_ENOMEM 12
#define VX_EMSGSIZE 90
#define VX_ENETDOWN 100
#define VX_ENOBUFS 105

#pragma clang attribute push(__attribute__((preserve_access_index)), apply_to = record)
struct net {
	__u64 net_cookie;
};
typedef struct {
	struct net *net;
} possible_net_t;
struct net_device {
	unsigned long state;
	int ifindex;
	possible_net_t nd_net;
};
struct bpf_prog_aux {
	__u32 id;
};
struct bpf_prog {
	struct bpf_prog_aux *aux;
};
#pragma clang attribute pop

#endif
