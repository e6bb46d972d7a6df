// What a daemon makes of the maps and programs it finds pinned: those of a killed one, of this build or of another, and
// those of a gateway in another network namespace. Namespaces, veth and a bpffs of its own, root.
#include <bpf/bpf.h>
#include <gtest/gtest.h>
#include <linux/bpf.h>
#include <net/if.h>
#include <sched.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <string>

#include "../io/datapath.h"
#include "worker_bed.h"

namespace vx::test {
namespace {

constexpr const char *kBpffs = "/sys/fs/bpf";
const std::string kPins = std::string(kBpffs) + "/in0/";

class Takeover : public testing::Test {
protected:
	void SetUp() override
	{
		ASSERT_EQ(unshare(CLONE_NEWNS), 0);
		ASSERT_EQ(mount(nullptr, "/", nullptr, MS_REC | MS_PRIVATE, nullptr), 0);
		ASSERT_EQ(mount("bpf", kBpffs, "bpf", 0, nullptr), 0);
		ASSERT_EQ(mkdir(kPins.c_str(), 0700), 0);
		enter(home_);
	}
	void TearDown() override { umount2(kBpffs, MNT_DETACH); }

	static void enter(const Namespace &home)
	{
		home.enter();
		shell("ip link add in0 type veth peer name gen0 && ip link add out0 type veth peer name far0");
	}

	// As far as its last step, which is to attach.
	static std::unique_ptr<Datapath> start()
	{
		DatapathPlan plan;
		plan.vxlan_port = 4789;
		plan.inside_ifindex = static_cast<int>(if_nametoindex("in0"));
		plan.outside_ifindex = static_cast<int>(if_nametoindex("out0"));
		plan.pin_directory = kPins.substr(0, kPins.size() - 1);
		auto made = Datapath::open(plan);
		if (!made) {
			ADD_FAILURE() << made.error().op << ": " << made.error().detail;
			return nullptr;
		}
		const Fd any(socket(AF_UNIX, SOCK_DGRAM, 0));
		const uint32_t inside = VX_INSIDE;
		vx_interface described{};
		socklen_t length = sizeof described.netns_cookie;
		EXPECT_EQ(getsockopt(any.get(), SOL_SOCKET, SO_NETNS_COOKIE, &described.netns_cookie, &length), 0);
		EXPECT_EQ(bpf_map_update_elem((*made)->map_fd("interface_map"), &inside, &described, 0), 0);
		return std::move(*made);
	}

	// What it counted is left with its pins.
	static void be_killed_with(const vx_counters &counters, uint64_t layout_differs_by = 0)
	{
		auto killed = start();
		ASSERT_TRUE(killed && killed->attach());
		killed->slots()[0].direction[VX_OUTSIDE] = counters;
		killed->slots()[VX_CONTROL_SLOT].layout ^= layout_differs_by;
	}

	// In the place of a pinned array one of values that are so large, and all ones.
	static void replace(const char *name, uint32_t value_bytes, uint32_t entries)
	{
		LIBBPF_OPTS(bpf_map_create_opts, options, .map_flags = BPF_F_MMAPABLE);
		const Fd other(bpf_map_create(BPF_MAP_TYPE_ARRAY, name, sizeof(uint32_t), value_bytes, entries, &options));
		const Bytes value(value_bytes, 0xff);
		const uint32_t key = 0;
		ASSERT_EQ(bpf_map_update_elem(other.get(), &key, value.data(), 0), 0);
		ASSERT_EQ(unlink((kPins + name).c_str()), 0);
		ASSERT_EQ(bpf_obj_pin(other.get(), (kPins + name).c_str()), 0);
	}

	static void expect_taken_over(std::optional<uint64_t> lost_outside)
	{
		auto next = start();
		auto attached = next->attach();
		ASSERT_TRUE(attached);
		EXPECT_TRUE(attached->took_over);
		EXPECT_TRUE(next->attached());
		EXPECT_EQ(attached->crash_lost.has_value(), lost_outside.has_value());
		if (attached->crash_lost)
			EXPECT_EQ(*attached->crash_lost, (CrashLost{0, *lost_outside}));
		const vx_counters &opening = next->slots()[VX_CONTROL_SLOT].direction[VX_OUTSIDE];
		EXPECT_EQ(opening.received, lost_outside.value_or(0));
		EXPECT_EQ(opening.dropped[VX_DROP_crash_lost], lost_outside.value_or(0));
	}

	Namespace home_;
};

constexpr vx_counters kFiveOfEight = {.received = 8, .passed = 1, .forwarded = 2};

TEST_F(Takeover, OpensTheLedgerWithWhatTheKilledDaemonHeld)
{
	be_killed_with(kFiveOfEight);
	expect_taken_over(5);
}

TEST_F(Takeover, ReadsNoCountersThatAreAsLargeAndLaidOutOtherwise)
{
	be_killed_with(kFiveOfEight, 1);
	expect_taken_over(std::nullopt);
}

TEST_F(Takeover, ReadsNoCountersOfABuildThatDoesNotSayHowTheyAreLaidOut)
{
	be_killed_with(kFiveOfEight);
	replace("stats_map", sizeof(vx_slot), VX_SLOTS_MAX);
	expect_taken_over(std::nullopt);
}

TEST_F(Takeover, ReadsNoCountersOfAnotherSize)
{
	be_killed_with(kFiveOfEight);
	replace("stats_map", sizeof(vx_slot) + 64, VX_SLOTS_MAX);
	expect_taken_over(std::nullopt);
}

TEST_F(Takeover, ReadsNoInterfaceOfAnotherSize)
{
	be_killed_with(kFiveOfEight);
	replace("interface_map", 16384, VX_DIRECTIONS);
	expect_taken_over(5);
}

TEST_F(Takeover, OfPinsThatBelongToAnotherNetworkNamespaceIsRefused)
{
	auto first = start();
	ASSERT_TRUE(first->attach());
	const Namespace elsewhere;
	enter(elsewhere);
	auto second = start();
	auto refused = second->attach();
	ASSERT_FALSE(refused);
	EXPECT_EQ(refused.error().code, "PIN_FAILED");
	EXPECT_EQ(access((kPins + "link_ingress").c_str(), F_OK), 0);
}

}  // namespace
}  // namespace vx::test
