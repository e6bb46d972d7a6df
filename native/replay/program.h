/* The two interfaces' programs compiled for the host: bpf/ingress.bpf.c and bpf/egress.bpf.c themselves, with all they
 * include, over the helpers of host/bpf/bpf_helpers.h. Their maps, knobs and `control` are globals, as in eBPF: one replay at a time in a process
 * (native/replay/replay.cpp sees to it).
 */
#ifndef VX_REPLAY_PROGRAM_H
#define VX_REPLAY_PROGRAM_H

#include <stddef.h>
#include <stdint.h>

#include "../../bpf/abi/abi.h"

#ifdef __cplusplus
extern "C" {
#endif

/* The programs' knobs (bpf/ingress_maps.h, bpf/worker_maps.h) that a configuration decides. */
struct program_knobs {
	uint8_t plain_ethernet;
	uint16_t port_be;
	uint8_t any_vni;
	uint8_t any_peer;
	uint8_t any_local;
	struct vx_addr local;
	uint8_t match_source;
	uint8_t match_destination;
	uint8_t clear_df;
	uint8_t forward_ipv6;
	uint8_t decrement_ttl;
	uint8_t translate;
	uint8_t fixed_next_hop;
	uint8_t next_hop_mac[6];
};

#define PROGRAM_INSIDE_IFINDEX 2 /* not the loopback's: frames from there are injected ones */
#define PROGRAM_OUTSIDE_IFINDEX 3

/* A map as the program declares it. */
struct program_map {
	const char *name;
	void *symbol;
	uint32_t type; /* enum bpf_map_type */
	uint32_t key_size;
	uint32_t value_size;
	uint32_t max_entries;
};

/* A frame in a buffer whose first `headroom` bytes come before it; the program moves `data` and `end`. */
struct program_frame {
	uint8_t *buffer;
	uint8_t *data;
	uint8_t *end;
};

void program_set_knobs(const struct program_knobs *knobs);
struct vx_control *program_control(void);
const struct program_map *program_maps(size_t *count);
/* Source NAT's ports of a block, as a power of two. */
void program_set_block_shift(uint32_t shift);
/* Those that only the outside program has; without the frames and orders of injection, which there is none of. */
const struct program_map *program_outside_maps(size_t *count);
/* Run the program of that interface; return its enum xdp_action. */
int program_run(struct program_frame *frame);
int program_run_outside(struct program_frame *frame);

#ifdef __cplusplus
}
#endif

#endif
