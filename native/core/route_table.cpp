// Which route decides for a prefix. Pure; called by worker 0.
#include "route_table.h"

#include <linux/rtnetlink.h>

#include <algorithm>

namespace vx {
namespace {

// Smaller decides. Table local (255) comes before main (254).
bool comes_before(const RouteCandidate &a, const RouteCandidate &b)
{
	return a.table != b.table ? a.table == RT_TABLE_LOCAL : a.metric < b.metric;
}

bool same_rank(const RouteCandidate &a, const RouteCandidate &b)
{
	return a.table == b.table && a.metric == b.metric;
}

bool same_route(const RouteCandidate &a, const RouteCandidate &b)
{
	return same_rank(a, b) && a.ifindex == b.ifindex && a.type == b.type &&
	       !memcmp(&a.route, &b.route, sizeof a.route);
}

}  // namespace

bool RouteTable::add(const RoutePrefix &prefix, const RouteCandidate &candidate, RoutePlace place)
{
	std::vector<RouteCandidate> &all = prefixes_[prefix];
	RouteCandidate fresh = candidate;
	fresh.epoch = epoch_;
	const auto same = std::find_if(all.begin(), all.end(), [&](const auto &old) { return same_route(old, fresh); });
	if (same != all.end() && place != RoutePlace::instead) {
		*same = fresh;
		return false;
	}
	const auto rank = std::find_if(all.begin(), all.end(), [&](const auto &old) { return same_rank(old, fresh); });
	if (place == RoutePlace::instead && rank != all.end()) {
		*rank = fresh;
		return true;
	}
	const auto at = std::find_if(all.begin(), all.end(), [&](const auto &old) {
		return comes_before(fresh, old) || (place == RoutePlace::before && same_rank(fresh, old));
	});
	all.insert(at, fresh);
	return true;
}

bool RouteTable::remove(const RoutePrefix &prefix, const RouteCandidate &candidate)
{
	const auto found = prefixes_.find(prefix);
	if (found == prefixes_.end())
		return false;
	std::vector<RouteCandidate> &all = found->second;
	const auto at =
		std::find_if(all.begin(), all.end(), [&](const auto &old) { return same_route(old, candidate); });
	if (at == all.end())
		return false;
	all.erase(at);
	if (all.empty())
		prefixes_.erase(found);
	return true;
}

bool RouteTable::has_multipath(const RoutePrefix &prefix) const
{
	const auto found = prefixes_.find(prefix);
	return found != prefixes_.end() &&
	       std::any_of(found->second.begin(), found->second.end(), [](const auto &one) { return one.multipath; });
}

const vx_route *RouteTable::best(const RoutePrefix &prefix) const
{
	const auto found = prefixes_.find(prefix);
	return found == prefixes_.end() ? nullptr : &found->second.front().route;
}

std::vector<RoutePrefix> RouteTable::end_resync()
{
	std::vector<RoutePrefix> changed;
	for (auto it = prefixes_.begin(); it != prefixes_.end();) {
		if (std::erase_if(it->second, [&](const auto &one) { return one.epoch != epoch_; }))
			changed.push_back(it->first);
		it = it->second.empty() ? prefixes_.erase(it) : std::next(it);
	}
	return changed;
}

}  // namespace vx
