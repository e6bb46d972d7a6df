// Worker 0 on real interfaces: neighbours are found, lost, found again, and every packet has one fate.
#include <bpf/bpf.h>

#include <cstring>

#include "worker_bed.h"

namespace vx::test {
namespace {

uint32_t number_of(const Bytes &frame)
{
	uint32_t number;
	memcpy(&number, &frame[14 + (frame[14] >> 4 == 4 ? 28 : 48)], 4);
	return number;
}

class WorkerNeighbours : public WorkerBed {
protected:
	void feed_many(const char *destination, uint32_t count, uint16_t way = kBySocket)
	{
		for (uint32_t i = 0; i < count; i++)
			feed(make_ipv4({.destination = destination, .number = i}), {}, way);
	}
	void expect_in_order(const std::vector<Bytes> &frames, size_t count)
	{
		ASSERT_EQ(frames.size(), count);
		for (uint32_t i = 0; i < count; i++)
			ASSERT_EQ(number_of(frames[i]), i);
	}
};

TEST_F(WorkerNeighbours, PacketsForAnUnknownNeighbourWaitAndLeaveInOrderWhenItAnswers)
{
	for (const uint16_t way : {kBySocket, kByRing}) {
		shell("ip neighbour flush dev out0");
		start_worker();
		const uint32_t before = generation();
		feed_many("192.0.2.2", 50, way);
		expect_in_order(arrived(50), 50);
		EXPECT_TRUE(eventually([&] { return counters().forwarded == 50; }));
		EXPECT_TRUE(eventually([&] { return neighbour_is("192.0.2.2", VX_NEIGHBOUR_VALID); }));
		EXPECT_GT(generation(), before);
		EXPECT_EQ(counters().worker_bytes, 50u * 66);
		stop_worker();
		EXPECT_EQ(fates(), 50u);
		slot_ = {};
	}
}

TEST_F(WorkerNeighbours, ASpinningWorkerNoticesNeighboursAndItsEndToo)
{
	start_worker([](WorkersConfig &config) { config.busy = true; });
	feed_many("192.0.2.2", 50);
	expect_in_order(arrived(50), 50);
	EXPECT_TRUE(eventually([&] { return neighbour_is("192.0.2.2", VX_NEIGHBOUR_VALID); }));
}

TEST_F(WorkerNeighbours, AnIpv6NeighbourIsFoundToo)
{
	start_worker();
	for (uint32_t i = 0; i < 10; i++)
		feed(make_ipv6("2001:db8::2", i));
	expect_in_order(arrived(10), 10);
	EXPECT_TRUE(eventually([&] { return neighbour_is("2001:db8::2", VX_NEIGHBOUR_VALID); }));
}

TEST_F(WorkerNeighbours, AHostThatDoesNotAnswerCostsItsPacketsAndRecoversWhenItAppears)
{
	start_worker();
	feed_many("192.0.2.77", 100);
	EXPECT_TRUE(eventually([&] { return neighbour_is("192.0.2.77", VX_NEIGHBOUR_RESOLVING); }));
	EXPECT_TRUE(eventually([&] { return neighbour_is("192.0.2.77", VX_NEIGHBOUR_FAILED); }, 8));
	EXPECT_EQ(dropped(VX_DROP_no_neighbour), 100u);
	far_.in([] { shell("ip address add 192.0.2.77/32 dev far0"); });
	EXPECT_TRUE(eventually([&] { return neighbour_is("192.0.2.77", VX_NEIGHBOUR_VALID); }, 20));
	feed_many("192.0.2.77", 10);
	expect_in_order(arrived(10), 10);
	bool failed = false, resolved = false;
	for (const WorkerEvent &event : worker_->drain_events()) {
		failed |= event.event == "neighbour_failed" && event.detail.starts_with("192.0.2.77");
		resolved |= event.event == "neighbour_resolved" && event.detail.starts_with("192.0.2.77");
	}
	EXPECT_TRUE(failed && resolved);
}

TEST_F(WorkerNeighbours, OneSilentHostHoldsHalfTheRoomAndTheNextHalfOfTheRest)
{
	start_worker();
	feed_many("192.0.2.77", 600);
	EXPECT_TRUE(eventually([&] { return dropped(VX_DROP_no_neighbour) == 600 - 512; }));
	feed_many("192.0.2.78", 400);
	EXPECT_TRUE(eventually([&] { return dropped(VX_DROP_no_neighbour) == 600 - 512 + 400 - 256; }));
	far_.in([] { shell("ip address add 192.0.2.78/32 dev far0"); });
	expect_in_order(arrived(256, 5), 256);
}

TEST_F(WorkerNeighbours, AHostThatAppearsWhileItsPacketsWaitGetsThem)
{
	start_worker();
	feed_many("192.0.2.77", 10);
	EXPECT_TRUE(eventually([&] { return neighbour_is("192.0.2.77", VX_NEIGHBOUR_RESOLVING); }));
	far_.in([] { shell("ip address add 192.0.2.77/32 dev far0"); });
	expect_in_order(arrived(10, 5), 10);
}

TEST_F(WorkerNeighbours, ANewMacIsUsedAsSoonAsTheKernelKnowsIt)
{
	start_worker();
	feed_many("192.0.2.2", 1);
	ASSERT_EQ(arrived(1).size(), 1u);
	const uint32_t before = generation();
	far_.in([] {
		shell("sysctl -qw net.ipv4.conf.far0.arp_notify=1");
		std::system("sleep 1.1");  // the kernel takes no second MAC within a second (locktime)
		shell("ip link set far0 address 02:00:00:00:00:99");
	});
	EXPECT_TRUE(eventually([&] { return neighbour("192.0.2.2").mac[5] == 0x99; }));
	EXPECT_GT(generation(), before);
	feed_many("192.0.2.2", 1);
	const auto frames = arrived(1);
	ASSERT_EQ(frames.size(), 1u);
	EXPECT_EQ(frames[0][5], 0x99);
}

TEST_F(WorkerNeighbours, ANeighbourThatTheKernelForgetsIsAskedForAgain)
{
	start_worker();
	feed_many("192.0.2.2", 1);
	ASSERT_EQ(arrived(1).size(), 1u);
	shell("ip neighbour del 192.0.2.2 dev out0");
	EXPECT_TRUE(eventually([&] { return neighbour_is("192.0.2.2", kNotInMap); }));
	feed_many("192.0.2.2", 5);
	expect_in_order(arrived(5), 5);
	EXPECT_TRUE(eventually([&] { return neighbour_is("192.0.2.2", VX_NEIGHBOUR_VALID); }));
}

TEST_F(WorkerNeighbours, AnOperatorsPermanentEntryIsUsedAndLeftAsItWas)
{
	shell("ip neighbour add 192.0.2.50 lladdr 02:00:00:00:00:50 nud permanent dev out0");
	start_worker();
	EXPECT_TRUE(neighbour_is("192.0.2.50", VX_NEIGHBOUR_VALID)) << "known as soon as start returns";
	shell("ip neighbour add 192.0.2.51 lladdr 02:00:00:00:00:51 nud permanent dev out0");
	feed_many("192.0.2.50", 1);
	feed_many("192.0.2.51", 1);
	const auto frames = arrived(2);
	ASSERT_EQ(frames.size(), 2u);
	EXPECT_EQ(frames[0][5], 0x50);
	EXPECT_EQ(frames[1][5], 0x51);
	stop_worker();
	shell("test $(ip neighbour show dev out0 nud permanent | grep -c '192.0.2.5[01]') = 2");
}

TEST_F(WorkerNeighbours, StoppingTakesBackWhatWasAskedOfTheKernelAndNothingElse)
{
	shell("ip neighbour add 192.0.2.60 lladdr 02:00:00:00:00:60 nud stale dev out0");
	start_worker();
	feed_many("192.0.2.2", 1);
	ASSERT_EQ(arrived(1).size(), 1u);
	shell("ip -d neighbour show dev out0 | grep '192.0.2.2 ' | grep -q managed");
	stop_worker();
	shell("! ip neighbour show dev out0 | grep -q '192.0.2.2 '");
	shell("ip neighbour show dev out0 | grep -q '192.0.2.60 '");
}

TEST_F(WorkerNeighbours, AManagedEntryThatWasThereBeforeStaysWithoutTheFlag)
{
	shell("sysctl -qw net.ipv4.neigh.out0.delay_first_probe_time=1 "
	      "net.ipv4.neigh.out0.interval_probe_time_ms=1000");
	start_worker();
	shell("ip neighbour add 192.0.2.2 lladdr 02:00:00:00:00:61 nud stale dev out0");
	EXPECT_TRUE(eventually([&] { return neighbour_is("192.0.2.2", VX_NEIGHBOUR_VALID); }));
	vx_neighbour value = neighbour("192.0.2.2");
	value.used = 1;  // as XDP does when it decides a flow
	const vx_addr key = address_of("192.0.2.2");
	bpf_map_update_elem(bpf_map__fd(feeder_->maps.neighbours), &key, &value, BPF_ANY);
	EXPECT_TRUE(eventually([] {
		return std::system("ip -d neighbour show dev out0 | grep '192.0.2.2 ' | grep -q managed") == 0;
	}, 8));
	EXPECT_TRUE(eventually([&] { return neighbour("192.0.2.2").mac[5] != 0x61; }, 20))
		<< "probing finds the true MAC";
	stop_worker();
	shell("ip -d neighbour show dev out0 | grep '192.0.2.2 ' | grep -vq managed");
}

TEST_F(WorkerNeighbours, AStoppedWorkerHasDroppedWhatStillWaited)
{
	start_worker();
	feed_many("192.0.2.77", 20);
	EXPECT_TRUE(eventually([&] { return worker_->snapshot().waiting == 20; }));
	stop_worker();
	EXPECT_EQ(dropped(VX_DROP_no_neighbour), 20u);
	EXPECT_EQ(fates(), 20u);
}

TEST_F(WorkerNeighbours, AMulticastPacketNeedsNoNeighbour)
{
	shell("ip route add default via 192.0.2.2");
	start_worker();
	feed_many("239.129.2.3", 1);
	const auto frames = arrived(1);
	ASSERT_EQ(frames.size(), 1u);
	EXPECT_EQ(Bytes(frames[0].begin(), frames[0].begin() + 6), Bytes({0x01, 0x00, 0x5e, 0x01, 0x02, 0x03}));
}

TEST_F(WorkerNeighbours, WithOneFixedNextHopNothingIsLookedUp)
{
	start_worker([](WorkersConfig &config) { config.follow_routes = false; });
	feed_many("198.51.100.9", 3);
	const auto frames = arrived(3);
	expect_in_order(frames, 3);
	EXPECT_EQ(frames[0][5], 0x55);
	EXPECT_TRUE(worker_->snapshot().next_hops.empty());
}

}  // namespace
}  // namespace vx::test
