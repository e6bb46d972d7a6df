/* SPDX-License-Identifier: (GPL-2.0 OR MIT) */
/* Maps and knobs that only the inside program uses. Who writes what: control plane = native/io/datapath.cpp,
 * worker = native/worker, XDP = bpf/ingress.bpf.c.
 */
#ifndef VX_INGRESS_MAPS_H
#define VX_INGRESS_MAPS_H

#include <bpf/bpf_endian.h>

#include "worker_maps.h"

VX_KNOB __u8 vx_plain_ethernet = 0;    /* no VXLAN inside: the frame itself is the packet */
VX_KNOB __be16 vx_port_be = bpf_htons(4789);
VX_KNOB __u8 vx_any_vni = 1;           /* 0: vni_set says */
VX_KNOB __u8 vx_any_peer = 1;          /* 0: peers says */
VX_KNOB __u8 vx_any_local = 1;
VX_KNOB struct vx_addr vx_local = {};
VX_KNOB __u8 vx_match_source = 1;
VX_KNOB __u8 vx_match_destination = 1;
VX_KNOB __u8 vx_clear_df = 0;
VX_KNOB __u8 vx_forward_ipv6 = 0;
VX_KNOB __u8 vx_decrement_ttl = 0;
VX_KNOB __u8 vx_fixed_next_hop = 0;    /* 1: everything to vx_next_hop_mac, routes are not asked */
VX_KNOB __u8 vx_next_hop_mac[6] = {};
VX_KNOB __u32 vx_cache_seed = 0;       /* random: nobody outside can aim at one set of a cache */

#define VX_INNER_HASH(name, key_type)                      \
	struct name {                                      \
		__uint(type, BPF_MAP_TYPE_HASH);           \
		__uint(max_entries, 1);                    \
		__uint(key_size, sizeof(key_type));        \
		__uint(value_size, sizeof(__u8));          \
	}
#define VX_INNER_TRIE(name, key_type)                      \
	struct name {                                      \
		__uint(type, BPF_MAP_TYPE_LPM_TRIE);       \
		__uint(map_flags, BPF_F_NO_PREALLOC);      \
		__uint(max_entries, 1);                    \
		__uint(key_size, sizeof(key_type));        \
		__uint(value_size, sizeof(__u8));          \
	}
/* Two sets of tables; control.epoch says which is in use. The control plane fills the other one. */
#define VX_OUTER(inner)                                    \
	{                                                  \
		__uint(type, BPF_MAP_TYPE_ARRAY_OF_MAPS);  \
		__uint(max_entries, 2);                    \
		__type(key, __u32);                        \
		__array(values, struct inner);             \
	}

VX_INNER_HASH(vx_exact4_table, __be32);
VX_INNER_HASH(vx_exact6_table, struct vx_addr);
VX_INNER_TRIE(vx_prefix4_table, struct vx_prefix4);
VX_INNER_TRIE(vx_prefix6_table, struct vx_prefix6);

struct VX_OUTER(vx_exact4_table) ip_allowlist SEC(".maps");
struct VX_OUTER(vx_exact6_table) ip_allowlist6 SEC(".maps");
struct VX_OUTER(vx_prefix4_table) prefix_allow SEC(".maps");
struct VX_OUTER(vx_prefix6_table) prefix_allow6 SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, VX_RULES_MAX);
	__type(key, struct vx_rule_key);
	__type(value, struct vx_rule);
} nat_map SEC(".maps");

/* VNIs of ours, 64 a word; one word when vx_any_vni. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u64);
} vni_set SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_LPM_TRIE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, 65536);
	__type(key, struct vx_prefix6);
	__type(value, __u8);
} peers SEC(".maps");

/* The kernel's routes and neighbours as the worker sees them. */
struct {
	__uint(type, BPF_MAP_TYPE_LPM_TRIE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, VX_ROUTES_MAX);
	__type(key, struct vx_prefix4);
	__type(value, struct vx_route);
} routes4 SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_LPM_TRIE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, VX_ROUTES_MAX);
	__type(key, struct vx_prefix6);
	__type(value, struct vx_route);
} routes6 SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, VX_NEIGHBOURS_MAX);
	__type(key, struct vx_addr);
	__type(value, struct vx_neighbour);
} neighbours SEC(".maps");

/* Written by XDP and by the worker. Plain HASH on purpose: an LRU would forget half a datagram. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, VX_FRAGMENTS_MAX);
	__type(key, struct vx_fragment_key);
	__type(value, struct vx_fragment);
} fragments SEC(".maps");

/* VX_HOSTS_PER_CPU and VX_RULE_MEMOS_PER_CPU entries a possible CPU; sized when the object is opened. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, VX_HOSTS_PER_CPU);
	__type(key, __u32);
	__type(value, struct vx_host);
} host_cache SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, VX_RULE_MEMOS_PER_CPU);
	__type(key, __u32);
	__type(value, struct vx_rule_memo);
} rule_cache SEC(".maps");

/* Source NAT: addresses that are ours inside, whose ARP the workers answer. Sized when the object is opened. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 1);
	__type(key, struct vx_gateway_key);
	__type(value, __u8);
} nat_gateways SEC(".maps");

#endif
