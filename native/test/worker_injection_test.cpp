// What a sender makes of frames that could not be injected: whether it is the driver that takes none, or the interface that
// leaves, which its own event tells. The programs are the daemon's, attached to nothing; the links are as they were read
// once, as for a worker to which the kernel's announcement is still on its way.
#include <bpf/bpf.h>
#include <net/if.h>
#include <sched.h>

#include <cstring>
#include <string>

#include "../io/datapath.h"
#include "../worker/sender.h"
#include "xsk_bed.h"

namespace vx::test {
namespace {

class Injecting : public XskBed {
protected:
	void SetUp() override
	{
		WorkerBed::SetUp();
		const int cpu = sched_getcpu();
		cpu_set_t here;
		CPU_ZERO(&here);
		CPU_SET(cpu, &here);
		ASSERT_EQ(sched_setaffinity(0, sizeof here, &here), 0);
		open(cpu);
	}
	void open(int cpu)
	{
		DatapathPlan plan;
		plan.inside_ifindex = static_cast<int>(if_nametoindex("in0"));
		plan.outside_ifindex = static_cast<int>(if_nametoindex("out0"));
		plan.hand_over = VX_HAND_OVER_SOCKETS;
		plan.umem_chunks = kFrames;
		auto datapath = Datapath::open(plan);
		ASSERT_TRUE(datapath) << datapath.error().op << ": " << datapath.error().detail;
		datapath_ = std::move(*datapath);
		open_sockets(datapath_->map_fd("umem"));
		auto requests = Netlink::open({});
		auto reads = Netlink::open({});
		ASSERT_TRUE(requests && reads);
		requests_ = std::move(*requests);
		tables_ = std::make_unique<Tables>(datapath_->control());
		links_ = std::make_unique<Links>(if_nametoindex("in0"), if_nametoindex("out0"), datapath_->map_fd("interface_map"),
						 *tables_, events_);
		ASSERT_TRUE(links_->read(*reads, 0));
		sender_ = std::make_unique<Sender>(
			VX_OUTSIDE, *frames_, transmitter_,
			Injector(Injection::many, datapath_->outside_program_fd(), &datapath_->injections()[cpu], cpu, 0, &slot()),
			*links_, requests_, slot(), events_, Sampler(*datapath_->control(), slot(), events_));
	}
	vx_slot &slot() { return datapath_->slots()[VX_CPUS_MAX]; }
	// As many as make it inject.
	void send_many()
	{
		const Bytes packet = make_ipv4({});
		ASSERT_TRUE(frames_->has(kMany));
		for (int i = 0; i < kMany; i++) {
			const Frame frame{frames_->take(), static_cast<uint32_t>(14 + packet.size())};
			memcpy(frames_->at(frame.address) + 14, packet.data(), packet.size());
			sender_->send(frame, links_->face(VX_OUTSIDE).mac);
		}
		sender_->flush(kNow);
	}
	std::vector<std::string> said()
	{
		std::vector<std::string> all;
		for (const WorkerEvent &one : events_.drain())
			all.push_back(one.event + ": " + one.detail);
		return all;
	}

	static constexpr int kMany = 40;
	static constexpr uint64_t kNow = 1000000000000;
	EventQueue events_;
	std::unique_ptr<Datapath> datapath_;
	Netlink requests_;
	std::unique_ptr<Tables> tables_;
	std::unique_ptr<Links> links_;
	std::unique_ptr<Sender> sender_;
};

TEST_F(Injecting, ADriverThatTakesNoFrameIsNamed)
{
	const uint32_t outside = VX_OUTSIDE;
	bpf_map_delete_elem(datapath_->map_fd("redirect_map"), &outside);
	send_many();
	const vx_counters &counters = slot().direction[VX_INSIDE];
	EXPECT_EQ(counters.dropped[VX_DROP_redirect_error], 1u);
	EXPECT_EQ(counters.forwarded, kMany - 1u);
	const std::string driver = "injection_unavailable: frames leave one by one: the outside driver takes no redirected frames";
	EXPECT_EQ(said(), std::vector<std::string>{driver});
}

TEST_F(Injecting, OfAnInterfaceThatIsLeavingNothingIsSaidOfItsDriver)
{
	shell("ip link del out0");
	send_many();
	const vx_counters &counters = slot().direction[VX_INSIDE];
	EXPECT_EQ(counters.dropped[VX_DROP_redirect_error], 1u);
	EXPECT_EQ(counters.dropped[VX_DROP_carrier_down], kMany - 1u);
	EXPECT_EQ(said(), std::vector<std::string>{});
}

}  // namespace
}  // namespace vx::test
