// AF_XDP transmission against a driver that refuses: what the kernel says after a kick must give every frame its one
// fate, also where its consumer index lags behind. The far end counts what really left.
#include <linux/capability.h>
#include <net/if.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cstring>

#include "xsk_bed.h"

namespace vx::test {
namespace {

class XskTransmission : public XskBed {
protected:
	void SetUp() override
	{
		WorkerBed::SetUp();
		open_sockets();
	}
	uint64_t take() { return frames_->has() ? frames_->take() : UINT64_MAX; }
	void queue(uint32_t count, size_t payload = 32)
	{
		for (uint32_t i = 0; i < count; i++) {
			const Bytes packet = make_ipv4({.payload = payload, .number = next_});
			const Frame frame{take(), static_cast<uint32_t>(14 + packet.size())};
			uint8_t *bytes = frames_->at(frame.address);
			memset(bytes, 0, 14);
			memcpy(bytes, "\x02\x00\x00\x00\x00\x02\x02\x00\x00\x00\x00\x01\x08\x00", 14);
			memcpy(bytes + 14, packet.data(), packet.size());
			transmitter_.queue(frame, next_++);
		}
	}
	auto tell()
	{
		return [this](TxFate fate, uint32_t length, uint32_t tag) {
			EXPECT_EQ(tag, told_++) << "fates are told in order, none twice";
			EXPECT_TRUE(length == 66 || fate != TxFate::sent) << "long frames do not fit the far end";
			fates_[static_cast<int>(fate)]++;
		};
	}
	int kick()
	{
		const int err = transmitter_.kick(tell());
		transmitter_.reap(*frames_);
		return err;
	}
	uint32_t sent() { return fates_[static_cast<int>(TxFate::sent)]; }
	uint32_t refused() { return fates_[static_cast<int>(TxFate::refused)]; }
	void far_link(const char *state)
	{
		far_.in([state] { shell(std::string("ip link set far0 ") + state); });
	}

	uint32_t free_frames() { return frames_->free_count() + umem_->stored(); }

	uint32_t next_ = 0;
	uint32_t told_ = 0;
	uint32_t fates_[3] = {};
};

TEST_F(XskTransmission, NeedsARightToLockItsFrames)
{
	__user_cap_header_struct header{_LINUX_CAPABILITY_VERSION_3, 0};
	__user_cap_data_struct all[2], without[2];
	rlimit before;
	ASSERT_EQ(syscall(SYS_capget, &header, all), 0);
	ASSERT_EQ(getrlimit(RLIMIT_MEMLOCK, &before), 0);
	memcpy(without, all, sizeof all);
	without[0].effective &= ~(1u << CAP_IPC_LOCK);
	const rlimit page{4096, before.rlim_max};
	ASSERT_EQ(setrlimit(RLIMIT_MEMLOCK, &page), 0);
	ASSERT_EQ(syscall(SYS_capset, &header, without), 0);
	QueueRings rings(if_nametoindex("in0"), 1);
	RxQueue queue(rings, 16);
	const auto refused = XskReceiver::open(*umem_, queue, 32, -1);
	EXPECT_EQ(syscall(SYS_capset, &header, all), 0);
	EXPECT_EQ(setrlimit(RLIMIT_MEMLOCK, &before), 0);
	ASSERT_FALSE(refused);
	EXPECT_EQ(refused.error().code, "CAPABILITY_MISSING");
	EXPECT_EQ(refused.error().detail, "8192 KiB, which takes CAP_IPC_LOCK or a higher limit (ulimit -l)");
}

TEST_F(XskTransmission, WithoutACarrierEveryFrameIsRefusedNoneIsSentAndNoneIsForgotten)
{
	far_link("down");
	queue(1000);
	for (int i = 0; i < 1000; i++)
		ASSERT_EQ(kick(), EBUSY);
	EXPECT_EQ(refused(), 1000u);
	EXPECT_EQ(transmitter_.queued(), 0u);
	EXPECT_EQ(free_frames(), kFrames) << "refused frames complete as if they had been sent";
	far_link("up");
	queue(10);
	EXPECT_EQ(kick(), 0);
	EXPECT_EQ(sent(), 10u);
	EXPECT_EQ(arrived(10, 1).size(), 10u);
}

TEST_F(XskTransmission, FatesStayExactWhileTheCarrierComesAndGoes)
{
	for (int round = 0; round < 30; round++) {
		far_link(round % 2 ? "up" : "down");
		queue(100);
		for (int i = 0; i < 37 + round; i++)
			kick();
	}
	far_link("up");
	while (transmitter_.queued())
		kick();
	EXPECT_EQ(sent() + refused(), next_);
	EXPECT_GT(refused(), 0u);
	EXPECT_EQ(arrived(sent(), 1).size(), sent());
	EXPECT_EQ(free_frames(), kFrames);
}

TEST_F(XskTransmission, FramesTakenBackFromADownInterfaceAreNeverSent)
{
	shell("ip link set out0 down");
	for (int round = 0; round < 5; round++) {
		queue(150);
		ASSERT_EQ(kick(), ENETDOWN);
		transmitter_.take_back(*frames_, tell());
		EXPECT_EQ(free_frames(), kFrames);
	}
	EXPECT_EQ(fates_[static_cast<int>(TxFate::taken_back)], 750u);
	shell("ip link set out0 up");
	usleep(100000);
	queue(200);
	while (transmitter_.queued())
		kick();
	EXPECT_EQ(sent(), 200u);
	EXPECT_EQ(arrived(200, 1).size(), 200u);
	EXPECT_TRUE(arrived().empty());
}

TEST_F(XskTransmission, FramesTakenBackBetweenRefusalsDoNotShiftAnothersFate)
{
	far_link("down");
	for (int round = 0; round < 40; round++) {
		queue(20);
		for (int i = 0; i < 5; i++)
			ASSERT_EQ(kick(), EBUSY);
		transmitter_.take_back(*frames_, tell());
		queue(3);
		if (round % 4 == 3)
			far_link(round % 8 == 3 ? "up" : "down");
		while (transmitter_.queued())
			kick();
		if (round % 8 == 3)
			far_link("down");
	}
	EXPECT_EQ(told_, next_);
	EXPECT_GT(sent(), 0u);
	EXPECT_EQ(arrived(sent(), 1).size(), sent());
	EXPECT_EQ(free_frames(), kFrames);
}

TEST_F(XskTransmission, ARefusedFrameBetweenOthersIsTheOneThatIsSaidToBeRefused)
{
	far_.in([] { shell("ip link set far0 mtu 500"); });
	for (const uint32_t before : {3u, 0u, 1u, 40u, 0u}) {
		queue(before);
		queue(1, 600);
	}
	queue(2);
	while (transmitter_.queued())
		kick();
	EXPECT_EQ(refused(), 5u);
	EXPECT_EQ(sent(), 46u);
	EXPECT_EQ(arrived(46, 1).size(), 46u);
}

TEST_F(XskTransmission, AFullRingTakesNoMoreUntilItIsKicked)
{
	while (transmitter_.has_room())
		queue(1);
	EXPECT_EQ(transmitter_.queued(), 1024u);
	while (transmitter_.queued())
		kick();
	EXPECT_EQ(sent(), 1024u);
	EXPECT_TRUE(transmitter_.has_room());
}

}  // namespace
}  // namespace vx::test
