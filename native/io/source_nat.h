// What `nat.source` of the configuration turns into for the native side: made by the addon, part of the DatapathPlan.
#pragma once

#include <cstdint>
#include <vector>

#include "../../bpf/abi/abi.h"
#include "../core/nat/config.h"
#include "../core/nat/port_blocks.h"

namespace vx {

struct SourceNat {
	nat::PoolConfig pools;  // `workers` is filled in by the gateway, as the engines' worker, key and MTUs
	nat::Config engine;     // every worker's
};

// A static forward of source NAT and the worker its inside host belongs to.
struct ForwardOwner {
	vx_forward_key key;
	uint32_t worker;
};

// What XDP knows addresses of ours by.
struct PoolTables {
	std::vector<uint32_t> addresses_be;  // by their numbers in nat::PortBlocks, and so in port_owners
	std::vector<ForwardOwner> forwards;
	std::vector<vx_gateway_key> gateways;
};
PoolTables pool_tables(const SourceNat &plan, const nat::PortBlocks &blocks);

}  // namespace vx
