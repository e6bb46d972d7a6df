// Neighbours over time, with the clock in the test's hand and the kernel's table as it is: what is used stays, what is
// not used goes, what never answers is given up.
#include <bpf/bpf.h>
#include <linux/rtnetlink.h>
#include <net/if.h>

#include <cstring>

#include "../worker/neighbours.h"
#include "xsk_bed.h"

namespace vx::test {
namespace {

constexpr uint64_t kSecond = 1000000000;

class NeighbourAgeing : public XskBed {
protected:
	void SetUp() override
	{
		WorkerBed::SetUp();
		open();
	}
	void open()
	{
		open_sockets();
		auto requests = Netlink::open({});
		auto reads = Netlink::open({});
		auto announcements = Netlink::open({RTNLGRP_NEIGH});
		ASSERT_TRUE(requests && reads && announcements);
		requests_ = std::move(*requests);
		announcements_ = std::move(*announcements);
		tables_ = std::make_unique<Tables>(&feeder_->bss->control);
		links_ = std::make_unique<Links>(if_nametoindex("in0"), if_nametoindex("out0"),
						 bpf_map__fd(feeder_->maps.interfaces), *tables_, events_);
		ASSERT_TRUE(links_->read(*reads, 0));
		sender_ = std::make_unique<Sender>(VX_OUTSIDE, *frames_, transmitter_, Injector(Injection::never, -1, nullptr, 0, 0, nullptr),
						   *links_, requests_, slot_, events_,
						   Sampler(feeder_->bss->control, slot_, events_));
		neighbours_ = std::make_unique<Neighbours>(*links_, bpf_map__fd(feeder_->maps.neighbours), requests_,
							   *sender_, *tables_, events_);
		neighbours_->set_drain([] {});
		neighbours_->tick(now_);
	}
	void forward(const char *address)
	{
		const Bytes packet = make_ipv4({.destination = address});
		ASSERT_TRUE(frames_->has());
		const Frame frame{frames_->take(), static_cast<uint32_t>(14 + packet.size())};
		memcpy(frames_->at(frame.address) + 14, packet.data(), packet.size());
		neighbours_->forward(address_of(address), frame, now_);
	}
	bool follow_until(const char *address, uint8_t state)
	{
		return eventually([&] {
			announcements_.receive([&](NetlinkBytes bytes) {
				if (const auto message = parse_neighbour(bytes))
					neighbours_->apply(*message, now_);
			});
			neighbours_->settle(now_);
			sender_->flush(now_);
			tables_->publish();
			return neighbour_is(address, state);
		});
	}
	void pass(uint64_t seconds)
	{
		now_ += seconds * kSecond;
		neighbours_->tick(now_);
		tables_->publish();
	}
	void use(const char *address)
	{
		vx_neighbour value = neighbour(address);
		value.used = 1;
		const vx_addr key = address_of(address);
		bpf_map_update_elem(bpf_map__fd(feeder_->maps.neighbours), &key, &value, BPF_ANY);
	}

