// SPDX-License-Identifier: (GPL-2.0 OR MIT)
/* The classic way to build such a gateway, as a peer for the bench: XDP filters and copies each inner packet
 * into a ring buffer, user space sends it with one system call. Loaded by vxclassic; runs in the inside
 * interface's NAPI context. It understands plain IPv4 VXLAN frames and nothing else, as a fair minimum.
 */
#include <linux/bpf.h>

#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#include "classic.h"

char LICENSE[] SEC("license") = "Dual MIT/GPL";

#define OUTER_BYTES 50
#define INNER_BYTES_MIN 42 /* Ethernet, IPv4, UDP */

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 1 << 20);
} packets SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 1024);
	__type(key, __u32);
	__type(value, __u8);
} allowed SEC(".maps");

__u64 full[128][8]; /* a cache line a CPU, of which the first word counts */

SEC("xdp")
int classic_copy(struct xdp_md *ctx)
{
	const __u8 *frame = (const __u8 *)(long)ctx->data;
	const __u8 *end = (const __u8 *)(long)ctx->data_end;
	__u32 length = ctx->data_end - ctx->data - OUTER_BYTES;
	struct vx_classic_record *record;

	if (frame + OUTER_BYTES + INNER_BYTES_MIN > end || *(const __u16 *)(frame + 12) != bpf_htons(0x0800) ||
	    frame[23] != 17 || *(const __u16 *)(frame + 36) != bpf_htons(4789) || length > VX_CLASSIC_BYTES)
		return XDP_PASS;
	__u32 source_be = *(const __u32 *)(frame + OUTER_BYTES + 26);
	__u32 destination_be = *(const __u32 *)(frame + OUTER_BYTES + 30);

	if (!bpf_map_lookup_elem(&allowed, &source_be) && !bpf_map_lookup_elem(&allowed, &destination_be))
		return XDP_DROP;
	/* Two sizes, because a reservation has to be constant; the reader polls, so nobody is woken. */
	record = length <= VX_CLASSIC_SMALL
			 ? bpf_ringbuf_reserve(&packets, sizeof(__u32) * 2 + VX_CLASSIC_SMALL, 0)
			 : bpf_ringbuf_reserve(&packets, sizeof(*record), 0);
	if (!record) {
		full[bpf_get_smp_processor_id() & 127][0]++;
		return XDP_DROP;
	}
	record->length = length;
	if (length <= VX_CLASSIC_SMALL) {
		if (length == 0 || bpf_xdp_load_bytes(ctx, OUTER_BYTES, record->bytes, length) < 0)
			record->length = 0;
	} else if (bpf_xdp_load_bytes(ctx, OUTER_BYTES, record->bytes, length) < 0) {
		record->length = 0;
	}
	bpf_ringbuf_submit(record, BPF_RB_NO_WAKEUP);
	return XDP_DROP;
}
