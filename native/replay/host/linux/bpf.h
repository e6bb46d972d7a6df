/* The kernel's header with another xdp_md: the programs' one has 32-bit fields, which the kernel's verifier turns into
 * pointers and a host compiler would not. Found before the system's when native/replay/program.c is compiled.
 */
#ifndef VX_REPLAY_LINUX_BPF_H
#define VX_REPLAY_LINUX_BPF_H

#define xdp_md vx_kernel_xdp_md
#include_next <linux/bpf.h>
#undef xdp_md

struct xdp_md {
	__u64 data;
	__u64 data_end;
	__u64 data_meta;
	__u32 rx_queue_index;
	__u32 ingress_ifindex;
	__u64 headroom; /* where `data` may start at the earliest; of the host alone */
};

#endif
