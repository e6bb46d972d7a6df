// Reading rtnetlink messages: crafted ones, cut ones, random ones. Bytes are copied to the heap at their exact length,
// so that a sanitizer sees a read behind them.
#include <gtest/gtest.h>
#include <linux/fib_rules.h>
#include <linux/if_link.h>
#include <linux/neighbour.h>
#include <linux/rtnetlink.h>
#include <sys/socket.h>

#include <cstring>
#include <memory>
#include <random>

#include "../io/netlink.h"

namespace vx {
namespace {

using Bytes = std::vector<uint8_t>;
constexpr uint32_t kOutside = 7;

Bytes message(uint16_t type, uint16_t flags, NetlinkBytes body)
{
	nlmsghdr header{};
	header.nlmsg_len = static_cast<uint32_t>(NLMSG_HDRLEN + body.size());
	header.nlmsg_type = type;
	header.nlmsg_flags = flags;
	Bytes bytes(sizeof header);
	memcpy(bytes.data(), &header, sizeof header);
	bytes.insert(bytes.end(), body.begin(), body.end());
	return bytes;
}

rtmsg route_header(uint8_t length, uint8_t type = RTN_UNICAST)
{
	rtmsg header{};
	header.rtm_family = AF_INET;
	header.rtm_dst_len = length;
	header.rtm_table = RT_TABLE_MAIN;
	header.rtm_type = type;
	return header;
}

void put32(NetlinkBody &body, uint16_t type, uint32_t value)
{
	body.attribute(type, &value, sizeof value);
}

Bytes route_by_gateway()
{
	NetlinkBody body(route_header(24));
	body.attribute(RTA_DST, "\xc6\x33\x64\x00", 4);
	body.attribute(RTA_GATEWAY, "\xc0\x00\x02\x02", 4);
	put32(body, RTA_OIF, kOutside);
	put32(body, RTA_PRIORITY, 100);
	return message(RTM_NEWROUTE, 0, body.bytes());
}

Bytes nexthop(int ifindex, uint8_t flags, uint8_t last_byte)
{
	const uint8_t gateway[4] = {192, 0, 2, last_byte};
	NetlinkBody body(rtnexthop{sizeof(rtnexthop) + 8, flags, 0, ifindex});
	body.attribute(RTA_GATEWAY, gateway, 4);
	return {body.bytes().begin(), body.bytes().end()};
}

RouteMessage multipath(std::initializer_list<Bytes> hops)
{
	Bytes all;
	for (const Bytes &hop : hops)
		all.insert(all.end(), hop.begin(), hop.end());
	NetlinkBody body(route_header(0));
	body.attribute(RTA_MULTIPATH, all.data(), all.size());
	const auto route = parse_route(message(RTM_NEWROUTE, 0, body.bytes()), kOutside);
	EXPECT_TRUE(route);
	return route.value_or(RouteMessage{});
}

TEST(NetlinkParse, ARouteByAGatewayOutside)
{
	const auto route = parse_route(route_by_gateway(), kOutside);
	ASSERT_TRUE(route);
	EXPECT_EQ(route->prefix.length, 24);
	EXPECT_EQ(address_text(route->prefix.address), "198.51.100.0");
	EXPECT_EQ(route->candidate.route.kind, VX_ROUTE_GATEWAY);
	EXPECT_EQ(address_text(route->candidate.route.gateway), "192.0.2.2");
	EXPECT_EQ(route->candidate.metric, 100u);
	EXPECT_EQ(parse_route(route_by_gateway(), kOutside + 1)->candidate.route.kind, VX_ROUTE_NONE);
}

TEST(NetlinkParse, TheTypeOfARouteDecidesBeforeItsInterface)
{
	for (const auto &[type, kind] : {std::pair{RTN_UNICAST, VX_ROUTE_ONLINK}, {RTN_LOCAL, VX_ROUTE_LOCAL},
					 {RTN_BROADCAST, VX_ROUTE_LOCAL}, {RTN_BLACKHOLE, VX_ROUTE_NONE},
					 {RTN_UNREACHABLE, VX_ROUTE_NONE}, {RTN_PROHIBIT, VX_ROUTE_NONE},
					 {RTN_MULTICAST, VX_ROUTE_ONLINK}, {RTN_ANYCAST, VX_ROUTE_NONE}}) {
		NetlinkBody body(route_header(0, static_cast<uint8_t>(type)));
		put32(body, RTA_OIF, kOutside);
		EXPECT_EQ(parse_route(message(RTM_NEWROUTE, 0, body.bytes()), kOutside)->candidate.route.kind, kind)
			<< type;
	}
}

TEST(NetlinkParse, AnIpv4RouteMayGoByAnIpv6Gateway)
{
	uint8_t via[18] = {AF_INET6, 0, 0xfe, 0x80};
	via[17] = 9;
	NetlinkBody body(route_header(0));
	body.attribute(RTA_VIA, via, sizeof via);
	put32(body, RTA_OIF, kOutside);
	const auto route = parse_route(message(RTM_NEWROUTE, 0, body.bytes()), kOutside);
	ASSERT_TRUE(route);
	EXPECT_EQ(route->candidate.route.kind, VX_ROUTE_GATEWAY);
	EXPECT_EQ(address_text(route->candidate.route.gateway), "fe80::9");
}

TEST(NetlinkParse, OfSeveralNexthopsTheFirstLiveOneOutsideIsTaken)
{
	const auto chosen = multipath({nexthop(3, 0, 3), nexthop(kOutside, RTNH_F_DEAD, 4), nexthop(kOutside, 0, 5),
				       nexthop(kOutside, 0, 6)});
	EXPECT_EQ(address_text(chosen.candidate.route.gateway), "192.0.2.5");
	EXPECT_TRUE(chosen.candidate.multipath);
	EXPECT_EQ(multipath({nexthop(3, 0, 3), nexthop(kOutside, RTNH_F_DEAD, 4)}).candidate.route.kind, VX_ROUTE_NONE);
}

TEST(NetlinkParse, RoutesOfOtherTablesClonesAndTosRoutesAreNotFollowed)
{
	rtmsg other = route_header(0);
	other.rtm_table = 100;
	rtmsg clone = route_header(0);
	clone.rtm_flags = RTM_F_CLONED;
	rtmsg tos = route_header(0);
	tos.rtm_tos = 16;
	rtmsg too_long = route_header(33);
	for (const rtmsg &header : {other, clone, tos, too_long})
		EXPECT_FALSE(parse_route(message(RTM_NEWROUTE, 0, NetlinkBody(header).bytes()), kOutside));
	NetlinkBody big_table(route_header(0));
	put32(big_table, RTA_TABLE, 1000);
	EXPECT_FALSE(parse_route(message(RTM_NEWROUTE, 0, big_table.bytes()), kOutside));
}

Bytes neighbour_message(uint8_t flags = 0)
{
	ndmsg header{};
	header.ndm_family = AF_INET;
	header.ndm_ifindex = kOutside;
	header.ndm_state = NUD_REACHABLE;
	header.ndm_flags = flags;
	NetlinkBody body(header);
	body.attribute(NDA_DST, "\xc0\x00\x02\x02", 4);
	body.attribute(NDA_LLADDR, "\x02\x00\x00\x00\x00\x03", 6);
	put32(body, NDA_FLAGS_EXT, NTF_EXT_MANAGED);
	return message(RTM_NEWNEIGH, 0, body.bytes());
}

TEST(NetlinkParse, ANeighbourWithItsAddressAndFlags)
{
	const auto neighbour = parse_neighbour(neighbour_message());
	ASSERT_TRUE(neighbour);
	EXPECT_EQ(address_text(neighbour->address), "192.0.2.2");
	EXPECT_EQ(neighbour->mac[5], 3);
	EXPECT_TRUE(neighbour->has_mac);
	EXPECT_TRUE(neighbour->managed);
	EXPECT_EQ(neighbour->state, NUD_REACHABLE);
	EXPECT_FALSE(parse_neighbour(neighbour_message(NTF_PROXY)));
}

TEST(NetlinkParse, ALinkWithoutCarrierIsUpAllTheSame)
{
	ifinfomsg header{};
	header.ifi_index = kOutside;
	header.ifi_flags = 1 /* IFF_UP */ | 1 << 16 /* IFF_LOWER_UP */;
	NetlinkBody body(header);
	put32(body, IFLA_MTU, 3400);
	body.attribute(IFLA_ADDRESS, "\x02\x00\x00\x00\x00\x01", 6);
	const uint8_t none = 0;
	body.attribute(IFLA_CARRIER, &none, 1);
	const auto link = parse_link(message(RTM_NEWLINK, 0, body.bytes()));
	ASSERT_TRUE(link);
	EXPECT_TRUE(link->up);
	EXPECT_FALSE(link->carrier);
	EXPECT_EQ(link->mtu, 3400u);
	EXPECT_EQ(link->mac[5], 1);
}

TEST(NetlinkParse, ABridgeSayingThatAPortLeftIsNotTheLinkGoing)
{
	ifinfomsg header{};
	header.ifi_family = AF_BRIDGE;
	header.ifi_index = kOutside;
	EXPECT_FALSE(parse_link(message(RTM_DELLINK, 0, NetlinkBody(header).bytes())));
}

TEST(NetlinkParse, EveryCutOfAMessageIsReadWithoutGoingBehindIt)
{
	for (const Bytes &whole : {route_by_gateway(), neighbour_message()}) {
		for (size_t length = 0; length < whole.size(); length++) {
			const std::unique_ptr<uint8_t[]> cut(new uint8_t[length + !length]);
			memcpy(cut.get(), whole.data(), length);
			NetlinkBytes rest{cut.get(), length};
			EXPECT_TRUE(next_message(rest).empty()) << "a length that is not there";
			parse_link({cut.get(), length});
			parse_rule({cut.get(), length});
			parse_route({cut.get(), length}, kOutside);
			EXPECT_FALSE(parse_neighbour({cut.get(), std::min<size_t>(length, NLMSG_HDRLEN + 11)}));
		}
	}
}

TEST(NetlinkParse, RandomBytesNeverLoopNorReadBehindTheEnd)
{
	std::mt19937 random(11);
	for (int round = 0; round < 200000; round++) {
		Bytes bytes = round % 2 ? route_by_gateway() : neighbour_message();
		for (int i = 0; i < 3; i++)
			bytes[random() % bytes.size()] = static_cast<uint8_t>(random());
		const std::unique_ptr<uint8_t[]> exact(new uint8_t[bytes.size()]);
		memcpy(exact.get(), bytes.data(), bytes.size());
		NetlinkBytes rest{exact.get(), bytes.size()};
		for (NetlinkBytes one = next_message(rest); !one.empty(); one = next_message(rest)) {
			parse_link(one);
			parse_neighbour(one);
			parse_route(one, kOutside);
			parse_rule(one);
			parse_error(one);
		}
	}
}

}  // namespace
}  // namespace vx
