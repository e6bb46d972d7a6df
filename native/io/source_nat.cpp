// See source_nat.h.
#include "source_nat.h"

#include <arpa/inet.h>

#include "../core/nat/steering.h"

namespace vx {

PoolTables pool_tables(const SourceNat &plan, const nat::PortBlocks &blocks)
{
	PoolTables tables;
	for (uint32_t i = 0; i < blocks.addresses(); i++)
		tables.addresses_be.push_back(blocks.address_be(static_cast<uint16_t>(i)));
	for (const nat::Forward &one : plan.pools.forwards)
		tables.forwards.push_back({{one.public_be, htons(one.public_port), one.protocol, 0},
					   nat::owner_of_subscriber(one.realm, one.inside_be, blocks.workers())});
	for (const nat::Gateway &one : plan.engine.gateways)
		tables.gateways.push_back({one.realm, one.address_be});
	return tables;
}

}  // namespace vx
