/* The helpers the programs call, for the host: same names, same promises, plain memory. Found before libbpf's when
 * native/replay/program.c is compiled; defined in host_helpers.c (frames) and host_maps.cpp (maps, rings, clock).
 *
 * A map is declared as libbpf reads it: its members' types are its description (program.c turns them into numbers). The
 * first member's memory holds the host's map once that is made.
 */
#ifndef VX_REPLAY_BPF_HELPERS_H
#define VX_REPLAY_BPF_HELPERS_H

#include <linux/bpf.h>

#undef __always_inline
#define __always_inline inline __attribute__((always_inline))
#undef __noinline
#define __noinline __attribute__((noinline))
#undef __weak
#define __weak __attribute__((weak))
#define SEC(name)
#define __uint(name, val) int(*name)[val]
#define __type(name, val) typeof(val) *name
#define __array(name, val) typeof(val) *name[]

/* Other names for the linker: in one process with libbpf, whose functions have some of these. */
#define bpf_map_lookup_elem replay_bpf_map_lookup_elem
#define bpf_map_update_elem replay_bpf_map_update_elem
#define bpf_redirect_map replay_bpf_redirect_map
#define bpf_ringbuf_reserve replay_bpf_ringbuf_reserve
#define bpf_ringbuf_submit replay_bpf_ringbuf_submit
#define bpf_ringbuf_discard replay_bpf_ringbuf_discard
#define bpf_ktime_get_ns replay_bpf_ktime_get_ns
#define bpf_get_smp_processor_id replay_bpf_get_smp_processor_id
#define bpf_xdp_adjust_head replay_bpf_xdp_adjust_head
#define bpf_xdp_adjust_tail replay_bpf_xdp_adjust_tail
#define bpf_xdp_adjust_meta replay_bpf_xdp_adjust_meta
#define bpf_xdp_load_bytes replay_bpf_xdp_load_bytes
#define bpf_xdp_store_bytes replay_bpf_xdp_store_bytes
#define bpf_csum_diff replay_bpf_csum_diff

void *bpf_map_lookup_elem(void *map, const void *key);
long bpf_map_update_elem(void *map, const void *key, const void *value, __u64 flags);
long bpf_redirect_map(void *map, __u64 key, __u64 flags);
void *bpf_ringbuf_reserve(void *ring, __u64 size, __u64 flags);
void bpf_ringbuf_submit(void *record, __u64 flags);
void bpf_ringbuf_discard(void *record, __u64 flags);
__u64 bpf_ktime_get_ns(void);
__u32 bpf_get_smp_processor_id(void);

long bpf_xdp_adjust_head(struct xdp_md *ctx, int delta);
long bpf_xdp_adjust_tail(struct xdp_md *ctx, int delta);
long bpf_xdp_adjust_meta(struct xdp_md *ctx, int delta);
long bpf_xdp_load_bytes(struct xdp_md *ctx, __u32 offset, void *into, __u32 length);
long bpf_xdp_store_bytes(struct xdp_md *ctx, __u32 offset, void *from, __u32 length);
__s64 bpf_csum_diff(__be32 *from, __u32 from_size, __be32 *to, __u32 to_size, __u32 seed);

#endif
