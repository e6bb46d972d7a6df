// What people are shown of an engine: sessions by filter and page, top subscribers, gauges. Virtual clock, no kernel.
#include <gtest/gtest.h>

#include <set>

#include "../core/nat/listing.h"
#include "nat_bed.h"

namespace vx::nat::test {
namespace {

const char *const kR1 = "198.51.100.7:53";
const char *const kR2 = "198.51.100.8:443";

EndpointFilter only(const char *text)
{
	const Endpoint it = endpoint(text);
	return {it.address_be, htons(it.port)};
}

// All of it, in slices; every slice keeps to its budget.
std::vector<vx_session_view> list(Nat &nat, const SessionFilter &filter, uint32_t budget = 1000, uint32_t limit = 1000)
{
	std::vector<vx_session_view> all, page(limit);
	for (uint32_t from = 0; from != kNone;) {
		const Listed listed = list_sessions(nat.engine(), filter, from, budget, page);
		EXPECT_LE(listed.count, limit);
		if (listed.next != kNone) {
			EXPECT_LE(listed.next - from, budget);
			EXPECT_GT(listed.next, from);
		}
		all.insert(all.end(), page.begin(), page.begin() + listed.count);
		from = listed.next;
	}
	return all;
}

std::multiset<uint16_t> inside_ports(const std::vector<vx_session_view> &sessions)
{
	std::multiset<uint16_t> ports;
	for (const vx_session_view &session : sessions)
		ports.insert(ntohs(session.inside_port_be));
	return ports;
}

TEST(Listing, ASessionIsShownWithItsEndpointsStateAgeAndIdleness)
{
	Scene scene = addresses(2);
	Nat nat(scene);
	const Endpoint mapped = nat.open_udp("10.0.0.5:5000", kR1);
	nat.advance(3);
	nat.open_udp("10.0.0.5:5000", kR1);
	nat.advance(2);
	const auto all = list(nat, {});
	ASSERT_EQ(all.size(), 1u);
	const vx_session_view &it = all[0];
	EXPECT_EQ(it.realm, kVni);
	EXPECT_EQ(it.protocol, IPPROTO_UDP);
	EXPECT_EQ((Endpoint{it.inside_be, ntohs(it.inside_port_be)}), endpoint("10.0.0.5:5000"));
	EXPECT_EQ((Endpoint{it.outside_be, ntohs(it.outside_port_be)}), mapped);
	EXPECT_EQ((Endpoint{it.remote_be, ntohs(it.remote_port_be)}), endpoint(kR1));
	EXPECT_EQ(it.state, VX_SESSION_ACTIVE);
	EXPECT_NEAR(it.age_seconds, 5, 1);
	EXPECT_NEAR(it.idle_seconds, 2, 1);
	EXPECT_EQ(it.worker, 0);
}

TEST(Listing, ATcpSessionsStateIsShownAndItIsNeverIdleForLongerThanItIsOld)
{
	Scene scene = one_address();
	scene.config.timeouts.tcp_opening = 30;
	Nat nat(scene);
	const Endpoint from = endpoint("10.0.0.5:5000"), to = endpoint(kR2);
	const Endpoint mapped = nat.open_tcp("10.0.0.5:5000", kR2);
	const auto state = [&] {
		const auto all = list(nat, {});
		EXPECT_EQ(all.size(), 1u);
		EXPECT_LE(all.at(0).idle_seconds, all.at(0).age_seconds);
		return all.at(0).state;
	};
	EXPECT_EQ(state(), VX_SESSION_OPENING);
	nat.outside(tcp(to, mapped, kSyn | kAck));
	nat.inside(tcp(from, to, kAck));
	EXPECT_EQ(state(), VX_SESSION_ESTABLISHED);
	nat.inside(tcp(from, to, kFin | kAck));
	EXPECT_EQ(state(), VX_SESSION_HALF_CLOSED);
	nat.outside(tcp(to, mapped, kFin | kAck));
	EXPECT_EQ(state(), VX_SESSION_CLOSING);

	// The closing timer is the longer one here: what is left of the opening one puts last_seen before the beginning.
	nat.open_tcp("10.0.0.5:5001", kR2);
	nat.advance(20);
	nat.inside(tcp(endpoint("10.0.0.5:5001"), to, kRst));
	const auto reset = list(nat, {.inside = only("10.0.0.5:5001")});
	ASSERT_EQ(reset.size(), 1u);
	EXPECT_EQ(reset[0].state, VX_SESSION_RESET);
	EXPECT_LE(reset[0].idle_seconds, reset[0].age_seconds);
}

TEST(Listing, EachFilterAloneAndAllTogetherFindWhatTheyName)
{
	Nat nat(addresses(3));
	const Endpoint first = nat.open_udp("10.0.0.5:5000", kR1);
	nat.open_udp("10.0.0.5:5001", kR2);
	nat.open_tcp("10.0.0.5:5002", kR2);
	nat.open_udp("10.0.0.6:5003", kR1);
	nat.open_udp("10.0.0.5:5004", kR1, 200);
	const auto found = [&](const SessionFilter &filter) { return inside_ports(list(nat, filter)); };
	using Ports = std::multiset<uint16_t>;
	EXPECT_EQ(found({}), (Ports{5000, 5001, 5002, 5003, 5004}));
	EXPECT_EQ(found({.realm = 200}), (Ports{5004}));
	EXPECT_EQ(found({.protocol = IPPROTO_TCP}), (Ports{5002}));
	EXPECT_EQ(found({.inside = EndpointFilter{address("10.0.0.6"), {}}}), (Ports{5003}));
	EXPECT_EQ(found({.inside = only("10.0.0.5:5001")}), (Ports{5001}));
	EXPECT_EQ(found({.outside = EndpointFilter{first.address_be, htons(first.port)}}), (Ports{5000}));
	EXPECT_EQ(found({.remote = EndpointFilter{address("198.51.100.8"), {}}}), (Ports{5001, 5002}));
	EXPECT_EQ(found({.remote = only("198.51.100.8:53")}), Ports{});
	EXPECT_EQ(found({.realm = kVni,
			 .protocol = IPPROTO_UDP,
			 .inside = only("10.0.0.5:5000"),
			 .outside = EndpointFilter{first.address_be, {}},
			 .remote = only(kR1)}),
		  (Ports{5000}));
	for (const vx_session_view &session : list(nat, {.outside = EndpointFilter{first.address_be, {}}}))
		EXPECT_EQ(session.outside_be, first.address_be);
}

TEST(Listing, InPagesAndSlicesEachSessionIsListedOnceWhileOthersComeAndGo)
{
	Scene scene = addresses(3);
	scene.config.timeouts.icmp = 5;
	Nat nat(scene);
	for (uint16_t i = 0; i < 50; i++)
		nat.inside(echo_request({address("10.0.0.9"), i}, address("198.51.100.7")));
	for (uint16_t i = 0; i < 100; i++)
		nat.open_udp(("10.0.0.5:" + std::to_string(5000 + i)).c_str(), kR1);
	EXPECT_EQ(list(nat, {}, 7, 3).size(), 150u);
	EXPECT_EQ(list(nat, {.protocol = IPPROTO_UDP}, 1, 1).size(), 100u);

	std::multiset<uint16_t> ports;
	std::vector<vx_session_view> page(4);
	for (uint32_t from = 0; from != kNone; nat.advance(0.5)) {
		const Listed listed = list_sessions(nat.engine(), {.inside = EndpointFilter{address("10.0.0.5"), {}}},
						    from, 11, page);
		for (uint32_t i = 0; i < listed.count; i++)
			ports.insert(ntohs(page[i].inside_port_be));
		from = listed.next;
		nat.open_udp(("10.0.0.6:" + std::to_string(from % 60000 + 1)).c_str(), kR2);
	}
	EXPECT_EQ(ports.size(), 100u);
	EXPECT_EQ(std::set<uint16_t>(ports.begin(), ports.end()).size(), 100u);
}

TEST(Listing, AnEmptyEngineAndAPageWithoutRoomAreNoTrouble)
{
	Nat nat(one_address());
	EXPECT_TRUE(list(nat, {}).empty());
	nat.open_udp("10.0.0.5:5000", kR1);
	const Listed none = list_sessions(nat.engine(), {}, 0, 100, {});
	EXPECT_EQ(none.next, 0u);
	EXPECT_EQ(none.count, 0u);
	EXPECT_EQ(list_sessions(nat.engine(), {}, 1000000, 100, {}).next, kNone) << "a cursor beyond the end";
	TopSubscribers nobody{};
	EXPECT_EQ(find_top_subscribers(nat.engine(), 0, 100, nobody), kNone);
}

TEST(Listing, TheSubscribersWithMostSessionsComeFirst)
{
	Nat nat(addresses(3));
	// 1 to 40 sessions, the hosts in no order.
	for (uint32_t i = 0; i < 40; i++) {
		const uint32_t sessions = i * 17 % 40 + 1;
		for (uint32_t port = 0; port < sessions; port++)
			ASSERT_TRUE(nat.inside(udp({htonl(0x0a000000 + sessions), static_cast<uint16_t>(3000 + port)},
						   endpoint(kR1)))
					    .sent(Side::outside));
	}
	for (const uint32_t budget : {1, 7, 1000}) {
		vx_subscriber_use room[10];
		TopSubscribers top{room};
		for (uint32_t from = 0; from != kNone;) {
			const uint32_t next = find_top_subscribers(nat.engine(), from, budget, top);
			if (next != kNone) {
				EXPECT_EQ(next, from + budget);
			}
			from = next;
		}
		ASSERT_EQ(top.count, 10u);
		for (uint32_t i = 0; i < 10; i++) {
			EXPECT_EQ(room[i].sessions, 40 - i);
			EXPECT_EQ(room[i].inside_be, htonl(0x0a000000 + 40 - i));
			EXPECT_EQ(room[i].realm, kVni);
			EXPECT_EQ(room[i].blocks, 1u);
		}
	}
}

TEST(Listing, GaugesSayWhatThereIsNow)
{
	Nat nat(one_address());
	EXPECT_EQ(nat.stats().subscribers, 0u);
	nat.open_udp("10.0.0.5:5000", kR1);
	nat.open_udp("10.0.0.5:5000", kR2);
	nat.open_udp("10.0.0.6:5000", kR1);
	EXPECT_EQ(nat.stats().sessions, 3u);
	EXPECT_EQ(nat.stats().mappings, 2u);
	EXPECT_EQ(nat.stats().subscribers, 2u);
	nat.advance(305);
	EXPECT_EQ(nat.stats().sessions, 0u);
	EXPECT_EQ(nat.stats().mappings, 2u) << "they rest";
	EXPECT_EQ(nat.stats().subscribers, 2u);
	nat.advance(125);
	EXPECT_EQ(nat.stats().mappings, 0u);
	EXPECT_EQ(nat.stats().subscribers, 0u);
}

}  // namespace
}  // namespace vx::nat::test
