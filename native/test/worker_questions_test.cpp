// What people ask the NAT engines while packets flow, or none do: a worker answers in slices between its turns.
#include <arpa/inet.h>

#include "../worker/clock.h"
#include "../worker/nat.h"
#include "worker_bed.h"

namespace vx::test {
namespace {

class WorkerQuestions : public WorkerBed {
protected:
	void SetUp() override
	{
		WorkerBed::SetUp();
		SourceNat plan;
		plan.pools.pools = {{.addresses_be = {ipv4_be("203.0.113.1")}, .first_port = 1024, .last_port = 65535, .realms = {}}};
		plan.engine.sessions_max = 1024;
		owners_.resize(nat::PortBlocks::addresses_most(plan.pools));
		auto made = Nat::make(plan, cpus_, owners_);
		ASSERT_TRUE(made);
		nat_ = std::move(*made);
		start_worker([this](WorkersConfig &config) {
			config.nat = nat_.get();
			config.inside_tx_queues = 1;
			config.tunnel_host.local = address_of("192.0.2.1");
		});
	}
	void TearDown() override
	{
		stop_worker();
		nat_.reset();
		WorkerBed::TearDown();
	}

	const std::vector<int> cpus_ = {0};
	std::vector<vx_port_owners> owners_;
	std::unique_ptr<Nat> nat_;
};

// A filter that matches little looks at every session there is, a few thousand a slice.
TEST_F(WorkerQuestions, AWorkerWithNothingElseToDoAnswersInOneGo)
{
	const uint64_t asked_ns = monotonic_ns();
	uint32_t slices = 0;
	EXPECT_TRUE(nat_->ask(0, [&](nat::Engine &) { return ++slices == 250; })) << "after " << slices << " slices";
	EXPECT_LT(monotonic_ns() - asked_ns, 1000000000u);
}

TEST_F(WorkerQuestions, AWorkerThatHasEndedIsNotWaitedFor)
{
	stop_worker();
	EXPECT_FALSE(nat_->ask(0, [](nat::Engine &) { return true; }));
}

}  // namespace
}  // namespace vx::test
