// KeptOff moves this process's threads and nobody else's, and lets them go back.
#include "../io/kept_off.h"

#include <gtest/gtest.h>
#include <pthread.h>

#include <atomic>
#include <thread>
#include <vector>

namespace vx {
namespace {

cpu_set_t cpus_of(pthread_t thread)
{
	cpu_set_t cpus;
	EXPECT_EQ(pthread_getaffinity_np(thread, sizeof cpus, &cpus), 0);
	return cpus;
}

bool may_run_on(pthread_t thread, int cpu)
{
	const cpu_set_t cpus = cpus_of(thread);
	return CPU_ISSET(static_cast<size_t>(cpu), &cpus);
}

class KeptOffTest : public testing::Test {
protected:
	const cpu_set_t home_ = cpus_of(pthread_self());
	int last_ = 0;
	std::atomic<bool> over_{false};
	std::thread other_{[this] { over_.wait(false); }};

	void SetUp() override
	{
		ASSERT_GE(CPU_COUNT(&home_), 2) << "needs two CPUs";
		for (int cpu = 0; cpu < CPU_SETSIZE; cpu++)
			if (CPU_ISSET(static_cast<size_t>(cpu), &home_))
				last_ = cpu;
	}
	void TearDown() override
	{
		over_ = true;
		over_.notify_all();
		other_.join();
	}
};

TEST_F(KeptOffTest, EveryThreadLeavesTheCpuAndMayReturnAfterwards)
{
	{
		const KeptOff kept(std::span(&last_, 1));
		EXPECT_FALSE(may_run_on(pthread_self(), last_));
		EXPECT_FALSE(may_run_on(other_.native_handle(), last_));
		std::thread late([this] { EXPECT_FALSE(may_run_on(pthread_self(), last_)); });
		late.join();
	}
	EXPECT_TRUE(may_run_on(pthread_self(), last_));
	EXPECT_TRUE(may_run_on(other_.native_handle(), last_));
}

TEST_F(KeptOffTest, AThreadThatIsPinnedThereStays)
{
	cpu_set_t pinned;
	CPU_ZERO(&pinned);
	CPU_SET(static_cast<size_t>(last_), &pinned);
	ASSERT_EQ(pthread_setaffinity_np(other_.native_handle(), sizeof pinned, &pinned), 0);
	const KeptOff kept(std::span(&last_, 1));
	EXPECT_TRUE(may_run_on(other_.native_handle(), last_));
}

TEST_F(KeptOffTest, NobodyMovesWhereWorkersHaveEveryCpu)
{
	std::vector<int> all;
	for (int cpu = 0; cpu < CPU_SETSIZE; cpu++)
		if (CPU_ISSET(static_cast<size_t>(cpu), &home_))
			all.push_back(cpu);
	const KeptOff kept(all);
	const cpu_set_t now = cpus_of(pthread_self());
	EXPECT_TRUE(CPU_EQUAL(&now, &home_));
}

}  // namespace
}  // namespace vx
