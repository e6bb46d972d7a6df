/* The helpers that touch a frame, over plain memory, with the kernel's bounds (net/core/filter.c). Called by the programs
 * of program.c and program_outside.c, on the thread that replays. */
#include <errno.h>
#include <linux/if_ether.h>
#include <string.h>

#include <bpf/bpf_helpers.h>

long bpf_xdp_adjust_head(struct xdp_md *ctx, int delta)
{
	__s64 data = (__s64)ctx->data + delta;

	if (data < (__s64)ctx->headroom || data > (__s64)ctx->data_end - ETH_HLEN)
		return -EINVAL;
	ctx->data = ctx->data_meta = (__u64)data;
	return 0;
}

/* The programs only shorten; growing needs a tail room nobody asked for. */
long bpf_xdp_adjust_tail(struct xdp_md *ctx, int delta)
{
	__s64 end = (__s64)ctx->data_end + delta;

	if (delta > 0 || end < (__s64)ctx->data + ETH_HLEN)
		return -EINVAL;
	ctx->data_end = (__u64)end;
	return 0;
}

/* Only a frame that goes to a socket gets metadata, and there is no socket here. */
long bpf_xdp_adjust_meta(struct xdp_md *ctx, int delta)
{
	(void)ctx;
	(void)delta;
	return -EOPNOTSUPP;
}

long bpf_xdp_load_bytes(struct xdp_md *ctx, __u32 offset, void *into, __u32 length)
{
	if ((__u64)offset + length > ctx->data_end - ctx->data)
		return -EINVAL;
	memcpy(into, (const void *)(ctx->data + offset), length);
	return 0;
}

long bpf_xdp_store_bytes(struct xdp_md *ctx, __u32 offset, void *from, __u32 length)
{
	if ((__u64)offset + length > ctx->data_end - ctx->data)
		return -EINVAL;
	memcpy((void *)(ctx->data + offset), from, length);
	return 0;
}

static __u32 add_with_carry(__u32 sum, __u32 word)
{
	sum += word;
	return sum + (sum < word);
}

/* Sizes are multiples of four, as the kernel demands. */
__s64 bpf_csum_diff(__be32 *from, __u32 from_size, __be32 *to, __u32 to_size, __u32 seed)
{
	__u32 sum = seed, word;

	for (__u32 i = 0; i < from_size / 4; i++) {
		memcpy(&word, from + i, sizeof(word));
		sum = add_with_carry(sum, ~word);
	}
	for (__u32 i = 0; i < to_size / 4; i++) {
		memcpy(&word, to + i, sizeof(word));
		sum = add_with_carry(sum, word);
	}
	return sum;
}
