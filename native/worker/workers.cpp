// The workers' threads: made and joined on Node's main thread. What they do is in loop.h.
#include "workers.h"

#include <pthread.h>
#include <sched.h>

#include <algorithm>
#include <csignal>
#include <utility>

#include "../core/broken.h"
#include "../io/numa.h"
#include "clock.h"
#include "loop.h"
#include "shared.h"

namespace vx {
namespace {

struct Thread {
	std::unique_ptr<Loop> loop;
	pthread_t thread{};
	bool started = false;

	static void *run(void *self)
	{
		static_cast<Thread *>(self)->loop->run();
		return nullptr;
	}

	// Pinned, and deaf to signals: those are the main thread's.
	Result<void> start(uint32_t number, int cpu, int priority)
	{
		cpu_set_t cpus;
		CPU_ZERO(&cpus);
		CPU_SET(static_cast<size_t>(cpu), &cpus);
		pthread_attr_t attributes;
		pthread_attr_init(&attributes);
		pthread_attr_setaffinity_np(&attributes, sizeof cpus, &cpus);
		if (priority) {
			const sched_param real_time{priority};
			pthread_attr_setinheritsched(&attributes, PTHREAD_EXPLICIT_SCHED);
			pthread_attr_setschedpolicy(&attributes, SCHED_FIFO);
			pthread_attr_setschedparam(&attributes, &real_time);
		}
		sigset_t all, before;
		sigfillset(&all);
		pthread_sigmask(SIG_SETMASK, &all, &before);
		const int err = pthread_create(&thread, &attributes, run, this);
		pthread_sigmask(SIG_SETMASK, &before, nullptr);
		pthread_attr_destroy(&attributes);
		if (err)
			return Error{"WORKER_FAILED", "pthread_create", err, "on CPU " + std::to_string(cpu) + (priority ? ", SCHED_FIFO" : "")};
		pthread_setname_np(thread, ("vx-worker-" + std::to_string(number)).c_str());
		started = true;
		return {};
	}
};

}  // namespace

Shared::Shared(const WorkersConfig &wanted, std::unique_ptr<Umem> frames)
	: config(wanted), umem(std::move(frames)), tables(wanted.control),
	  links(static_cast<uint32_t>(wanted.inside_ifindex), static_cast<uint32_t>(wanted.outside_ifindex),
		wanted.interface_fd, tables, events),
	  receiving(wanted.count())
{
	make_queues(VX_INSIDE, config.inside_queues, config.inside_tx_queues);
	make_queues(VX_OUTSIDE, config.outside_rx_queues, std::max(config.outside_queues, 1u));
}

void Shared::make_queues(vx_direction direction, uint32_t received, uint32_t sent)
{
	const uint32_t ifindex = (direction == VX_INSIDE ? links.inside() : links.outside()).ifindex;
	const uint32_t share = config.memory().receive_share(received);
	for (uint32_t queue = 0; queue < std::max(received, sent); queue++) {
		QueueRings &common = *rings[direction].emplace_back(std::make_unique<QueueRings>(ifindex, queue));
		if (queue < received)
			receive[direction].push_back(std::make_unique<RxQueue>(common, share));
		if (queue < sent)
			transmit[direction].push_back(std::make_unique<TxQueue>(common, config.count()));
	}
}

void Shared::check_frames(uint32_t own) const
{
	uint32_t frames = own + umem->stored();
	for (const auto &queues : receive)
		for (const auto &queue : queues)
			frames += queue->lent();
	for (const auto &queues : transmit)
		for (const auto &queue : queues)
			frames += queue->in_kernel();
	if (frames != umem->frames())
		broken("UMEM frames leaked or were used twice");
}

struct Workers::State {
	State(const WorkersConfig &config, std::unique_ptr<Umem> umem) : shared(config, std::move(umem)) {}

	Shared shared;
	std::vector<Thread> threads;

	// All at once, for a packet of one may need a frame of another's.
	~State()
	{
		for (Thread &one : threads)
			if (one.started)
				one.loop->stop();
		bool ran = !threads.empty();
		uint32_t own = 0;
		for (Thread &one : threads) {
			ran &= one.started;
			if (one.started)
				pthread_join(one.thread, nullptr);
			own += one.loop->frames();
		}
		if (!ran)
			return;
		if (shared.config.nat)
			own += shared.config.nat->handoffs().size();
		shared.check_frames(own);
		drop_handed_over();
	}

	// As the senders say where it turns out.
	void say_what_is_not_injected()
	{
		const WorkersConfig &config = shared.config;
		for (const vx_direction to : {VX_INSIDE, VX_OUTSIDE})
			if (config.inject_fd >= 0 && config.injection[to] == Injection::never && !shared.transmit[to].empty())
				shared.events.push("injection_unavailable", monotonic_ns(),
						   std::string("frames leave one by one: the ") +
							   (to == VX_OUTSIDE ? "outside" : "inside") +
							   " interface takes no redirected frames");
	}

	// Of workers that ended without waiting for each other.
	void drop_handed_over()
	{
		if (!shared.config.nat)
			return;
		Handoffs &handoffs = shared.config.nat->handoffs();
		for (uint32_t pair = 0; pair < threads.size() * threads.size(); pair++)
			for (HandedOver left; handoffs.between(pair / threads.size(), pair % threads.size()).pop(left);)
				if (left.frame.ledger != Ledger::originated)
					shared.config.slots[pair % threads.size()]
						.direction[left.frame.ledger == Ledger::outside ? VX_OUTSIDE : VX_INSIDE]
						.dropped[VX_DROP_handoff_full]++;
	}
};

Result<std::unique_ptr<Workers>> Workers::start(const WorkersConfig &config)
{
	auto umem = Umem::map(config.umem_fd);
	if (!umem)
		return umem.error();
	auto state = std::make_unique<State>(config, std::move(*umem));
	state->say_what_is_not_injected();
	state->threads.resize(config.count());
	for (uint32_t i = 0; i < config.count(); i++) {
		const PreferNodeOf near(config.cpus[i]);
		auto loop = Loop::open(state->shared, i);
		if (!loop) {
			state->threads.clear();
			return loop.error();
		}
		state->threads[i].loop = std::move(*loop);
	}
	// Last, so that a packet that gets in can also get out.
	for (Thread &one : state->threads)
		if (auto done = one.loop->admit(); !done)
			return done.error();
	for (uint32_t i = 0; i < config.count(); i++)
		if (auto started = state->threads[i].start(i, config.cpus[i], config.priority); !started)
			return started.error();
	return std::unique_ptr<Workers>(new Workers(std::move(state)));
}

Workers::Workers(std::unique_ptr<State> state) : state_(std::move(state)) {}

Workers::~Workers() = default;

std::vector<WorkerEvent> Workers::drain_events()
{
	return state_->shared.events.drain();
}

std::vector<vx_sample> Workers::drain_samples()
{
	return state_->shared.events.drain_samples();
}

WorkerSnapshot Workers::snapshot()
{
	WorkerSnapshot snapshot = state_->threads.front().loop->exceptions()->snapshot();
	for (const Thread &one : state_->threads)
		snapshot.alive &= one.loop->alive();
	return snapshot;
}

}  // namespace vx
