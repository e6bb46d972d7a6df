// SPDX-License-Identifier: (GPL-2.0 OR MIT)
/* Sends each frame by a queue that chance chooses, as a NIC whose RSS knows no flows. For the sender's egress (clsact): over a
 * veth the far end receives by the queue that it was sent by. Loaded with tc by test/netns/nat-workers.test.ts.
 */
#include <linux/bpf.h>

#include <bpf/bpf_helpers.h>

#define QUEUES 4

SEC("tc")
int scatter(struct __sk_buff *skb)
{
	/* As the queue it was received by, which the choice of the one to send by begins with. */
	skb->queue_mapping = 1 + bpf_get_prandom_u32() % QUEUES;
	return 0; /* TC_ACT_OK */
}

char LICENSE[] SEC("license") = "Dual MIT/GPL";
