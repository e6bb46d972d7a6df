// Worker 0 on real interfaces: packets that must be fragmented or wait for their first fragment, links that
// fail, routes that change, samples. The far end's kernel reassembles, the worker's ledger must agree.
#include <arpa/inet.h>
#include <bpf/bpf.h>
#include <net/if.h>
#include <sys/socket.h>

#include <cstring>

#include "../core/checksum.h"
#include "worker_bed.h"

namespace vx::test {
namespace {

class WorkerPackets : public WorkerBed {
protected:
	// A UDP socket at the far end: what its kernel makes of the fragments.
	Fd far_udp()
	{
		Fd fd;
		far_.in([&] {
			fd = Fd(socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
			sockaddr_in address{};
			address.sin_family = AF_INET;
			address.sin_port = htons(9000);
			EXPECT_EQ(bind(fd.get(), reinterpret_cast<sockaddr *>(&address), sizeof address), 0);
		});
		return fd;
	}
	static size_t receive(const Fd &udp)
	{
		uint8_t buffer[65536];
		ssize_t length = -1;
		eventually([&] { return (length = recv(udp.get(), buffer, sizeof buffer, 0)) >= 0; });
		return static_cast<size_t>(length);
	}
	vx_fragment fragment(uint16_t id, const char *destination)
	{
		vx_fragment_key key{};
		key.source_be = ipv4_be("10.1.0.1");
		key.destination_be = ipv4_be(destination);
		key.id_be = htons(id);
		key.protocol = 17;
		vx_fragment value{};
		if (bpf_map_lookup_elem(bpf_map__fd(feeder_->maps.fragments), &key, &value))
			value.state = kNotInMap;
		return value;
	}
	static vx_exception exception(vx_exception_reason reason, const char *to = nullptr)
	{
		vx_exception one{};
		one.reason = static_cast<uint8_t>(reason);
		one.original_destination_be = ipv4_be("203.0.113.9");
		one.new_destination_be = to ? ipv4_be(to) : 0;
		return one;
	}
	// A datagram of 800 + 800 + 400 payload bytes for 203.0.113.9, which a rule sends to 192.0.2.2.
	void feed_first(uint16_t id)
	{
		Bytes first = make_ipv4({.payload = 800, .id = id, .flags_and_offset = 0x2000});
		first[20 + 4] = 2000 >> 8;
		first[20 + 5] = 2000 & 255;
		feed(first, exception(VX_EXCEPTION_FRAGMENT_FIRST, "192.0.2.2"));
	}
	void feed_later(uint16_t id, uint16_t offset, size_t payload, bool more)
	{
		feed(make_ipv4({.destination = "203.0.113.9", .payload = payload, .id = id,
				.flags_and_offset = static_cast<uint16_t>((more ? 0x2000 : 0) | offset / 8)}),
		     exception(VX_EXCEPTION_FRAGMENT_LATER));
	}
	bool settled(uint64_t packets)
	{
		return eventually([&] { return fates() == packets; });
	}
};

TEST_F(WorkerPackets, APacketAboveTheMtuArrivesWholeAndItsFragmentsAreCounted)
{
	shell("ip link set out0 mtu 576");
	start_worker();
	const Fd udp = far_udp();
	feed(make_ipv4({.payload = 3000}), exception(VX_EXCEPTION_TOO_BIG));
	EXPECT_EQ(receive(udp), 3000u - 8);
	EXPECT_TRUE(settled(1));
	EXPECT_EQ(counters().forwarded, 1u);
	EXPECT_EQ(counters().fragments_extra, 5u);
	EXPECT_EQ(arrived().size(), 6u);
}

TEST_F(WorkerPackets, APacketAboveTheMtuWithDfIsDroppedAsTooBig)
{
	start_worker();
	feed(make_ipv4({.payload = 3000, .flags_and_offset = 0x4000}), exception(VX_EXCEPTION_NEIGHBOUR));
	EXPECT_TRUE(eventually([&] { return dropped(VX_DROP_too_big) == 1; }));
	EXPECT_TRUE(arrived().empty());
}

TEST_F(WorkerPackets, APacketThatLosesOneOfItsFragmentsIsDroppedAndTheOthersAreExtra)
{
	// The far end refuses what is above its own MTU: all fragments but the last.
	shell("ip link set out0 mtu 576");
	far_.in([] { shell("ip link set far0 mtu 500"); });
	start_worker();
	feed(make_ipv4({.payload = 3000}), exception(VX_EXCEPTION_TOO_BIG));
	feed(make_ipv4({}));
	EXPECT_TRUE(settled(2));
	EXPECT_EQ(counters().forwarded, 1u);
	EXPECT_EQ(dropped(VX_DROP_tx_refused), 1u);
	EXPECT_EQ(counters().fragments_extra, 1u);
	EXPECT_EQ(arrived(2).size(), 2u);
}

TEST_F(WorkerPackets, LaterFragmentsWaitForTheFirstAndAreTranslatedLikeIt)
{
	start_worker();
	const Fd udp = far_udp();
	feed_later(7, 1600, 400, false);
	feed_later(7, 800, 800, true);
	EXPECT_TRUE(eventually([&] { return fragment(7, "203.0.113.9").state == VX_FRAGMENT_HELD; }));
	EXPECT_TRUE(arrived().empty());
	feed_first(7);
	EXPECT_EQ(receive(udp), 2000u - 8);
	const vx_fragment decided = fragment(7, "203.0.113.9");
	EXPECT_EQ(decided.state, VX_FRAGMENT_DECIDED);
	EXPECT_EQ(decided.address_be, ipv4_be("192.0.2.2"));
	feed_later(7, 800, 800, true);
	EXPECT_TRUE(settled(4)) << "one that comes when all is decided goes on at once";
	EXPECT_EQ(counters().forwarded, 4u);
}

TEST_F(WorkerPackets, HeldFragmentsGetWhatXdpDoesToOtherPackets)
{
	start_worker([](WorkersConfig &config) { config.clear_dont_fragment = config.decrement_ttl = true; });
	Bytes dying = make_ipv4({.destination = "203.0.113.9", .payload = 8, .id = 11, .flags_and_offset = 300});
	dying[8] = 1;
	feed(dying, exception(VX_EXCEPTION_FRAGMENT_LATER));
	feed(make_ipv4({.destination = "203.0.113.9", .payload = 8, .id = 11, .flags_and_offset = 0x4000 | 100}),
	     exception(VX_EXCEPTION_FRAGMENT_LATER));
	feed_first(11);
	const auto frames = arrived(2);
	ASSERT_EQ(frames.size(), 2u);
	const Bytes &later = frames[1];
	EXPECT_EQ(later[14 + 8], 63);
	EXPECT_EQ(later[14 + 6] & 0x40, 0);
	EXPECT_EQ(fold(sum_words(&later[14], 20)), 0xffff);
	EXPECT_EQ(dropped(VX_DROP_ttl_expired), 1u);
}

TEST_F(WorkerPackets, HeldFragmentsAreFragmentedFurtherWhenTheMtuAsksForIt)
{
	shell("ip link set out0 mtu 300");
	start_worker();
	const Fd udp = far_udp();
	feed_later(8, 800, 800, true);
	feed_later(8, 1600, 400, false);
	feed_first(8);
	EXPECT_EQ(receive(udp), 2000u - 8);
	EXPECT_TRUE(settled(3));
	EXPECT_EQ(arrived().size(), counters().forwarded + counters().fragments_extra);
}

TEST_F(WorkerPackets, ADatagramWithTooManyHeldFragmentsIsDroppedWithAllThatFollows)
{
	start_worker();
	for (uint16_t i = 1; i <= 65; i++)
		feed_later(9, static_cast<uint16_t>(i * 8), 8, true);
	EXPECT_TRUE(eventually([&] { return dropped(VX_DROP_fragment_limit) == 65; }));
	EXPECT_EQ(fragment(9, "203.0.113.9").state, VX_FRAGMENT_DROPPED);
	feed_first(9);
	feed_later(9, 800, 800, false);
	EXPECT_TRUE(eventually([&] { return dropped(VX_DROP_fragment_limit) == 67; }));
	EXPECT_TRUE(arrived().empty());
}

TEST_F(WorkerPackets, ExpiredEntriesAreSweptFromTheFragmentsMapAndOthersStay)
{
	start_worker();
	feed_first(10);
	EXPECT_TRUE(eventually([&] { return fragment(10, "203.0.113.9").state == VX_FRAGMENT_DECIDED; }));
	vx_fragment_key old{};
	old.id_be = 1;
	const vx_fragment expired{};
	bpf_map_update_elem(bpf_map__fd(feeder_->maps.fragments), &old, &expired, BPF_ANY);
	vx_fragment value;
	EXPECT_TRUE(eventually([&] {
		return bpf_map_lookup_elem(bpf_map__fd(feeder_->maps.fragments), &old, &value) != 0;
	}));
	EXPECT_EQ(fragment(10, "203.0.113.9").state, VX_FRAGMENT_DECIDED);
}

TEST_F(WorkerPackets, WhileTheCarrierIsDownEveryPacketIsCountedAndAfterwardsTheyArriveAgain)
{
	shell("ip neighbour add 192.0.2.2 lladdr 02:00:00:00:00:02 nud permanent dev out0");
	start_worker();
	feed(make_ipv4({}));
	ASSERT_EQ(arrived(1).size(), 1u);
	for (uint32_t i = 0; i < 500; i++) {
		if (i == 250) {
			EXPECT_TRUE(settled(251));
			far_.in([] { shell("ip link set far0 down"); });
		}
		feed(make_ipv4({}));
	}
	EXPECT_TRUE(settled(501));
	EXPECT_EQ(counters().forwarded + dropped(VX_DROP_carrier_down), 501u);
	EXPECT_EQ(dropped(VX_DROP_carrier_down), 250u);
	EXPECT_EQ(arrived(250, 1).size(), 250u);
	far_.in([] { shell("ip link set far0 up"); });
	EXPECT_TRUE(eventually([&] { return worker_->snapshot().outside_carrier; }));
	feed(make_ipv4({}));
	EXPECT_EQ(arrived(1).size(), 1u);
}

TEST_F(WorkerPackets, PacketsThatWaitForANeighbourWhenTheCarrierGoesAreCountedAsThat)
{
	start_worker();
	for (int i = 0; i < 10; i++)
		feed(make_ipv4({.destination = "192.0.2.77"}));
	EXPECT_TRUE(eventually([&] { return neighbour_is("192.0.2.77", VX_NEIGHBOUR_RESOLVING); }));
	far_.in([] { shell("ip link set far0 down"); });
	EXPECT_TRUE(eventually([&] { return dropped(VX_DROP_carrier_down) == 10; }));
}

TEST_F(WorkerPackets, RoutesAreFollowedAsTheyComeAndGo)
{
	shell("ip route add 198.51.100.0/24 via 192.0.2.2 metric 10");
	start_worker();
	EXPECT_EQ(route("198.51.100.1").kind, VX_ROUTE_GATEWAY) << "known as soon as start returns";
	EXPECT_EQ(route("192.0.2.9").kind, VX_ROUTE_ONLINK);
	EXPECT_EQ(route("192.0.2.1").kind, VX_ROUTE_LOCAL);
	EXPECT_EQ(route("192.0.2.255").kind, VX_ROUTE_LOCAL);
	EXPECT_EQ(route("2001:db8::1").kind, VX_ROUTE_LOCAL);
	EXPECT_EQ(route("2001:db8::9").kind, VX_ROUTE_ONLINK);
	const auto goes_by = [&](const char *to, const char *gateway) {
		return eventually([&] {
			const vx_route now = route(to);
			return now.kind == VX_ROUTE_GATEWAY && address_text(now.gateway) == gateway;
		});
	};
	const auto is = [&](const char *to, vx_route_kind kind) {
		return eventually([&] { return route(to).kind == kind; });
	};
	uint32_t before = generation();
	shell("ip route add 198.51.100.0/24 via 192.0.2.3 metric 5");
	EXPECT_TRUE(goes_by("198.51.100.1", "192.0.2.3"));
	EXPECT_TRUE(eventually([&] { return generation() > before; }));
	shell("ip route del 198.51.100.0/24 metric 5");
	EXPECT_TRUE(goes_by("198.51.100.1", "192.0.2.2")) << "the next best comes back";
	shell("ip route replace 198.51.100.0/24 via 192.0.2.4 metric 10");
	EXPECT_TRUE(goes_by("198.51.100.1", "192.0.2.4"));
	shell("ip route add blackhole 198.51.100.7/32");
	EXPECT_TRUE(is("198.51.100.7", VX_ROUTE_NONE));
	shell("ip route add 203.0.113.0/24 nexthop via 10.9.9.9 dev in0 onlink nexthop via 192.0.2.6 dev out0 onlink");
	EXPECT_TRUE(goes_by("203.0.113.1", "192.0.2.6"));
	shell("ip -4 route add default via inet6 fe80::9 dev out0");
	EXPECT_TRUE(goes_by("100.64.0.1", "fe80::9"));
	EXPECT_EQ(route("255.255.255.255").kind, VX_ROUTE_LOCAL);
	EXPECT_EQ(route("127.1.2.3").kind, VX_ROUTE_LOCAL);
	shell("ip -6 route add 2001:db8:9::/48 via 2001:db8::2 && ip -6 route append 2001:db8:9::/48 via 2001:db8::3");
	EXPECT_TRUE(goes_by("2001:db8:9::1", "2001:db8::2"));
	shell("ip -6 route del 2001:db8:9::/48 via 2001:db8::2");
	EXPECT_TRUE(goes_by("2001:db8:9::1", "2001:db8::3"));
	shell("ip address add 192.0.2.200/24 dev out0");
	EXPECT_TRUE(is("192.0.2.200", VX_ROUTE_LOCAL));
}

TEST_F(WorkerPackets, RoutesAnnouncedWhileNobodyReadsAreCaughtUpWith)
{
	start_worker();
	// The whole process stands still meanwhile, so that announcements overflow their socket.
	shell("for a in $(seq 0 119); do for b in $(seq 0 249); do echo route add 198.18.$a.$b/32 via 192.0.2.2; "
	      "done; done > /tmp/vx-routes-$PPID; kill -STOP $PPID; ip -batch /tmp/vx-routes-$PPID; kill -CONT $PPID");
	EXPECT_TRUE(eventually([&] { return worker_->snapshot().routes >= 30000; }, 10));
	EXPECT_EQ(route("198.18.119.249").kind, VX_ROUTE_GATEWAY);
	EXPECT_EQ(route("198.18.0.0").kind, VX_ROUTE_GATEWAY);
	shell("kill -STOP $PPID; ip route flush root 198.18.0.0/15; kill -CONT $PPID");
	EXPECT_TRUE(eventually([&] { return worker_->snapshot().routes < 100; }, 10));
	EXPECT_EQ(route("198.18.119.249").kind, VX_ROUTE_NONE);
	EXPECT_EQ(route("192.0.2.9").kind, VX_ROUTE_ONLINK);
	// What is read late must not win: here the additions are still queued, the removals lost.
	shell("kill -STOP $PPID; ip -batch /tmp/vx-routes-$PPID; ip route flush root 198.18.0.0/15; kill -CONT $PPID; "
	      "rm /tmp/vx-routes-$PPID");
	sleep(3);
	EXPECT_LT(worker_->snapshot().routes, 100u);
	EXPECT_EQ(route("198.18.0.0").kind, VX_ROUTE_NONE);
}

TEST_F(WorkerPackets, RoutesThatTheKernelRemovesWithoutAWordAreNoticed)
{
	shell("ip link add other0 type veth peer name other1 && ip link set other1 up && ip link set other0 up");
	shell("ip address add 10.77.0.1/24 dev other0 && ip route add 198.51.100.0/24 via 10.77.0.2 metric 1");
	shell("ip route add 198.51.100.0/24 via 192.0.2.2 metric 2");
	start_worker();
	EXPECT_EQ(route("198.51.100.1").kind, VX_ROUTE_NONE) << "the better one does not go outside";
	shell("ip link set other0 down");
	EXPECT_TRUE(eventually([&] { return route("198.51.100.1").kind == VX_ROUTE_GATEWAY; }));
	shell("ip link del other0");
}

TEST_F(WorkerPackets, APacketWithoutARouteOutsideIsDroppedAsThat)
{
	start_worker();
	feed(make_ipv4({.destination = "198.51.100.1"}));
	feed(make_ipv4({.destination = "192.0.2.1"}));
	EXPECT_TRUE(eventually([&] { return dropped(VX_DROP_no_route) == 2; }));
}

TEST_F(WorkerPackets, AnIpRuleOfTheOperatorsIsSaidNotToBeFollowed)
{
	start_worker();
	shell("ip rule add from 10.0.0.0/8 table 100");
	bool told = false;
	EXPECT_TRUE(eventually([&] {
		for (const WorkerEvent &event : worker_->drain_events())
			told |= event.event == "policy_routing";
		return told;
	}));
}

TEST_F(WorkerPackets, TheInterfacesAreDescribedAndTheirChangesFollowed)
{
	start_worker();
	const auto outside = [&] {
		const uint32_t key = VX_OUTSIDE;
		vx_interface value{};
		bpf_map_lookup_elem(bpf_map__fd(feeder_->maps.interfaces), &key, &value);
		return value;
	};
	EXPECT_EQ(outside().ifindex, if_nametoindex("out0"));
	EXPECT_EQ(outside().mtu, 1500u);
	EXPECT_NE(outside().netns_cookie, 0u);
	shell("ip link set out0 mtu 1400 address 02:00:00:00:00:42");
	EXPECT_TRUE(eventually([&] { return outside().mtu == 1400 && outside().mac[5] == 0x42; }));
	bool told = false;
	EXPECT_TRUE(eventually([&] {
		for (const WorkerEvent &event : worker_->drain_events())
			told |= event.event == "link_changed";
		return told;
	}));
}

TEST_F(WorkerPackets, WhatItDropsIsSampledWhileSomebodyWatchesAndAFewOfAReasonInARound)
{
	start_worker();
	vx_control &control = feeder_->bss->control;
	const Bytes packet = make_ipv4({.destination = "198.18.0.1"});  // no route leads there
	const auto drop = [&](uint64_t times) {
		const uint64_t before = dropped(VX_DROP_no_route);
		for (uint64_t i = 0; i < times; i++)
			feed(packet);
		ASSERT_TRUE(eventually([&] { return dropped(VX_DROP_no_route) == before + times; }));
	};
	drop(3);
	EXPECT_TRUE(worker_->drain_samples().empty());
	for (uint32_t round = 1; round < 3; round++) {
		control.sample_most = 2;
		__atomic_store_n(&control.sample_round, round, __ATOMIC_SEQ_CST);
		drop(5);
		std::vector<vx_sample> samples;
		EXPECT_TRUE(eventually([&] {
			for (const vx_sample &sample : worker_->drain_samples())
				samples.push_back(sample);
			return samples.size() == 2;
		}));
		ASSERT_EQ(samples.size(), 2u);
		EXPECT_EQ(samples[0].drop, VX_DROP_no_route);
		EXPECT_EQ(samples[0].direction, VX_INSIDE);
		EXPECT_EQ(samples[0].form, VX_SAMPLE_LEAVING);
		EXPECT_EQ(samples[0].length, 14 + packet.size());
		EXPECT_EQ(samples[0].captured, 14 + packet.size());
		EXPECT_EQ(memcmp(samples[0].bytes + 14, packet.data(), packet.size()), 0);
		EXPECT_EQ(counters().sampled, 2 * round);
	}
	__atomic_store_n(&control.sample_round, 0, __ATOMIC_SEQ_CST);
	drop(3);
	EXPECT_TRUE(worker_->drain_samples().empty());
}

TEST_F(WorkerPackets, UnderAFloodEveryPacketThatGotInHasOneFate)
{
	start_worker();
	uint32_t fed = 0;
	for (; fed < 20000 || counters().forwarded < 1000; fed++) {
		ASSERT_LT(fed, 5000000u) << "the worker forwards nothing";
		feed(make_ipv4({.payload = fed % 3 ? 64u : 2500u, .number = fed}), {}, fed % 2 ? kBySocket : kByRing);
	}
	stop_worker();
	EXPECT_LE(fates(), fed);
	const uint64_t left = counters().forwarded + counters().fragments_extra;
	EXPECT_EQ(arrived(left).size(), left);
}

using WorkerPacketsDeathTest = WorkerPackets;

TEST_F(WorkerPacketsDeathTest, AFrameInItsSocketWithoutTheMagicIsABrokenInvariant)
{
	GTEST_FLAG_SET(death_test_style, "threadsafe");
	EXPECT_DEATH({
		start_worker();
		vx_exception wrong{};
		wrong.magic = 1;
		feed(make_ipv4({}), wrong);
		sleep(2);
	}, "broken invariant");
}

}  // namespace
}  // namespace vx::test
