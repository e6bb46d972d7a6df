// What source NAT has of its own beside the workers' threads: the engines with their memory, the port blocks they share, the
// rings between them, and the questions people ask them. Made and outlived by the gateway, so that the records of the last
// packets can be read when the workers are gone.
#pragma once

#include <atomic>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <vector>

#include "../core/nat/engine.h"
#include "../core/nat/listing.h"
#include "../core/tunnel.h"
#include "../io/fd.h"
#include "../io/region.h"
#include "../io/result.h"
#include "../io/source_nat.h"
#include "handoffs.h"

namespace vx {

struct SessionPage {
	std::vector<vx_session_view> sessions;
	std::optional<uint64_t> cursor;  // where the next page begins; nullopt: there is none
};

struct PoolUse {
	uint32_t address_be;
	uint32_t blocks, free_blocks;
};

class Nat {
public:
	// `cpus`: a worker each. `owners`: the map that XDP steers replies by, one element a pool address.
	static Result<std::unique_ptr<Nat>> make(const SourceNat &plan, std::span<const int> cpus,
						 std::span<vx_port_owners> owners);

	const SourceNat &plan() const { return plan_; }
	const nat::PortBlocks &blocks() const { return *blocks_; }
	Handoffs &handoffs() { return handoffs_; }
	// Readable when the worker has been woken; its thread reads it empty.
	int wake_fd(uint32_t worker) const { return workers_[worker]->wake.get(); }
	// Any thread.
	void wake(uint32_t worker);
	nat::Engine &engine(uint32_t worker) { return *workers_[worker]->engine; }

	// The worker's, between batches: a slice of what is asked of it. True: there is more.
	bool answer(uint32_t worker)
	{
		return workers_[worker]->question.load(std::memory_order_relaxed) && answer_slice(*workers_[worker]);
	}
	// The worker's, when it ends.
	void close(uint32_t worker);

	// The rest is the control plane's, one thread at a time.
	// Has the worker's thread call `slice` between batches until that returns true. False: the worker is gone, or did not
	// answer in time.
	using Slice = std::function<bool(nat::Engine &)>;
	bool ask(uint32_t worker, Slice slice);

	// Records that are not done yet, the oldest first of each worker.
	std::vector<vx_nat_record> log_records(uint32_t most);
	// Those of the last log_records() are durable.
	void log_records_done();
	// nullopt: a worker does not answer.
	std::optional<SessionPage> sessions(const nat::SessionFilter &filter, uint64_t cursor, uint32_t limit);
	// nullopt: likewise. Those with the most sessions, most first.
	std::optional<std::vector<vx_subscriber_use>> top_subscribers(uint32_t most);
	std::vector<PoolUse> pool_use() const;

private:
	struct Question {
		Slice slice;
		std::atomic<bool> done{false};
	};
	struct Worker {
		Fd wake;
		Region memory;
		std::optional<nat::Engine> engine;
		std::atomic<Question *> question{nullptr};
		std::atomic<bool> closed{false};
		uint32_t records_read = 0;
	};

	Nat(const SourceNat &plan, uint32_t workers) : plan_(plan), handoffs_(workers) {}
	static bool answer_slice(Worker &worker);

	const SourceNat plan_;
	Handoffs handoffs_;
	Region blocks_memory_;
	std::optional<nat::PortBlocks> blocks_;
	std::vector<std::unique_ptr<Worker>> workers_;
	size_t records_first_ = 0;  // a worker whose turn it is, also when others have more than fits
};

}  // namespace vx
