// See nat.h.
#include "nat.h"

#include <sys/eventfd.h>
#include <sys/random.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <utility>

#include "../core/broken.h"
#include "../core/translation.h"
#include "../io/numa.h"
#include "clock.h"

namespace vx {
namespace {
constexpr uint64_t kAnswerNsMax = 5000000000;
constexpr useconds_t kAnswerPause_us = 200;
constexpr uint32_t kSessionRecords = 1 << 20;  // of a worker, not yet durable
constexpr uint32_t kLookedAtOnce = 4096;  // records: some 50 us of a worker's time
constexpr uint32_t kComparedAtOnce = 320000;  // likewise, subscribers with the top ones

}  // namespace

Result<std::unique_ptr<Nat>> Nat::make(const SourceNat &plan, std::span<const int> cpus,
					 std::span<vx_port_owners> owners)
{
	const auto workers = static_cast<uint32_t>(cpus.size());
	std::unique_ptr<Nat> self(new Nat(plan, workers));
	nat::PoolConfig pools = plan.pools;
	pools.workers = workers;
	auto memory = Region::make(nat::PortBlocks::bytes_needed(pools), Pages::at_start);
	if (!memory)
		return memory.error();
	self->blocks_memory_ = std::move(*memory);
	self->blocks_.emplace(pools, self->blocks_memory_.bytes(), owners);
	for (uint32_t i = 0; i < workers; i++) {
		auto worker = std::make_unique<Worker>();
		nat::Config config = plan.engine;
		config.worker = i;
		config.fragments_waiting = std::min(config.fragments_waiting, kNatFragmentsHeld);
		if (config.record_sessions)
			config.records = std::max(kSessionRecords, std::min(config.sessions_per_subscriber, config.sessions_max));
		if (getrandom(&config.key, sizeof config.key, 0) != sizeof config.key)
			return Error{"WORKER_FAILED", "getrandom", errno, ""};
		worker->wake = Fd(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
		if (!worker->wake)
			return Error{"WORKER_FAILED", "eventfd", errno, ""};
		const PreferNodeOf near(cpus[i]);
		auto tables = Region::make(nat::Engine::bytes_needed(config, *self->blocks_, pools.forwards),
					   Pages::at_start);
		if (!tables)
			return tables.error();
		worker->memory = std::move(*tables);
		worker->engine.emplace(config, *self->blocks_, pools.forwards, worker->memory.bytes(), monotonic_ns());
		self->workers_.push_back(std::move(worker));
	}
	return self;
}

void Nat::wake(uint32_t worker)
{
	const uint64_t one = 1;
	if (write(workers_[worker]->wake.get(), &one, sizeof one) < 0 && errno != EAGAIN)
		broken("a worker's wake-up event cannot be written");
}

bool Nat::answer_slice(Worker &worker)
{
	Question *question = worker.question.exchange(nullptr, std::memory_order_acquire);
	if (!question)
		return false;
	if (question->slice(*worker.engine)) {
		question->done.store(true, std::memory_order_release);
		return false;
	}
	worker.question.store(question, std::memory_order_release);
	return true;
}

void Nat::close(uint32_t worker)
{
	workers_[worker]->closed.store(true, std::memory_order_release);
}

bool Nat::ask(uint32_t worker, Slice slice)
{
	Worker &asked = *workers_[worker];
	Question question{std::move(slice)};
	asked.question.store(&question, std::memory_order_release);
	wake(worker);
	for (const uint64_t until_ns = monotonic_ns() + kAnswerNsMax; !question.done.load(std::memory_order_acquire);
	     usleep(kAnswerPause_us))
		// Taken back only when it is there: else the worker is at a slice of it.
		if ((asked.closed.load(std::memory_order_acquire) || monotonic_ns() > until_ns) &&
		    asked.question.exchange(nullptr, std::memory_order_acq_rel))
			return false;
	return true;
}

std::vector<vx_nat_record> Nat::log_records(uint32_t most)
{
	std::vector<vx_nat_record> all;
	for (size_t i = 0; i < workers_.size(); i++) {
		Worker &worker = *workers_[(records_first_ + i) % workers_.size()];
		const nat::LogRecords &records = worker.engine->records();
		worker.records_read = 0;
		for (; all.size() < most; worker.records_read++) {
			const vx_nat_record *record = records.peek(worker.records_read);
			if (!record)
				break;
			all.push_back(*record);
		}
	}
	return all;
}

void Nat::log_records_done()
{
	for (auto &worker : workers_)
		worker->engine->records().done(std::exchange(worker->records_read, 0));
	records_first_ = (records_first_ + 1) % workers_.size();
}

// A cursor is a worker and a place in its table.
std::optional<SessionPage> Nat::sessions(const nat::SessionFilter &filter, uint64_t cursor, uint32_t limit)
{
	SessionPage page;
	page.sessions.resize(limit);
	uint32_t found = 0;
	auto worker = static_cast<uint32_t>(cursor >> 32), at = static_cast<uint32_t>(cursor);
	for (; worker < workers_.size(); worker++, at = 0) {
		const bool answered = ask(worker, [&](nat::Engine &engine) {
			const nat::Listed listed = nat::list_sessions(engine, filter, at, kLookedAtOnce,
								      std::span(page.sessions).subspan(found));
			at = listed.next;
			found += listed.count;
			return at == nat::kNone || found == limit;
		});
		if (!answered)
			return std::nullopt;
		if (at != nat::kNone) {
			page.cursor = uint64_t{worker} << 32 | at;
			break;
		}
		if (found == limit && worker + 1 < workers_.size()) {
			page.cursor = uint64_t{worker + 1} << 32;
			break;
		}
	}
	page.sessions.resize(found);
	return page;
}

std::optional<std::vector<vx_subscriber_use>> Nat::top_subscribers(uint32_t most)
{
	std::vector<vx_subscriber_use> all;
	const uint32_t at_once = std::clamp(kComparedAtOnce / std::max(most, 1u), 1u, kLookedAtOnce);
	for (uint32_t worker = 0; worker < workers_.size(); worker++) {
		std::vector<vx_subscriber_use> room(most);
		nat::TopSubscribers top{room};
		const bool answered = ask(worker, [&, at = 0u](nat::Engine &engine) mutable {
			at = nat::find_top_subscribers(engine, at, at_once, top);
			return at == nat::kNone;
		});
		if (!answered)
			return std::nullopt;
		all.insert(all.end(), room.begin(), room.begin() + top.count);
	}
	std::stable_sort(all.begin(), all.end(),
			 [](const auto &a, const auto &b) { return a.sessions > b.sessions; });
	all.resize(std::min<size_t>(all.size(), most));
	return all;
}

std::vector<PoolUse> Nat::pool_use() const
{
	std::vector<PoolUse> all;
	for (uint32_t i = 0; i < blocks_->addresses(); i++) {
		const auto address = static_cast<uint16_t>(i);
		all.push_back({blocks_->address_be(address), blocks_->blocks_per_address(), blocks_->free_blocks(address)});
	}
	return all;
}

}  // namespace vx