	uint64_t now_ = 1000 * kSecond;
	EventQueue events_;
	Netlink requests_, announcements_;
	std::unique_ptr<Tables> tables_;
	std::unique_ptr<Links> links_;
	std::unique_ptr<Sender> sender_;
	std::unique_ptr<Neighbours> neighbours_;
};

TEST_F(NeighbourAgeing, AMinutePassesAndTheUsedFlagIsTakenWithANewGeneration)
{
	forward("192.0.2.2");
	ASSERT_TRUE(follow_until("192.0.2.2", VX_NEIGHBOUR_VALID));
	EXPECT_EQ(neighbour("192.0.2.2").used, 1);
	const uint32_t before = generation();
	pass(59);
	EXPECT_EQ(neighbour("192.0.2.2").used, 1);
	pass(1);
	EXPECT_EQ(neighbour("192.0.2.2").used, 0);
	EXPECT_EQ(generation(), before + 1) << "flows must be decided anew to say that they still use it";
	pass(60);
	EXPECT_EQ(generation(), before + 1) << "nothing was used, nothing changed";
}

TEST_F(NeighbourAgeing, WhatNobodyUsesForFiveMinutesIsForgottenHereAndInTheKernel)
{
	forward("192.0.2.2");
	ASSERT_TRUE(follow_until("192.0.2.2", VX_NEIGHBOUR_VALID));
	pass(60);
	for (int minute = 1; minute < 5; minute++)
		pass(60);
	EXPECT_TRUE(neighbour_is("192.0.2.2", VX_NEIGHBOUR_VALID));
	pass(60);
	EXPECT_TRUE(neighbour_is("192.0.2.2", kNotInMap));
	shell("! ip neighbour show dev out0 | grep -q '192.0.2.2 '");
}

TEST_F(NeighbourAgeing, WhatIsUsedStaysHoweverLong)
{
	forward("192.0.2.2");
	ASSERT_TRUE(follow_until("192.0.2.2", VX_NEIGHBOUR_VALID));
	for (int minute = 0; minute < 30; minute++) {
		if (minute % 4 == 0)
			use("192.0.2.2");
		pass(60);
	}
	EXPECT_TRUE(neighbour_is("192.0.2.2", VX_NEIGHBOUR_VALID));
}

TEST_F(NeighbourAgeing, APacketStillGoesOutWhenItsNeighbourHasBeenForgottenAndIsAskedForAgain)
{
	forward("192.0.2.2");
	ASSERT_TRUE(follow_until("192.0.2.2", VX_NEIGHBOUR_VALID));
	for (int minute = 0; minute < 7; minute++)
		pass(60);
	ASSERT_TRUE(neighbour_is("192.0.2.2", kNotInMap));
	forward("192.0.2.2");
	ASSERT_TRUE(follow_until("192.0.2.2", VX_NEIGHBOUR_VALID));
	EXPECT_EQ(arrived(2).size(), 2u);
	EXPECT_EQ(counters().forwarded, 2u);
}

TEST_F(NeighbourAgeing, APermanentEntryNotHeardOfYetIsFoundUsedAndLeftPermanent)
{
	shell("ip neighbour add 192.0.2.50 lladdr 02:00:00:00:00:50 nud permanent dev out0");
	forward("192.0.2.50");
	neighbours_->settle(now_);
	sender_->flush(now_);
	EXPECT_EQ(arrived(1).size(), 1u);
	EXPECT_EQ(neighbour("192.0.2.50").mac[5], 0x50);
	for (int minute = 0; minute < 7; minute++)
		pass(60);
	neighbours_->stop();
	shell("ip neighbour show dev out0 nud permanent | grep -q '192.0.2.50 '");
}

TEST_F(NeighbourAgeing, SilenceOfTheKernelIsTakenForFailureAfterSixSeconds)
{
	forward("192.0.2.77");
	pass(5);
	EXPECT_TRUE(neighbour_is("192.0.2.77", VX_NEIGHBOUR_RESOLVING));
	EXPECT_EQ(neighbours_->waiting(), 1u);
	pass(1);
	EXPECT_TRUE(neighbour_is("192.0.2.77", VX_NEIGHBOUR_FAILED));
	EXPECT_EQ(dropped(VX_DROP_no_neighbour), 1u);
	EXPECT_EQ(neighbours_->waiting(), 0u);
}

TEST_F(NeighbourAgeing, FiftySilentHostsShareTheRoomAndLeaveSomeForTheNext)
{
	for (int i = 0; i < 1100; i++)
		forward(("192.0.2." + std::to_string(100 + i % 50)).c_str());
	EXPECT_EQ(neighbours_->waiting(), 1004u) << "20 each, of four of them 21, and as much room is left of 1,024";
	EXPECT_EQ(dropped(VX_DROP_no_neighbour), 96u);
	for (int i = 0; i < 20; i++)
		forward("192.0.2.99");
	EXPECT_EQ(neighbours_->waiting(), 1014u);
	neighbours_->stop();
	EXPECT_EQ(dropped(VX_DROP_no_neighbour), 1120u);
	shell("! ip neighbour show dev out0 | grep -q '192.0.2.1[0-4][0-9]'");
}

TEST_F(NeighbourAgeing, AHostWhosePacketFindsNoRoomIsAskedForAllTheSame)
{
	for (int i = 0; i < 11; i++)
		for (int k = 0; k < 600; k++)
			forward(("192.0.2.1" + std::to_string(10 + i)).c_str());
	EXPECT_EQ(neighbours_->waiting(), 1024u);
	const uint64_t before = dropped(VX_DROP_no_neighbour);
	forward("192.0.2.2");
	EXPECT_EQ(dropped(VX_DROP_no_neighbour), before + 1);
	pass(1);
	EXPECT_TRUE(neighbour_is("192.0.2.2", VX_NEIGHBOUR_RESOLVING));
	EXPECT_TRUE(follow_until("192.0.2.2", VX_NEIGHBOUR_VALID));
	neighbours_->stop();
}

}  // namespace
}  // namespace vx::test
