// Every route the kernel has told us of, and which of them decides for a prefix. Pure; worker 0 keeps
// one and mirrors its decisions into routes4 and routes6.
//
// All candidates of a prefix are kept, because deleting the best must bring the next best back and the kernel
// says nothing about that one. Tables local and main are one tree here, longest prefix first and local before
// main, as in the kernel while no `ip rule` is added.
#pragma once

#include <cstdint>
#include <cstring>
#include <unordered_map>
#include <vector>

#include "address.h"

namespace vx {

struct RoutePrefix {
	uint8_t family;  // AF_INET or AF_INET6
	uint8_t length;  // of `address` in its own family: 0 to 32, 0 to 128
	vx_addr address; // IPv4 mapped

	bool operator==(const RoutePrefix &other) const
	{
		return family == other.family && length == other.length &&
		       !memcmp(&address, &other.address, sizeof address);
	}
};

struct RoutePrefixHash {
	size_t operator()(const RoutePrefix &prefix) const
	{
		return AddressHash{}(prefix.address) * 31 + prefix.length * 2u + (prefix.family & 1u);
	}
};

struct RouteCandidate {
	uint32_t table;
	uint32_t metric;
	uint32_t ifindex;  // of the nexthop chosen
	uint8_t type;      // RTN_*
	bool multipath;
	vx_route route;
	uint32_t epoch = 0;
};

enum class RoutePlace {
	before,   // ahead of others with its metric (ip route prepend)
	after,    // behind them (append, and dumps)
	instead,  // in place of the first of them (replace)
};

class RouteTable {
public:
	// Each returns true when the prefix may now be decided otherwise: ask best().
	bool add(const RoutePrefix &prefix, const RouteCandidate &candidate, RoutePlace place);
	bool remove(const RoutePrefix &prefix, const RouteCandidate &candidate);
	// Whether some candidate of the prefix is made of several nexthops.
	bool has_multipath(const RoutePrefix &prefix) const;

	// nullptr: the prefix has no route of its own.
	const vx_route *best(const RoutePrefix &prefix) const;

	// A full reading of the kernel's tables: begin, add all of them, end. What was not added again is removed;
	// nothing is absent in between. Returns the prefixes that lost a candidate.
	void begin_resync() { epoch_++; }
	std::vector<RoutePrefix> end_resync();

	size_t size() const { return prefixes_.size(); }

private:
	std::unordered_map<RoutePrefix, std::vector<RouteCandidate>, RoutePrefixHash> prefixes_;
	uint32_t epoch_ = 0;
};

}  // namespace vx
