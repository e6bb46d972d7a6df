// Any bytes as what rtnetlink says: no message is read beyond its end, and what comes out keeps its promises.
// libFuzzer's thread; scripts/test-native runs it for a bounded time.
#include <linux/rtnetlink.h>
#include <sys/socket.h>

#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <memory>

#include "../io/netlink_parse.h"

namespace {

constexpr uint32_t kOutside = 7;

void require(bool holds)
{
	if (!holds)
		abort();
}

void check_route(const vx::RouteMessage &route)
{
	const vx_route &decided = route.candidate.route;
	require(route.prefix.family == AF_INET || route.prefix.family == AF_INET6);
	require(route.prefix.length <= (route.prefix.family == AF_INET ? 32 : 128));
	require(route.prefix.family != AF_INET || vx::is_mapped(route.prefix.address));
	require(route.candidate.table == RT_TABLE_MAIN || route.candidate.table == RT_TABLE_LOCAL);
	require(decided.kind <= VX_ROUTE_LOCAL);
	if (decided.kind == VX_ROUTE_ONLINK || decided.kind == VX_ROUTE_GATEWAY)
		require(route.candidate.ifindex == kOutside);
	require(vx::address_text(route.prefix.address).size() >= 2);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	const std::unique_ptr<uint8_t[]> bytes(new uint8_t[size]);
	memcpy(bytes.get(), data, size);
	vx::NetlinkBytes rest(bytes.get(), size);
	static vx::RouteTable table;
	while (true) {
		const size_t before = rest.size();
		const vx::NetlinkBytes message = vx::next_message(rest);
		if (message.empty())
			break;
		require(rest.size() < before);
		require(message.size() >= sizeof(nlmsghdr) && message.data() + message.size() <= bytes.get() + size);
		if (const auto link = vx::parse_link(message))
			require(link->ifindex > 0);
		if (const auto neighbour = vx::parse_neighbour(message))
			require(vx::address_text(neighbour->address).size() >= 2);
		vx::parse_rule(message);
		vx::parse_error(message);
		if (const auto route = vx::parse_route(message, kOutside)) {
			check_route(*route);
			route->gone ? table.remove(route->prefix, route->candidate)
				    : table.add(route->prefix, route->candidate, route->place);
		}
	}
	// A full reading in which nothing is heard again leaves nothing.
	table.begin_resync();
	table.end_resync();
	require(table.size() == 0);
	return 0;
}
