/* SPDX-License-Identifier: (GPL-2.0 OR MIT) */
/* A packet between classic.bpf.c and vxclassic: the inner Ethernet frame. */
#ifndef VX_BENCH_CLASSIC_H
#define VX_BENCH_CLASSIC_H

#include <linux/types.h>

#define VX_CLASSIC_SMALL 120
#define VX_CLASSIC_BYTES 1528

struct vx_classic_record {
	__u32 length;
	__u32 pad;
	__u8 bytes[VX_CLASSIC_BYTES];
};

#endif
