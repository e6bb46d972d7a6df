// The two ways vxgen sends, each on the calling thread with its signals blocked. SIGINT and SIGTERM end
// either early; the report is exact all the same.
#pragma once

#include <cstdint>

#include "options.h"
#include "packets.h"

namespace vx::bench {

struct Limits {
	uint64_t count;
	double seconds;
	double rate; // packets a second, 0: no limit
};

struct Report {
	uint64_t generated; // written
	uint64_t sent;      // taken by the driver
	uint64_t classes[VX_CLASS_COUNT]; // of `sent`
	double seconds;
	double waited; // of these: the CPU ran something else
};

Report send_live(const Interface &interface, const PacketPlan &plan, const Limits &limits, uint64_t first);
Report send_paced(const Interface &interface, const PacketPlan &plan, const Limits &limits, uint64_t first);

} // namespace vx::bench
