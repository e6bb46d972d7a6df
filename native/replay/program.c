/* See program.h. Built without strict aliasing and alignment checks, since headers in a frame start anywhere and both
 * eBPF and x86 read them there in the words that suit. */
#define VX_KNOB volatile /* in eBPF constant before the verifier looks; here set before the first packet */
#include "../../bpf/ingress.bpf.c"

#include "program.h"

void program_set_knobs(const struct program_knobs *knobs)
{
	vx_plain_ethernet = knobs->plain_ethernet;
	vx_port_be = knobs->port_be;
	vx_any_vni = knobs->any_vni;
	vx_any_peer = knobs->any_peer;
	vx_any_local = knobs->any_local;
	for (int i = 0; i < 16; i++)
		vx_local.bytes[i] = knobs->local.bytes[i];
	vx_match_source = knobs->match_source;
	vx_match_destination = knobs->match_destination;
	vx_clear_df = knobs->clear_df;
	vx_forward_ipv6 = knobs->forward_ipv6;
	vx_decrement_ttl = knobs->decrement_ttl;
	vx_fixed_next_hop = knobs->fixed_next_hop;
	for (int i = 0; i < 6; i++)
		vx_next_hop_mac[i] = knobs->next_hop_mac[i];
}

struct vx_control *program_control(void)
{
	return &control;
}

#define NUMBER(member) (sizeof(*(member)) / sizeof(int))
#define MAP_WITHOUT_TYPES(map) {.name = #map, .symbol = &map, .type = NUMBER(map.type)}
#define MAP(map)                                                                             \
	{                                                                                    \
		.name = #map, .symbol = &map, .type = NUMBER(map.type),                      \
		.key_size = sizeof(*map.key), .value_size = sizeof(*map.value),              \
		.max_entries = NUMBER(map.max_entries)                                       \
	}

const struct program_map *program_maps(size_t *count)
{
	static const struct program_map maps[] = {
		MAP(stats_map),
		MAP(interface_map),
		MAP(nat_map),
		MAP(vni_set),
		MAP(peers),
		MAP(routes4),
		MAP(routes6),
		MAP(neighbours),
		MAP(fragments),
		MAP(host_cache),
		MAP(rule_cache),
		MAP(redirect_map),
		MAP(worker_sockets),
		MAP(pool_addresses),
		MAP(nat_gateways),
		MAP_WITHOUT_TYPES(ip_allowlist),
		MAP_WITHOUT_TYPES(ip_allowlist6),
		MAP_WITHOUT_TYPES(prefix_allow),
		MAP_WITHOUT_TYPES(prefix_allow6),
		MAP_WITHOUT_TYPES(percpu_ringbufs),
		MAP_WITHOUT_TYPES(packet_ringbuf),
	};

	*count = sizeof(maps) / sizeof(maps[0]);
	return maps;
}

int program_run(struct program_frame *frame)
{
	struct xdp_md ctx = {.data = (__u64)frame->data,
			     .data_end = (__u64)frame->end,
			     .data_meta = (__u64)frame->data,
			     .headroom = (__u64)frame->buffer};
	int action = vx_ingress(&ctx);

	frame->data = (uint8_t *)ctx.data;
	frame->end = (uint8_t *)ctx.data_end;
	return action;
}
