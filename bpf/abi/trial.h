/* SPDX-License-Identifier: (GPL-2.0 OR MIT) */
/* What bpf/trial.bpf.c and native/io/trial.cpp tell each other; nobody else sees it. */
#ifndef VX_ABI_TRIAL_H
#define VX_ABI_TRIAL_H

#include <linux/types.h>

/* `trial` in the program's .bss. */
struct vx_trial {
	__u64 netns_cookie;
	__u32 ifindex;
	__u32 program; /* id of vx_trial_send */
	__u32 taken;   /* frames */
	__s32 err;     /* of a refusal */
};

#endif
