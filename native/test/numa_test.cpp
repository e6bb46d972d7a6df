// PreferNodeOf says where this thread's memory comes from while it lives, and no longer.
#include "../io/numa.h"

#include <gtest/gtest.h>
#include <linux/mempolicy.h>
#include <sys/syscall.h>
#include <unistd.h>

namespace vx {
namespace {

struct Policy {
	int mode = -1;
	unsigned long nodes[1024 / (8 * sizeof(unsigned long))] = {};

	Policy() { EXPECT_EQ(syscall(SYS_get_mempolicy, &mode, nodes, 1025, nullptr, 0), 0); }
};

TEST(Numa, MemoryComesFromTheCpusNodeUntilTheGuardEnds)
{
	const int node = node_of_cpu(0);
	ASSERT_GE(node, 0) << "needs a kernel with CONFIG_NUMA";
	ASSERT_LT(node, 64);
	{
		const PreferNodeOf guard(0);
		const Policy now;
		EXPECT_EQ(now.mode, MPOL_PREFERRED);
		EXPECT_EQ(now.nodes[0], 1ul << node);
		{
			const PreferNodeOf inner(0);
		}
		EXPECT_EQ(Policy().mode, MPOL_PREFERRED);
	}
	EXPECT_EQ(Policy().mode, MPOL_DEFAULT);
}

TEST(Numa, ACpuThatDoesNotExistChangesNothing)
{
	EXPECT_EQ(node_of_cpu(1 << 20), -1);
	const PreferNodeOf guard(1 << 20);
	EXPECT_EQ(Policy().mode, MPOL_DEFAULT);
}

}  // namespace
}  // namespace vx
