// The seeded simulation, a fixed list of seeds for `make test`: VX_SIM_SECONDS of it, 60 by default. `make sim` goes on
// with ever new seeds until it is stopped or something fails. A failure names seed and workers:
//     VX_SIM_SEED=N build/native/test/nat_sim_test
#include <gtest/gtest.h>

#include <chrono>
#include <cstdlib>

#include "nat_sim.h"

namespace vx::nat::test {
namespace {

uint64_t setting(const char *name, uint64_t fallback)
{
	const char *text = getenv(name);
	return text ? strtoull(text, nullptr, 10) : fallback;
}

double seconds_now()
{
	return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

void simulate(uint64_t seed)
{
	for (const uint32_t workers : {1, 2, 4, 8}) {
		SCOPED_TRACE("VX_SIM_SEED=" + std::to_string(seed) + ", workers " + std::to_string(workers));
		Simulation simulation(seed, workers);
		for (int step = 0; step < 1500 && !testing::Test::HasFailure(); step++) {
			simulation.step();
			simulation.check_tables();
		}
		ASSERT_FALSE(testing::Test::HasFailure());
		EXPECT_GT(simulation.forwarded(), 100u) << "a world in which nothing happens";
	}
}

TEST(Simulation, NoInvariantBreaksWhateverHappensInWhateverOrder)
{
	if (getenv("VX_SIM_SEED"))
		return simulate(setting("VX_SIM_SEED", 1));
	const double until = seconds_now() + static_cast<double>(setting("VX_SIM_SECONDS", 60));
	uint64_t seed = setting("VX_SIM_FIRST", 1);
	for (; seconds_now() < until && !HasFailure(); seed++)
		simulate(seed);
	printf("simulated up to seed %llu\n", static_cast<unsigned long long>(seed - 1));
}

}  // namespace
}  // namespace vx::nat::test
