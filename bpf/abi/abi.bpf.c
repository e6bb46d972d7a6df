/* SPDX-License-Identifier: (GPL-2.0 OR MIT) */
/* Makes `clang -g` emit the BTF of the whole ABI. Never loaded: bpf/abi/generate.mjs compiles it and reads
 * the types, from which TypeScript and the C++ layout assertions are generated.
 *
 * BTF has only types that something uses, and neither macros nor help texts. So one variable has a member of
 * every struct and enum of abi.h, constants are repeated as enumerators, and help texts become declaration
 * tags. abi_names.h, written by generate.mjs beside the object, lists the names that abi.h has.
 */
#include "abi.h"

#include "abi_names.h"

#define CONSTANT(name) VX_CONSTANT_##name = VX_##name,
#define STRUCT(name) struct vx_##name name;
#define ENUM(name) enum vx_##name enum_##name;
#define TAGGED(name, help) char name __attribute__((btf_decl_tag(help)));

enum vx_constant {
	CONSTANTS(CONSTANT)
};

struct vx_counter_help {
	VX_COUNTERS(TAGGED)
};

struct vx_nat_help {
	VX_NAT_COUNTERS(TAGGED)
};

struct vx_drop_help {
	VX_DROPS(TAGGED)
};

struct {
	STRUCTS(STRUCT)
	ENUMS(ENUM)
	enum vx_constant constant;
	struct vx_counter_help counter_help;
	struct vx_nat_help nat_help;
	struct vx_drop_help drop_help;
} vx_abi;
