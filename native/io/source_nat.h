// What `nat.source` of the configuration turns into for the native side: made by the addon, part of the DatapathPlan.
#pragma once

#include <cstdint>

#include "../core/nat/config.h"

namespace vx {

struct SourceNat {
	nat::PoolConfig pools;  // `workers` is filled in by the gateway, as the engines' worker, key and MTUs
	nat::Config engine;     // every worker's

	// As nat::PortBlocks makes room: an address may be in several pools, and a forward's in none.
	uint32_t addresses_max() const
	{
		size_t count = pools.forwards.size();
		for (const nat::Pool &pool : pools.pools)
			count += pool.addresses_be.size();
		return static_cast<uint32_t>(count);
	}
};

}  // namespace vx
