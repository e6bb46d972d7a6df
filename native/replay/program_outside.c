/* The outside program, as program.c is the inside one. Linked, the maps and knobs that both have are there once: all of
 * those are weak. */
#define VX_KNOB volatile
#define LICENSE outside_license
#include "../../bpf/egress.bpf.c"

#include "program_maps.h"

void program_set_block_shift(uint32_t shift)
{
	vx_block_shift = shift;
}

const struct program_map *program_outside_maps(size_t *count)
{
	static const struct program_map maps[] = {
		MAP(port_owners),
		MAP(nat_forwards),
	};

	*count = sizeof(maps) / sizeof(maps[0]);
	return maps;
}

int program_run_outside(struct program_frame *frame)
{
	struct xdp_md ctx = program_context(frame, PROGRAM_OUTSIDE_IFINDEX);
	int action = vx_egress(&ctx);

	program_moved(frame, &ctx);
	return action;
}
