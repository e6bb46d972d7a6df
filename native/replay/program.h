/* The inside program compiled for the host: bpf/ingress.bpf.c itself, with all it includes, over the helpers of
 * host/bpf/bpf_helpers.h. Its maps, knobs and `control` are globals, as in eBPF: one replay at a time in a process
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

/* The program's knobs (bpf/ingress_maps.h) that a configuration decides. */
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
	uint8_t fixed_next_hop;
	uint8_t next_hop_mac[6];
};

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
/* Runs the program; returns its enum xdp_action. */
int program_run(struct program_frame *frame);

#ifdef __cplusplus
}
#endif

#endif
