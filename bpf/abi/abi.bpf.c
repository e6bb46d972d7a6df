/* SPDX-License-Identifier: (GPL-2.0 OR MIT) */
/* Makes `clang -g` emit the BTF of the whole ABI. Never loaded: bpf/abi/generate.mjs compiles it and reads
 * the types, from which TypeScript and the C++ layout assertions are generated.
 *
 * BTF knows neither macros nor help texts, so limits and flags are repeated as enumerators by name and every
 * help text becomes a declaration tag. A struct or enum that is not named in vx_abi does not exist for TypeScript.
 */
#include "abi.h"

#define LIMIT(name) VX_LIMIT_##name = VX_##name

enum vx_limit {
	LIMIT(CPUS_MAX),
	LIMIT(WORKERS_MAX),
	LIMIT(SLOTS_MAX),
	LIMIT(QUEUES_MAX),
	LIMIT(RULES_MAX),
	LIMIT(ROUTES_MAX),
	LIMIT(NEIGHBOURS_MAX),
	LIMIT(FRAGMENTS_MAX),
	LIMIT(FLOWS_PER_CPU),
	LIMIT(FRAME_BYTES),
	LIMIT(EXCEPTION_BYTES_MAX),
	LIMIT(SAMPLE_BYTES),
	LIMIT(LATENCY_BUCKETS),
	LIMIT(LATENCY_SAMPLE_MASK),
};

enum vx_allow_flag {
	VX_ALLOW_FLAG_SET = VX_ALLOW_SET,
	VX_ALLOW_FLAG_ENFORCE = VX_ALLOW_ENFORCE,
	VX_ALLOW_FLAG_EXACT4 = VX_ALLOW_EXACT4,
	VX_ALLOW_FLAG_PREFIX4 = VX_ALLOW_PREFIX4,
	VX_ALLOW_FLAG_EXACT6 = VX_ALLOW_EXACT6,
	VX_ALLOW_FLAG_PREFIX6 = VX_ALLOW_PREFIX6,
};

#define TAGGED(name, help) char name __attribute__((btf_decl_tag(help)));

struct vx_counter_help {
	VX_COUNTERS(TAGGED)
};

struct vx_drop_help {
	VX_DROPS(TAGGED)
};

/* Members only: BTF keeps the types that a global variable contains, and may prune what it points to. */
struct {
	struct vx_counters counters;
	struct vx_slot slot;
	struct vx_addr addr;
	struct vx_control control;
	struct vx_prefix4 prefix4;
	struct vx_prefix6 prefix6;
	struct vx_rule_key rule_key;
	struct vx_rule rule;
	struct vx_interface interface;
	struct vx_route route;
	struct vx_neighbour neighbour;
	struct vx_fragment_key fragment_key;
	struct vx_fragment fragment;
	struct vx_flow flow;
	struct vx_exception exception;
	struct vx_sample sample;
	struct vx_counter_help counter_help;
	struct vx_drop_help drop_help;
	enum vx_limit limit;
	enum vx_allow_flag allow_flag;
	enum vx_direction direction;
	enum vx_drop drop;
	enum vx_route_kind route_kind;
	enum vx_neighbour_state neighbour_state;
	enum vx_fragment_state fragment_state;
	enum vx_verdict verdict;
	enum vx_exception_reason exception_reason;
} vx_abi;
