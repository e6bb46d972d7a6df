// The exception worker's thread: made and joined on Node's main thread. What it does is in loop.h.
#include "exception_worker.h"

#include <pthread.h>
#include <sched.h>

#include <csignal>
#include <utility>

#include "event_queue.h"
#include "loop.h"

namespace vx {

struct ExceptionWorker::State {
	EventQueue events;
	std::unique_ptr<Loop> loop;
	pthread_t thread{};

	static void *run(void *self)
	{
		pthread_setname_np(pthread_self(), "vx-exception");
		static_cast<State *>(self)->loop->run();
		return nullptr;
	}

	// Pinned, and deaf to signals: those are the main thread's.
	Result<void> start_thread(int cpu)
	{
		cpu_set_t cpus;
		CPU_ZERO(&cpus);
		CPU_SET(cpu, &cpus);
		pthread_attr_t attributes;
		pthread_attr_init(&attributes);
		pthread_attr_setaffinity_np(&attributes, sizeof cpus, &cpus);
		sigset_t all, before;
		sigfillset(&all);
		pthread_sigmask(SIG_SETMASK, &all, &before);
		const int err = pthread_create(&thread, &attributes, run, this);
		pthread_sigmask(SIG_SETMASK, &before, nullptr);
		pthread_attr_destroy(&attributes);
		if (err)
			return Error{"WORKER_FAILED", "pthread_create", err, "on CPU " + std::to_string(cpu)};
		return {};
	}
};

Result<std::unique_ptr<ExceptionWorker>> ExceptionWorker::start(const ExceptionWorkerConfig &config)
{
	auto state = std::make_unique<State>();
	auto loop = Loop::open(config, state->events);
	if (!loop)
		return loop.error();
	state->loop = std::move(*loop);
	if (auto started = state->start_thread(config.cpu); !started)
		return started.error();
	return std::unique_ptr<ExceptionWorker>(new ExceptionWorker(std::move(state)));
}

ExceptionWorker::ExceptionWorker(std::unique_ptr<State> state) : state_(std::move(state)) {}

ExceptionWorker::~ExceptionWorker()
{
	state_->loop->stop();
	pthread_join(state_->thread, nullptr);
}

std::vector<WorkerEvent> ExceptionWorker::drain_events()
{
	return state_->events.drain();
}

std::vector<vx_sample> ExceptionWorker::drain_samples()
{
	return state_->events.drain_samples();
}

WorkerSnapshot ExceptionWorker::snapshot()
{
	return state_->loop->snapshot();
}

}  // namespace vx
