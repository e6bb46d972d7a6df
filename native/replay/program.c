/* See program.h. Built without strict aliasing and alignment checks, since headers in a frame start anywhere and both
 * eBPF and x86 read them there in the words that suit. */
#define VX_KNOB volatile /* in eBPF constant before the verifier looks; here set before the first packet */
#include "../../bpf/ingress.bpf.c"

#include "program_maps.h"

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
	vx_translate = knobs->translate;
	vx_fixed_next_hop = knobs->fixed_next_hop;
	for (int i = 0; i < 6; i++)
		vx_next_hop_mac[i] = knobs->next_hop_mac[i];
}

struct vx_control *program_control(void)
{
	return &control;
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
	struct xdp_md ctx = program_context(frame, PROGRAM_INSIDE_IFINDEX);
	int action = vx_translate ? vx_ingress_nat(&ctx) : vx_ingress(&ctx);

	program_moved(frame, &ctx);
	return action;
}
