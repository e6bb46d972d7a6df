/* How a program's maps are told to the host: their members' types are their description. Included by program.c and
 * program_outside.c, behind the program itself.
 */
#ifndef VX_REPLAY_PROGRAM_MAPS_H
#define VX_REPLAY_PROGRAM_MAPS_H

#include "program.h"

#define NUMBER(member) (sizeof(*(member)) / sizeof(int))
#define MAP_WITHOUT_TYPES(map) {.name = #map, .symbol = &map, .type = NUMBER(map.type)}
#define MAP(map)                                                                             \
	{                                                                                    \
		.name = #map, .symbol = &map, .type = NUMBER(map.type),                      \
		.key_size = sizeof(*map.key), .value_size = sizeof(*map.value),              \
		.max_entries = NUMBER(map.max_entries)                                       \
	}

static inline struct xdp_md program_context(const struct program_frame *frame, __u32 ifindex)
{
	return (struct xdp_md){.data = (__u64)frame->data,
			       .data_end = (__u64)frame->end,
			       .data_meta = (__u64)frame->data,
			       .ingress_ifindex = ifindex,
			       .headroom = (__u64)frame->buffer};
}

static inline void program_moved(struct program_frame *frame, const struct xdp_md *ctx)
{
	frame->data = (uint8_t *)ctx->data;
	frame->end = (uint8_t *)ctx->data_end;
}

#endif
